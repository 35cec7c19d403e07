/** Events as listeners see them. */

/** An immutable fact. */
export interface GatewayEvent<Type extends string = string, Data = unknown> {
  readonly type: Type
  readonly data: Data
  /** A UUID, the same wherever and however often the event is seen. */
  readonly uid: string
  /** Its cursor `<ms>-<n>`; durable events only. */
  readonly id?: string
  /** RFC 3339, UTC. */
  readonly time: string
  /** The plugin that published it, or `kernel`. */
  readonly source: string
  readonly subject?: string
  /** The principal it belongs to: only that one and admins see it. */
  readonly principal?: string
  /** W3C `traceparent` of the request it came from. */
  readonly trace?: string
}

/** What other plugins add to `/ws`: methods of JSON-RPC, and plain frames for clients that speak none. */
import { defineSlot, type Principal, type ScopeRef, type Static, type TSchema } from 'portico'

/** The connection a call came in by. */
export interface RpcConnection {
  /** One per connection, for logs. */
  readonly id: string
  readonly principal: Principal
  /** Aborted when it ends. */
  readonly signal: AbortSignal
  /** Bytes that were sent and wait for the client: who has much to send waits for it to fall. Over 1 MB ends the connection. */
  readonly behind: number
  /** Sends a notification. False when it has ended, or is too far behind and therefore ends. */
  notify(method: string, params: unknown): boolean
}

/** What a method is called with besides its params. */
export interface RpcCall {
  readonly principal: Principal
  /** The request of the upgrade. */
  readonly request: Request
  /** Aborted when nobody waits for the result any more: there is one, it is late, or the connection has ended. */
  readonly signal: AbortSignal
  /** Resolves when the answer, or that of its batch, is on its way: what is sent then comes after it. Not to be awaited by `run`. */
  readonly answered: Promise<void>
  readonly connection: RpcConnection
}

/** A method. Params by position are named in the order of the schema's properties. */
export interface RpcMethod {
  /** `noun.verb`; names that begin with `rpc.` are the protocol's own. */
  readonly name: string
  /** Who may call it; `ws` = whoever has the connection. */
  readonly scope: ScopeRef
  readonly summary: string
  /** Of an object, or of an array for params that have a place only. `unknown` so that no TypeBox stands in published types. */
  readonly params: unknown
  readonly result: unknown
  /** Throws a `GatewayError` for the caller; anything else is a fault of its plugin, named in the log. */
  run(params: never, call: RpcCall): unknown
}

/** Types a method by its schemas. */
export function defineRpcMethod<P extends TSchema, R extends TSchema>(
  method: Omit<RpcMethod, 'params' | 'result' | 'run'> & {
    readonly params: P
    readonly result: R
    run(params: Static<P>, call: RpcCall): Static<R> | Promise<Static<R>>
  },
): RpcMethod {
  return method as unknown as RpcMethod
}

/** Methods of `/ws`. A name has one owner: of two the first counts, and the log says so; also of a method that is none, which is left out. */
export const rpcMethods = defineSlot<RpcMethod>('rpcMethods', { deadline: 30_000 })

/** A connection that gets plain frames: opened with `?protocol=events`, or silent for its first second. */
export interface PlainConnection {
  readonly principal: Principal
  /** Aborted when it ends. */
  readonly signal: AbortSignal
  /** Sends `{event, data}`. False as of `RpcConnection.notify`. */
  send(event: string, data: unknown): boolean
}

/** Who sends plain frames. */
export interface PlainFrames {
  /** Called once for each such connection. */
  open(connection: PlainConnection): void
}

/** Asked for each connection that gets plain frames. */
export const plainFrames = defineSlot<PlainFrames>('plainFrames')

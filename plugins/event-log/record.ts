/** An event as a row of the outbox: what cannot be stored is refused here, by name, before it joins the events of others. */
import { GatewayError, type GatewayEvent } from 'portico'

/** A row: its place in the log is not given yet. */
export interface EventRecord {
  readonly uid: string
  readonly type: string
  readonly source: string
  readonly subject: string | null
  readonly principal: string | null
  readonly trace: string | null
  /** RFC 3339, UTC. */
  readonly time: string
  /** JSON. */
  readonly data: string
}

const maxDataLength = 1024 * 1024

/** The row of an event. @throws GatewayError `plugin_failed`, naming who published it and what to do. `lacksTx`: it was published inside a transaction, without it */
export function toRecord(event: GatewayEvent, lacksTx: boolean): EventRecord {
  if (lacksTx) throw misuse(event, 'was published inside a transaction without it: pass { tx }, so that the event exists exactly if the transaction commits')
  const { uid, type, source, time, subject = null, principal = null, trace = null } = event
  return { uid, type, source, subject, principal, trace, time, data: toJson(event) }
}

function toJson(event: GatewayEvent): string {
  // What PostgreSQL cannot store would fail the events of others that share the insert.
  if (event.subject?.includes('\0') || event.principal?.includes('\0')) throw misuse(event, 'has a subject or principal with a NUL in it: leave that out')
  let json: string
  try {
    json = JSON.stringify(event.data) ?? 'null'
  } catch (cause) {
    throw misuse(event, 'has data that is not JSON: publish plain values', cause)
  }
  if (json.length > maxDataLength) throw misuse(event, 'has more than a megabyte of data: store it, and publish where it is')
  return json
}

function misuse({ source: plugin, type }: GatewayEvent, what: string, cause?: unknown): GatewayError {
  return new GatewayError('plugin_failed', `The event "${type}" ${what}.`, { plugin, cause })
}

/** An event of the log as it is handed round: its JSON goes from the row to its readers as it stands, and is parsed when a listener wants it. */
import type { GatewayEvent } from 'portico'
import { type LoggedEvent, toCursor } from './contract.ts'
import type { EventRecord } from './record.ts'

/** A record of the log, as `pg` gives it. */
export interface LogRow extends Omit<EventRecord, 'time'> {
  readonly id: string
  readonly time: Date
}

/** The event of a row. */
export function toLogged(row: LogRow): LoggedEvent {
  return new Logged(row)
}

class Logged implements LoggedEvent {
  readonly type: string
  readonly principal: string | undefined
  readonly id: bigint
  readonly json: string
  readonly forms = {}
  readonly #row: LogRow
  #event: GatewayEvent | undefined

  constructor(row: LogRow) {
    this.type = row.type
    this.principal = row.principal ?? undefined
    this.id = BigInt(row.id)
    this.json = row.data
    this.#row = row
  }

  get event(): GatewayEvent {
    this.#event ??= toEvent(this.#row)
    return this.#event
  }
}

function toEvent(row: LogRow): GatewayEvent {
  return {
    ...{ type: row.type, data: JSON.parse(row.data), uid: row.uid, id: toCursor(BigInt(row.id)) },
    ...{ time: row.time.toISOString(), source: row.source },
    ...(row.subject === null ? {} : { subject: row.subject }),
    ...(row.principal === null ? {} : { principal: row.principal }),
    ...(row.trace === null ? {} : { trace: row.trace }),
  }
}

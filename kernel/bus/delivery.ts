/** One event on its way to those who hear it: what they get is made once, when the first asks, and shared. */
import type { GatewayEvent } from '../contract/event.ts'
import { encodeSse } from '../contract/sse.ts'
import { toCursor } from './cursor.ts'

/** How `data:` of an event stream looks. */
export type Envelope = 'payload' | 'cloudevents'

/** A row of the log, as `pg` gives it. */
export interface LogRow {
  readonly id: string
  readonly uid: string
  readonly type: string
  readonly source: string
  readonly subject: string | null
  readonly principal: string | null
  readonly trace: string | null
  readonly time: Date
  /** JSON. */
  readonly data: string
}

/** An event with its shared forms. `id` is set for durable ones. */
export class Delivery {
  readonly type: string
  readonly principal: string | undefined
  readonly id: bigint | undefined
  #event: GatewayEvent | undefined
  #row: LogRow | undefined
  #json: string | undefined
  #frames: { [E in Envelope]?: Uint8Array } = {}

  /** Of a live event. */
  static live(event: GatewayEvent): Delivery {
    return new Delivery(event.type, event.principal, undefined, event)
  }

  /** Of a durable one. */
  static logged(row: LogRow): Delivery {
    const delivery = new Delivery(row.type, row.principal ?? undefined, BigInt(row.id))
    delivery.#row = row
    delivery.#json = row.data
    return delivery
  }

  private constructor(type: string, principal: string | undefined, id: bigint | undefined, event?: GatewayEvent) {
    this.type = type
    this.principal = principal
    this.id = id
    this.#event = event
  }

  /** UTF-16 units of its JSON. */
  get size(): number {
    return this.json.length
  }

  /** Its data as JSON. */
  get json(): string {
    this.#json ??= JSON.stringify(this.#event?.data) ?? 'null'
    return this.#json
  }

  /** As listeners see it. */
  get event(): GatewayEvent {
    this.#event ??= toEvent(this.#row as LogRow)
    return this.#event
  }

  /** Its frame of an event stream; the id stands on durable ones only. */
  frame(envelope: Envelope): Uint8Array {
    this.#frames[envelope] ??= encodeSse({
      event: this.type,
      id: this.id === undefined ? undefined : toCursor(this.id),
      data: envelope === 'payload' ? this.json : toCloudEvent(this.event),
    })
    return this.#frames[envelope]
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

/** CloudEvents 1.0, JSON format; the trace by its Distributed Tracing extension. */
function toCloudEvent({ uid, source, type, time, subject, trace, data }: GatewayEvent): object {
  return { specversion: '1.0', id: uid, source, type, time, subject, traceparent: trace, datacontenttype: 'application/json', data: data ?? null }
}

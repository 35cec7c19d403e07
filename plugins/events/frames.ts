/** Events as frames of an event stream, each encoded once and shared by all readers. */
import type { EventDelivery, GatewayEvent } from 'portico'
import { toCursor } from 'portico/plugins/event-log'
import { encodeSse } from './sse.ts'

/** How `data:` of an event stream looks. */
export type Envelope = 'payload' | 'cloudevents'

const forms = { payload: 'events/sse-payload', cloudevents: 'events/sse-cloudevents' } as const

/** The event's frame; the id stands on durable ones only. */
export function frameOf(event: EventDelivery, envelope: Envelope): Uint8Array {
  const form = forms[envelope]
  event.forms[form] ??= encodeSse({
    event: event.type,
    id: event.id === undefined ? undefined : toCursor(event.id),
    data: envelope === 'payload' ? event.json : toCloudEvent(event.event),
  })
  return event.forms[form] as Uint8Array
}

/** CloudEvents 1.0, JSON format; the trace by its Distributed Tracing extension. */
function toCloudEvent({ uid, source, type, time, subject, trace, data }: GatewayEvent): object {
  return { specversion: '1.0', id: uid, source, type, time, subject, traceparent: trace, datacontenttype: 'application/json', data: data ?? null }
}

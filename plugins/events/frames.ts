/** Events as frames of an event stream, each encoded once and shared by all readers. */
import { type EventDelivery, encodeSse, type GatewayEvent, toCursor } from 'portico'

/** How `data:` of an event stream looks. */
export type Envelope = 'payload' | 'cloudevents'

type Frames = { [E in Envelope]?: Uint8Array }

/** Of events of the log, which late readers may ask for as well; live ones are never asked for again. */
const kept = new WeakMap<EventDelivery, Frames>()
let latest: { readonly of: EventDelivery; readonly frames: Frames } | undefined

/** The event's frame; the id stands on durable ones only. */
export function frameOf(event: EventDelivery, envelope: Envelope): Uint8Array {
  if (latest?.of !== event) latest = { of: event, frames: framesOf(event) }
  const { frames } = latest
  frames[envelope] ??= encodeSse({
    event: event.type,
    id: event.id === undefined ? undefined : toCursor(event.id),
    data: envelope === 'payload' ? event.json : toCloudEvent(event.event),
  })
  return frames[envelope]
}

function framesOf(event: EventDelivery): Frames {
  const known = kept.get(event)
  if (known) return known
  const frames: Frames = {}
  if (event.id !== undefined) kept.set(event, frames)
  return frames
}

/** CloudEvents 1.0, JSON format; the trace by its Distributed Tracing extension. */
function toCloudEvent({ uid, source, type, time, subject, trace, data }: GatewayEvent): object {
  return { specversion: '1.0', id: uid, source, type, time, subject, traceparent: trace, datacontenttype: 'application/json', data: data ?? null }
}

/** The AsyncAPI 3.1 document: every owned event type, as `GET /api/events` sends it. */
import type { JsonSchema, Kernel } from 'portico'
import { toJsonSchema } from './contract.ts'

/** Makes the document from the event types as they are now. */
export function buildAsyncApi(kernel: Pick<Kernel, 'eventTypes' | 'version'>): JsonSchema {
  const types = [...kernel.eventTypes()].sort((a, b) => a.ref.type.localeCompare(b.ref.type))
  const messages = Object.fromEntries(
    types.map(({ owner, ref }) => [
      toKey(ref.type),
      {
        name: ref.type,
        title: ref.type,
        summary: ref.summary,
        contentType: 'application/json',
        payload: toJsonSchema(ref.schema),
        tags: [{ name: owner }],
        'x-owner': owner,
        'x-scope': ref.scope.id,
        'x-durable': ref.durable,
      },
    ]),
  )
  const document = {
    asyncapi: '3.1.0',
    info: {
      title: 'Portico events',
      version: kernel.version,
      description:
        'Server-Sent Events of `GET /api/events`: the event’s name is its type, `data:` its payload. Durable types have an `id:`, from which a reader resumes by `Last-Event-ID`. `x-scope` names who may see a type.',
      license: { name: 'MIT' },
    },
    defaultContentType: 'application/json',
    channels: {
      events: {
        address: '/api/events',
        title: 'The event stream',
        messages: Object.fromEntries(Object.keys(messages).map((key) => [key, { $ref: `#/components/messages/${key}` }])),
      },
    },
    operations: { sendEvents: { action: 'send', title: 'Sends events to those who watch', channel: { $ref: '#/channels/events' } } },
    components: { messages },
  }
  return JSON.parse(JSON.stringify(document)) as JsonSchema
}

/** Keys of components hold no colon. */
function toKey(type: string): string {
  return type.replace(/[^\w.-]/g, '.')
}

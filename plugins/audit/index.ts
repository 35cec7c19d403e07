/** The plugin `audit`: events of who changed what, of which secrets were read, and of what may be an attack. */
import { admin, defineEvent, definePlugin, kernel, t } from 'portico'
import { isAudited } from './audited.ts'
import { type Security, security } from './contract.ts'
import { changedReferences, configPatched, secretAccessed } from './secrets.ts'
import { createWarnings } from './warnings.ts'

const auditEvent = defineEvent(
  'audit:event',
  t.Object({ who: t.String(), via: t.String(), address: t.String(), method: t.String(), route: t.String(), status: t.Integer(), requestId: t.String() }),
  { scope: admin, durable: true, summary: 'Somebody who was let in changed something: who, what, from where' },
)
const securityWarn = defineEvent('security:warn', t.Object({ kind: t.String(), details: t.Record(t.String(), t.String()) }), {
  scope: admin,
  durable: true,
  summary: 'Credentials are guessed, a foreign Host or Origin came, an address was refused. At most one per kind and address in ten seconds',
})

export default definePlugin({
  id: 'audit',
  version: '0.1.0',
  api: 1,
  summary: 'Tells who changed what, which secrets were read, and what may be an attack',
  events: [auditEvent, securityWarn, secretAccessed],
  requires: { kernel },
  provides: { security },

  setup(ctx) {
    const { kernel } = ctx.services
    const { onRequest, redact, database } = kernel
    /** Nobody waits for it, and it belongs to nobody's transaction. */
    const aside = (publish: () => Promise<void>) =>
      void database.outsideTransaction(publish).catch((error: unknown) => ctx.log.warn('An event could not be published', { error }))

    const warn: Security['warn'] = (kind, details) => {
      const told = Object.fromEntries(Object.entries(details).flatMap(([key, value]) => (value === undefined ? [] : [[key, redact(value).slice(0, 200)]])))
      ctx.log.warn(`security: ${kind}`, told)
      aside(async () => ctx.publish(securityWarn, { kind, details: told }))
    }
    ctx.defer(
      onRequest((record) => {
        if (!isAudited(record)) return
        const { principal, address, method, route, status, requestId } = record
        const data = { who: principal.id, via: principal.via, address, method, route, status, requestId }
        aside(async () => ctx.publish(auditEvent, data))
      }),
    )
    ctx.defer(onRequest(createWarnings(ctx.clock.now, warn)))
    const tell = (references: ReturnType<typeof changedReferences>) => {
      for (const reference of references) aside(async () => ctx.publish(secretAccessed, reference))
    }
    ctx.on(configPatched, ({ data }) => tell(changedReferences(kernel, data.keys)))
    return { services: { security: { warn } }, ready: () => tell(kernel.references()) }
  },
})

/** The event types the kernel itself owns. */
import { admin, defineEvent } from '../contract/refs.ts'
import { t } from '../contract/schema.ts'

const plugin = t.Object({ plugin: t.String(), version: t.String() })
const withReason = t.Object({ plugin: t.String(), version: t.String(), reason: t.String() })

export const pluginReady = defineEvent('plugin:ready', plugin, { scope: admin, durable: true, summary: 'A plugin is set up and its routes answer' })
export const pluginFailed = defineEvent('plugin:failed', withReason, { scope: admin, durable: true, summary: 'A plugin failed and was unwound' })
export const pluginBlocked = defineEvent('plugin:blocked', withReason, {
  scope: admin,
  durable: true,
  summary: 'A plugin cannot start: what it requires failed',
})
export const pluginStopped = defineEvent('plugin:stopped', plugin, { scope: admin, durable: true, summary: 'A plugin was stopped' })
export const systemError = defineEvent('system:error', t.Object({ plugin: t.String(), what: t.String(), message: t.String() }), {
  scope: admin,
  durable: true,
  summary: 'Something broke its contract: a listener threw, an event could not be handled. At most one per plugin and cause in ten seconds',
})

const ids = t.Array(t.String())
export const configPatched = defineEvent(
  'config:patched',
  t.Object({ keys: ids, started: ids, restarted: ids, reconfigured: ids, stopped: ids, needsRestart: ids, by: t.Nullable(t.String()) }),
  { scope: admin, durable: true, summary: 'A changed config, or a plugin loaded anew, was taken. It names keys, never values' },
)
export const secretAccessed = defineEvent('secret:accessed', t.Object({ section: t.String(), key: t.String(), reference: t.String() }), {
  scope: admin,
  durable: true,
  summary: 'A reference to a secret in the config was resolved, at a start or because it changed',
})

export const auditEvent = defineEvent(
  'audit:event',
  t.Object({ who: t.String(), via: t.String(), address: t.String(), method: t.String(), route: t.String(), status: t.Integer(), requestId: t.String() }),
  { scope: admin, durable: true, summary: 'Somebody who was let in changed something: who, what, from where' },
)
export const securityWarn = defineEvent('security:warn', t.Object({ kind: t.String(), details: t.Record(t.String(), t.String()) }), {
  scope: admin,
  durable: true,
  summary: 'Credentials are guessed, a foreign Host or Origin came, an address was refused. At most one per kind and address in ten seconds',
})

/** All of them: the kernel's part of the catalogue. */
export const kernelEvents = [
  auditEvent,
  securityWarn,
  pluginReady,
  pluginFailed,
  pluginBlocked,
  pluginStopped,
  systemError,
  configPatched,
  secretAccessed,
] as const

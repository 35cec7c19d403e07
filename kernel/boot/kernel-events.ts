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

/** All of them: the kernel's part of the catalogue. */
export const kernelEvents = [pluginReady, pluginFailed, pluginBlocked, pluginStopped, systemError, configPatched, secretAccessed] as const

/** The event types the kernel itself owns. */
import { admin, defineEvent } from '../contract/refs.ts'
import { t } from '../contract/schema.ts'

const forAdmins = { scope: admin, durable: true } as const
const plugin = t.Object({ plugin: t.String(), version: t.String() })
const withReason = t.Object({ plugin: t.String(), version: t.String(), reason: t.String() })
const ids = t.Array(t.String())

/** What a plugin came to. */
export const pluginEvents = {
  ready: defineEvent('plugin:ready', plugin, { ...forAdmins, summary: 'A plugin is set up and its routes answer' }),
  failed: defineEvent('plugin:failed', withReason, { ...forAdmins, summary: 'A plugin failed and was unwound' }),
  blocked: defineEvent('plugin:blocked', withReason, { ...forAdmins, summary: 'A plugin cannot start: what it requires failed' }),
  stopped: defineEvent('plugin:stopped', plugin, { ...forAdmins, summary: 'A plugin was stopped' }),
}
export const systemError = defineEvent('system:error', t.Object({ plugin: t.String(), what: t.String(), message: t.String() }), {
  ...forAdmins,
  summary: 'Something broke its contract: a listener threw, an event could not be handled. At most one per plugin and cause in ten seconds',
})
export const configPatched = defineEvent(
  'config:patched',
  t.Object({ keys: ids, started: ids, restarted: ids, reconfigured: ids, stopped: ids, needsRestart: ids, by: t.Nullable(t.String()) }),
  { ...forAdmins, summary: 'A changed config, or a plugin loaded anew, was taken. It names keys, never values' },
)

/** All of them: the kernel's part of the catalogue. */
export const kernelEvents = [...Object.values(pluginEvents), systemError, configPatched] as const

/** Which secrets were read: the references to them in the config, when they are resolved. */
import { admin, defineEvent, type Kernel, t } from 'portico'

/** `secret:accessed`. */
export const secretAccessed = defineEvent('secret:accessed', t.Object({ section: t.String(), key: t.String(), reference: t.String() }), {
  scope: admin,
  durable: true,
  summary: 'A reference to a secret in the config was resolved, at a start or because it changed',
})

/** The kernel's event, as far as it is needed here. */
export const configPatched = defineEvent('config:patched', t.Object({ keys: t.Array(t.String()) }), { scope: admin, durable: true })

/** Those references that lie under changed keys. */
export function changedReferences(kernel: Pick<Kernel, 'references'>, keys: readonly string[]): ReturnType<Kernel['references']> {
  return kernel.references().filter(({ section, key }) => keys.some((changed) => `${section}.${key}`.startsWith(changed)))
}

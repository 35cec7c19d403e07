/** What a principal is shown of the events: by the scope of the type, by whom an event belongs to, by what it asked for. */
import { GatewayError } from '../contract/errors.ts'
import type { EventView } from '../contract/kernel-service.ts'
import type { Principal } from '../contract/principal.ts'
import type { Catalogue } from './catalogue.ts'

/** See `Kernel.eventView`. */
export function createView(catalogue: Catalogue, principal: Principal, patterns?: readonly string[]): EventView {
  const wants = toTypeTest(patterns)
  const isAdmin = principal.scopes.includes('admin')
  const seen = { version: -1, types: new Map<string, boolean>() }

  function showsType(type: string): boolean {
    if (seen.version !== catalogue.version) {
      seen.version = catalogue.version
      seen.types.clear()
    }
    const known = seen.types.get(type)
    if (known !== undefined) return known
    const shows = (wants?.(type) ?? true) && catalogue.allows(principal, type)
    seen.types.set(type, shows)
    return shows
  }

  return {
    shows: ({ type, principal: owner }) => showsType(type) && (owner === undefined || isAdmin || owner === principal.id),
    filter: () => ({ types: isAdmin && !wants ? null : catalogue.types().filter(showsType), principal: isAdmin ? null : principal.id }),
  }
}

/** The test of patterns like `message:*`, `key:created` and `*`; none = every type. */
function toTypeTest(patterns: readonly string[] | undefined): ((type: string) => boolean) | null {
  if (!patterns || patterns.length === 0 || patterns.includes('*')) return null
  const wrong = patterns.find((pattern) => pattern.length > 200 || !/^[^*\s]+\*?$/.test(pattern))
  if (wrong !== undefined || patterns.length > 100)
    throw new GatewayError('validation_failed', 'A type pattern is a type, a beginning of one with * at its end, or *; at most 100 of them. Correct types.', {
      param: 'types',
    })
  const exact = new Set(patterns.filter((pattern) => !pattern.endsWith('*')))
  const prefixes = patterns.filter((pattern) => pattern.endsWith('*')).map((pattern) => pattern.slice(0, -1))
  return (type) => exact.has(type) || prefixes.some((prefix) => type.startsWith(prefix))
}

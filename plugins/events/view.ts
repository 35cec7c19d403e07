/** What a principal is shown of the events: by the scope of the type, by whom an event belongs to, by what it asked for. */
import { admin, type EventDelivery, GatewayError, hasScope, type Kernel, type Principal } from 'portico'
import type { LogFilter } from 'portico/plugins/event-log'

/** What one principal is shown of the events. */
export interface EventView {
  /** True if the event is for this principal, and among the types asked for. */
  shows(event: EventDelivery): boolean
  /** What to ask the log for. With patterns it names the types that plugins own now; administrators are shown those that nobody owns as well. */
  filter(): LogFilter
}

/** What this principal may see of all events, or of those types: patterns `message:*`, `key:created`, `*`. @throws GatewayError `validation_failed` on a malformed pattern */
export function createEventView(kernel: Pick<Kernel, 'eventTypes'>, principal: Principal, patterns?: readonly string[]): EventView {
  const wants = toTypeTest(patterns)
  const isAdmin = principal.scopes.includes('admin')
  let owned: EventTypes | undefined
  const seen = new Map<string, boolean>()

  function showsType(type: string): boolean {
    // The list is another one when plugins have come or gone.
    const now = kernel.eventTypes()
    if (owned !== now) seen.clear()
    owned = now
    const known = seen.get(type)
    if (known !== undefined) return known
    // Types that nobody owns now are for admins.
    const shows = (wants?.(type) ?? true) && hasScope(principal, scopesOf(now).get(type) ?? admin.id)
    seen.set(type, shows)
    return shows
  }

  return {
    shows: ({ type, principal: owner }) => showsType(type) && (owner === undefined || isAdmin || owner === principal.id),
    filter: () => ({
      types: isAdmin && !wants ? null : kernel.eventTypes().flatMap(({ ref }) => (showsType(ref.type) ? [ref.type] : [])),
      principal: isAdmin ? null : principal.id,
    }),
  }
}

type EventTypes = ReturnType<Kernel['eventTypes']>

const scopes = new WeakMap<EventTypes, ReadonlyMap<string, string>>()

/** The scope of each type, found once for all readers. */
function scopesOf(types: EventTypes): ReadonlyMap<string, string> {
  const known = scopes.get(types)
  if (known) return known
  const found = new Map(types.map(({ ref }) => [ref.type, ref.scope.id]))
  scopes.set(types, found)
  return found
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

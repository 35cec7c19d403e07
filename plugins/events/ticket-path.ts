/** Which paths a ticket may open: those of streams and sockets of this gateway, that its principal may call. */
import { GatewayError, hasScope, type Principal, type RouteInfo } from 'portico'

/** Checks the path someone wants a ticket for; returns it in two parts. Throws 400, 403 or 404. */
export function toTicketPath(path: string, principal: Principal, routes: readonly RouteInfo[]): { pathname: string; search: URLSearchParams } {
  const wrong = (why: string) => new GatewayError('validation_failed', `path ${why}: give a path of this gateway such as /api/events.`, { param: 'path' })
  if (!path.startsWith('/') || path.startsWith('//') || path.includes('\\') || path.includes('#')) throw wrong('is not an absolute path of this origin')
  const url = new URL(path, 'http://localhost')
  const [pathname = ''] = path.split('?', 1)
  if (url.host !== 'localhost' || url.pathname !== pathname || pathname.includes('%2f') || pathname.includes('%2F')) throw wrong('is not in its plain form')
  if (url.searchParams.has('ticket') || url.searchParams.has('token')) throw wrong('holds a credential')

  const route = routes.find((candidate) => candidate.stream && (candidate.method === 'GET' || candidate.method === 'WS') && matches(candidate.path, pathname))
  if (!route) throw new GatewayError('not_found', `No stream or socket lives at ${JSON.stringify(pathname)}: GET /docs lists what there is.`, { param: 'path' })
  const { access } = route
  if ('scopes' in access && !access.scopes.some((scope) => hasScope(principal, scope.id))) {
    throw new GatewayError('insufficient_scope', `${pathname} needs the scope ${access.scopes.map((scope) => scope.id).join(' or ')}.`, { param: 'path' })
  }
  return { pathname, search: url.searchParams }
}

function matches(template: string, pathname: string): boolean {
  const [wanted, given] = [template.split('/'), pathname.split('/')]
  for (const [index, segment] of wanted.entries()) {
    if (segment === '*') return true
    const found = given[index]
    if (found === undefined || (segment.startsWith(':') ? found === '' : segment !== found)) return false
  }
  return wanted.length === given.length
}

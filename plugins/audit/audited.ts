/** Which requests are recorded. */
import { admin, type RequestRecord } from 'portico'

/** Somebody who was let in changed what is his to change (`RouteGroupOptions.audit`), or tried to. */
export function isAudited({ group, request, status }: RequestRecord): boolean {
  const { access, options } = group ?? {}
  const isAdmins = access?.kind === 'guard' && access.scopes.length === 1 && access.scopes[0]?.id === admin.id
  const isAsked = options?.audit === true && (access?.kind !== 'open' || status < 400)
  return (isAdmins || isAsked) && !/^(GET|HEAD|OPTIONS)$/.test(request.method) && ![401, 403, 429].includes(status)
}

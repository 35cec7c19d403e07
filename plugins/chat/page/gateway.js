/** The gateway as the page calls it: the key of this device, where it is kept, and what an answer that is none says. */

/** Names in the browser's storage. */
export const names = { key: 'portico.key', session: 'portico.session', model: 'portico.model' }

/** A key that is not to be kept lives as long as the tab; neither ever stands in a URL. */
export const stored = {
  get: (name) => sessionStorage.getItem(name) ?? localStorage.getItem(name),
  /** `where`: `tab` = until it closes, `browser` = also later, `both` = this tab's own, and where the next one begins. */
  set(name, value, where) {
    sessionStorage.removeItem(name)
    localStorage.removeItem(name)
    if (value && where !== 'browser') sessionStorage.setItem(name, value)
    if (value && where !== 'tab') localStorage.setItem(name, value)
  },
}

/** Who is signed in: null = nobody. */
export const device = { key: stored.get(names.key) }

/** An answer of the gateway that is an error. */
export class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `The gateway answered ${status}.`)
    this.status = status
  }
}

/** Calls it with the key; an error is thrown as `Refused`. */
export async function call(path, { method = 'GET', body, signal } = {}) {
  const headers = { authorization: `Bearer ${device.key}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) }
  const response = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) })
  if (response.ok) return response
  const { error } = await response.json().catch(() => ({}))
  throw new Refused(response.status, error)
}

/** The same, and its JSON. */
export const json = async (path, options) => (await call(path, options)).json()

/** The key for a pairing code. */
export async function pair(code) {
  const response = await fetch('/pair', { method: 'POST', headers: { 'x-pairing-code': code } })
  const body = await response.json().catch(() => ({}))
  if (response.ok) return body.token
  throw Object.assign(new Refused(response.status, body.error), { isPairing: true })
}

/** What went wrong, and what to do. */
export function plain(error) {
  if (error instanceof Refused) return error.message
  if (error instanceof TypeError) return 'The gateway does not answer. See whether it runs (portico status), then try again.'
  return String(error.message ?? error)
}

/** Whether a request was forwarded, or comes from this machine. */

/** What proxies add: the standards' own (RFC 9110 §7.6.3, RFC 7239) and the usual others. */
const forwardedBy = [
  ...['forwarded', 'via', 'x-real-ip', 'x-client-ip', 'true-client-ip', 'cf-connecting-ip', 'fly-client-ip'],
  ...['for', 'host', 'proto', 'port', 'server', 'prefix'].map((what) => `x-forwarded-${what}`),
]

/** True if any header says that a proxy forwarded the request. One that adds none cannot be told from a client. */
export function isForwarded(headers: Headers): boolean {
  return forwardedBy.some((name) => headers.has(name))
}

/** True for 127.0.0.0/8, ::1 and `''` (in process). */
export function isLoopbackAddress(address: string): boolean {
  return address === '' || address === '::1' || /^(::ffff:)?127\./.test(address)
}

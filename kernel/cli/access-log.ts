/** The access log: one line for each finished request, when `log.access` is on. It names routes as they are written, never what a client sent: paths and queries hold secrets. */
import type { Kernel } from '../contract/kernel-service.ts'
import type { Logger } from '../contract/plugin.ts'

/** Gives its switch: off at first. Level info, warn for answers of 500 or more. Of a stream the time is that to its head. */
export function createAccessLog(kernel: Pick<Kernel, 'onRequest'>, log: Logger): (isOn: boolean) => void {
  let stop: (() => void) | undefined
  const start = () =>
    kernel.onRequest(({ method, route, status, seconds, requestId, principal, address }) => {
      // The process itself called.
      if (address === '') return
      const ms = Math.round(seconds * 10_000) / 10
      log[status >= 500 ? 'warn' : 'info'](`${method} ${route} ${status}`, { ms, requestId, principal: principal.id, address })
    })
  return (isOn) => {
    if (isOn) stop ??= start()
    else {
      stop?.()
      stop = undefined
    }
  }
}

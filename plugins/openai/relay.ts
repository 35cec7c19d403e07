/** Passes an upstream's body on: its bytes as they come, its end only if it is one, and the client's leaving to the upstream at once. */
import { type RequestContext, selfReporting } from 'portico'
import { encodeSse } from 'portico/plugins/events'
import type { WireCall } from 'portico/plugins/models'
import type { Watcher } from './watchers.ts'

/** What happens when the body breaks off. */
export interface RelayOptions {
  readonly watcher: Watcher
  /** True: an event stream, which ends in an error frame. False: the connection breaks. */
  readonly isStream: boolean
  readonly context: RequestContext
  /** Told when the upstream, not the client, broke it. */
  onBroken(why: string): void
}

/** The body of the answer. It reads only when it is read. */
export function relayBody(
  call: WireCall,
  source: ReadableStream<Uint8Array>,
  { watcher, isStream, context, onBroken }: RelayOptions,
): ReadableStream<Uint8Array> {
  const reader = source.getReader()
  let isOver = false
  let release = () => {}
  let progressAt = performance.now()
  let timer: ReturnType<typeof setTimeout> | undefined

  function finish(): boolean {
    if (isOver) return false
    isOver = true
    clearTimeout(timer)
    release()
    return true
  }

  function breakOff(controller: ReadableStreamDefaultController<Uint8Array>, message: string, code: string): void {
    if (!finish()) return
    call.abort()
    if (!isStream && !watcher.isWhole) {
      controller.error(new Error(message))
      return
    }
    if (!watcher.isWhole)
      controller.enqueue(encodeSse({ data: { error: { message, type: 'upstream_error', param: null, code, requestId: context.requestId } } }))
    controller.close()
  }

  function watchSilence(controller: ReadableStreamDefaultController<Uint8Array>, ms: number): void {
    timer = setTimeout(() => {
      const silent = performance.now() - progressAt
      if (silent < call.silenceMs) return watchSilence(controller, call.silenceMs - silent)
      onBroken('silence')
      breakOff(controller, `Nothing moved for ${call.silenceMs} ms; the answer is not whole.`, 'upstream_timeout')
    }, ms)
  }

  const relayed = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        release = context.hold('work', (reason) => {
          if (reason === 'revoked') breakOff(controller, 'The credential was revoked; the answer is not whole.', 'invalid_api_key')
          else breakOff(controller, 'The gateway stops; the answer is not whole.', 'unavailable')
        })
        watchSilence(controller, call.silenceMs)
      },
      async pull(controller) {
        for (;;) {
          let read: Awaited<ReturnType<typeof reader.read>>
          try {
            read = await reader.read()
          } catch (error) {
            if (!isOver) onBroken(String(error))
            return breakOff(controller, 'The upstream broke off; the answer is not whole.', 'upstream_error')
          }
          if (isOver) return
          progressAt = performance.now()
          if (!read.done) {
            const bytes = watcher.push(read.value)
            if (bytes === null) continue
            return controller.enqueue(bytes)
          }
          const rest = watcher.end()
          if (rest === null) {
            onBroken('its end is missing')
            return breakOff(controller, 'The upstream ended before its answer did.', 'upstream_error')
          }
          if (rest.length > 0) controller.enqueue(rest)
          finish()
          call.done()
          return controller.close()
        }
      },
      cancel() {
        if (!finish()) return
        call.abort()
        reader.cancel().catch(() => undefined)
      },
    },
    { highWaterMark: 0 },
  )
  return selfReporting(relayed)
}

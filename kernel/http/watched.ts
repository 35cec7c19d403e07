/** Streamed answers that break: whose they were is said where it is known. */
import { errorTable, isGatewayError } from '../contract/errors.ts'
import { isSelfReporting } from '../contract/stream.ts'
import type { Context } from './context.ts'
import type { Report } from './errors.ts'

/** Whether a Response streams cannot be asked without spoiling one that does not: it is taken by its type, or its group's word. */
const streamed = /^(?:text\/event-stream|application\/(?:x-ndjson|ndjson|jsonl|octet-stream))\b/

/** The answer, its stream watched unless it speaks for itself. */
export function watched(context: Context, answer: Response, report: Report): Response {
  const { target, request } = context
  if (answer === undefined || target === undefined || answer.bodyUsed) return answer
  const type = answer.headers.get('content-type') ?? ''
  if (type === 'application/json' || type.startsWith('application/json;') || (!streamed.test(type) && !target.group.options.stream)) return answer
  const { body } = answer
  if (body === null || body.locked || isSelfReporting(body)) return answer
  const reader = body.getReader()
  const passed = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await reader.read()
          if (done) controller.close()
          else controller.enqueue(value)
        } catch (error) {
          if (!isGatewayError(error) || errorTable[error.code].status === 500) report(target.group.plugin, `${request.method} ${target.template} stream`, error)
          // While Bun takes an answer over, it prints what breaks it to stderr by itself, secrets and all.
          await new Promise((resolve) => setTimeout(resolve))
          controller.error(error)
        }
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  )
  return new Response(passed, answer)
}

/** Streamed answers that break: whose they were is said where it is known. */
import { type AnswerWatch, errorTable, isGatewayError, isSelfReporting, type Kernel } from 'portico'

/** Whether a Response streams cannot be asked without spoiling one that does not: it is taken by its type, or its group's word. */
const streamed = /^(?:text\/event-stream|application\/(?:x-ndjson|ndjson|jsonl|octet-stream))\b/

/** Watches each stream that does not speak for itself. */
export function createAnswerWatch(report: Kernel['report']): AnswerWatch {
  return { watch: (answer, { request, target }) => watched(answer, request, target, report) }
}

type Target = Parameters<AnswerWatch['watch']>[1]['target']

function watched(answer: Response, request: Request, target: Target, report: Kernel['report']): Response {
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

/** HTML as readable text, made in a thread of its own: a page that is built to be slow stops nobody but itself. */
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { GatewayError } from 'portico'

const file = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './html-worker.ts' : './html-worker.js', import.meta.url).href)
/** Threads at once; more wait. */
const maxWorkers = 4

let free = maxWorkers
const waiting: (() => void)[] = []

/** The text of a page, without its navigation where it marks its article. @throws GatewayError `deadline_exceeded` after `deadline` ms */
export async function htmlToText(html: string, signal?: AbortSignal, deadline = 10_000): Promise<string> {
  signal?.throwIfAborted()
  if (free > 0) free--
  else await new Promise<void>((resolve) => waiting.push(resolve))
  const worker = new Worker(file, { resourceLimits: { maxOldGenerationSizeMb: 256 } })
  try {
    return await new Promise<string>((resolve, reject) => {
      const slow = () =>
        reject(new GatewayError('deadline_exceeded', `The page was not read within ${deadline} ms: it is too deeply nested. Ask for it with raw.`))
      const timer = setTimeout(slow, deadline)
      const cancel = () => reject(signal?.reason)
      if (signal?.aborted) cancel()
      signal?.addEventListener('abort', cancel, { once: true })
      const settle = (end: () => void) => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', cancel)
        end()
      }
      worker.once('message', (text: string) => settle(() => resolve(text)))
      worker.once('error', (error) => settle(() => reject(error)))
      worker.once('exit', () => settle(() => reject(new Error('The thread that reads pages ended'))))
      worker.postMessage(html)
    })
  } finally {
    void worker.terminate()
    const next = waiting.shift()
    if (next) next()
    else free++
  }
}

/** Where the code is, looked at twenty times a second by the runtime itself: what a loop that blocks was busy with can be told afterwards. Both runtimes speak V8's profiler protocol. */
import type { Session } from 'node:inspector'

/** Between two samples. At 50 ms the looking costs nothing that can be measured. */
export const sampleMs = 50
/** Samples are thrown away so often: reading them stops the loop for some milliseconds on Deno. */
const renewMs = 60_000

/** A place in the code. */
export interface Place {
  readonly name: string
  /** A URL or path; the frames that called it follow it. */
  readonly files: readonly string[]
  readonly line: number
}

/** A running sampler. */
export interface Sampler {
  /** Where the code was in the last `ms`, one place a sample. Begins anew. */
  take(ms: number): Promise<readonly Place[]>
  stop(): Promise<void>
}

interface Node {
  readonly id: number
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number }
  readonly children?: readonly number[]
}

interface Profile {
  readonly nodes: readonly Node[]
  readonly samples: readonly number[]
}

/** Starts sampling. */
export async function startSampler(): Promise<Sampler> {
  const { Session } = await import('node:inspector')
  const session: Session = new Session()
  session.connect()
  const post = (method: string, params?: object) =>
    new Promise<unknown>((resolve, reject) => {
      session.post(method, params, (error: Error | null, result?: unknown) => (error ? reject(error) : resolve(result)))
    })
  await post('Profiler.enable')
  await post('Profiler.setSamplingInterval', { interval: sampleMs * 1_000 })
  await post('Profiler.start')
  let busy: Promise<unknown> = Promise.resolve()
  const read = () => {
    const next = busy.then(async () => {
      const { profile } = (await post('Profiler.stop')) as { profile: Profile }
      await post('Profiler.start')
      return profile
    })
    busy = next.catch(() => undefined)
    return next
  }
  const renew = setInterval(() => void read().catch(() => undefined), renewMs)
  renew.unref()
  return {
    async take(ms) {
      const { nodes, samples } = await read()
      const byId = new Map(nodes.map((node) => [node.id, node]))
      const callers = new Map(nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id] as const)))
      return samples.slice(-Math.ceil(ms / sampleMs)).flatMap((id) => {
        const node = byId.get(id)
        return node ? [toPlace(node, byId, callers)] : []
      })
    },
    async stop() {
      clearInterval(renew)
      await busy
      await post('Profiler.stop').catch(() => undefined)
      session.disconnect()
    },
  }
}

function toPlace(node: Node, byId: ReadonlyMap<number, Node>, callers: ReadonlyMap<number, number>): Place {
  const files: string[] = []
  for (let at: Node | undefined = node; at; at = byId.get(callers.get(at.id) ?? -1)) if (at.callFrame.url !== '') files.push(at.callFrame.url)
  const { functionName, lineNumber } = node.callFrame
  return { name: functionName || 'an anonymous function', files, line: lineNumber + 1 }
}

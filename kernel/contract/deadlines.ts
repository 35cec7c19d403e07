/** Deadlines: of one promise, and of many waits with one timer, exact to a fortieth of a second, nothing per request but a place in a bag. */
import { Bag, type Bagged } from './bag.ts'
import { GatewayError } from './errors.ts'

/** Settles like `work`, or rejects after `ms` with a message that names the culprit. The work itself goes on; its late failure is swallowed. Internal to the kernel. */
export function withDeadline<T>(work: Promise<T>, ms: number, culprit: string): Promise<T> {
  const { promise: over, reject } = Promise.withResolvers<never>()
  const late = () => reject(new GatewayError('deadline_exceeded', `${culprit} did not finish within ${ms} ms.`))
  const timer = setTimeout(late, ms)
  return Promise.race([work, over]).finally(() => clearTimeout(timer))
}

const tickMs = 25

/** Something that must end in time. */
export interface Wait extends Bagged {
  /** By `performance.now()`. */
  readonly dueAt: number
  expire(): void
  /** Called at each tick before. */
  poll?(): void
}

/** The waits that are under way. The timer runs only while there are any, and keeps no process alive. */
export class Deadlines<W extends Wait = Wait> extends Bag<W> {
  #timer: ReturnType<typeof setInterval> | undefined

  override add(wait: W): void {
    super.add(wait)
    if (this.#timer !== undefined) return
    this.#timer = setInterval(() => this.#tick(), tickMs)
    if (typeof this.#timer === 'object') this.#timer.unref()
  }

  #tick(): void {
    const now = performance.now()
    for (const wait of this) {
      if (wait.dueAt > now) wait.poll?.()
      else if (this.delete(wait)) wait.expire()
    }
    if (this.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}

const waits = new Deadlines()

/** Settles like `work`, or after `ms` rejects with what `late` makes. A result that comes all the same is given to `discard`. */
export function inTime<T>(work: Promise<T>, ms: number, late: () => unknown, discard?: (result: T) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const wait: Wait = { place: undefined, dueAt: performance.now() + ms, expire: () => reject(late()) }
    waits.add(wait)
    work.then(
      (result) => (waits.delete(wait) ? resolve(result) : discard?.(result)),
      (error) => {
        waits.delete(wait)
        reject(error)
      },
    )
  })
}

/** One call, from its first look-up to the last byte of its answer: a signal, deadlines, and one end that frees all it holds. */
import { type Deadlines, GatewayError } from 'portico'
import type { Refusal } from './refusal.ts'

/** A call under way. */
export class Call {
  readonly #abort = new AbortController()
  readonly #undo = new Set<() => void>()
  readonly #deadlines: Deadlines
  #isOver = false
  /** Tells of a refusal in the caller's name; returns the error to throw. */
  readonly refuse: (refusal: Refusal) => GatewayError

  constructor(deadlines: Deadlines, refuse: (refusal: Refusal) => GatewayError) {
    this.#deadlines = deadlines
    this.refuse = refuse
  }

  /** Aborted when it has to stop before its end. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** Aborts with that signal's reason. */
  follow(signal: AbortSignal | undefined): void {
    if (!signal) return
    const stop = () => this.abort(signal.reason)
    signal.addEventListener('abort', stop, { once: true })
    this.defer(() => signal.removeEventListener('abort', stop))
    if (signal.aborted) stop()
  }

  /** Aborts with `upstream_timeout` after `ms`, unless the returned function is called before. */
  limit(ms: number, message: string): () => void {
    const wait = { dueAt: performance.now() + ms, expire: () => this.abort(new GatewayError('upstream_timeout', message)) }
    this.#deadlines.add(wait)
    return this.defer(() => void this.#deadlines.delete(wait))
  }

  /** Has something done at the end; the returned function does it now instead. */
  defer(undo: () => void): () => void {
    if (this.#isOver) {
      undo()
      return () => undefined
    }
    this.#undo.add(undo)
    return () => {
      if (this.#undo.delete(undo)) undo()
    }
  }

  /** Settles like the work, or rejects at the abort; the work itself may go on. */
  race<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const stop = () => reject(this.signal.reason)
      if (this.signal.aborted) stop()
      this.signal.addEventListener('abort', stop, { once: true })
      const off = this.defer(() => this.signal.removeEventListener('abort', stop))
      work.then(resolve, reject).finally(off)
    })
  }

  /** Stops it: the signal first, so that whoever waits learns the reason. */
  abort(reason: unknown): void {
    if (this.#isOver) return
    this.#abort.abort(reason)
    this.end()
  }

  /** Frees everything. More calls do nothing. */
  end(): void {
    this.#isOver = true
    for (const undo of [...this.#undo].reverse()) {
      this.#undo.delete(undo)
      undo()
    }
  }
}

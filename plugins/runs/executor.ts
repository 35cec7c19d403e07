/** Works on runs: takes them from the queue as far as there is room, keeps their leases, ends them, and lets go of them when the gateway stops. */
import { type Clock, GatewayError, type Logger } from 'portico'
import type { Queue } from './claim.ts'
import type { Run } from './contract.ts'
import type { Ending, Endings } from './ending.ts'
import type { Hub, Topic } from './hub.ts'
import { Cancelled, RunFailure, Stopping } from './reasons.ts'
import { type HeldRun, LeaseLost, toRunError } from './record.ts'
import { endingOf } from './turn.ts'

/** What it works with. */
export interface ExecutorOptions {
  readonly clock: Clock
  readonly log: Logger
  readonly queue: Queue
  readonly endings: Endings
  readonly hub: Hub
  readonly concurrency: number
  readonly maxInteractive: number
  /** ms. */
  readonly lease: number
  /** Nobody else has this database: whoever held runs before is dead. */
  readonly isAlone: boolean
  /** Something is at work in it that is not to be begun twice. */
  isAtTool(held: HeldRun): boolean
  work(held: HeldRun, topic: Topic, signal: AbortSignal, worked: () => number): Promise<void>
  isAway(error: unknown): boolean
}

interface Execution {
  readonly held: HeldRun
  readonly abort: AbortController
  /** Takes a place of the queue's. */
  readonly isQueued: boolean
  done: Promise<void>
}

/** The executor. */
export type Executor = ReturnType<typeof createExecutor>

const pause = 1_000
const maxPause = 15_000
/** ms that tools, and then what is left, have to end at a stop. */
const [toolGrace, stopGrace] = [2_000, 2_500]

/** Makes it; nothing is done before `start`. */
export function createExecutor(options: ExecutorOptions) {
  const { clock, log, queue, endings, hub, concurrency, maxInteractive, lease, isAlone, isAway } = options
  const executions = new Map<string, Execution>()
  /** Queued runs of people who wait here, and what ends each. */
  const waiting = new Map<string, AbortSignal>()
  const over = new AbortController()
  /** Places at work that are kept for runs which are taken in just now. */
  let reserved = 0
  let pumping: Promise<void> | undefined
  let freeing: Promise<void> | undefined
  let isAskedAgain = false
  /** The queue is left alone. */
  let isPaused = true
  /** Runs may begin. */
  let isOpen = false

  const queued = () => reserved + [...executions.values()].filter(({ isQueued }) => isQueued).length

  /** Takes runs as far as there is room: one who asks while it is at it makes it look once more. */
  function pump(): void {
    if (isPaused || over.signal.aborted) return
    isAskedAgain = true
    pumping ??= fill().finally(() => {
      pumping = undefined
      if (isAskedAgain) pump()
    })
  }

  async function fill(): Promise<void> {
    while (isAskedAgain && !isPaused && !over.signal.aborted) {
      isAskedAgain = false
      try {
        for (let isFull = false; !isFull && !over.signal.aborted; ) {
          // Over the bound only children: their parents wait for them with the places that there are. And people who wait for an answer.
          const onlyChildren = queued() >= concurrency
          const held = await queue.claim(onlyChildren)
          if (!held) isFull = true
          else if (over.signal.aborted) await queue.giveBack(held, 0)
          else begin(held, !onlyChildren && !held.run.isInteractive)
        }
      } catch (error) {
        if (over.signal.aborted) return
        if (!isAway(error)) log.error('The queue of runs could not be read', { error })
        return
      }
    }
  }

  function begin(held: HeldRun, isQueued: boolean, signal?: AbortSignal): void {
    const { run } = held
    const waits = signal ?? waiting.get(run.id)
    waiting.delete(run.id)
    const execution: Execution = { held, isQueued, abort: new AbortController(), done: Promise.resolve() }
    executions.set(run.id, execution)
    const topic = hub.open(run, held.epoch, held.entries)
    hub.poke(run.id)
    const leave = () => execution.abort.abort(new Cancelled('Whoever waited for it has left.'))
    if (waits?.aborted) leave()
    waits?.addEventListener('abort', leave, { once: true })
    execution.done = execute(execution, topic).finally(() => {
      waits?.removeEventListener('abort', leave)
      if (executions.get(run.id) === execution) executions.delete(run.id)
      hub.close(topic, held.over)
      pump()
    })
  }

  async function execute({ held, abort }: Execution, topic: Topic): Promise<void> {
    const { run } = held
    const started = clock.now()
    const worked = () => clock.now() - started
    const left = run.spec.timeout - held.worked
    const late = () => abort.abort(new RunFailure('deadline_exceeded', `The run did not end within ${run.spec.timeout} ms of work.`))
    const timer = setTimeout(late, Math.max(0, left))
    try {
      await options.work(held, topic, abort.signal, worked)
    } catch (error) {
      // What made the run stop is said in the signal; what was thrown after that only follows from it.
      await finish(held, abort.signal.aborted && !(error instanceof LeaseLost) ? abort.signal.reason : error, `${topic.text}`, worked()).catch(
        (reason: unknown) => {
          if (reason instanceof LeaseLost || over.signal.aborted) return
          log.error('The end of a run could not be written; its lease will run out, and it goes on then', { runId: run.id, error: reason })
        },
      )
    } finally {
      clearTimeout(timer)
      // Whatever still hangs on it is told.
      abort.abort(new LeaseLost(run.id))
    }
  }

  async function finish(held: HeldRun, reason: unknown, text: string, worked: number): Promise<void> {
    const { run } = held
    if (reason instanceof LeaseLost) return log.info('A run is at work elsewhere, or was ended', { runId: run.id })
    if (reason instanceof Stopping && !run.isInteractive) return queue.giveBack(held, worked)
    await endings.finish(held, endingOf(reason, text) ?? toEnding(run, reason, text), { worked })
  }

  function toEnding(run: Run, reason: unknown, text: string): Ending {
    if (reason instanceof Cancelled || reason instanceof Stopping) return { state: 'cancelled', reason: reason.message, text }
    const error = toRunError(reason)
    if (error.code === 'internal_error') log.error('A run failed', { runId: run.id, error: reason })
    return { state: 'failed', error, text }
  }

  /** Keeps what is held, frees what others left. */
  async function beat(): Promise<void> {
    const held = [...executions.values()].map((execution) => execution.held)
    for (const { run, epoch } of await queue.renew(held)) {
      const execution = executions.get(run.id)
      // Just ended here, or lost.
      if (execution?.held.epoch === epoch) execution.abort.abort(new LeaseLost(run.id))
    }
    await queue.keepWaiting([...waiting.keys()])
    await sweep()
  }

  async function sweep(all = false): Promise<void> {
    for (const id of await queue.sweep(all))
      if (!waiting.has(id)) await endings.finishFromOutside(id, { state: 'cancelled', reason: 'The gateway at which somebody waited for it has ended.' })
    for (const { id, dependsOn, state } of await queue.hopeless())
      await endings.finishFromOutside(id, {
        state: 'failed',
        error: { code: 'dependency_failed', message: `${dependsOn}, which it depends on, ${state ? `was ${state}` : 'is gone'}: nothing was begun.` },
      })
  }

  async function beats(): Promise<void> {
    // Silence is noticed, and its runs begun anew, well within a lease and a quarter.
    const every = Math.min(lease / 4, 3_000)
    for (let wait = every; !over.signal.aborted; ) {
      try {
        await clock.sleep(wait, over.signal)
        await beat()
        pump()
        wait = every
      } catch (error) {
        if (over.signal.aborted) return
        if (!isAway(error)) log.error('The leases of runs could not be kept', { error })
        wait = Math.min(maxPause, Math.max(pause, every / 2))
      }
    }
  }

  const self = {
    /** Begins to take runs, once those that a dead process held are free. */
    start(): void {
      const free = async () => {
        if (isAlone) await sweep(true).catch((error: unknown) => log.warn('Runs of the process before could not be freed yet', { error }))
        void beats()
        isPaused = false
        pump()
      }
      isOpen = true
      // Nobody who is served waits for what was left.
      freeing = free()
    },
    /** There may be something in the queue. `isAwaited` false = nothing that somebody waits for: without room there is no need to look. */
    wake({ isAwaited = true } = {}): void {
      if (isAwaited || queued() < concurrency) pump()
    },
    /** A run that was taken on with its submission, or that somebody waits for in the queue. */
    take(run: Run, held: HeldRun | undefined, signal: AbortSignal | undefined): void {
      if (held) {
        begin(held, !signal && run.parentId === null, signal)
        return
      }
      if (signal) {
        waiting.set(run.id, signal)
        const leave = () => {
          if (!waiting.delete(run.id)) return
          endings
            .finishFromOutside(run.id, { state: 'cancelled', reason: 'Whoever waited for it has left.' })
            .catch((error: unknown) => log.warn('A run that nobody waits for could not be cancelled yet', { runId: run.id, error }))
        }
        if (signal.aborted) leave()
        else signal.addEventListener('abort', leave, { once: true })
      }
      self.wake({ isAwaited: signal !== undefined || run.depth > 0 })
    },
    /** A place at work; undefined = there is none. What it gives is called when the place is taken, or not needed. */
    reserve(): (() => void) | undefined {
      if (!isOpen || queued() >= concurrency) return undefined
      reserved++
      return () => {
        reserved--
      }
    },
    /** @throws GatewayError when no more can be served */
    admit(): void {
      if (over.signal.aborted) throw new GatewayError('unavailable', 'The gateway stops: try again in a moment.', { retryAfter: 1 })
      if (executions.size + reserved - queued() + waiting.size < maxInteractive) return
      throw new GatewayError('rate_limit_exceeded', `${maxInteractive} conversations are under way at once (runs.maxInteractive): try again in a moment.`, {
        retryAfter: 2,
      })
    },
    /** Stops a run that is at work here, with what there is of its answer; resolves when its end is written, or after `ms`. False = it is not here. */
    async cancel(id: string, reason: string, ms: number): Promise<boolean> {
      const execution = executions.get(id)
      if (!execution) return false
      execution.abort.abort(new Cancelled(reason))
      await Promise.race([execution.done, clock.sleep(ms, over.signal).catch(() => undefined)])
      return true
    },
    /** A run that somebody else ended or took. */
    drop(id: string): void {
      executions.get(id)?.abort.abort(new LeaseLost(id))
    },
    /** Lets go of everything: queued runs go on elsewhere, or when the gateway is started again. A tool at work may end first, or its effect would not be known. */
    async stop(): Promise<void> {
      isOpen = false
      await freeing
      isPaused = true
      const all = [...executions.values()]
      const ended = (which: readonly Execution[], ms: number) =>
        Promise.race([Promise.allSettled(which.map(({ done }) => done)), new Promise((resolve) => setTimeout(resolve, ms))])
      const atTool = all.filter(({ held }) => options.isAtTool(held))
      for (const execution of all) {
        if (atTool.includes(execution)) execution.held.isStopping = true
        else execution.abort.abort(new Stopping())
      }
      await ended(atTool, toolGrace)
      for (const { abort } of atTool) abort.abort(new Stopping())
      await ended(all, stopGrace)
      over.abort()
      await pumping?.catch(() => undefined)
    },
  }
  return self
}

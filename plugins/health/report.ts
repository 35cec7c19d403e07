/** Asks the components and the contributors, at most once a second however many probes there are. */
import type { Clock, Kernel } from 'portico'
import type { DatabaseAccess } from 'portico/plugins/database'
import type { ComponentStates, StatusInfo } from './contract.ts'

const reuse = 1_000
const deadline = 1_000

/** A component as readiness sees it: `reachable` = answers, but degraded. */
export interface ComponentHealth {
  readonly name: string
  readonly state: 'ok' | 'reachable' | 'down'
}

/** What a report is made from. */
export interface ReportOptions {
  kernel: Pick<Kernel, 'plugins'>
  database: Pick<DatabaseAccess, 'ping'>
  clock: Clock
  contributors(): readonly StatusInfo[]
}

/** How the gateway is. */
export interface Report {
  components(): Promise<readonly ComponentHealth[]>
  contributedHealth(): Promise<ComponentStates>
  contributedStatus(): Promise<Record<string, unknown>>
}

/** Makes the report. */
export function createReport({ kernel, database, clock, contributors }: ReportOptions): Report {
  const gather = async <T extends object>(ask: (item: StatusInfo) => T | Promise<T> | undefined): Promise<T[]> => {
    const answers = await Promise.all(contributors().map((item) => within(deadline, async () => ask(item))))
    return answers.filter((answer) => answer !== undefined)
  }
  return {
    components: shared(clock, async () => [await databaseHealth(database), pluginsHealth(kernel)]),
    contributedHealth: shared(clock, async () => {
      const merged: Record<string, string | Record<string, string>> = {}
      for (const states of await gather((item) => item.health?.())) {
        for (const [name, state] of Object.entries(states)) {
          const before = merged[name]
          merged[name] = typeof state === 'string' ? state : { ...(typeof before === 'object' ? before : {}), ...state }
        }
      }
      return merged
    }),
    contributedStatus: shared(clock, async () => Object.assign({}, ...(await gather((item) => item.status?.())))),
  }
}

async function databaseHealth(database: ReportOptions['database']): Promise<ComponentHealth> {
  const state = await database.ping().then(
    () => 'ok' as const,
    () => 'down' as const,
  )
  return { name: 'database', state }
}

function pluginsHealth(kernel: ReportOptions['kernel']): ComponentHealth {
  const isBroken = kernel.plugins().some(({ state }) => state === 'failed' || state === 'blocked')
  return { name: 'plugins', state: isBroken ? 'reachable' : 'ok' }
}

/** True unless every state is a good one. */
export function isDegraded(components: readonly ComponentHealth[], contributed: ComponentStates): boolean {
  const bad = (state: string) => state === 'down' || state === 'degraded'
  return (
    components.some(({ state }) => state !== 'ok') ||
    Object.values(contributed).some((state) => (typeof state === 'string' ? bad(state) : Object.values(state).some(bad)))
  )
}

/** One call answers all who ask within a second. */
function shared<T>(clock: Clock, ask: () => Promise<T>): () => Promise<T> {
  let latest: { at: number; answer: Promise<T> } | undefined
  return () => {
    const now = clock.now()
    if (!latest || now - latest.at >= reuse) latest = { at: now, answer: ask() }
    return latest.answer
  }
}

/** Undefined when it throws (the slot's guard has reported it) or is late. */
async function within<T>(ms: number, ask: () => Promise<T>): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), ms)
  })
  try {
    return await Promise.race([ask(), late])
  } catch {
    return undefined
  } finally {
    clearTimeout(timer)
  }
}

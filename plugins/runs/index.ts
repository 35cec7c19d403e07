/** The plugin `runs`: everything that executes. Durable runs of agents, the sessions they belong to, their queue, their record. */
import { randomUUID } from 'node:crypto'
import { definePlugin, type Transaction } from 'portico'
import { type Approval, approvalListeners, approvals } from 'portico/plugins/approvals'
import { database } from 'portico/plugins/database'
import { eventLog, startListening } from 'portico/plugins/event-log'
import { models } from 'portico/plugins/models'
import { toolRegistry } from 'portico/plugins/tools'
import { workspace } from 'portico/plugins/workspace'
import { createQueue } from './claim.ts'
import { config } from './config.ts'
import * as contract from './contract.ts'
import { createEndings, wake } from './ending.ts'
import { createExecutor } from './executor.ts'
import { keepHouse } from './housekeeping.ts'
import { createHub } from './hub.ts'
import { createModelCalls } from './model-call.ts'
import { createRecords, entryEvents, runEvents } from './record.ts'
import { runRoutes } from './routes.ts'
import { findRun } from './rows.ts'
import { dependencies, entries, messages, runs as runTable, sessions as sessionTable, shares } from './schema.ts'
import { createService } from './service.ts'
import { createSessions } from './sessions.ts'
import { runSocket } from './stream.ts'
import { createSubmit } from './submit.ts'
import { isAtTool } from './tool-calls.ts'
import { createTurns } from './turn.ts'
import { createWatch } from './watch.ts'

const channel = 'portico_runs'
const queuedBy = 'queued by '

export default definePlugin({
  id: 'runs',
  version: '0.1.0',
  api: 1,
  summary: 'Durable runs of agents: their queue, their record, their sessions',
  config,
  events: runEvents,
  requires: { database, eventLog, models, approvals, toolRegistry, workspace },
  provides: { runs: contract.runs },
  paths: ['/v1/runs', '/v1/estop', '/ws/runs'],
  commands: [{ name: 'runs', summary: 'Submit, see, follow and end runs', load: () => import('./cli.ts') }],
  slots: [contract.agentSources, contract.budgetKeepers, contract.runListeners],
  adds: [approvalListeners],
  tables: { sessions: sessionTable, runs: runTable, dependencies, entries, messages, shares },
  migrations: new URL('./migrations', import.meta.url),

  async setup(ctx) {
    const { clock, config, db, log, services, signal } = ctx
    const { approvals, database, eventLog, models, toolRegistry: registry, workspace } = services
    const owner = randomUUID()
    const { publish } = ctx
    const { batch } = eventLog
    const isAway = database.isConnectionError
    const hub = createHub()
    const gone = new AbortController()
    const records = createRecords({ db, clock, signal: gone.signal, publish, batch, isAway, lease: config.lease })
    /** What a run has left with others. */
    const forget = async (tx: Transaction, id: string) => {
      await workspace.forget(id, tx)
      await approvals.forget(tx, id)
    }
    const sessions = createSessions({
      ...{ db, bounds: config, clock, signal, forget },
      onForgetError: (error) => log.warn('Unused sessions could not be forgotten yet', { error }),
    })
    const queue = createQueue({ db, records, owner, lease: config.lease })
    const endings = createEndings({
      ...{ db, clock, records, approvals, workspace, maxMessages: config.maxMessages, listeners: () => ctx.items(contract.runListeners) },
      onEnd(id) {
        hub.poke(id)
        executor.wake()
      },
    })
    const modelCalls = createModelCalls({ models, budgets: () => ctx.items(contract.budgetKeepers) })
    const watch = createWatch(db, hub)
    const stateOf = async (id: string) => (await findRun(db, id))?.state
    const work = createTurns({ watch, stateOf, records, endings, sessions, approvals, workspace, registry, models, modelCalls, hub, log, publish })
    const executor = createExecutor({
      ...{ clock, log, queue, endings, hub, work, isAway, isAlone: database.kind === 'pglite' },
      isAtTool: (held) => isAtTool(registry, held),
      ...{ concurrency: config.concurrency, maxInteractive: config.maxInteractive, lease: config.lease },
    })
    const tell = async (message: string) => {
      if (database.kind !== 'postgres') return
      await database.pool.query('select pg_notify($1, $2)', [channel, message]).catch((error) => log.debug('Nobody was told', { error }))
    }
    const tellOfQueued = coalesced(() => tell(`${queuedBy}${owner}`))
    const submit = createSubmit({
      ...{ db, clock, config, records, sessions, models, publish, batch, owner, admit: executor.admit, reserve: executor.reserve },
      agents: () => ctx.items(contract.agentSources),
      onSubmitted(run, held, waits) {
        executor.take(run, held, waits)
        if (!held) tellOfQueued()
      },
    })

    // Whoever holds a run writes its record; here is heard what other processes wrote.
    for (const ref of entryEvents) ctx.on(ref as typeof contract.runStarted, ({ data }) => hub.poke(data.runId))

    ctx.add(approvalListeners, {
      async resolved({ runId }: Approval, tx) {
        await wake(tx, runId)
        database.afterCommit(tx, () => {
          executor.wake()
          void tell('')
        })
      },
    })
    ctx.defer(async () => {
      await executor.stop()
      gone.abort()
    })

    const service = createService({
      ...{ db, clock, endings, executor, sessions, hub, forget, submit, watch, tell },
    })
    return {
      services: { runs: service },
      routes: runRoutes(service, log, workspace),
      sockets: [runSocket(service, { clock, log })],
      async ready() {
        if (database.kind === 'postgres') {
          const onNotify = (payload: string) => {
            if (payload === '') executor.wake()
            else if (!payload.startsWith(queuedBy)) executor.drop(payload)
            else if (!payload.endsWith(owner)) executor.wake({ isAwaited: false })
          }
          ctx.defer(await startListening(database, channel, onNotify, log))
        }
        executor.start()
        void keepHouse({ db, clock, log, sessions, publish, forget, isAway, retention: config.retention, signal })
      },
    }
  },
})

/** Calls it now, and once more when it was asked for while it was at it. */
function coalesced(call: () => Promise<void>): () => void {
  let [isAtIt, isAskedAgain] = [false, false]
  return async function ask() {
    if (isAtIt) {
      isAskedAgain = true
      return
    }
    isAtIt = true
    await call()
    isAtIt = false
    if (isAskedAgain) {
      isAskedAgain = false
      void ask()
    }
  }
}

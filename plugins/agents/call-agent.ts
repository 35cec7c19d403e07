/** The tool `call_agent`: an agent hands work to another, whose run is a child of its own. */
import { GatewayError, isGatewayError, type PluginContext, t } from 'portico'
import type { RunListener, Runs } from 'portico/plugins/runs'
import { defineTool, isToolSuspended, type Tool } from 'portico/plugins/tools'
import { type Agent, spawnQueued, spawnRejected, spawnStarted, subAgentArchived, subAgentCompleted, subAgentEnded, subAgentSpawned } from './contract.ts'

/** The events of called agents. */
export const spawnEvents = [spawnStarted, spawnQueued, spawnRejected, subAgentSpawned, subAgentCompleted, subAgentArchived, subAgentEnded] as const
type Publish = PluginContext<unknown, typeof spawnEvents>['publish']

/** What it works with. */
export interface CallAgentOptions {
  readonly runs: Runs
  readonly publish: Publish
  find(id: string): Promise<Agent | undefined>
}

/** ms; the child's own timeout ends it before. */
const timeout = 604_800_000

/** The tool. */
export function callAgent({ runs, publish, find }: CallAgentOptions): Tool {
  return defineTool({
    name: 'call_agent',
    description: 'Hands a piece of work to another agent and gives its answer. It knows nothing of this conversation: say all it needs to know.',
    input: t.Object({ agent: t.String({ minLength: 1, maxLength: 63 }), task: t.String({ minLength: 1, maxLength: 200_000 }) }),
    // Asked again, it finds the same child: the run's key is the call's.
    ...{ risk: 'safe', idempotent: true, timeout },
    async run({ agent, task }, { principal, runId, callId, signal, waitFor }) {
      const parent = await runs.get(runId, principal)
      const about = { runId, sessionKey: parent.sessionKey, agent }
      const whose = { principal: principal.id, subject: runId }
      const mine = (await find(parent.spec.agent))?.subAgents ?? []
      const refuse = async (error: GatewayError) => {
        await publish(spawnRejected, { ...about, reason: error.message }, whose)
        throw error
      }
      if (!mine.includes(agent)) {
        const why = mine.length > 0 ? `You may call ${mine.join(', ')}.` : 'You may call no agents.'
        return refuse(new GatewayError('forbidden', `The agent "${agent}" is none of yours. ${why}`))
      }
      const child = await runs
        .submit({
          ...{
            principal,
            agent,
            parentId: runId,
            channel: 'agent',
            input: { text: task },
            metadata: { calledBy: parent.spec.agent, parentSession: parent.sessionKey },
          },
          idempotency: { key: `call:${runId}:${callId}`, hash: callId },
          async also(run, tx) {
            await publish(spawnStarted, about, { ...whose, tx })
            const taken = { ...about, childRunId: run.id }
            await publish(run.state === 'queued' ? spawnQueued : subAgentSpawned, taken, { ...whose, tx })
          },
        })
        .catch((error: unknown) => (isGatewayError(error) ? refuse(error as GatewayError) : Promise.reject(error)))
      try {
        await waitFor(child.id)
      } catch (error) {
        // Given up for good, and not only put off: the child is given up too.
        if (isForGood(signal.reason)) await runs.cancel(child.id, principal, { reason: 'Its caller gave up.' })
        throw error
      }
      const { state, result, error } = await runs.get(child.id, principal)
      await publish(subAgentArchived, { ...about, childRunId: child.id }, whose)
      if (state === 'completed') return result ?? ''
      throw new GatewayError('unprocessable', `The agent "${agent}" did not finish: its run was ${state}${error ? `, because ${error.message}` : '.'}`)
    },
  })
}

/** Says, with the child's end, that it is over. */
export function childrenOf(publish: Publish): RunListener {
  return {
    concerns: ({ parentId, metadata }) => parentId !== null && typeof metadata.parentSession === 'string',
    async ended({ id, parentId, state, principal, spec, metadata }, tx) {
      if (parentId === null || typeof metadata.parentSession !== 'string') return
      const about = { runId: parentId, sessionKey: metadata.parentSession, agent: spec.agent, childRunId: id }
      const whose = { tx, principal: principal.id, subject: parentId }
      if (state === 'completed') await publish(subAgentCompleted, about, whose)
      await publish(subAgentEnded, { ...about, state: state as 'completed' }, whose)
    },
  }
}

function isForGood(reason: unknown): boolean {
  if (isToolSuspended(reason)) return false
  const { name } = (reason ?? {}) as { name?: string }
  return isGatewayError(reason) || name === 'RunFailure' || name === 'Cancelled'
}

/** What other plugins may know of agents: what one is made of, the service that lists them, and the events. */
import { defineEvent, defineService, rpc, type Static, t } from 'portico'

const name = t.String({ minLength: 1, maxLength: 300 })

/** An agent's id: what runs, sessions and `agent/<id>` name it by. */
export const agentId = t.String({ pattern: '^[a-z0-9][a-z0-9-]{0,62}$', description: 'Lower case, digits, hyphens' })

const texts = {
  description: { maxLength: 2_000, description: 'What it is for: people and other agents choose by it' },
  instructions: { maxLength: 100_000, description: 'What it is told before all else' },
}
const lists = {
  fallbacks: { maxItems: 10, description: 'Models that are tried in order when the one before fails before its first word' },
  tools: { maxItems: 1_000, description: 'Names of tools it may call; `*` = all that there are' },
  subAgents: { maxItems: 50, description: 'Agents it may call, by the tool call_agent; at most three deep' },
}
const open = {
  model: t.Optional(t.String({ minLength: 1, maxLength: 300, description: '`provider/model` or an alias; default as of the agent `default`' })),
  temperature: t.Optional(t.Number({ minimum: 0, maximum: 2 })),
  maxOutputTokens: t.Optional(t.Integer({ minimum: 1, maximum: 10_000_000 })),
  maxSteps: t.Optional(t.Integer({ minimum: 1, maximum: 200, description: 'Model calls of one run' })),
  timeout: t.Optional(t.Integer({ minimum: 1_000, maximum: 604_800_000, description: 'ms of work of one run' })),
  maxConcurrent: t.Optional(t.Integer({ minimum: 1, maximum: 10_000, description: 'Runs at once in the whole installation' })),
  sessionTtl: t.Optional(t.Integer({ minimum: 60_000, description: 'ms a session may be idle before it is forgotten' })),
}

/** What an agent is made of; what is absent is as `[runs]` has it. */
export const agentSpec = t.Object({
  description: t.String({ default: '', ...texts.description }),
  instructions: t.String({ default: '', ...texts.instructions }),
  fallbacks: t.Array(name, { default: [], ...lists.fallbacks }),
  tools: t.Array(name, { default: [], ...lists.tools }),
  subAgents: t.Array(agentId, { default: [], ...lists.subAgents }),
  ...open,
})

/** Some of it: what is absent stays. */
export const agentPatch = t.Object({
  description: t.Optional(t.String(texts.description)),
  instructions: t.Optional(t.String(texts.instructions)),
  fallbacks: t.Optional(t.Array(name, lists.fallbacks)),
  tools: t.Optional(t.Array(name, lists.tools)),
  subAgents: t.Optional(t.Array(agentId, lists.subAgents)),
  ...open,
})

/** What an agent is made of. */
export type AgentSpec = Static<typeof agentSpec>

/** An agent. */
export interface Agent extends AgentSpec {
  readonly id: string
  /** Those of the config are changed in the config. */
  readonly source: 'config' | 'api'
}

/** The service `agents`. */
export interface Agents {
  /** Sorted by id; `default` is there always. */
  list(): Promise<Agent[]>
  find(id: string): Promise<Agent | undefined>
}

/** The ref of the service. */
export const agents = defineService<Agents>('agents')

const durable = (summary: string) => ({ scope: rpc, durable: true as const, summary })
const agent = { agent: t.String(), source: t.Enum(['config', 'api']) }

/** An agent came while the gateway runs. */
export const agentAdded = defineEvent('agent:hot_added', t.Object(agent), durable('An agent came, or became another, while the gateway runs'))
/** An agent went while the gateway runs. */
export const agentRemoved = defineEvent('agent:hot_removed', t.Object(agent), durable('An agent went while the gateway runs'))

const spawn = {
  runId: t.String({ description: 'The run whose agent calls' }),
  sessionKey: t.String(),
  agent: t.String({ description: 'The agent that is called' }),
}
const spawned = { ...spawn, childRunId: t.String() }

/** An agent is about to call another. */
export const spawnStarted = defineEvent('session:sub_agent_spawn_started', t.Object(spawn), durable('An agent is about to call another'))
/** The called agent's run was taken in and waits. */
export const spawnQueued = defineEvent('session:sub_agent_spawn_queued', t.Object(spawned), durable('The run of the called agent waits for its turn'))
/** The call was refused. */
export const spawnRejected = defineEvent(
  'session:sub_agent_spawn_rejected',
  t.Object({ ...spawn, reason: t.String() }),
  durable('An agent may not call the other: unknown, not one of its own, or too deep'),
)
/** The called agent's run was begun. */
export const subAgentSpawned = defineEvent('session:sub_agent_spawned', t.Object(spawned), durable('The run of the called agent was begun'))
/** The called agent has answered. */
export const subAgentCompleted = defineEvent('session:sub_agent_completed', t.Object(spawned), durable('The called agent has answered'))
/** Its answer was handed to the caller. */
export const subAgentArchived = defineEvent('session:sub_agent_archived', t.Object(spawned), durable('The answer of the called agent was handed to the caller'))
/** The called agent's run is over, however. */
export const subAgentEnded = defineEvent(
  'session:sub_agent_lifecycle_ended',
  t.Object({ ...spawned, state: t.Enum(['completed', 'failed', 'cancelled', 'rejected']) }),
  durable('The run of the called agent is over'),
)

/** The agents that there are: of the config, of the API, and `default`. Runs get theirs from here. */
import { eq } from 'drizzle-orm'
import { type Database, GatewayError, nearestName, type PluginContext } from 'portico'
import type { AgentSource, RunSpec } from 'portico/plugins/runs'
import { type Agent, type AgentSpec, type Agents, agentAdded, agentRemoved } from './contract.ts'
import { agents as table } from './schema.ts'

/** What it works with. */
export interface AgentsOptions {
  readonly db: Database
  readonly clock: { now(): number }
  /** Of the config, by id. */
  configured(): Readonly<Record<string, AgentSpec>>
  readonly publish: PluginContext<unknown, readonly [typeof agentAdded, typeof agentRemoved]>['publish']
}

/** Agents made by the API. */
const maxAgents = 1_000

/** Makes it. */
export function createAgents({ db, clock, configured, publish }: AgentsOptions) {
  const ofConfig = (id: string): Agent | undefined =>
    Object.hasOwn(configured(), id) ? { id, source: 'config', ...(configured()[id] as AgentSpec) } : undefined

  /** Those of the table, by id, until one of them changes. */
  let known: Promise<Map<string, Agent>> | undefined
  const forgetKnown = () => {
    known = undefined
  }

  async function read(): Promise<Map<string, Agent>> {
    const rows = await db.select().from(table)
    return new Map(rows.map(({ id, spec }) => [id, { id, source: 'api', ...spec }]))
  }

  async function ofTable(id: string): Promise<Agent | undefined> {
    known ??= read().catch((error: unknown) => {
      forgetKnown()
      throw error
    })
    return (await known).get(id)
  }

  /** @throws GatewayError when it is not one of the API's */
  async function changeable(id: string): Promise<Agent> {
    if (ofConfig(id)) throw new GatewayError('conflict', `The agent "${id}" stands in the config, under [agents.list.${id}]: change it there.`)
    const found = await ofTable(id)
    if (!found) throw await unknown(id)
    return found
  }

  async function unknown(id: string): Promise<GatewayError> {
    const nearest = nearestName(
      id,
      (await self.list()).map((agent) => agent.id),
    )
    const next = nearest ? `Did you mean "${nearest}"?` : 'GET /api/agents lists them.'
    return new GatewayError('not_found', `There is no agent ${JSON.stringify(id.slice(0, 100))}. ${next}`, { param: 'agentId' })
  }

  async function refuseUnknownSubAgents(id: string, { subAgents }: AgentSpec): Promise<void> {
    const known = [id, ...(await self.list()).map((agent) => agent.id)]
    const wrong = subAgents.find((each) => !known.includes(each))
    if (wrong === undefined) return
    const nearest = nearestName(wrong, known)
    throw new GatewayError('validation_failed', `subAgents: there is no agent "${wrong}"${nearest ? `; did you mean "${nearest}"?` : '.'}`, {
      param: 'subAgents',
    })
  }

  const self = {
    async list(): Promise<Agent[]> {
      const mine = Object.keys(configured()).map((id) => ofConfig(id) as Agent)
      const made = [...(await read()).values()].filter(({ id }) => !ofConfig(id))
      const all = [...mine, ...made]
      if (!all.some(({ id }) => id === 'default')) all.push(builtIn)
      return all.sort((a, b) => (a.id < b.id ? -1 : 1))
    },

    /** Somebody has changed some: they are read anew when they are asked for. */
    changed: forgetKnown,

    /** That of the config beats one of the API. */
    find: async (id: string): Promise<Agent | undefined> => ofConfig(id) ?? (await ofTable(id)) ?? (id === 'default' ? builtIn : undefined),

    /** @throws GatewayError `not_found` */
    async get(id: string): Promise<Agent> {
      const found = await self.find(id)
      if (!found) throw await unknown(id)
      return found
    },

    async create(id: string, spec: AgentSpec, by: string): Promise<Agent> {
      if (ofConfig(id)) throw new GatewayError('conflict', `The agent "${id}" stands in the config already.`, { param: 'id' })
      await refuseUnknownSubAgents(id, spec)
      if ((await self.list()).length >= maxAgents) throw new GatewayError('unprocessable', `There are ${maxAgents} agents already: delete some.`)
      const now = new Date(clock.now())
      await db
        .transaction(async (tx) => {
          const made = await tx.insert(table).values({ id, spec, createdBy: by, createdAt: now, updatedAt: now }).onConflictDoNothing().returning()
          if (made.length === 0) throw new GatewayError('conflict', `There is an agent "${id}" already: change it with PATCH.`, { param: 'id' })
          await publish(agentAdded, { agent: id, source: 'api' }, { tx, subject: id })
        })
        .finally(forgetKnown)
      return { id, source: 'api', ...spec }
    },

    async change(id: string, patch: Partial<AgentSpec>): Promise<Agent> {
      const { id: _, source: __, ...before } = await changeable(id)
      const spec = { ...before, ...patch }
      await refuseUnknownSubAgents(id, spec)
      await db
        .transaction(async (tx) => {
          const changed = await tx
            .update(table)
            .set({ spec, updatedAt: new Date(clock.now()) })
            .where(eq(table.id, id))
            .returning()
          if (changed.length === 0) throw await unknown(id)
          await publish(agentAdded, { agent: id, source: 'api' }, { tx, subject: id })
        })
        .finally(forgetKnown)
      return { id, source: 'api', ...spec }
    },

    async remove(id: string): Promise<Agent> {
      const found = await changeable(id)
      await db
        .transaction(async (tx) => {
          const gone = await tx.delete(table).where(eq(table.id, id)).returning()
          if (gone.length > 0) await publish(agentRemoved, { agent: id, source: 'api' }, { tx, subject: id })
        })
        .finally(forgetKnown)
      return found
    },
  } satisfies Agents & Record<string, unknown>
  return self
}

/** What there is when nobody says otherwise: all of it as `[runs]` has it. */
export const builtIn: Agent = { id: 'default', source: 'config', description: 'Made of [runs]', fallbacks: [], instructions: '', tools: [], subAgents: [] }

/** Agents as runs take them. What an agent does not say, `preset`, the agent of `[runs]`, does. */
export function toSource(find: (id: string) => Promise<Agent | undefined>): AgentSource {
  return {
    async find(id, _, preset): Promise<RunSpec | undefined> {
      const agent = await find(id)
      if (!agent || agent === builtIn) return undefined
      const { description: _description, source: _source, id: _id, subAgents, tools, instructions, ...rest } = agent
      const callable = await Promise.all(subAgents.map(find))
      const known = callable.flatMap((each) => (each ? `- ${each.id}: ${each.description || 'no description'}` : []))
      const delegation = known.length > 0 ? `\n\nWith the tool call_agent you can hand work to these agents:\n${known.join('\n')}` : ''
      const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined))
      return {
        ...preset,
        ...given,
        agent: id,
        instructions: `${instructions}${delegation}`.trim(),
        tools: subAgents.length > 0 ? [...tools, 'call_agent'] : tools.filter((tool) => tool !== 'call_agent'),
      }
    },
  }
}

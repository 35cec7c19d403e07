/** The plugin `agents`: named configurations of model, instructions, tools and limits, from the config and by the API; agents that call agents. */
import { definePlugin, GatewayError, nearestName, t } from 'portico'
import { models } from 'portico/plugins/models'
import { agentProvider, agentSources, runListeners, runs } from 'portico/plugins/runs'
import { tools } from 'portico/plugins/tools'
import { createAgents, toSource } from './agents.ts'
import { createAgentProvider } from './as-model.ts'
import { callAgent, childrenOf, spawnEvents } from './call-agent.ts'
import * as contract from './contract.ts'
import { changeRoutes, readRoutes } from './routes.ts'
import { agents as table } from './schema.ts'

type Configured = Readonly<Record<string, contract.AgentSpec>>

export default definePlugin({
  id: 'agents',
  version: '0.1.0',
  api: 1,
  summary: 'Agents, from the config and by the API, and agents that call agents',
  config: t.Object({
    list: t.Record(contract.agentId, contract.agentSpec, { default: {}, description: 'Agents by id: [agents.list.NAME]' }),
  }),
  events: [contract.agentAdded, contract.agentRemoved, ...spawnEvents],
  requires: { runs, models },
  provides: { agents: contract.agents },
  adds: [agentSources, runListeners, tools],
  paths: ['/api/agents'],
  tables: { agents: table },
  migrations: new URL('./migrations', import.meta.url),
  commands: [{ name: 'agents', summary: 'See, make and delete agents', load: () => import('./cli.ts') }],

  setup(ctx) {
    let configured: Configured = ctx.config.list
    refuseUnknown(configured)
    const agents = createAgents({ db: ctx.db, clock: ctx.clock, publish: ctx.publish, configured: () => configured })
    const source = Symbol(ctx.id)
    // Another object each time: the list is asked for anew.
    const offer = () => ctx.services.models.offer(source, [createAgentProvider({ agents, runs: ctx.services.runs })])
    ctx.services.models.expect([agentProvider])
    ctx.defer(() => ctx.services.models.offer(source, []))
    for (const ref of [contract.agentAdded, contract.agentRemoved])
      ctx.on(ref, () => {
        agents.changed()
        offer()
      })
    ctx.add(agentSources, toSource(agents.find))
    ctx.add(tools, callAgent({ runs: ctx.services.runs, publish: ctx.publish, find: agents.find }))
    ctx.add(runListeners, childrenOf(ctx.publish))
    return {
      services: { agents },
      ready: offer,
      routes: [readRoutes(agents), changeRoutes(agents)],
      async reconfigure({ list }) {
        refuseUnknown(list)
        const before = configured
        configured = list
        const source = 'config' as const
        for (const agent of Object.keys(list))
          if (JSON.stringify(before[agent]) !== JSON.stringify(list[agent])) await ctx.publish(contract.agentAdded, { agent, source }, { subject: agent })
        for (const agent of Object.keys(before))
          if (!Object.hasOwn(list, agent)) await ctx.publish(contract.agentRemoved, { agent, source }, { subject: agent })
      },
    }
  },
})

/** An agent of the config calls only agents of the config: those of the API may be gone tomorrow. */
function refuseUnknown(list: Configured): void {
  for (const [id, { subAgents }] of Object.entries(list))
    for (const each of subAgents) {
      if (Object.hasOwn(list, each)) continue
      const nearest = nearestName(each, Object.keys(list))
      const next = nearest ? `did you mean "${nearest}"?` : `there are ${Object.keys(list).join(', ')}.`
      throw new GatewayError('config_invalid', `list.${id}.subAgents: there is no agent "${each}" in the config; ${next}`, { plugin: 'agents' })
    }
}

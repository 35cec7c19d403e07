/** `portico agents`: the agents that there are. */
import { type Command, defineCommand, toTable } from 'portico'
import type { Agent } from './contract.ts'

const agentId = { id: { type: 'positional', summary: 'The agent', required: true } } as const

const list: Command = {
  summary: 'List the agents',
  examples: ['portico agents list', 'portico agents list --json'],
  async run({ print, request }) {
    const { agents } = await request<{ agents: Agent[] }>('GET', '/api/agents')
    const rows = agents.map(({ id, source, model, tools, description }) => [
      id,
      source,
      model ?? '–',
      tools.join(',') || '–',
      description.split('\n', 1)[0] ?? '',
    ])
    print(agents, toTable([['ID', 'FROM', 'MODEL', 'TOOLS', 'WHAT'], ...rows]))
  },
}

const show: Command = {
  summary: 'Show an agent whole',
  args: agentId,
  examples: ['portico agents show default'],
  async run({ args, print, request }) {
    const agent = await request<Agent>('GET', pathOf(args.id))
    print(agent, JSON.stringify(agent, null, 2))
  },
}

const create: Command = {
  summary: 'Make an agent',
  args: {
    ...agentId,
    model: { type: 'string', summary: 'Its model', hint: 'model' },
    instructions: { type: 'string', summary: 'What it is told first', hint: 'text' },
    description: { type: 'string', summary: 'What it is for', hint: 'text' },
    tool: { type: 'string', summary: 'A tool it may call', hint: 'name', multiple: true },
    subAgent: { type: 'string', summary: 'An agent it may call', hint: 'id', multiple: true },
  },
  examples: ['portico agents create clerk --tool read_file --tool write_file --instructions "Keep the notes tidy."'],
  async run({ args, print, request }) {
    const { id, model, instructions, description, tool, subAgent } = args
    const made = await request<Agent>('POST', '/api/agents', { id, model, instructions, description, tools: tool, subAgents: subAgent })
    print(made, `${made.id} is there. Try it: portico runs submit "…" --agent ${made.id}`)
  },
}

const remove: Command = {
  summary: 'Delete an agent that was made by the API',
  args: agentId,
  examples: ['portico agents delete clerk'],
  async run({ args, print, request }) {
    const gone = await request<Agent>('DELETE', pathOf(args.id))
    print(gone, `${gone.id} is deleted.`)
  },
}

export default defineCommand({
  summary: 'See, make and delete agents',
  examples: ['portico agents list', 'portico agents create clerk --tool read_file'],
  commands: { list, show, create, delete: remove },
})

function pathOf(id: unknown): string {
  return `/api/agents/${encodeURIComponent(String(id))}`
}

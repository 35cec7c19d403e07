/** `portico tools`: what models may call. */
import { defineCommand } from 'portico'
import type { ListedTool } from './contract.ts'

export default defineCommand({
  summary: 'List the tools that models may call; --json shows their schemas',
  examples: ['portico tools', 'portico tools --json'],
  async run({ print, request }) {
    const { tools } = await request<{ tools: ListedTool[] }>('GET', '/api/tools')
    const width = (cell: (tool: ListedTool) => string, head: string) => Math.max(head.length, ...tools.map((tool) => cell(tool).length))
    const [names, risks] = [width(({ name }) => name, 'NAME'), width(({ risk }) => risk, 'RISK')]
    const row = (name: string, risk: string, what: string) => `${name.padEnd(names)}  ${risk.padEnd(risks)}  ${what}`
    const rows = tools.map(({ name, risk, description }) => row(name, risk, (/^.*?[.;:](?=\s|$)/.exec(description)?.[0] ?? description).slice(0, 100)))
    print(tools, [row('NAME', 'RISK', 'WHAT'), ...rows].join('\n'))
  },
})

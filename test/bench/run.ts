/** The benchmark: `bun run bench [row …] [--dry]`. Writes docs/benchmarks.md (not with `--dry` or single rows); exit 1 when a ratio is beyond its bound. */
import { writeFile } from 'node:fs/promises'
import { arch, cpus, platform, release, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import { wrkVersion } from './process.ts'
import type { Row } from './row.ts'
import { chatLatency, chatThroughput } from './rows/chat.ts'
import { models } from './rows/models.ts'
import { start } from './rows/start.ts'

const rows: readonly Row[] = [models, chatThroughput, chatLatency, start]
const rounds = 5
const runtime = `Bun ${Bun.version}`

interface Result {
  row: Row
  baseline: number
  gateway: number
  /** One per round. */
  ratios: number[]
  ratio: number
  holds: boolean
}

/** Baseline and gateway in turns, each first in every other round: what drifts on the machine drifts for both. */
async function measure(row: Row): Promise<Result> {
  await using scope = new AsyncDisposableStack()
  const { baseline, gateway } = await row.prepare(scope)
  await baseline()
  await gateway()
  const numbers = { baseline: [] as number[], gateway: [] as number[] }
  for (let round = 0; round < rounds; round++) {
    const turns = [async () => numbers.baseline.push(await baseline()), async () => numbers.gateway.push(await gateway())]
    for (const turn of round % 2 ? turns.reverse() : turns) await turn()
  }
  const ratios = numbers.gateway.map((value, round) => value / (numbers.baseline[round] as number))
  const ratio = median(ratios)
  const holds = 'least' in row.bound ? ratio >= row.bound.least : ratio <= row.bound.most
  return { row, baseline: median(numbers.baseline), gateway: median(numbers.gateway), ratios, ratio, holds }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] as number
}

function line({ row, baseline, gateway, ratio, ratios, holds }: Result): string {
  const number = (value: number) => value.toLocaleString('en-US', { minimumFractionDigits: row.digits, maximumFractionDigits: row.digits })
  const bound = 'least' in row.bound ? `≥ ${row.bound.least}` : `≤ ${row.bound.most}`
  const spread = `${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}`
  return `| ${row.title} | ${runtime} | ${number(baseline)} ${row.unit} | ${number(gateway)} ${row.unit} | **${ratio.toFixed(2)}** (${spread}) | ${bound}${holds ? '' : ' **missed**'} |`
}

const wanted = process.argv.slice(2).filter((argument) => !argument.startsWith('--'))
const unknown = wanted.filter((id) => !rows.some((row) => row.id === id))
if (unknown.length > 0) {
  console.error(`No row ${unknown.join(', ')}; there are ${rows.map((row) => row.id).join(', ')}.`)
  process.exit(2)
}
const results: Result[] = []
for (const row of rows.filter(({ id }) => wanted.length === 0 || wanted.includes(id))) {
  console.log(`${row.id} …`)
  const result = await measure(row)
  results.push(result)
  console.log(line(result))
}
if (wanted.length === 0 && !process.argv.includes('--dry')) {
  const file = fileURLToPath(new URL('../../docs/benchmarks.md', import.meta.url))
  await writeFile(file, await page(results.map(line)))
}
process.exit(results.every((result) => result.holds) ? 0 : 1)

async function page(table: readonly string[]): Promise<string> {
  const processors = cpus()
  const machine = `${processors.length} × ${processors[0]?.model.trim() ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GB of memory, ${platform()} ${release()} (${arch()}); ${runtime}, ${await wrkVersion()}`
  return `# Benchmarks

What the gateway costs, as ratios to a baseline on the same machine in the same run: absolute numbers belong to the machine, ratios to the code.
Written by \`npx -y bun@1.4.5 run bench\`, which fails when a ratio is beyond its bound. Baseline and gateway are measured in turns, after a round to warm up; each number is the
median of ${rounds}, the ratio is the median of the rounds' ratios, with the smallest and the largest. The gateway is the real \`portico start\` with a real key; client, upstream, baseline and
gateway are four processes on the same cores.

Machine: ${machine}.

| what | runtime | baseline | gateway | ratio | bound |
|---|---|---|---|---|---|
${table.join('\n')}
`
}

/** The page of what was recorded, docs/benchmarks.md, and the data behind it, recorded.json. */
import { readFile, writeFile } from 'node:fs/promises'
import { arch, cpus, platform, release, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import { type RuntimeName, runtimes } from '../fixtures/gateway-process.ts'
import { boundText, holds, type Measured } from './judge.ts'
import { runtimeVersion, wrkVersion } from './process.ts'
import type { Figure, Row } from './row.ts'

/** What was recorded last, by figure and runtime. */
export interface Recorded {
  /** What it was measured on, by runtime. */
  machines: Partial<Record<RuntimeName, string>>
  figures: Record<string, Partial<Record<RuntimeName, Measured>>>
}

const dataFile = fileURLToPath(new URL('./recorded.json', import.meta.url))
const pageFile = fileURLToPath(new URL('../../docs/benchmarks.md', import.meta.url))

/** Reads the data. */
export async function readRecorded(): Promise<Recorded> {
  return JSON.parse(await readFile(dataFile, 'utf8')) as Recorded
}

/** Writes data and page. */
export async function writeRecorded(recorded: Recorded, rows: readonly Row[]): Promise<void> {
  await writeFile(dataFile, `${JSON.stringify(recorded, null, 2)}\n`)
  await writeFile(pageFile, toPage(recorded, rows))
}

/** This machine, with the runtime. */
export async function describeMachine(runtime: RuntimeName): Promise<string> {
  const processors = cpus()
  const model = processors[0]?.model.trim() ?? 'unknown'
  const memory = `${Math.round(totalmem() / 2 ** 30)} GB of memory`
  return `${await runtimeVersion(runtime)} on ${processors.length} × ${model}, ${memory}, ${platform()} ${release()} (${arch()}); ${await wrkVersion()}`
}

/** One line of the table. */
export function toLine(figure: Figure, runtime: RuntimeName, { baseline, gateway, value, low, high }: Measured): string {
  const number = (value: number) => value.toLocaleString('en-US', { minimumFractionDigits: figure.digits, maximumFractionDigits: figure.digits })
  const isRatio = 'least' in figure.bound || 'most' in figure.bound
  const short = (value: number) => (isRatio ? value.toFixed(2) : `${'over' in figure.bound && value >= 0 ? '+' : ''}${number(value)}`)
  const spread = low === high ? '' : ` (${short(low)}–${short(high)})`
  const sides = [baseline, gateway].map((side) => (side === null ? '—' : `${number(side)} ${figure.unit}`.trim()))
  const missed = holds(figure.bound, value) ? '' : ' **missed**'
  return `| ${figure.title} | ${{ bun: 'Bun', deno: 'Deno' }[runtime]} | ${sides.join(' | ')} | **${short(value)}**${spread} | ${boundText(figure.bound)}${missed} |`
}

/** The whole page. */
export function toPage({ machines, figures }: Recorded, rows: readonly Row[]): string {
  const all = rows.flatMap((row) => row.figures)
  const lines = all.flatMap((figure) =>
    runtimes.flatMap((runtime) => {
      const found = figures[figure.id]?.[runtime]
      return found ? [toLine(figure, runtime, found)] : []
    }),
  )
  const isMissed = ({ id, bound }: Figure) => Object.values(figures[id] ?? {}).some(({ value }) => !holds(bound, value))
  const limits = all.filter((figure) => figure.limit && isMissed(figure)).map(({ title, limit }) => `- ${title}: ${limit}`)
  return `# Benchmarks

What the gateway costs, beside a baseline on the same machine in the same run: absolute numbers belong to the machine, ratios to the code. Written by
\`npx -y bun@1.4.5 run bench --record --runtime both\` from \`test/bench/recorded.json\`. Without \`--record\` the benchmark compares: it fails when a figure is beyond its bound, or
a fifth worse than recorded here. It takes rows (\`bun run bench models streams\`) and a runtime (\`--runtime bun\`, the default, \`deno\` or \`both\`); \`--soak\` adds the memory under load over
12 minutes (\`--soak=60\`: over 60).

Baseline and gateway run on the same runtime and are measured in turns, after a round to warm up; each number is the median of the rounds (5, or 3 where a round starts its own processes).
A ratio is gateway ÷ baseline, a difference (+) gateway − baseline: the median of the rounds' own, with the smallest and the largest. The gateway is the real \`portico start\` with a
real key; client, upstream, baseline and gateway are four processes on the same cores.

${runtimes.flatMap((runtime) => machines[runtime] ?? []).join('\n\n')}

| what | runtime | baseline | gateway | value | bound |
|---|---|---|---|---|---|
${lines.join('\n')}
${limits.length === 0 ? '' : `\nWhat limits the figures that miss their bound:\n\n${limits.join('\n')}\n`}`
}

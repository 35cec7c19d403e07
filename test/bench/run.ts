/**
 * The benchmark: `bun run bench [row …] [--runtime bun|deno|both] [--rounds=N] [--record] [--soak[=MINUTES]]`. Prints what it measures; exit 1 when a figure is beyond its bound or a
 * fifth worse than recorded. `--record` writes recorded.json and docs/benchmarks.md.
 */
import { parseArgs } from 'node:util'
import { type RuntimeName, runtimes } from '../fixtures/gateway-process.ts'
import { fault, type Measured, measured } from './judge.ts'
import { describeMachine, readRecorded, toLine, writeRecorded } from './page.ts'
import type { Bench, Row } from './row.ts'
import { rows } from './rows.ts'

const soakMinutes = 12

/** Gateway and baseline in turns, each first in every other round: what drifts on the machine drifts for both. */
async function measure(row: Row, bench: Bench, rounds: number): Promise<Measured[]> {
  await using scope = new AsyncDisposableStack()
  const { baseline, gateway } = await row.prepare(scope, bench)
  const sides = { baseline: [] as (readonly number[])[], gateway: [] as (readonly number[])[] }
  const turns = [async () => baseline && sides.baseline.push(await baseline()), async () => sides.gateway.push(await gateway())]
  const warm = row.cold ? 0 : 1
  for (let round = -warm; round < rounds; round++) for (const turn of round % 2 === 0 ? turns : turns.toReversed()) await turn()
  const column = (side: readonly (readonly number[])[], index: number) => side.slice(warm).map((round) => round[index] as number)
  return row.figures.map((figure, index) => measured(figure, column(sides.gateway, index), baseline && column(sides.baseline, index)))
}

function usage(problem: string): never {
  console.error(`${problem}\nRows: ${rows.map((row) => row.id).join(', ')}. Options: --runtime bun|deno|both, --rounds=N, --record, --soak[=MINUTES].`)
  process.exit(2)
}

function readArguments() {
  // The minutes may be left out, which parseArgs does not know.
  const args = process.argv.slice(2).map((word) => (word === '--soak' ? `--soak=${soakMinutes}` : word))
  const options = { runtime: { type: 'string' }, rounds: { type: 'string' }, record: { type: 'boolean' }, soak: { type: 'string' } } as const
  try {
    return parseArgs({ args, options, allowPositionals: true })
  } catch (error) {
    return usage(String((error as Error).message))
  }
}

const { values, positionals } = readArguments()
const { runtime = 'bun', record = false } = values
const unknown = positionals.filter((id) => !rows.some((row) => row.id === id))
if (unknown.length > 0) usage(`No row ${unknown.join(', ')}.`)
const on = runtimes.filter((name) => runtime === 'both' || runtime === name)
if (on.length === 0) usage(`No runtime ${runtime}.`)
const minutes = Number(values.soak ?? soakMinutes)
const rounds = values.rounds === undefined ? undefined : Number(values.rounds)
if (!(minutes > 0) || (rounds !== undefined && !(Number.isInteger(rounds) && rounds > 0))) usage('--soak and --rounds take numbers above 0.')
const isWanted = (row: Row) => positionals.includes(row.id) || (row.apart ? values.soak !== undefined : positionals.length === 0)

const recorded = await readRecorded()
const faults: string[] = []

async function runRow(row: Row, runtime: RuntimeName): Promise<void> {
  const at = performance.now()
  const results = await measure(row, { runtime, minutes }, rounds ?? row.rounds ?? 5)
  console.log(`${row.id} on ${runtime}, ${((performance.now() - at) / 1000).toFixed(0)} s`)
  for (const [index, figure] of row.figures.entries()) {
    const result = results[index] as Measured
    console.log(toLine(figure, runtime, result))
    const wrong = fault(figure, result, recorded.figures[figure.id]?.[runtime])
    if (wrong) faults.push(`${figure.id} on ${runtime}: ${result.value.toFixed(2)} is ${wrong}`)
    if (!record) continue
    recorded.figures[figure.id] = { ...recorded.figures[figure.id], [runtime]: result }
    recorded.machines[runtime] = await describeMachine(runtime)
    await writeRecorded(recorded, rows)
  }
}

for (const row of rows.filter(isWanted)) {
  for (const name of on) {
    await runRow(row, name).catch((error: unknown) => {
      console.error(error)
      faults.push(`${row.id} on ${name}: ${error instanceof Error ? error.message : error}`)
    })
  }
}
for (const line of faults) console.error(line)
process.exit(faults.length === 0 ? 0 : 1)

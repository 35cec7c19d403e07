/** Two gateways on one PostgreSQL: each run is done by one of them; when that one dies or stands still, by the other. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import type { GatewayProcess } from '../fixtures/gateway-process.ts'
import { type RunsNodes, startRunsNodes } from '../fixtures/runs-nodes.ts'
import { until } from '../fixtures/until.ts'

describe.each([
  ['bun', 'bun'],
  ['deno', 'bun'],
] as const)('%s and %s', (...runtimes) => {
  let house: RunsNodes
  beforeAll(async () => {
    house = await startRunsNodes(runtimes, 'lease = 2000')
  }, 60_000)
  afterAll(() => house?.stop())

  test('no run is done twice, whoever took it in', async () => {
    const ids = await Promise.all(Array.from({ length: 40 }, (_, n) => house.submit(house.at(n % 2), `call effect {"text":"${n}"}\nrun ${n}`)))
    for (const id of ids) await until(async () => (await house.get(house.at(0), id)).status === 'completed', { ms: 30_000 })
    expect((await house.linesOf('effects')).map((line) => line.split(' ')[0]).sort()).toEqual([...ids].sort())
    for (const id of ids) expect((await house.events(house.at(1), id)).filter(({ type }) => type === 'started')).toHaveLength(1)
  }, 60_000)

  test('the runs of one that was killed are gone on with by the other', async () => {
    const ids = await Promise.all(Array.from({ length: 4 }, (_, n) => house.submit(house.at(0), `call wait {"text":"after-kill"}\nkilled ${n}`)))
    await until(async () => (await house.linesOf('waiting')).length >= 4)
    const mine = (await house.linesOf('waiting')).filter((line) => line.endsWith(` ${house.at(0).pid}`)).map((line) => line.split(' ')[0] as string)
    expect(mine.length).toBeGreaterThan(0)
    await house.at(0).kill9()
    const killed = Date.now()
    for (const id of mine) await until(async () => (await house.linesOf('waiting', id)).length > 1, { ms: 20_000 })
    // A lease of 2 s, looked at each half second.
    expect(Date.now() - killed).toBeLessThan(10_000)
    await house.letGo('after-kill')
    for (const id of ids) await until(async () => (await house.get(house.at(1), id)).status === 'completed', { ms: 20_000 })
    await house.startAgain(0)
  }, 90_000)

  test('one that stood still past its lease finds that it has lost its run, and writes nothing more', async () => {
    const id = await house.submit(house.at(0), 'call wait {"text":"after-stop"}\nstopped')
    await until(async () => (await house.linesOf('waiting', id)).length > 0)
    const holder = Number((await house.linesOf('waiting', id))[0]?.split(' ')[1])
    const other = house.nodes.find(({ pid }) => pid !== holder) as GatewayProcess
    process.kill(holder, 'SIGSTOP')
    try {
      await until(async () => (await house.linesOf('waiting', id)).length > 1, { ms: 20_000 })
      await house.letGo('after-stop')
      await until(async () => (await house.get(other, id)).status === 'completed', { ms: 20_000 })
    } finally {
      process.kill(holder, 'SIGCONT')
    }
    const before = await house.events(other, id)
    const stopped = house.nodes.find(({ pid }) => pid === holder) as GatewayProcess
    await until(() => /at work elsewhere, or was ended/.test(stopped.stderr + stopped.stdout), { ms: 20_000 })
    expect(await house.events(other, id)).toEqual(before)
    expect(before.filter(({ type }) => type === 'tool_result').map(({ result }) => result[0].text)).toEqual([`waited in ${other.pid}`])
  }, 60_000)

  test('cancelling on one ends it on the other', async () => {
    const id = await house.submit(house.at(0), 'call wait {"text":"never"}\ncancelled')
    await until(async () => (await house.linesOf('waiting', id)).length > 0)
    const holder = Number((await house.linesOf('waiting', id))[0]?.split(' ')[1])
    const other = house.nodes.find(({ pid }) => pid !== holder) as GatewayProcess
    const cancelled = await (await other.fetch(`/v1/runs/${id}/cancel`, { method: 'POST' })).json()
    expect(cancelled).toMatchObject({ cancelled: true, cancelled_ids: [id] })
    const stopped = house.nodes.find(({ pid }) => pid === holder) as GatewayProcess
    await until(() => (stopped.stderr + stopped.stdout).split(id).length > 1, { ms: 5_000 })
    expect((await house.events(other, id)).at(-1).type).toBe('cancelled')
  }, 30_000)
})

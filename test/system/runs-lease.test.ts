/** Two gateways on one PostgreSQL with the lease that is the default: the runs of one that was killed are at work in the other within 20 s. */
import { expect, test } from 'bun:test'
import { startRunsNodes } from '../fixtures/runs-nodes.ts'
import { until } from '../fixtures/until.ts'

test('killing one of two moves its runs within 20 s', async () => {
  const house = await startRunsNodes(['bun', 'bun'])
  try {
    const ids = await Promise.all([1, 2, 3].map((n) => house.submit(house.at(0), `call wait {"text":"on"}\nmoved ${n}`)))
    await until(async () => (await house.linesOf('waiting')).length === 3)
    expect((await house.linesOf('waiting')).map((line) => Number(line.split(' ')[1]))).toEqual(ids.map(() => house.at(0).pid))
    await house.at(0).kill9()
    const killed = performance.now()
    for (const id of ids) await until(async () => (await house.linesOf('waiting', id)).length === 2, { ms: 30_000 })
    expect(performance.now() - killed).toBeLessThan(20_000)
    await house.letGo('on')
    for (const id of ids) await until(async () => (await house.get(house.at(1), id)).status === 'completed')
  } finally {
    await house.stop()
  }
}, 90_000)

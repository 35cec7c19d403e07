import { afterAll, beforeAll, expect, test } from 'bun:test'
import { isGatewayError } from 'portico'
import { type Origin, startOrigin, testEgress } from '../../test/fixtures/egress.ts'
import { hostileNames, hostileUrls } from '../../test/fixtures/hostile-urls.ts'

let origin: Origin
beforeAll(async () => {
  origin = await startOrigin((_, response) => response.end('inside'))
})
afterAll(() => origin.stop())

test.each([...hostileUrls])('%s: %s is refused', async (_, url, code) => {
  const egress = testEgress({}, hostileNames)
  for (const asked of [egress.fetch(url), egress.check(url)]) {
    const error: unknown = await asked.then(
      () => null,
      (thrown) => thrown,
    )
    if (!isGatewayError(error)) throw new Error('it was not refused')
    expect(error.code).toBe(code as typeof error.code)
    expect(error.message).toMatch(/^[A-Z"].*\.$/)
  }
  expect(egress.refusals.map(({ reason }) => reason)).toHaveLength(code === 'invalid_request' ? 0 : 2)
})

test('what a name resolves to stands in the operator’s log, and not in what the caller is told', async () => {
  const egress = testEgress({}, hostileNames)
  const error = await egress.fetch('http://db.internal:8080/path?token=secret', { purpose: 'webhook 7' }).catch((thrown: Error) => thrown)
  expect(String(error)).toContain('"db.internal"')
  expect(String(error)).not.toMatch(/10\.1\.2\.3|private|secret|path/)
  expect(egress.refusals).toEqual([
    { reason: 'address', message: expect.any(String), host: 'db.internal', address: '10.1.2.3', kind: 'private', purpose: 'webhook 7' },
  ])
  expect(JSON.stringify(egress.refusals)).not.toContain('secret')
})

test('nothing is connected to, in whatever way the address of a server that listens is written', async () => {
  const { port } = origin
  const egress = testEgress({}, { ...hostileNames, '127.0.0.1': ['127.0.0.1'] })
  const spellings = ['127.0.0.1', '2130706433', '0x7f.1', '[::ffff:127.0.0.1]', 'localhost', 'inward.example']
  for (const host of spellings) expect(egress.fetch(`http://${host}:${port}/`)).rejects.toThrow('not public')
  await Bun.sleep(50)
  expect(origin.connections.made).toBe(0)
  // The same server answers once it is allowed: it was there to be reached.
  const open = testEgress({ allowPrivate: ['127.0.0.1'] }, hostileNames)
  for (const host of spellings.filter((name) => name !== 'localhost')) expect((await open.fetch(`http://${host}:${port}/`)).status).toBe(200)
})

import { afterAll, describe, expect, test } from 'bun:test'
import { readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { defineEvent, definePlugin, rpc, t } from 'portico'
import { startTestGateway, type TestGateway } from 'portico/testkit'
import { temporaryFolder } from '../../test/fixtures/pglite.ts'
import { startPostgres } from '../../test/fixtures/postgres.ts'
import { until } from '../../test/fixtures/until.ts'

const noted = defineEvent('noter:noted', t.Object({ n: t.Integer(), text: t.String() }), { scope: rpc, durable: true })
/** Publishes so many events when it is ready, with odd texts in them. */
const noter = (count: number) =>
  definePlugin({
    id: 'noter',
    version: '1.0.0',
    api: 1,
    summary: 'Notes',
    events: [noted],
    setup: (ctx) => ({
      async ready() {
        for (let n = 0; n < count; n++) await ctx.publish(noted, { n, text: `line\none "two" [three] {four} ${'ü💥'.repeat(n % 7)}` })
      },
    }),
  })

const folder = await temporaryFolder()
afterAll(() => rm(folder, { recursive: true, force: true }))

const save = async (gateway: TestGateway, name: string) => {
  const response = await gateway.fetch('/api/backup')
  expect(response.status).toBe(200)
  const file = join(folder, name)
  await writeFile(file, new Uint8Array(await response.arrayBuffer()))
  return file
}
const activity = async (gateway: TestGateway) => (await gateway.json('/api/activity?types=noter:*&limit=100')).body.entries
/** Once the last of them is in the log. */
const wholeActivity = async (gateway: TestGateway) => {
  await until(async () => (await activity(gateway))[0]?.data.n === 119)
  return activity(gateway)
}
const restore = (gateway: TestGateway, file: string) => gateway.json('/api/backup/restore', { method: 'POST', body: { file } })

describe('a backup', () => {
  test('brings keys and events to an empty gateway, byte for byte, and what is new afterwards follows', async () => {
    await using first = await startTestGateway({ plugins: [noter(120)] })
    const made = await first.json('/api/keys', { method: 'POST', body: { name: 'mine' } })
    const entries = await wholeActivity(first)
    const file = await save(first, 'whole.backup')

    await using second = await startTestGateway({ plugins: [noter(0)] })
    await second.json('/api/keys', { method: 'POST', body: { name: 'lost' } })
    const done = await restore(second, file)
    expect(done.status).toBe(200)
    expect(done.body.rows).toBeGreaterThan(120)
    expect(await activity(second)).toEqual(entries)
    const keys = (await second.json('/api/keys')).body
    expect(keys.keys.map(({ name }: { name: string }) => name)).toEqual(['mine'])
    expect((await second.json('/api/v1/auth/whoami', { as: made.body.key })).status).toBe(200)
    // The outbox's numbers go on, too.
    await second.json('/api/keys', { method: 'POST', body: { name: 'new' } })
    await second.events.waitFor('key:created', ({ data }) => (data as { name: string }).name === 'new')
  })

  test('moves from the embedded database to PostgreSQL and back', async () => {
    const postgres = await startPostgres()
    try {
      await using embedded = await startTestGateway({ plugins: [noter(120)] })
      const entries = await wholeActivity(embedded)
      const there = await save(embedded, 'there.backup')
      const silent = noter(0)
      await using server = await startTestGateway({ plugins: [silent], databaseUrl: await postgres.newDatabase() })
      expect((await restore(server, there)).status).toBe(200)
      expect(await activity(server)).toEqual(entries)
      const back = await save(server, 'back.backup')
      await using again = await startTestGateway({ plugins: [silent] })
      expect((await restore(again, back)).status).toBe(200)
      expect(await activity(again)).toEqual(entries)
    } finally {
      await postgres.stop()
    }
  }, 60_000)

  test('is of one moment while others write', async () => {
    await using gateway = await startTestGateway()
    let isOver = false
    let made = 0
    const writer = (async () => {
      while (!isOver) made += (await gateway.json('/api/keys', { method: 'POST', body: { name: `k${made}` } })).status === 201 ? 1 : 0
    })()
    const file = await save(gateway, 'moving.backup')
    isOver = true
    await writer
    const lines = gunzipSync(await readFile(file))
      .toString()
      .trim()
      .split('\n')
    const rowsOf = (table: string) => {
      const at = lines.indexOf(JSON.stringify([table]))
      const end = lines.findIndex((line, index) => index > at && line.startsWith('['))
      return lines.slice(at + 1, end === -1 ? -1 : end).map((line) => JSON.parse(line))
    }
    const keys = rowsOf('auth_token_keys')
    const events = lines.filter((line) => line.includes('"type":"key:created"'))
    // A key and its event are of one transaction: both are in it, or neither.
    expect(events.length).toBe(keys.length)
    expect(keys.length).toBeLessThanOrEqual(made)
  })

  test('is refused whole when it is cut, changed, foreign, or from a gateway with other plugins, and nothing is lost', async () => {
    await using gateway = await startTestGateway()
    await gateway.json('/api/keys', { method: 'POST', body: { name: 'stays' } })
    const file = await save(gateway, 'good.backup')
    const text = gunzipSync(await readFile(file)).toString()
    const variant = async (name: string, bytes: string | Uint8Array) => {
      await writeFile(join(folder, name), typeof bytes === 'string' ? gzipSync(bytes) : bytes)
      return join(folder, name)
    }
    const header = JSON.parse(text.split('\n')[0] ?? '')
    const foreign = { ...header, migrations: [...header.migrations, { plugin: 'stranger', name: '0001_x', hash: 'x' }] }
    const rehashed = async (lines: string[]) => {
      const { createHash } = await import('node:crypto')
      const body = lines.map((line) => `${line}\n`).join('')
      return `${body}${JSON.stringify({ rows: lines.filter((line) => line.startsWith('{')).length - 1, sha256: createHash('sha256').update(body).digest('hex') })}\n`
    }
    const lines = text.trim().split('\n').slice(0, -1)
    const table: [string, string, string][] = [
      ['missing', join(folder, 'nothing.backup'), 'does not exist'],
      ['cut', await variant('cut.backup', (await readFile(file)).subarray(0, -20)), 'cannot be restored'],
      ['a line less', await variant('less.backup', text.split('\n').toSpliced(3, 1).join('\n')), 'not whole'],
      ['a letter changed', await variant('changed.backup', text.replace('stays', 'stayz')), 'not whole'],
      ['no gzip', await variant('plain.backup', new TextEncoder().encode('hello')), 'unpacked'],
      ['no backup', await variant('other.backup', '{"a":1}\n{"rows":0}\n'), 'portico backup'],
      ['another plugin', await variant('foreign.backup', await rehashed([JSON.stringify(foreign), ...lines.slice(1)])), 'stranger'],
      ['a row that fits no table', await variant('row.backup', await rehashed([...lines, '["nowhere"]', '{"a":1}'])), 'nowhere'],
    ]
    for (const [what, path, why] of table) {
      const { status, body } = await restore(gateway, path)
      expect({ what, status, message: body.error?.message }).toEqual({ what, status: what === 'missing' ? 404 : 400, message: expect.stringContaining(why) })
    }
    expect((await gateway.json('/api/keys')).body.keys.map(({ name }: { name: string }) => name)).toEqual(['stays'])
    expect((await stat(file)).size).toBeGreaterThan(100)
  })

  test('cannot be put back over the network', async () => {
    await using gateway = await startTestGateway({ listen: true })
    expect((await restore(gateway, '/tmp/x')).body.error).toMatchObject({ code: 'conflict', message: expect.stringContaining('portico restore') })
  })
})

import { afterEach, describe, expect, test } from 'bun:test'
import { rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { sql } from 'drizzle-orm'
import { denoCommand } from '../fixtures/deno.ts'
import { openPgliteStore, temporaryFolder } from '../fixtures/pglite.ts'

const root = join(import.meta.dir, '../..')
const children = new Set<Bun.Subprocess>()
const folders: string[] = []
afterEach(async () => {
  for (const child of children) child.kill('SIGKILL')
  await Promise.all([...children].map((child) => child.exited))
  children.clear()
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true })
})

const newFolder = async () => {
  const folder = await temporaryFolder()
  folders.push(folder)
  return folder
}

/** Starts store-child.ts; its lines come from an iterator. */
function spawn(runtime: 'bun' | 'deno', ...args: string[]) {
  const command = runtime === 'bun' ? [process.execPath] : denoCommand
  const child = Bun.spawn([...command, join(root, 'test/fixtures/store-child.ts'), ...args], { cwd: root, stdout: 'pipe', stderr: 'inherit' })
  children.add(child)
  return { child, lines: readLines(child.stdout) }
}

async function* readLines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    yield* lines
  }
}

describe.each(['bun', 'deno'] as const)('the store in a process of its own on %s', (runtime) => {
  test('runs the mixed operations right, refuses the outer db, tells commits, and ends', async () => {
    const { child, lines } = spawn(runtime, 'mixed', await newFolder())
    expect(await Array.fromAsync(lines)).toEqual(['done'])
    expect(await child.exited).toBe(0)
  }, 180_000)

  test('a plain client of another process hears a channel on the socket', async () => {
    const store = await openPgliteStore(await newFolder())
    const { lines } = spawn(runtime, 'listen', dirname(store.socketPath), 'news')
    expect((await lines.next()).value).toBe('listening')
    await store.db.execute(sql`select pg_notify('news', 'hello')`)
    expect((await lines.next()).value).toBe('hello')
    await store.close()
  }, 240_000)
})

const cycles = 20
test(`${cycles} times killed with -9 under load, on Bun and Deno by turns: no acknowledged commit is lost or doubled, no half one is kept`, async () => {
  const dataDir = await newFolder()
  const acknowledged: string[] = []
  for (let cycle = 0; cycle < cycles; cycle++) {
    const { child, lines } = spawn(cycle % 2 === 0 ? 'bun' : 'deno', 'write', dataDir, String(cycle))
    expect((await lines.next()).value).toBe('ready')
    let left = 20 + Math.floor(Math.random() * 100)
    for await (const id of lines) {
      acknowledged.push(id)
      if (--left === 0) child.kill('SIGKILL')
    }
    expect(await child.exited).not.toBe(0)
  }
  const store = await openPgliteStore(dataDir)
  const ids = async (table: string) => (await store.db.execute<{ id: string }>(sql.raw(`select id from ${table}`))).rows.map(({ id }) => id).sort()
  const kept = await ids('acks')
  expect(await ids('pairs')).toEqual(kept)
  expect(new Set(kept).size).toBe(kept.length)
  const there = new Set(kept)
  expect(acknowledged.filter((id) => !there.has(id))).toEqual([])
  expect(acknowledged.length).toBeGreaterThanOrEqual(cycles * 20)
  // At most one transaction of each writer was committed but not yet acknowledged.
  expect(kept.length - acknowledged.length).toBeLessThanOrEqual(cycles * 8)
  await store.close()
}, 240_000)

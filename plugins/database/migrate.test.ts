import { afterAll, describe, expect, test } from 'bun:test'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { sql } from 'drizzle-orm'
import { temporaryFolder } from '../../test/fixtures/pglite.ts'
import { databases, useStore } from '../../test/fixtures/stores.ts'

const root = await temporaryFolder()
afterAll(() => rm(root, { recursive: true, force: true }))

let made = 0
/** A folder of migrations; its URL has no slash at its end, as plugins write it. */
async function folderOf(files: Record<string, string>): Promise<URL> {
  const path = join(root, `${++made}`)
  await mkdir(path)
  for (const [name, text] of Object.entries(files)) await writeFile(join(path, name), text)
  return pathToFileURL(path)
}

describe.each(databases)('migrations on %s', (kind) => {
  const fixture = useStore(kind)
  const names = async (plugin: string) =>
    (await fixture.store.db.execute(sql`select name from portico_migrations where plugin = ${plugin} order by name`)).rows.map(({ name }) => name)

  test('files are applied once, in order, those of two plugins apart', async () => {
    const first = await folderOf({
      '0002_b.sql': 'insert into one values (2);',
      '0001_a.sql': 'create table one (n int); insert into one values (1);',
      'README.md': '',
    })
    const second = await folderOf({ '0001_a.sql': 'create table two (n int);' })
    await fixture.store.migrate('one', first)
    await fixture.store.migrate('one', first)
    await fixture.store.migrate('two', second)
    expect((await fixture.store.db.execute(sql`select n from one order by n`)).rows).toEqual([{ n: 1 }, { n: 2 }])
    expect([await names('one'), await names('two')]).toEqual([['0001_a.sql', '0002_b.sql'], ['0001_a.sql']])
  })

  test('a start with nothing new asks the database nothing', async () => {
    const folder = await folderOf({ '0001_a.sql': 'create table quiet (n int);' })
    await fixture.store.migrate('quiet', folder)
    let queries = 0
    const count = () => queries++
    fixture.store.pool.on('acquire', count)
    await fixture.store.migrate('quiet', folder)
    fixture.store.pool.off('acquire', count)
    expect(queries).toBe(0)
  })

  test('a failing file keeps nothing of its plugin and names plugin, file and reason', async () => {
    const folder = await folderOf({ '0001_good.sql': 'create table half (n int);', '0002_bad.sql': 'create tabel x ();' })
    const error = await fixture.store.migrate('half', folder).catch((reason) => reason)
    expect(error.code).toBe('plugin_failed')
    expect(error.message).toMatch(/^\[plugin half\] The migration 0002_bad.sql failed: syntax error.*Nothing of it was kept/)
    expect(await names('half')).toEqual([])
    await writeFile(new URL(`${folder}/0002_bad.sql`), 'alter table half add m int;')
    await fixture.store.migrate('half', folder)
    expect(await names('half')).toEqual(['0001_good.sql', '0002_bad.sql'])
  })

  test('a file changed after it was applied is an error by name, other line ends are no change', async () => {
    const folder = await folderOf({ '0001_a.sql': 'create table changed (\n n int);' })
    await fixture.store.migrate('changed', folder)
    await writeFile(new URL(`${folder}/0001_a.sql`), 'create table changed (\r\n n int);')
    await fixture.store.migrate('changed', folder)
    await writeFile(new URL(`${folder}/0001_a.sql`), 'create table changed (n bigint);')
    await expect(fixture.store.migrate('changed', folder)).rejects.toThrow('[plugin changed] The migration 0001_a.sql was changed')
  })

  test.each([
    [{ 'first.sql': '' }, 'first.sql'],
    [{ '0001_a.sql': '', '0001_b.sql': '' }, '0001_b.sql'],
  ])('%p is refused by name', async (files, name) => {
    await expect(fixture.store.migrate('names', await folderOf(files))).rejects.toThrow(`The migration ${name} is not named`)
  })

  if (kind === 'postgres')
    test('of two nodes that start at once each file is applied by one', async () => {
      const folder = await folderOf({ '0001_a.sql': 'create table together (n int); select pg_sleep(0.2); insert into together values (1);' })
      const nodes = [fixture.store, await fixture.another(), await fixture.another()]
      await Promise.all(nodes.map((store) => store.migrate('together', folder)))
      expect((await fixture.store.db.execute(sql`select n from together`)).rows).toEqual([{ n: 1 }])
    })
})

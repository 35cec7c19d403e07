/** Keys that were made before approvals, after the update. */
import { describe, expect, test } from 'bun:test'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { databases, useStore } from '../../test/fixtures/stores.ts'

const migrations = new URL('./migrations/', import.meta.url)

describe.each(databases)('on %s', (database) => {
  const fixture = useStore(database)

  test('persons whose scopes nobody chose may decide approvals; what was chosen, and keys of agents, stay as they are', async () => {
    const before = await mkdtemp(join(tmpdir(), 'portico-migrations-'))
    for (const name of ['0001_keys.sql', '0002_version.sql']) await cp(new URL(name, migrations), join(before, name))
    const { store } = fixture
    await store.migrate('auth-token', pathToFileURL(`${before}/`))
    await rm(before, { recursive: true })
    const keys: [kind: string, scopes: string[]][] = [
      ['user', ['rpc', 'api']],
      ['device', ['rpc', 'api']],
      ['user', ['api', 'rpc']],
      ['user', ['rpc']],
      ['user', ['admin']],
      ['agent', ['rpc', 'api']],
      ['service', ['rpc', 'api']],
    ]
    for (const [index, [kind, scopes]] of keys.entries())
      await store.pool.query(
        `insert into auth_token_keys (id, prefix, hash, name, kind, scopes, created_at, created_by) values ($1, $1, 'h', 'n', $2, $3, now(), 'test')`,
        [`key_${index}`, kind, JSON.stringify(scopes)],
      )
    await store.migrate('auth-token', migrations)
    const { rows } = await store.pool.query('select kind, scopes from auth_token_keys order by id')
    expect(rows.map(({ kind, scopes }) => `${kind} ${scopes}`)).toEqual([
      ...['user rpc,api,approve', 'device rpc,api,approve', 'user api,rpc', 'user rpc', 'user admin', 'agent rpc,api', 'service rpc,api'],
    ])
  })
})

import { describe, expect, test } from 'bun:test'
import { guard, open, type RouteGroup, rpc } from 'portico'
import { type TestHttp, testHttp } from '../../test/fixtures/http.ts'
import { compilePlugin } from './compile.ts'
import { assembleTable, type TableEntry } from './table.ts'

async function ready(plugin: string, routes: readonly RouteGroup[], paths = ['/']): Promise<TableEntry> {
  return { state: 'ready', compiled: (await compilePlugin(plugin, paths, routes, [])).compiled }
}
const tableOf = async (...groups: RouteGroup[]) => assembleTable([await ready('one', groups)]).table

describe('finding', () => {
  test('literal before parameter before wildcard, by method, without caring for a last slash', async () => {
    const table = await tableOf(
      open((app) => app.get('/a/:id', 'x').get('/a/*', 'x').get('/a/:id/c', 'x')),
      open((app) =>
        app
          .get('/a/b', 'x')
          .post('/a/:id', () => 'x')
          .get('/a/b/d', 'x'),
      ),
    )
    const found = (method: string, path: string) => table.find(method, path)?.template
    expect(found('GET', '/a/b')).toBe('/a/b')
    expect(found('GET', '/a/b/')).toBe('/a/b')
    expect(found('GET', '/a/x')).toBe('/a/:id')
    expect(found('POST', '/a/b')).toBe('/a/:id')
    expect(found('GET', '/a/b/c')).toBe('/a/:id/c')
    expect(found('GET', '/a/x/y/z')).toBe('/a/*')
    expect(found('HEAD', '/a/b')).toBe('/a/b')
    expect(found('DELETE', '/a/b')).toBeUndefined()
    expect(found('GET', '/a')).toBeUndefined()
    expect(found('GET', '/ab')).toBeUndefined()
    expect(table.allowed('/a/b')).toEqual(['GET', 'POST', 'HEAD', 'OPTIONS'])
    expect(table.allowed('/nothing')).toEqual([])
  })

  test('the table and Elysia agree on every route of a large mixture', async () => {
    const paths = Array.from({ length: 300 }, (_, i) => `/t/r${i % 7}/${i % 2 ? ':id' : `s${i}`}/${i}${i % 5 === 0 ? '/*' : ''}`)
    const { send, http } = await testHttp({ routes: [open((app) => paths.reduce((built: any, path) => built.get(path, () => path), app))] })
    for (const path of paths) {
      for (const example of [path.replace(':id', 'va%2Flue').replace('*', 'x/y'), `${path.replace(':id', '7').replace('*', 'x')}/`]) {
        expect(http.table.find('GET', example)?.template).toBe(path)
        expect(await (await send(example)).text()).toBe(path)
      }
    }
  })

  test('a thousand routes cost a request at most 1.1 times of what ten cost', async () => {
    const build = (count: number) =>
      testHttp({ routes: [open((app) => Array.from({ length: count }, (_, i) => `/t/r${i}/:id/y`).reduce((built: any, path) => built.get(path, 'x'), app))] })
    const measure = async ({ http }: TestHttp) => {
      const begun = performance.now()
      for (let i = 0; i < 20_000; i++) await http.handle(new Request(`http://127.0.0.1:4766/t/r${i % 10}/42/y`), { address: '' })
      return performance.now() - begun
    }
    const [small, large] = [await build(10), await build(1_000)]
    const ratios: number[] = []
    for (let i = 0; i < 5; i++) {
      const base = await measure(small)
      ratios.push((await measure(large)) / base)
    }
    expect(Math.min(...ratios)).toBeLessThan(1.1)
  })
})

test('routes and groups can be listed', async () => {
  const table = assembleTable([await ready('one', [guard(rpc, (app) => app.get('/', 'x'), { stream: true })])]).table
  expect(table.routes).toMatchObject([{ plugin: 'one', method: 'GET', path: '/', stream: true, access: { kind: 'guard' } }])
  expect(table.groups).toHaveLength(1)
})

test('a plugin that does not run answers for its roots, the longest root first', () => {
  const { table } = assembleTable([
    { state: 'failed', plugin: 'outer', paths: ['/a'], reason: 'setup: boom' },
    { state: 'blocked', plugin: 'inner', paths: ['/a/b'], reason: 'it requires x' },
  ])
  expect(table.down('/a')?.plugin).toBe('outer')
  expect(table.down('/a/b/c')?.plugin).toBe('inner')
  expect(table.down('/a/bc')?.plugin).toBe('outer')
  expect(table.down('/ab')).toBeUndefined()
})

import { describe, expect, test } from 'bun:test'
import { Elysia } from 'elysia'
import { guard, open, type RouteGroup, rpc, type SocketRoute, signed, t } from 'portico'
import { as, testHttp, tokens } from '../../test/fixtures/http.ts'
import { compilePlugin } from './compile.ts'
import { assembleTable } from './table.ts'

const problemsOf = async (routes: readonly unknown[], sockets: readonly SocketRoute[] = [], paths: readonly string[] = ['/t']) =>
  (await compilePlugin('pager', paths, routes as RouteGroup[], sockets)).problems

describe('refused at set-up, by name', () => {
  test('a bare Elysia app is a group without access', async () => {
    expect(await problemsOf([new Elysia().get('/t', 'x')])).toMatchObject([
      { where: 'pager', key: 'routes[0]', what: 'is a group without access', found: 'an Elysia app' },
    ])
    expect(await problemsOf([undefined])).toMatchObject([{ what: 'is a group without access' }])
  })

  test('routes and sockets outside the plugin’s roots, by whole segments', async () => {
    const what = 'the route lies outside the roots of its plugin'
    expect(await problemsOf([open((app) => app.get('/t', 'x').get('/t/a', 'x').get('/tx', 'x').post('/other', 'x'))])).toMatchObject([
      { key: 'GET /tx', what },
      { key: 'POST /other', what },
    ])
    expect(await problemsOf([], [{ path: '/ws', access: rpc }])).toMatchObject([{ key: 'WS /ws', what }])
    expect(await problemsOf([open((app) => app.get('/', 'x').get('/a', 'x'))], [], ['/'])).toMatchObject([{ key: 'GET /a', what }])
  })

  test('.ws, .all, .mount, optional parameters, colons inside a segment, wildcards in the middle', async () => {
    const keys = async (build: (app: any) => any) => (await problemsOf([open(build)])).map(({ key, what }) => `${key} ${what}`)
    expect(await keys((app) => app.ws('/t/ws', {}))).toEqual(['/t/ws .ws is not available'])
    expect((await keys((app) => app.all('/t/a', () => 'x'))).join()).toContain('.all is refused')
    expect((await keys((app) => app.mount('/t/m', () => new Response('x')))).join()).toContain('.mount is refused')
    expect((await keys((app) => app.get('/t/:id?', () => 'x'))).join()).toContain('optional parameters are refused')
    expect((await keys((app) => app.post('/t/message:send', () => 'x'))).join()).toContain('a colon inside a path segment')
    expect((await keys((app) => app.post('/t/:id:cancel', () => 'x'))).join()).toContain('a colon inside a path segment')
    expect((await keys((app) => app.get('/t/*/x', () => 'x'))).join()).toContain('a wildcard stands only at the end')
  })

  test('two parameter names at one place, also in two groups', async () => {
    const expected = [{ where: 'pager', key: '/t/:name/b', what: 'two parameter names at one place', found: ':name, and :id in /t/:id' }]
    expect(await problemsOf([open((app) => app.get('/t/:id', 'x')), open((app) => app.post('/t/:name/b', () => 'x'))])).toMatchObject(expected)
    expect(await problemsOf([open((app) => app.get('/t/:id/a', 'x').get('/t/:id/b', 'x').get('/t/x/:name', 'x'))])).toEqual([])
  })

  test('a builder that throws, or returns another app', async () => {
    const throwing = open(() => {
      throw new Error('no such table')
    })
    expect(await problemsOf([throwing])).toMatchObject([{ key: 'routes[0]', what: 'its builder failed: no such table' }])
    expect(await problemsOf([open(() => new Elysia().get('/t/x', 'x'))])).toMatchObject([{ what: 'a builder returned another app than the one it was given' }])
  })

  test('everything at once', async () => {
    expect(await problemsOf([{}, open((app) => app.get('/a', 'x').get('/t/:b?', 'x')), open((app) => app.get('/b', 'x'))])).toHaveLength(4)
  })
})

test('equal shapes in two groups are a problem that names both plugins and paths', async () => {
  const one = (await compilePlugin('one', ['/t'], [open((app) => app.get('/t/:id/x', 'x').get('/t/free', 'x'))], [])).compiled
  const two = (await compilePlugin('two', ['/t'], [open((app) => app.get('/t/:name/x/', 'x').post('/t/free', () => 'x'))], [])).compiled
  const { problems, table } = assembleTable([
    { state: 'ready', compiled: one },
    { state: 'ready', compiled: two },
  ])
  expect(problems).toMatchObject([{ where: 'two', key: 'GET /t/:name/x/', found: 'one: GET /t/:id/x' }])
  expect(problems[0]?.what).toContain('the plugin "one"')
  expect(table.find('GET', '/t/1/x')?.group.plugin).toBe('one')
})

test('a hook of one group does not reach another, not even a global one', async () => {
  const leaky = open((app) =>
    app
      .onBeforeHandle({ as: 'global' }, () => 'taken over' as never)
      .onRequest(({ set }) => {
        set.headers['x-leak'] = '1'
      })
      .onError({ as: 'global' }, () => 'leaked' as never)
      .get('/t/leaky', () => 'own'),
  )
  const { send } = await testHttp({
    routes: [
      leaky,
      open((app) =>
        app
          .get('/t/clean', () => 'clean')
          .get('/t/broken', () => {
            throw new Error('secret')
          }),
      ),
    ],
  })
  expect(await (await send('/t/leaky')).text()).toBe('taken over')
  const clean = await send('/t/clean')
  expect([await clean.text(), clean.headers.get('x-leak')]).toEqual(['clean', null])
  expect(await (await send('/t/broken')).json()).toMatchObject({ error: { code: 'internal_error' } })
})

describe('what the shell gives', () => {
  test('request information to handlers, hooks and nested groups', async () => {
    const { send } = await testHttp({
      authMethods: [tokens('ann')],
      routes: [
        guard(rpc, (app) =>
          app
            .get('/t/me', ({ principal, requestId, loopback, signal }) => ({ id: principal.id, requestId, loopback, aborted: signal.aborted }))
            .group('/t/group', (inner) => inner.get('/me', ({ principal }: any) => principal.id))
            .resolve(({ principal }: any) => ({ upper: principal.id.toUpperCase() }))
            .get('/t/upper', ({ upper }) => upper),
        ),
      ],
    })
    expect(await (await send('/t/me', { headers: { authorization: 'Bearer ann', 'x-request-id': 'r-1' } })).json()).toEqual({
      id: 'ann',
      requestId: 'r-1',
      loopback: true,
      aborted: false,
    })
    expect(await (await send('/t/group/me', as('ann'))).text()).toBe('ann')
    expect(await (await send('/t/upper', as('ann'))).text()).toBe('ANN')
  })

  test('JSON as the only parser, unless a route asks for another', async () => {
    const schema = { body: t.Object({ a: t.String() }) }
    const { outcome, send } = await testHttp({
      routes: [
        open((app) =>
          app
            .post('/t/json', ({ body }) => body, schema)
            .post('/t/loose', ({ body }) => body as object)
            .post('/t/maybe', ({ body }) => body ?? 'nothing', { body: t.Optional(t.Object({ a: t.String() })) })
            .post('/t/text', ({ body }) => body as string, { parse: 'text' })
            .post('/t/none', () => 'ok'),
        ),
        signed((app) => app.post('/t/signed', async ({ request }) => request.text())),
      ],
    })
    const post = (body: string | undefined, type: string | null = 'application/json') => ({
      method: 'POST',
      body,
      headers: (type === null ? {} : { 'content-type': type }) as Record<string, string>,
    })
    expect(await outcome('/t/json', post('{"a":"b"}'))).toBe('200')
    expect(await outcome('/t/json', post('{"a":"b"}', 'application/json; charset=utf-8'))).toBe('200')
    for (const type of ['text/plain', 'multipart/form-data; boundary=x', 'application/x-www-form-urlencoded', 'application/jsonx'])
      expect(`${type} ${await outcome('/t/json', post('a=b', type))}`).toBe(`${type} 415 unsupported_media_type`)
    expect(await outcome('/t/json', post('{"a":'))).toBe('400 invalid_json')
    expect(await outcome('/t/json', post(undefined))).toBe('400 invalid_json')
    expect(await (await send('/t/loose', post('{"x":[1]}'))).json()).toEqual({ x: [1] })
    expect(await (await send('/t/maybe', post(undefined, null))).text()).toBe('nothing')
    expect(await outcome('/t/maybe', post('{"a":'))).toBe('400 invalid_json')
    expect(await (await send('/t/text', post('plain', 'text/plain'))).text()).toBe('plain')
    expect(await outcome('/t/none', post(undefined, null))).toBe('200')
    expect(await (await send('/t/signed', post('raw=1', 'application/x-www-form-urlencoded'))).text()).toBe('raw=1')
  })
})

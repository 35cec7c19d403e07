import { describe, expect, test } from 'bun:test'
import { admin, GatewayError, guard, open, type RequestRecord, type RouteApp, rpc } from 'portico'
import { as, type TestHttp, testHttp, tokens } from '../../test/fixtures/http.ts'
import { isAudited } from './audited.ts'

const throwing = (error: unknown) => () => {
  throw error
}

/** What is audited from now on: method, route, status, and who. */
function collect(http: TestHttp['http'], who: (record: RequestRecord) => readonly string[]): string[] {
  const audited: string[] = []
  http.onRequest((record) => {
    const { method, route, status } = record
    if (isAudited(record)) audited.push([method, route, status, ...who(record)].join(' '))
  })
  return audited
}

describe('for the audit', () => {
  const change = (path: string) => (app: RouteApp) =>
    app
      .get(path, 'x')
      .post(path, () => 'x')
      .delete(path, throwing(new GatewayError('not_found', 'No.')))
  const routes = [
    guard(admin, change('/t/admin')),
    guard([admin, rpc], change('/t/both')),
    guard(rpc, change('/t/rpc')),
    guard(rpc, change('/t/asked'), { audit: true }),
    open(change('/t/open'), { audit: true }),
  ]

  test('of an open group what succeeds: what anyone can make fail would fill the log', async () => {
    const { send, http } = await testHttp({ routes })
    const audited = collect(http, ({ principal: { id } }) => [id])
    for (const method of ['GET', 'POST', 'DELETE']) await send('/t/open', { method })
    expect(audited).toEqual(['POST /t/open 200 anonymous'])
  })

  test('a record says who changed what an administrator may change, or what its group says; reading and refused callers are left out', async () => {
    const { send, http } = await testHttp({ routes, authMethods: [tokens('ann', 'root')] })
    const audited = collect(http, ({ principal: { id, kind, via }, address, requestId }) => [id, kind, via, address, requestId])
    const headers = { ...as('root+admin').headers, 'x-request-id': 'r1' }
    for (const path of ['/t/admin', '/t/both', '/t/rpc', '/t/asked', '/t/none'])
      for (const method of ['GET', 'HEAD', 'POST', 'DELETE']) await send(path, { method, headers, from: '10.0.0.7' })
    const who = 'root user test:root 10.0.0.7 r1'
    expect(audited).toEqual([`POST /t/admin 200 ${who}`, `DELETE /t/admin 404 ${who}`, `POST /t/asked 200 ${who}`, `DELETE /t/asked 404 ${who}`])
    audited.length = 0
    for (const token of ['ann', 'nobody', '']) await send('/t/admin', { method: 'POST', ...(token === '' ? {} : as(token)) })
    expect(audited).toEqual([])
  })

  test('an address is read only by whoever asks for it', async () => {
    const { http } = await testHttp({ routes: [open((app) => app.get('/t/open', 'x'))] })
    let reads = 0
    const peer = {
      isLocal: true,
      get address() {
        reads++
        return '10.0.0.7'
      },
    }
    const ask = () => http.handle(new Request('http://127.0.0.1:4766/t/open', { headers: { host: '127.0.0.1:4766' } }), peer)
    http.onRequest(({ status }) => expect(status).toBe(200))
    await ask()
    expect(reads).toBe(0)
    const seen: string[] = []
    http.onRequest(({ address }) => seen.push(address))
    await ask()
    expect([seen, reads]).toEqual([['10.0.0.7'], 1])
  })
})

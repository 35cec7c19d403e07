import { describe, expect, test } from 'bun:test'
import { api, type Principal, type RouteInfo, rpc } from 'portico'
import { toTicketPath } from './ticket-path.ts'

const caller: Principal = { id: 'p', kind: 'user', scopes: ['rpc'], groups: [], via: 'token:p' }
const route = (method: string, path: string, stream: boolean, scope = rpc): RouteInfo => ({
  plugin: 'x',
  method,
  path,
  stream,
  access: { kind: 'guard', scopes: [scope] },
})
const routes = [
  route('GET', '/api/events', true),
  route('GET', '/tasks/:id/stream', true),
  route('WS', '/ws', true),
  route('GET', '/v1/live', true, api),
  route('GET', '/api/keys', false),
  route('POST', '/api/chat/stream', true),
]
const ask = (path: string) => {
  try {
    return toTicketPath(path, caller, routes).pathname
  } catch (error) {
    return (error as { code: string }).code
  }
}

describe('a ticket', () => {
  test.each(['/api/events', '/tasks/run_1/stream', '/ws'])('may be for the stream or socket %s', (path) => {
    expect(ask(path)).toBe(path)
  })

  test('keeps the query of its path', () => {
    expect(toTicketPath('/api/events?types=key:*', caller, routes).search.get('types')).toBe('key:*')
  })

  test.each([
    ['https://evil.example/api/events', 'validation_failed'],
    ['//evil.example/api/events', 'validation_failed'],
    ['/\\evil.example', 'validation_failed'],
    ['/api/../api/events', 'validation_failed'],
    ['/api/events#x', 'validation_failed'],
    ['/tasks/a%2fb/stream', 'validation_failed'],
    ['/api/events?ticket=x', 'validation_failed'],
    ['/api/keys', 'not_found'],
    ['/tasks//stream', 'not_found'],
    ['/api/chat/stream', 'not_found'],
    ['/nowhere', 'not_found'],
    ['/v1/live', 'insufficient_scope'],
  ])('is not given for %s (%s)', (path, code) => {
    expect(ask(path)).toBe(code)
  })
})

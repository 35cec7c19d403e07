import { describe, expect, test } from 'bun:test'
import { redirected, redirectOf, toOutgoing, toUrl } from './outgoing.ts'

const body = new TextEncoder().encode('x')
const first = (method: string, headers: HeadersInit = {}) =>
  toOutgoing(toUrl('https://a.example/one?q=1'), { method, headers, body: method === 'GET' || method === 'HEAD' ? undefined : body })
const names = (headers: Headers) => [...headers.keys()].sort()

describe('the request', () => {
  test('has what every request has, unless the caller says it', () => {
    expect(Object.fromEntries(first('GET').headers)).toEqual({ accept: '*/*', 'accept-encoding': 'gzip, deflate, br', 'user-agent': 'portico' })
    expect(Object.fromEntries(first('GET', { Accept: 'text/html', 'User-Agent': 'mine', Range: 'bytes=0-9' }).headers)).toEqual({
      accept: 'text/html',
      'user-agent': 'mine',
      range: 'bytes=0-9',
      'accept-encoding': 'identity',
    })
  })

  test('says itself what belongs to the connection, the framing and the address', () => {
    const given = {
      Host: 'evil.example',
      Connection: 'x-a',
      'Content-Length': '99',
      'Transfer-Encoding': 'chunked',
      Upgrade: 'h2c',
      Expect: '100-continue',
      TE: 'gzip',
    }
    expect(names(first('POST', { ...given, 'X-A': '1', 'Proxy-Authorization': 'x', 'Keep-Alive': '1', Trailer: 'x' }).headers)).toEqual([
      'accept',
      'accept-encoding',
      'user-agent',
      'x-a',
    ])
  })

  test('is refused with a method or header that cannot be sent', () => {
    for (const method of ['CONNECT', 'trace', 'TRACK', 'GE T', '', 'GET\r\nX: y'])
      expect(() => toOutgoing(toUrl('http://a.example'), { method })).toThrow('no method that is sent')
    for (const value of ['a\r\nX-B: c', 'a\0', 'ключ']) expect(() => first('GET', { 'x-a': value })).toThrow('cannot be sent')
    expect(() => first('GET', { 'x a': '1' })).toThrow('cannot be sent')
    for (const method of ['GET', 'head']) expect(() => toOutgoing(toUrl('http://a.example'), { method, body: 'x' })).toThrow('takes no body')
  })
})

describe('a redirect', () => {
  const follow = (method: string, status: number, to = '/two', headers: HeadersInit = {}) => redirected(first(method, headers), status, to)

  test.each([
    ['GET', 301, 'GET', false],
    ['HEAD', 302, 'HEAD', false],
    ['HEAD', 303, 'HEAD', false],
    ['POST', 301, 'GET', false],
    ['POST', 302, 'GET', false],
    ['POST', 303, 'GET', false],
    ['POST', 307, 'POST', true],
    ['POST', 308, 'POST', true],
    ['PUT', 301, 'PUT', true],
    ['PUT', 302, 'PUT', true],
    ['PUT', 303, 'GET', false],
    ['DELETE', 303, 'GET', false],
    ['PATCH', 308, 'PATCH', true],
  ] as const)('%s by %i becomes %s, with its body: %p', (method, status, expected, hasBody) => {
    const next = follow(method, status, '/two', { 'content-type': 'text/plain', 'content-language': 'en', 'x-a': '1' })
    expect([next.method, next.body !== undefined, next.url.href]).toEqual([expected, hasBody, 'https://a.example/two'])
    expect(next.headers.has('content-type')).toBe(expected === method)
    expect(next.headers.get('x-a')).toBe('1')
  })

  test('to another origin takes along nothing that could be a credential', () => {
    const headers = {
      ...{ Authorization: 'Bearer x', Cookie: 'a=b', 'X-Api-Key': 'k', 'X-Hub-Signature-256': 's', 'Mcp-Session-Id': 'm', 'X-Anything': '1' },
      ...{ Accept: 'text/html', 'Content-Type': 'text/plain', Range: 'bytes=0-1', Referer: 'https://a.example/secret' },
    }
    for (const to of ['https://b.example/', 'https://a.example:8443/', 'https://sub.a.example/', 'http://a.example/', '//b.example/x'])
      expect([to, names(follow('POST', 307, to, headers).headers)]).toEqual([to, ['accept', 'accept-encoding', 'content-type', 'range', 'user-agent']])
    for (const to of ['/x', '?q', 'https://a.example:443/', 'https://A.example/x'])
      expect([to, follow('POST', 307, to, headers).headers.get('authorization')]).toEqual([to, 'Bearer x'])
  })

  test('and what is gone stays gone on the way back', () => {
    const away = follow('GET', 302, 'https://b.example/', { Authorization: 'Bearer x' })
    expect(redirected(away, 302, 'https://a.example/').headers.has('authorization')).toBe(false)
  })

  test('cannot send a stream again, and need not where the method becomes GET', () => {
    const streamed = toOutgoing(toUrl('http://a.example'), { method: 'POST', body: new ReadableStream() })
    expect(() => redirected(streamed, 307, '/')).toThrow('a stream')
    expect(redirected(streamed, 303, '/').body).toBeUndefined()
  })

  test('is one by its status and its Location', () => {
    for (const status of [301, 302, 303, 307, 308]) expect(redirectOf(status, '/x')).toBe('/x')
    for (const status of [200, 201, 300, 304, 305, 306, 399, 400]) expect(redirectOf(status, '/x')).toBeNull()
    expect(redirectOf(302, undefined)).toBeNull()
    expect(redirectOf(302, Buffer.from('/größe').toString('latin1'))).toBe('/größe')
    for (const to of ['http://', 'http://[::1', `/${'x'.repeat(9_000)}`]) expect(() => follow('GET', 302, to)).toThrow('no address')
  })
})

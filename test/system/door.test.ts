/** Who gets into a gateway as a real process: Host, Origin, proxies, limits. */
import { afterEach, describe, expect, test } from 'bun:test'
import { type GatewayProcess, type GatewayProcessOptions, runPortico, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import * as client from '../fixtures/send.ts'
import { until } from '../fixtures/until.ts'

describe.each(runtimes)('on %s', (runtime) => {
  let gateway: GatewayProcess
  const start = async (options: Omit<GatewayProcessOptions, 'runtime'> = {}) => {
    gateway = await spawnGateway({ runtime, ...options })
  }
  afterEach(() => gateway?.stop())
  const send = (path: string, headers?: Record<string, string>) => client.send(gateway, path, { headers })
  const outcome = (path: string, headers?: Record<string, string>, method?: string) => client.outcome(gateway, path, { headers, method })
  const bearer = (token = gateway.token) => client.bearer(token)

  test('a foreign Host is refused on every route, with a good key too; a foreign Origin as well', async () => {
    await start({ config: '[gateway]\nhosts = ["gate.example"]\ncorsOrigins = ["https://app.example"]\n' })
    const { port } = new URL(gateway.url)
    const routes = ['/', '/health', '/metrics', '/v1/models', '/api/events', '/api/keys', '/openapi.json', '/docs', '/nowhere']
    for (const path of routes) expect([path, await outcome(path, { ...bearer(), host: `evil.example:${port}` })]).toEqual([path, '403 host_not_allowed'])
    const foreign = [
      'evil.example',
      `localhost.evil.example:${port}`,
      `127.0.0.1.evil.example:${port}`,
      '127.0.0.1',
      '127.0.0.1:1',
      `gate.example.evil:${port}`,
      `0.0.0.0:${port}`,
    ]
    for (const host of foreign) expect([host, await outcome('/v1/models', { ...bearer(), host })]).toEqual([host, '403 host_not_allowed'])
    for (const host of [`127.0.0.1:${port}`, `localhost:${port}`, `[::1]:${port}`, 'gate.example', `GATE.example:${port}`])
      expect([host, await outcome('/v1/models', { ...bearer(), host })]).toEqual([host, '200'])
    // Only the name that the connection asked for counts.
    expect(await outcome('/v1/models', { ...bearer(), host: `evil.example:${port}`, 'x-forwarded-host': `127.0.0.1:${port}` })).toBe('403 host_not_allowed')

    for (const path of routes) expect([path, await outcome(path, { ...bearer(), origin: 'https://evil.example' })]).toEqual([path, '403 origin_not_allowed'])
    for (const origin of [
      'null',
      'https://app.example.evil',
      'http://app.example',
      `http://localhost.evil:${port}`,
      'http://127.0.0.1:1',
      `http://127.0.0.1:${port}.evil`,
    ])
      expect([origin, await outcome('/v1/models', { ...bearer(), origin })]).toEqual([origin, '403 origin_not_allowed'])
    expect(await outcome('/v1/chat/completions', { origin: 'https://evil.example', 'access-control-request-method': 'POST' }, 'OPTIONS')).toBe(
      '403 origin_not_allowed',
    )
    expect(await outcome('/v1/models', { ...bearer(), origin: gateway.url })).toBe('200')
    const listed = await send('/v1/models', { ...bearer(), origin: 'https://app.example' })
    expect([listed.status, listed.headers['access-control-allow-origin']]).toEqual([200, 'https://app.example'])

    // Told of, each kind once in a while; and of what an administrator changes every time.
    const { id } = await client.createKey(gateway)
    expect(await outcome(`/api/keys/${id}`, { ...bearer(), 'x-request-id': 'the-revocation' }, 'DELETE')).toBe('200')
    const told = async () => {
      const { entries } = JSON.parse((await send('/api/activity?types=security:warn,audit:event', bearer())).text)
      return (entries as { type: string; data: object }[]).map(({ type, data }) => ({ type, data })).reverse()
    }
    await until(async () => (await told()).length >= 5)
    const by = { who: 'local', via: 'local:local', address: '127.0.0.1' }
    const warning = (kind: string, host: string, details: object) => ({ type: 'security:warn', data: { kind, details: { ...asked, host, ...details } } })
    const asked = { address: '127.0.0.1', requestId: expect.any(String) }
    // The first is the start itself, which asks for a pairing code.
    expect((await told()).slice(1)).toEqual([
      warning('foreign_host', `evil.example:${port}`, {}),
      warning('foreign_origin', `127.0.0.1:${port}`, { origin: 'https://evil.example' }),
      { type: 'audit:event', data: { ...by, method: 'POST', route: '/api/keys', status: 201, requestId: expect.any(String) } },
      { type: 'audit:event', data: { ...by, method: 'DELETE', route: '/api/keys/:id', status: 200, requestId: 'the-revocation' } },
    ])
  }, 30_000)

  test('behind a proxy on the same host nobody counts as loopback', async () => {
    await start()
    expect(await outcome('/metrics')).toBe('200')
    const proxied: Record<string, string>[] = [
      { 'x-forwarded-for': '127.0.0.1' },
      { 'x-forwarded-for': '192.0.2.1, 127.0.0.1' },
      { forwarded: 'for=127.0.0.1' },
      { 'x-real-ip': '127.0.0.1' },
      { 'x-forwarded-proto': 'https' },
      { via: '1.1 proxy' },
      { 'cf-connecting-ip': '192.0.2.1' },
      { 'x-forwarded-host': 'localhost' },
    ]
    for (const headers of proxied) {
      expect([headers, await outcome('/metrics', headers)]).toEqual([headers, '401 missing_credentials'])
      expect([headers, await outcome('/v1/models', { ...headers, ...bearer() })]).toEqual([headers, '401 invalid_api_key'])
    }
    const { key } = await client.createKey(gateway, { scopes: ['admin'] })
    for (const headers of proxied) expect(await outcome('/metrics', { ...headers, ...bearer(key) })).toBe('200')
  }, 30_000)

  test('behind a trusted proxy nobody does either; callers are counted by their own address, and by their key', async () => {
    const limits = '[gateway.addressRateLimit]\nwindowMs = 60000\nmaxRequests = 20\n[gateway.rateLimit]\nwindowMs = 60000\nmaxRequests = 4\n'
    await start({ config: `[gateway]\ntrustedProxies = ["127.0.0.1"]\n${limits}` })
    const from = (address: string) => ({ 'x-forwarded-for': address })
    expect(await outcome('/metrics', from('127.0.0.1'))).toBe('401 missing_credentials')
    expect(await outcome('/v1/models', { ...bearer(), ...from('127.0.0.1') })).toBe('401 invalid_api_key')
    // A proxy that forgets its header makes nobody local, but the commands beside the gateway work.
    expect(await outcome('/metrics')).toBe('401 missing_credentials')
    const made = await runPortico(['keys', 'create', 'k', '--json', '--data-dir', gateway.dataDir], { runtime })
    expect(made).toMatchObject({ code: 0, stderr: '' })
    const { key } = JSON.parse(made.stdout) as { key: string }

    for (let n = 0; n < 4; n++) {
      const { status, headers } = await send('/v1/models', { ...bearer(key), ...from('192.0.2.1') })
      expect([status, headers['ratelimit-limit'], headers['ratelimit-remaining']]).toEqual([200, '4', `${3 - n}`])
    }
    const limited = await send('/v1/models', { ...bearer(key), ...from('192.0.2.2') })
    expect([limited.status, limited.code]).toEqual([429, 'rate_limit_exceeded'])
    for (const name of ['retry-after', 'ratelimit-reset']) expect(Number(limited.headers[name])).toBeGreaterThan(0)
    expect(await outcome('/v1/models', { ...bearer('ptk_none'), ...from('192.0.2.3') })).toBe('401 invalid_api_key')
    const asked = []
    for (let n = 0; n < 25; n++) asked.push(await outcome('/v1/models', from('192.0.2.4')))
    expect(asked.slice(0, 20)).toEqual(Array(20).fill('401 missing_credentials'))
    expect(asked.slice(20)).toEqual(Array(5).fill('429 rate_limit_exceeded'))
    expect(await outcome('/v1/models', from('192.0.2.5'))).toBe('401 missing_credentials')
    expect(await outcome('/health', from('192.0.2.4'))).toBe('200')
  }, 30_000)

  test('without the plugin that trusts proxies nobody is believed, and whoever came through one is still not local', async () => {
    await start({
      config: '[gateway]\ntrustedProxies = ["127.0.0.1"]\n[gateway.addressRateLimit]\nwindowMs = 60000\nmaxRequests = 3\n[proxies]\nenabled = false\n',
    })
    expect(await outcome('/metrics', { 'x-forwarded-for': '127.0.0.1' })).toBe('401 missing_credentials')
    // Each says to be somebody else, and all count as the one that they come from.
    const asked = []
    for (let n = 1; n <= 4; n++) asked.push(await outcome('/v1/models', { 'x-forwarded-for': `192.0.2.${n}` }))
    expect(asked.at(-1)).toBe('429 rate_limit_exceeded')
  }, 30_000)
})

/** Where credentials may stand: not in a URL, and never in what the gateway writes. */
import { afterEach, describe, expect, test } from 'bun:test'
import { fileURLToPath } from 'node:url'
import { type GatewayProcess, type GatewayProcessOptions, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { bearer, createKey, outcome, send } from '../fixtures/send.ts'
import { readSse } from '../fixtures/sse-reader.ts'

const talker = fileURLToPath(new URL('../fixtures/plugins/talker.ts', import.meta.url))
const json = { 'content-type': 'application/json' }

describe.each(runtimes)('on %s', (runtime) => {
  let gateway: GatewayProcess
  const start = async (options: Omit<GatewayProcessOptions, 'runtime'>) => {
    gateway = await spawnGateway({ runtime, ...options })
  }
  afterEach(() => gateway?.stop())
  /** All it wrote, to its end. */
  const written = async () => {
    expect(await gateway.stop()).toBe(0)
    return gateway.stdout + gateway.stderr
  }

  test('a token in a query is refused by default, whosever it is and however it is written', async () => {
    await start({ config: '[log]\nlevel = "debug"\n' })
    const { key } = await createKey(gateway, { scopes: ['admin'] })
    const chat = JSON.stringify({ model: 'demo/echo', messages: [{ role: 'user', content: 'x' }] })
    const tokens = [key, gateway.token, 'sk-somebody-elses-0123456789']
    for (const token of tokens) {
      for (const path of ['/v1/models', '/api/keys', '/api/events', '/api/activity', '/api/plugins', '/api/v1/auth/whoami']) {
        expect([path, await outcome(gateway, `${path}?token=${token}`)]).toEqual([path, '400 invalid_request'])
        expect([path, await outcome(gateway, `${path}?x=1&token=${token}`, { headers: bearer(gateway.token) })]).toEqual([path, '400 invalid_request'])
      }
      expect(await outcome(gateway, `/v1/chat/completions?token=${token}`, { headers: json, method: 'POST', body: chat })).toStartWith('400')
      // What is no parameter of ours opens nothing.
      for (const name of ['access_token', 'api_key', 'key', '%74oken', 'Token', 'authorization'])
        expect([name, await outcome(gateway, `/v1/models?${name}=${token}`)]).toEqual([name, expect.stringMatching(/^40[01] /)])
    }
    const log = await written()
    for (const token of tokens) expect(log).not.toContain(token)
  }, 30_000)

  test('gateway.allowQueryToken takes it on streams only, and the log still does not show it', async () => {
    await start({ config: `plugins = [${JSON.stringify(talker)}]\n[gateway]\nallowQueryToken = true\n[log]\nlevel = "debug"\n` })
    const { key } = await createKey(gateway)
    const reader = readSse(await fetch(new URL(`/api/events?token=${key}`, gateway.url)))
    await reader.waitFor('ready')
    await reader.close()
    expect(await outcome(gateway, '/api/events?token=wrong-0123456789')).toStartWith('401')
    for (const path of ['/v1/models', '/api/keys', '/talk/fail']) expect(await outcome(gateway, `${path}?token=${key}`)).toBe('400 invalid_request')
    await send(gateway, `/talk?token=${key}`)
    const log = await written()
    expect(log).toContain('/talk?token=***')
    expect(log).not.toContain(key)
  }, 30_000)

  test.each(['text', 'json'])(
    'no log line, as %s, shows a credential, even if a plugin logs whole requests',
    async (format) => {
      const fixed = 'a-token-of-the-config-0123456789abcdef'
      const env = { PORTICO_TOKEN: 'portico-token-of-the-environment', FIXED: fixed }
      const config = `plugins = [${JSON.stringify(talker)}]\n[log]\nlevel = "debug"\nformat = "${format}"\n[[auth-token.tokens]]\nid = "fixed"\nsecret = "env:FIXED"\n`
      await start({ config, env })
      const { key, id } = await createKey(gateway)
      const made = await send(gateway, '/api/tickets', { headers: { ...bearer(key), ...json }, method: 'POST', body: '{"path":"/api/events"}' })
      const { ticket, url } = JSON.parse(made.text) as { ticket: string; url: string }
      expect(await outcome(gateway, url)).toBe('200')
      await send(gateway, `/talk?ticket=${ticket}&n=1`)
      const good = [key, gateway.token, env.PORTICO_TOKEN, fixed]
      const all = [...good, 'sk-proj-another-vendors-key-0123456789']
      const basic = (token: string) => btoa(`me:${token}`)
      for (const token of all) {
        const ways: Record<string, string>[] = [bearer(token), { 'x-api-key': token }, { authorization: token }, { authorization: `Basic ${basic(token)}` }]
        for (const headers of ways) {
          await send(gateway, `/talk?token=${token}`, { headers })
          await send(gateway, `/talk?a=1&access_token=${token}&api_key=${token}`, { headers })
          expect((await send(gateway, '/talk/fail', { headers })).text).not.toContain(token)
        }
      }
      for (const token of good) expect(await outcome(gateway, '/talk/fail', { headers: bearer(token) })).toBe('500 internal_error')
      await send(gateway, `/api/keys/${id}/rotate`, { headers: bearer(gateway.token), method: 'POST' })
      const log = await written()
      for (const level of ['debug', 'info', 'warn', 'error']) expect(log).toContain(`${level}: asked`)
      expect(log).toContain('failed at')
      for (const secret of [...all, ticket, ...all.map(basic)]) expect(log.includes(secret), secret).toBe(false)
    },
    30_000,
  )
})

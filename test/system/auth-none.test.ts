/** A gateway that lets in who is on its machine, on both runtimes as real processes. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type GatewayProcess, runPortico, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { outcome } from '../fixtures/send.ts'

describe.each(runtimes)('on %s', (runtime) => {
  let gateway: GatewayProcess
  beforeAll(async () => {
    gateway = await spawnGateway({ runtime, config: '[auth-none]\nallow = true\n' })
  }, 60_000)
  afterAll(() => gateway?.stop())

  test('only who is on this machine, and no page of another origin, needs no key; the start says so', async () => {
    const whoami = '/api/v1/auth/whoami'
    const cases: [headers: Record<string, string>, expected: string][] = [
      [{}, '200'],
      [{ authorization: `Bearer ${gateway.token}` }, '200'],
      [{ authorization: 'Bearer wrong' }, '401 invalid_api_key'],
      [{ 'x-api-key': '' }, '401 invalid_api_key'],
      [{ forwarded: 'for=127.0.0.1' }, '401 missing_credentials'],
      [{ 'x-forwarded-for': '127.0.0.1' }, '401 missing_credentials'],
      [{ via: '1.1 proxy' }, '401 missing_credentials'],
      [{ origin: 'https://evil.example' }, '403 origin_not_allowed'],
      [{ origin: 'null' }, '403 origin_not_allowed'],
      [{ 'sec-fetch-site': 'cross-site' }, '401 missing_credentials'],
      [{ host: 'evil.example' }, '403 host_not_allowed'],
    ]
    for (const [headers, expected] of cases) expect([headers, await outcome(gateway, whoami, { headers })]).toEqual([headers, expected])
    expect(await outcome(gateway, '/api/keys')).toBe('403 insufficient_scope')
    expect(gateway.stdout + gateway.stderr).toContain('Everybody on this machine may use this gateway without a key')
  }, 30_000)

  test('one that others can reach does not start, and names the plugin and the key', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'portico-none-'))
    try {
      await writeFile(join(folder, 'portico.toml'), '[auth-none]\nallow = true\n[gateway]\nhost = "0.0.0.0"\nallowPublicBind = true\n', { mode: 0o600 })
      const { code, stderr } = await runPortico(['start', '--port', '0', '--data-dir', join(folder, 'data')], { runtime, cwd: folder })
      expect([code, stderr]).toEqual([1, expect.stringContaining('[plugin auth-none] allow: the gateway may listen publicly (gateway.allowPublicBind = true)')])
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }, 60_000)
})

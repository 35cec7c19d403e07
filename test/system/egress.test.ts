/** The guard on addresses from outside, on both runtimes as real processes: by itself in an environment that would lead it astray, and inside of a gateway. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { type Origin, startOrigin } from '../fixtures/egress.ts'
import { type GatewayProcess, runtimePath, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { hostileUrls } from '../fixtures/hostile-urls.ts'

const file = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const allCodes = (count: number, code: string) => Array(count).fill(code)

describe.each(runtimes)('on %s', (runtime) => {
  let origin: Origin
  let proxy: Origin
  let gateway: GatewayProcess
  let astray: Record<string, string>
  beforeAll(async () => {
    origin = await startOrigin((_, response) => response.end('inside'))
    proxy = await startOrigin((_, response) => response.end('proxy'))
    const names = ['HTTP_PROXY', 'http_proxy', 'HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'all_proxy']
    // Deno itself looks for a newer one, by the proxy.
    astray = {
      DENO_NO_UPDATE_CHECK: '1',
      ...Object.fromEntries(names.map((name) => [name, proxy.url])),
      NODE_USE_ENV_PROXY: '1',
      NODE_TLS_REJECT_UNAUTHORIZED: '0',
    }
    const config = `plugins = [${JSON.stringify(file('../fixtures/plugins/fetcher.ts'))}]\n[egress]\nallowPrivate = ["127.0.0.3"]\n`
    gateway = await spawnGateway({ runtime, config, env: astray })
  }, 60_000)
  afterAll(async () => {
    await gateway?.stop()
    await Promise.all([origin.stop(), proxy.stop()])
  })

  test('every address, redirect, limit and end is as it should be, whatever the environment says', async () => {
    const child = spawn(runtimePath(runtime), [...(runtime === 'deno' ? ['run', '-A'] : []), file('../fixtures/egress-child.ts')], {
      env: { ...process.env, ...astray },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let out = ''
    for await (const chunk of child.stdout) out += chunk
    const { bombsCost, left, ...report } = JSON.parse(out) as Record<string, any>
    expect(report).toEqual({
      hostile: { asked: hostileUrls.length, mistakes: [], connections: 0 },
      plain: [200, true, 'a stream', 'unpacked'],
      second: '200',
      rebinding: ['200', 1, 'address_not_allowed'],
      strayed: [...allCodes(2, 'strayed to 127.0.0.1'), 1],
      // By name, with a dot behind it, by an address that is in the certificate; by one that is not, by another name, without TLS.
      tls: [...allCodes(3, '200'), ...allCodes(3, 'upstream_error')],
      untrusted: 'upstream_error',
      redirects: ['200', 'upstream_error', 'address_not_allowed', 'address_not_allowed'],
      credentials: [
        ['POST ', 'Bearer x'],
        ['POST ', null],
      ],
      bombs: allCodes(3, 'upstream_error'),
      cut: 'upstream_error',
      times: allCodes(3, 'upstream_timeout'),
      aborted: 'mine',
      abortedBody: 'mine',
      waits: true,
      places: ['rate_limit_exceeded', '200'],
    })
    expect(hostileUrls.length).toBeGreaterThan(100)
    expect(bombsCost).toBeLessThan(60_000_000)
    for (const ms of left) expect(ms).toBeLessThan(100)
    expect(proxy.connections.made).toBe(0)
  }, 60_000)

  const ask = (url: string, signal?: AbortSignal) =>
    gateway.fetch('/fetcher', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ url }), signal })
  const codeOf = async (answer: Promise<Response>) => {
    const response = await answer
    return response.ok ? response.text() : ((await response.json()) as { error: { code: string } }).error.code
  }

  test('through a gateway nothing of the list is reached, by the system’s own resolver', async () => {
    const reached = []
    for (const [what, url] of hostileUrls) {
      const code = await codeOf(ask(url))
      // Names that are the list's own are known to no resolver.
      if (!['address_not_allowed', 'invalid_request', 'upstream_error'].includes(code)) reached.push([what, code])
    }
    expect(reached).toEqual([])
    for (const host of ['127.0.0.1', '2130706433', '0x7f.1', '[::ffff:7f00:1]', 'localhost'])
      expect([host, await codeOf(ask(`http://${host}:${origin.port}/`))]).toEqual([host, 'address_not_allowed'])
    expect([origin.connections.made, proxy.connections.made]).toEqual([0, 0])
    expect(gateway.stdout + gateway.stderr).toContain('security: egress_refused')
  }, 60_000)

  test('through a gateway what is allowed is reached, its redirect inside is not, and a client that leaves is felt by the server', async () => {
    const allowed = await startOrigin(
      (request, response) => {
        if (request.url === '/wait') response.write('first')
        else if (request.url === '/inside') response.writeHead(302, { location: 'http://[::ffff:169.254.169.254]/' }).end()
        else response.end('allowed')
      },
      { host: '127.0.0.3' },
    )
    try {
      expect(await codeOf(ask(`${allowed.url}/`))).toBe('allowed')
      expect(await codeOf(ask(`${allowed.url}/inside`))).toBe('address_not_allowed')
      const abort = new AbortController()
      const waiting = await ask(`${allowed.url}/wait`, abort.signal)
      expect(new TextDecoder().decode((await waiting.body?.getReader().read())?.value)).toBe('first')
      const began = performance.now()
      abort.abort()
      while (allowed.connections.open > 0 && performance.now() - began < 5_000) await Bun.sleep(1)
      expect(performance.now() - began).toBeLessThan(500)
    } finally {
      await allowed.stop()
    }
  }, 60_000)
})

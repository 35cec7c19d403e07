/** A gateway with a certificate, as a real process: https, wss, the commands beside it, and a renewal while clients are connected. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect as connectHttp2 } from 'node:http2'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { type GatewayProcess, runPortico, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { bearer } from '../fixtures/send.ts'
import { readSse } from '../fixtures/sse-reader.ts'
import { ca, renewedCertificate, serverCertificate } from '../fixtures/tls.ts'
import { until } from '../fixtures/until.ts'

const plugin = fileURLToPath(new URL('../fixtures/plugins/echo.ts', import.meta.url))
const fingerprint = ({ cert }: { cert: string }) => new X509Certificate(cert).fingerprint256
const [before, after] = [fingerprint(serverCertificate), fingerprint(renewedCertificate)]

describe.each(runtimes)('on %s', (runtime) => {
  let folder: string
  let gateway: GatewayProcess
  let port: number
  const put = async (pair: { cert: string; key: string }) => {
    for (const [name, text] of Object.entries(pair)) await writeFile(join(folder, `${name}.pem`), text)
  }
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'portico-tls-'))
    await put(serverCertificate)
    const tls = `{ cert = "${folder}/cert.pem", key = "${folder}/key.pem" }`
    gateway = await spawnGateway({
      runtime,
      config: `plugins = ["${plugin}"]\n[gateway]\nhosts = ["secure.example"]\nhttpBodyLimitBytes = 100000\ntls = ${tls}\n`,
    })
    port = Number(new URL(gateway.url).port)
  })
  afterAll(async () => {
    await gateway?.stop()
    await rm(folder, { recursive: true, force: true })
  })

  /** `fetch` that trusts the authority of the first certificate. */
  const get = (path: string, init: RequestInit = {}) =>
    fetch(`${gateway.url}${path}`, { ...init, headers: { ...bearer(gateway.token), ...init.headers }, tls: { ca } } as RequestInit)
  const status = (path: string, headers: Record<string, string>) =>
    new Promise<number | undefined>((resolve, reject) => {
      const sent = request({ host: '127.0.0.1', port, path, headers, ca, agent: false, checkServerIdentity: () => undefined }, (answer) =>
        resolve(answer.resume().statusCode),
      )
      sent.on('error', reject).end()
    })
  const shown = () =>
    new Promise<string>((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false })
      socket.on('error', reject)
      socket.once('secureConnect', () => {
        resolve(socket.getPeerCertificate().fingerprint256)
        socket.destroy()
      })
    })
  const command = async (...args: string[]) => {
    const { code, stdout, stderr } = await runPortico([...args, '--json', '--data-dir', gateway.dataDir], { runtime, cwd: folder })
    return { code, said: JSON.parse(code === 0 ? stdout : stderr) }
  }

  test('https is served with the certificate of the config, and plain http is not', async () => {
    expect(gateway.url).toBe(`https://127.0.0.1:${port}`)
    expect((await get('/v1/models')).status).toBe(200)
    expect(await shown()).toBe(before)
    expect(
      await fetch(`http://127.0.0.1:${port}/health`).then(
        (answer) => answer.ok,
        () => false,
      ),
    ).toBe(false)
  })

  test('Host, Origin and loopback are judged as ever', async () => {
    const at = (host: string, path = '/v1/models') => status(path, { ...bearer(gateway.token), host })
    expect(await Promise.all([at(`127.0.0.1:${port}`), at('secure.example'), at(`secure.example:${port}`)])).toEqual([200, 200, 200])
    expect(await Promise.all([at('127.0.0.1'), at('localhost:443'), at(`evil.example:${port}`)])).toEqual([403, 403, 403])
    expect(await status('/metrics', { host: `127.0.0.1:${port}` })).toBe(200)
    expect(await status('/metrics', { host: `127.0.0.1:${port}`, 'x-forwarded-for': '127.0.0.1' })).toBe(401)
    const from = (origin: string) => status('/v1/models', { ...bearer(gateway.token), host: `127.0.0.1:${port}`, origin })
    expect([await from(gateway.url), await from('https://evil.example')]).toEqual([200, 403])
  })

  test('commands beside it trust this certificate, and no other', async () => {
    const { code, said } = await command('status')
    expect([code, said.url, said.components.database]).toEqual([0, gateway.url, 'ok'])
    expect((await command('keys', 'create', 'mine')).code).toBe(0)
  })

  test('who shows another certificate is not sent their token', async () => {
    const tokens: (string | null)[] = []
    const fetch = ({ headers }: Request) => {
      tokens.push(headers.get('authorization'))
      return Response.json({})
    }
    const impostor = Bun.serve({ port: 0, hostname: '127.0.0.1', tls: renewedCertificate, fetch })
    const dataDir = join(folder, 'impostor')
    await mkdir(dataDir)
    const run = {
      url: `https://127.0.0.1:${impostor.port}`,
      pid: process.pid,
      startedAt: '',
      certificate: { file: join(folder, 'cert.pem'), fingerprint: before },
    }
    await Promise.all([writeFile(join(dataDir, 'run.json'), JSON.stringify(run)), writeFile(join(dataDir, 'cli.token'), 'a-token')])
    const { code, stderr } = await runPortico(['keys', 'list', '--data-dir', dataDir], { runtime, cwd: folder })
    expect([code, tokens]).toEqual([1, []])
    expect(stderr).toContain('shows another certificate')
    await impostor.stop(true)
  })

  test('it is renewed while streams, sockets and requests go on', async () => {
    const stream = readSse(await get('/api/events?types=key:*'))
    await stream.waitFor('ready')
    const socket = new WebSocket(`wss://127.0.0.1:${port}/echo/live`, { headers: bearer(gateway.token), tls: { ca } } as never)
    await once(socket, 'open')
    const closed = once(socket, 'close').then(([{ code }]) => code)
    const echoed = async (text: string) => {
      socket.send(text)
      return (await once(socket, 'message'))[0].data
    }
    expect(await echoed('one')).toBe('one')

    let [answered, failed, isOver] = [0, 0, false]
    const load = Array.from({ length: 4 }, async () => {
      while (!isOver)
        await shown().then(
          () => answered++,
          () => failed++,
        )
    })
    await put(renewedCertificate)
    await until(async () => (await shown().catch(() => '')) === after, { message: () => `the new certificate is not shown: ${gateway.stderr}` })
    isOver = true
    await Promise.all(load)
    // Connections are refused for the moment in which the listener is opened anew: one after the other, a few per caller.
    expect(failed).toBeLessThan(answered / 10)

    expect((await command('keys', 'create', 'renewed')).code).toBe(0)
    expect(JSON.parse((await stream.waitFor('key:created')).data)).toMatchObject({ name: 'renewed' })
    await stream.close()
    // Deno closes the sockets of a listener with it, as "going away": their clients come back.
    if (runtime === 'deno') expect(await closed).toBe(1001)
    else expect(await echoed('two')).toBe('two')
    socket.close()
  }, 30_000)

  test('a pair that is no pair is named in the log, and the one before stays', async () => {
    await writeFile(join(folder, 'key.pem'), serverCertificate.key)
    await until(() => gateway.stderr.includes('tls.key: the key is not that of the certificate'), { message: () => gateway.stderr })
    expect(gateway.stderr).toContain('The changed certificate is not used, the one before stays')
    expect(await shown()).toBe(after)
    expect((await command('status')).code).toBe(0)
    await put(serverCertificate)
    await until(async () => (await shown().catch(() => '')) === before)
    // Shown is what stood in the file at the start; now another stands there.
    await put({ ...renewedCertificate, key: '' })
    expect((await command('status')).code).toBe(0)
  }, 30_000)

  // Deno offers HTTP/2 to whoever asks for it; Bun does not.
  test('a client that speaks HTTP/2 meets the same rules', async () => {
    if (runtime === 'bun') return
    await put(serverCertificate)
    const session = connectHttp2(gateway.url, { ca })
    const ask = async (path: string, headers: Record<string, string>, body?: string) => {
      const stream = session.request({ ':path': path, ...bearer(gateway.token), ...headers }, { endStream: body === undefined })
      if (body !== undefined) stream.end(body)
      const [head] = await once(stream, 'response')
      let text = ''
      for await (const chunk of stream) text += chunk
      return { status: head[':status'], text }
    }
    try {
      const { status, text } = await ask('/echo', { ':method': 'DELETE' })
      expect([status, JSON.parse(text)]).toEqual([200, { url: `${gateway.url}/echo`, host: `127.0.0.1:${port}` }])
      expect((await ask('/v1/models', { ':method': 'GET', ':authority': 'evil.example' })).status).toBe(403)
      expect(await ask('/echo', { ':method': 'POST' }, 'heard')).toEqual({ status: 200, text: 'heard' })
      expect((await ask('/echo', { ':method': 'POST' }, 'x'.repeat(100_001))).status).toBe(413)
      const named = await ask('/api/keys', { ':method': 'POST', 'content-type': 'application/json' }, '{"name":"two"}')
      expect([named.status, JSON.parse(named.text).name]).toEqual([201, 'two'])
      expect((await ask('/api/keys', { ':method': 'POST', 'content-type': 'text/plain' }, '{"name":"three"}')).status).toBe(415)
    } finally {
      session.close()
    }
  })
})

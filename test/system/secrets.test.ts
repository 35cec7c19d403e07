/**
 * Secrets stay where they belong. Every `secret()` of every plugin's config, and every credential that comes in, is a canary; the gateway is put to work, well
 * and badly; then nothing it wrote or answered holds one. Which fields there are is read from the config's own JSON Schema, so a new plugin's are in it.
 *
 * What a client is answered by an upstream is that client's, byte for byte: the bodies of model calls alone are not searched. A key and a ticket are told once.
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { type IncomingMessage, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stringify } from 'smol-toml'
import { type Canaries, createCanaries, findCanaries, plantSecrets } from '../fixtures/canaries.ts'
import { type GatewayProcess, type RuntimeName, runPortico, runtimes, spawnGateway } from '../fixtures/gateway-process.ts'
import { startPostgres, type TestPostgres } from '../fixtures/postgres.ts'
import type { Schema } from '../fixtures/schema-arbitrary.ts'
import { bearer } from '../fixtures/send.ts'
import { readSse } from '../fixtures/sse-reader.ts'
import { startUpstream, type Upstream } from '../fixtures/upstream.ts'

const plugins = [new URL('../fixtures/plugins/careless.ts', import.meta.url), new URL('../fixtures/plugins/careless-setup.ts', import.meta.url)].map((url) =>
  fileURLToPath(url),
)
/** How the upstreams fail; each is a provider, since what fails is left alone for a while. */
const faults = ['none', 'badRequest', 'unauthorized', 'serverError', 'gatewayError', 'redirect', 'notJson', 'cut', 'cutStream', 'unreachable'] as const

let root: string
let upstream: Upstream
let postgres: TestPostgres
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'portico-secrets-'))
  ;[upstream, postgres] = await Promise.all([startUpstream({ record: false }), startPostgres()])
}, 60_000)
afterAll(async () => {
  await Promise.all([upstream?.stop(), postgres?.stop()])
  await rm(root, { recursive: true, force: true })
})

/** What secrets need beside them for the gateway to start with them. A plugin whose section needs more than its schema says gets its row here. */
const beside = () => ({
  'auth-token': { tokens: [{ id: 'canary', scopes: ['admin'] }] },
  models: {
    providers: Object.fromEntries(
      faults.map((fault) => [
        fault,
        {
          type: 'openai-compatible',
          baseUrl: fault === 'unreachable' ? 'http://127.0.0.1:1/v1' : `${upstream.url.replace('/v1', '')}/${fault}/v1`,
          headers: { 'x-canary': undefined, 'x-second': undefined },
        },
      ]),
    ),
  },
})

/** The JSON Schema of the config with the test's plugins, as `portico config schema` prints it. */
async function schemaOf(runtime: RuntimeName): Promise<Schema> {
  const file = join(root, 'schema.toml')
  await writeFile(file, stringify({ plugins }), { mode: 0o600 })
  const { stdout } = await runPortico(['config', 'schema', '--config', file], { runtime, cwd: root })
  return JSON.parse(stdout)
}

/** Answers with what it was sent: credentials, and a secret of its own. */
function echoCredentials(own: string): void {
  upstream.script(
    ({ headers, path, json }, response, standard) => {
      const fault = path.split('/')[1] ?? ''
      const quote = `${headers.authorization} ${headers['x-canary']} ${headers['x-second']} ${own}`
      const head = { 'content-type': 'application/json', 'x-echo': quote, 'set-cookie': `session=${own}`, 'www-authenticate': `Bearer realm="${quote}"` }
      const answer = (status: number, body: string, more = {}) => response.writeHead(status, { ...head, ...more }).end(body)
      const said = JSON.stringify({ error: { message: `refused: ${quote}`, type: 'server_error', code: null, param: quote } })
      if (path.endsWith('/models')) return void answer(500, said)
      if (fault === 'badRequest') return void answer(400, said)
      if (fault === 'unauthorized') return void answer(401, said)
      if (fault === 'serverError') return void answer(500, said)
      if (fault === 'gatewayError') return void answer(503, said)
      if (fault === 'redirect') return void answer(302, said, { location: `http://127.0.0.1:1/?key=${own}` })
      if (fault === 'notJson') return void answer(200, quote, { 'content-type': 'text/html' })
      if (fault === 'none') return standard({ headers: head })
      const streamed = (json as { stream?: boolean } | undefined)?.stream
      response.writeHead(200, { ...head, ...(streamed ? { 'content-type': 'text/event-stream' } : { 'content-length': 10_000 }) })
      response.write(streamed ? `data: ${said}\n\ndata: ` : said, () => setTimeout(() => response.socket?.destroy(), 20))
    },
    { times: Number.POSITIVE_INFINITY },
  )
}

interface Answer {
  readonly name: string
  readonly status: number
  readonly head: string
  readonly body: string
}

interface Call {
  method: string
  path: string
  headers?: Record<string, string>
  body?: string
}

/** Over node:http, which sends what it is told. A stream is left after a moment. */
function call(url: string, { method, path, headers, body }: Call): Promise<Answer> {
  return new Promise((resolve) => {
    const { hostname, port } = new URL(url)
    let text = ''
    const name = `${method} ${path.slice(0, 60)}`
    const done = (answer?: IncomingMessage) => resolve({ name, status: answer?.statusCode ?? 0, head: `${answer?.rawHeaders.join('\n')}`, body: text })
    const sent = request({ hostname, port, path, method, headers, agent: false }, (answer) => {
      if (answer.headers['content-type']?.startsWith('text/event-stream')) setTimeout(() => sent.destroy(), 50)
      answer.setEncoding('utf8').on('data', (chunk) => {
        text += chunk
      })
      answer.on('error', () => {}).on('close', () => done(answer))
    })
    sent.on('error', () => done()).end(body)
  })
}

interface Run {
  readonly gateway: GatewayProcess
  readonly canaries: Canaries
  readonly config: string
  /** Where the config stands for commands. */
  readonly configFile: string
}

/** Starts a gateway full of canaries. */
async function start(
  runtime: RuntimeName,
  options: { format: 'text' | 'json'; turn: number; onPostgres?: boolean; env?: Record<string, string> },
): Promise<Run> {
  const folder = await mkdtemp(join(root, 'run-'))
  const canaries = createCanaries(folder, options.turn)
  canaries.env.PORTICO_TOKEN = canaries.add('PORTICO_TOKEN')
  const url = options.onPostgres ? { url: canaries.refer('database.url', await databaseWith(canaries)) } : undefined
  const planted = plantSecrets(await schemaOf(runtime), { ...beside(), database: url ?? { url: '' } }, canaries) as Record<string, unknown>
  const { database: _, ...rest } = planted
  const config = stringify({
    plugins,
    ...rest,
    ...(url ? { database: url } : {}),
    gateway: { allowQueryToken: true },
    log: { level: 'debug', format: options.format },
  })
  const configFile = join(folder, 'portico.toml')
  await writeFile(configFile, config, { mode: 0o600 })
  const gateway = await spawnGateway({ runtime, config, env: { ...canaries.env, ...options.env } })
  canaries.add('cli.token', gateway.token.slice('ptl_'.length))
  return { gateway, canaries, config, configFile }
}

async function databaseWith(canaries: Canaries): Promise<string> {
  const url = new URL(await postgres.newDatabase())
  const [role, password] = [`role_${url.pathname.slice(1)}`, canaries.add('the password of database.url')]
  await postgres.admin.query(`create role ${role} login superuser password '${password}'`)
  return Object.assign(url, { username: role, password }).href
}

/** Does everything that a gateway does with secrets, and collects all that comes out: name and text. */
async function exercise({ gateway, canaries, configFile }: Run, runtime: RuntimeName): Promise<[string, string][]> {
  const texts: [string, string][] = []
  const { url } = gateway
  const admin = bearer(canaries.all.get('auth-token.tokens[0].secret') ?? '')
  const json = { 'content-type': 'application/json' }
  const keep = ({ name, status, head, body }: Answer) => texts.push([`the answer to ${name}`, `${status}\n${head}\n${body}`])
  /** Its body may hold a secret: it is told once, or is the upstream's answer to its client. */
  const keepHead = ({ name, status, head }: Answer) => texts.push([`the head of the answer to ${name}`, `${status}\n${head}`])

  echoCredentials(canaries.add('a secret of the upstream'))
  const log = readSse(await fetch(new URL('/api/events?since=0-0', url), { headers: admin }))
  await log.waitFor('ready')

  // Keys, rotated and revoked; tickets, used, used again and made up.
  const made = await call(url, { method: 'POST', path: '/api/keys', headers: { ...admin, ...json }, body: '{"name":"app","scopes":["rpc","api"]}' })
  keepHead(made)
  const { id, key } = JSON.parse(made.body) as { id: string; key: string }
  canaries.add('a key', key.split('_').slice(2).join('_'))
  const rotated = await call(url, { method: 'POST', path: `/api/keys/${id}/rotate`, headers: admin })
  keepHead(rotated)
  const next = JSON.parse(rotated.body).key as string
  canaries.add('a rotated key', next.split('_').slice(2).join('_'))
  const ticketed = await call(url, { method: 'POST', path: '/api/tickets', headers: { ...bearer(next), ...json }, body: '{"path":"/api/events"}' })
  keepHead(ticketed)
  const { ticket, url: withTicket } = JSON.parse(ticketed.body) as { ticket: string; url: string }
  canaries.add('a ticket', ticket.replace(/^tkt_/, ''))
  for (const path of [withTicket, withTicket, `/api/events?ticket=tkt_${canaries.add('an unknown ticket')}`, `/api/keys?ticket=${ticket}`])
    keep(await call(url, { method: 'GET', path }))
  for (const path of [`/api/events?token=${next}`, `/v1/models?token=${next}`, `/api/events?token=${key}`]) keep(await call(url, { method: 'GET', path }))

  // Every model call there is, with every way to fail.
  for (const fault of faults)
    for (const [path, body] of [
      ['/v1/chat/completions', { model: `${fault}/m`, messages: [{ role: 'user', content: 'hello' }] }],
      ['/v1/chat/completions', { model: `${fault}/m`, messages: [{ role: 'user', content: 'hello' }], stream: true }],
      ['/v1/embeddings', { model: `${fault}/m`, input: 'hello' }],
    ] as const) {
      const answer = await call(url, { method: 'POST', path, headers: { ...bearer(next), ...json }, body: JSON.stringify(body) })
      // What the upstream itself said goes to its client; everything else is the gateway's own.
      const isUpstreams = ['none', 'badRequest', 'serverError', 'gatewayError', 'notJson', 'cut', 'cutStream'].includes(fault)
      if (isUpstreams) keepHead(answer)
      else keep(answer)
    }

  // Plugins that quote what they know.
  const broken = ['/careless/stream', '/careless/events', '/careless/file']
  for (const path of ['/careless/throw', '/careless/string', '/careless/return', ...broken, '/careless-setup', '/careless-setup/x'])
    for (const headers of [undefined, { 'x-forwarded-for': '192.0.2.1' }]) keep(await call(url, { method: 'GET', path, headers }))
  keep(await call(url, { method: 'POST', path: '/careless/publish' }))
  await new Promise<void>((resolve) => {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/careless/live`)
    socket.onclose = ({ code, reason }) => {
      texts.push(['the end of a socket', `${code} ${reason}`])
      resolve()
    }
  })

  // Every operation of the document, as somebody who may, with what is wrong and without anything.
  const document = JSON.parse((await call(url, { method: 'GET', path: '/openapi.json' })).body) as Schema
  const operations = Object.entries<Schema>(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => ({ method: method.toUpperCase(), path: path.replace(/\{\w+\}/g, 'x') })),
  )
  expect(operations.length).toBeGreaterThan(25)
  for (const operation of operations) {
    const body = operation.method === 'GET' ? {} : { body: '{"model":7}' }
    for (const headers of [{ ...admin }, { ...admin, ...json }]) keep(await call(url, { ...operation, headers, ...body }))
  }
  // Strangers: credentials that nobody knows, in every place where one could stand.
  const stranger = canaries.add('a bearer that is unknown')
  const wrong: Record<string, string>[] = [
    bearer(stranger),
    bearer(`sk-${stranger}`),
    { 'x-api-key': stranger },
    { authorization: stranger },
    { authorization: `Basic ${btoa(`me:${stranger}`)}` },
    { ...bearer(`ptk_0123456789ab_${stranger}`), cookie: `token=${stranger}` },
  ]
  for (const headers of wrong)
    for (const path of ['/v1/models', '/api/keys', '/careless/throw', `/api/events?token=${stranger}`, `/api/config?api_key=${stranger}`])
      keep(await call(url, { method: 'GET', path, headers }))
  for (const operation of operations) keep(await call(url, { ...operation, path: `${operation.path}?token=${stranger}`, headers: bearer(stranger) }))

  // The commands, beside the gateway and on the config alone.
  const commands = [
    ['config', 'show'],
    ['config', 'check'],
    ['plugins', 'list'],
    ['plugins', 'inspect', plugins[0] ?? ''],
    ['status'],
    ['keys', 'list'],
    ['events', 'list'],
  ]
  const options = { runtime, cwd: root, env: canaries.env }
  for (const command of [...commands, ['config', 'show', '--json'], ['plugins', 'list', '--json']]) {
    const said = await runPortico([...command, '--config', configFile, '--data-dir', gateway.dataDir], options)
    texts.push([`portico ${command.join(' ')}`, said.stdout + said.stderr])
  }

  const marked = await call(url, { method: 'DELETE', path: `/api/keys/${id}`, headers: admin })
  keep(marked)
  await log.waitFor('key:revoked')
  await log.close()
  texts.push(['the log of events', log.events.map(({ event, data }) => `${event} ${data}`).join('\n')])
  expect(log.events.map(({ event }) => event)).toEqual(
    expect.arrayContaining(['plugin:failed', 'system:error', 'key:created', 'key:rotated', 'model:auth_cooldown']),
  )
  texts.push(['run.json', await readFile(join(gateway.dataDir, 'run.json'), 'utf8')])
  texts.push(['the process’s arguments', await readFile(`/proc/${gateway.pid}/cmdline`, 'utf8')])
  return texts
}

/** Ends it and gives what it wrote. */
async function written({ gateway }: Run): Promise<[string, string][]> {
  expect(await gateway.stop()).toBe(0)
  return [
    ['stdout', gateway.stdout],
    ['the log', gateway.stderr],
  ]
}

describe.each(runtimes)('on %s', (runtime) => {
  test.each([
    ['text', 'the embedded database'],
    ['json', 'PostgreSQL'],
  ] as const)(
    'no secret is written or told: log as %s, on %s',
    async (format, database) => {
      const run = await start(runtime, { format, turn: format === 'text' ? 0 : 1, onPostgres: database === 'PostgreSQL' })
      try {
        const places = [...run.canaries.all.keys()]
        expect(places).toEqual(
          expect.arrayContaining([
            'auth-token.tokens[0].secret',
            'models.providers.none.apiKey',
            'models.providers.none.headers.x-canary',
            'careless.nested.keys[0]',
          ]),
        )
        const texts = await exercise(run, runtime)
        texts.push(...(await written(run)))
        const log = texts.at(-1)?.[1] ?? ''
        for (const said of ['debug: called with ***', 'refused with ***', 'the server refused ***', 'ready with ***']) expect(log).toContain(said)
        expect(log.length).toBeLessThan(1_000_000)
        expect(findCanaries(run.canaries, texts)).toEqual([])
      } finally {
        await run.gateway.stop()
      }
    },
    60_000,
  )

  test('the search finds what the gateway cannot know to be a secret: one that a plugin writes backwards, or in base64', async () => {
    const run = await start(runtime, { format: 'json', turn: 0, env: { PLANTED_LEAK: runtime === 'bun' ? 'reversed' : 'base64' } })
    expect(findCanaries(run.canaries, await written(run))).toEqual(['careless.token in the log'])
  }, 30_000)

  test('a gateway that cannot start does not say with which secret', async () => {
    const canaries = createCanaries(root)
    const home = await mkdtemp(join(root, 'bad-'))
    const secret = canaries.add('a secret')
    const password = canaries.add('a password')
    const url = `postgres://me:${password}@127.0.0.1:1/none`
    const configs = {
      'a database that is not there': stringify({ database: { url } }),
      'a database of another kind': stringify({ database: { url: url.replace('postgres', 'mysql') } }),
      'a URL that is none': stringify({ database: { url: `postgres://me:${password}@:x:y/` } }),
      'a short token': stringify({ 'auth-token': { tokens: [{ id: 'a', secret: secret.slice(0, 25) }] } }),
      'a secret where a list belongs': stringify({ 'auth-token': { tokens: secret } }),
      'a secret under a misspelt key': stringify({ 'auth-token': { tokens: [{ id: 'a', secrte: secret }] } }),
      'a secret of the wrong kind': stringify({ models: { providers: { a: { type: 'openai-compatible', apiKey: [secret] } } } }),
      'a secret in a URL': stringify({ models: { providers: { a: { type: 'openai-compatible', baseUrl: `http://me:${secret}@127.0.0.1:1/v1` } } } }),
      'a provider of no known kind': stringify({ models: { providers: { a: { type: 'none', apiKey: secret, headers: { authorization: secret } } } } }),
      'a line that is not closed': `[[auth-token.tokens]]\nid = "a"\nsecret = "${secret}\n`,
      'a line that is no TOML': `[models.providers.a]\napiKey = ${secret}\n`,
      'the same secret twice': `[[auth-token.tokens]]\nid = "a"\nsecret = "${secret}"\nsecret = "${secret}"\n`,
      'a file of the name of the secret': stringify({ models: { providers: { a: { type: 'openai-compatible', apiKey: `env:${secret}` } } } }).replace(
        'env:',
        '',
      ),
    }
    const texts: [string, string][] = []
    for (const [what, config] of Object.entries(configs)) {
      const file = join(home, 'portico.toml')
      await writeFile(file, config, { mode: 0o600 })
      for (const command of [
        ['start', '--port', '0'],
        ['config', 'check'],
      ].slice(what.startsWith('a database') ? 0 : 1)) {
        const said = await runPortico([...command, '--config', file, '--data-dir', join(home, 'data')], { runtime, cwd: home })
        texts.push([`${command[0]} with ${what}`, said.stdout + said.stderr])
      }
    }
    expect(findCanaries(canaries, texts)).toEqual([])
  }, 60_000)
})

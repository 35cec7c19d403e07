import { afterAll, describe, expect, test } from 'bun:test'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatProblem } from '../contract/problem.ts'
import { secret, t } from '../contract/schema.ts'
import { type ConfigFlags, isSwitchedOff, kernelSections, pluginSection, readConfig, redactConfig, resolveConfig } from './index.ts'

const pager = t.Object({
  token: t.Optional(secret({ minLength: 4 })),
  maxRetries: t.Integer({ minimum: 0, maximum: 9, default: 3 }),
  mode: t.Enum(['loud', 'quiet'], { default: 'loud' }),
  quiet: t.Object({ fromHour: t.Integer({ default: 22 }) }),
  targets: t.Array(t.Object({ name: t.String(), apiKey: secret() }), { default: [] }),
  lines: t.Optional(
    t.Record(
      t.String(),
      t.Union([
        t.Object({ type: t.Literal('http'), baseUrl: t.String(), apiKey: t.Optional(secret()) }),
        t.Object({ type: t.Literal('stdio'), command: t.Array(t.String()) }),
      ]),
    ),
  ),
  labels: t.Optional(t.Record(t.String(), t.Unknown())),
})
const tokens = t.Object({ tokens: t.Array(t.Object({ id: t.String(), secret: secret() }), { default: [] }) })
const limits = t.Object({ rateLimit: t.Optional(t.Object({ windowMs: t.Integer(), maxRequests: t.Integer() })) })
const database = t.Object({ url: t.Optional(secret({ minLength: 1 })) })
const sections = [
  ...kernelSections,
  pluginSection('database', database),
  pluginSection('pager', pager),
  pluginSection('auth-token', tokens),
  pluginSection('limits', limits),
]

const folder = mkdtempSync(join(tmpdir(), 'portico-config-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
let files = 0
function file(text: string, mode = 0o600): string {
  const path = join(folder, `portico-${files++}.toml`)
  writeFileSync(path, text)
  chmodSync(path, mode)
  return path
}

function resolveText(text: string, env: Record<string, string> = {}, flags: ConfigFlags = {}) {
  return resolveRaw(readConfig({ configText: text, env: { HOME: '/srv/nobody', ...env }, flags, cwd: folder }))
}
function resolveRaw(raw: ReturnType<typeof readConfig>) {
  const resolved = resolveConfig(raw, sections, ['chat', 'rpc'])
  const problems = [...raw.problems, ...resolved.problems]
  return { raw, resolved, problems, lines: problems.map(formatProblem), pager: resolved.sections.pager as any }
}

describe('defaults and precedence', () => {
  test('without a file everything is its default', () => {
    const { resolved, raw, problems } = resolveRaw(readConfig({ env: { HOME: '/srv/nobody' }, cwd: folder }))
    expect(problems).toEqual([])
    expect(resolved.gateway).toMatchObject({ host: '127.0.0.1', port: 4766, hosts: [], allowPublicBind: false, httpBodyLimitBytes: 10_485_760, maxStreams: 64 })
    expect(resolved.sections.limits).toEqual({})
    expect(resolved.log).toEqual({ level: 'info', format: 'text', access: false })
    expect(resolved.sections.pager).toEqual({ maxRetries: 3, mode: 'loud', quiet: { fromHour: 22 }, targets: [] })
    expect(raw).toMatchObject({ file: null, baseDir: folder, dataDir: '/srv/nobody/.local/share/portico', plugins: [] })
  })

  test('flags beat environment beats file beats defaults', () => {
    const text = '[gateway]\nport = 1000\nhost = "127.0.0.2"'
    expect(resolveText(text).resolved.gateway).toMatchObject({ port: 1000, host: '127.0.0.2' })
    expect(resolveText(text, { PORTICO_PORT: '2000', PORTICO_HOST: '127.0.0.3' }).resolved.gateway).toMatchObject({ port: 2000, host: '127.0.0.3' })
    const all = resolveText(text, { PORTICO_PORT: '2000', PORTICO_HOST: '127.0.0.3' }, { port: 0, host: 'localhost' })
    expect(all.resolved.gateway).toMatchObject({ port: 0, host: 'localhost' })
    expect(all.problems).toEqual([])
  })

  test('the data folder: flag, PORTICO_DATA_DIR, XDG_DATA_HOME, home', () => {
    const dataDir = (env: Record<string, string>, flags: ConfigFlags = {}) => resolveText('', env, flags).raw.dataDir
    expect(dataDir({ XDG_DATA_HOME: '/xdg' })).toBe('/xdg/portico')
    expect(dataDir({ XDG_DATA_HOME: 'relative' })).toBe('/srv/nobody/.local/share/portico')
    expect(dataDir({ XDG_DATA_HOME: '/xdg', PORTICO_DATA_DIR: '~/data' })).toBe('/srv/nobody/data')
    expect(dataDir({ PORTICO_DATA_DIR: '/env' }, { dataDir: 'flag' })).toBe(join(folder, 'flag'))
  })

  test('the file: --config beats PORTICO_CONFIG beats ./portico.toml, and its folder is what paths start from', () => {
    const one = file('[gateway]\nport = 1')
    const two = file('[gateway]\nport = 2')
    const read = (env: Record<string, string>, flags: ConfigFlags = {}) => readConfig({ env, flags, cwd: '/' })
    expect(read({ PORTICO_CONFIG: one }).file).toBe(one)
    expect(read({ PORTICO_CONFIG: one }, { config: two })).toMatchObject({ file: two, baseDir: folder })
  })

  test('a file that was asked for must exist', () => {
    const { lines } = resolveRaw(readConfig({ env: { PORTICO_CONFIG: '/nowhere/p.toml' }, cwd: folder }))
    expect(lines).toEqual(['[config] /nowhere/p.toml: the config file does not exist; expected the path of a readable TOML file'])
  })
})

describe('environment', () => {
  test('an unknown PORTICO_ variable is a problem that names the nearest', () => {
    expect(resolveText('', { PORTICO_DATADIR: 'x', PORTICO: 'ok', PATH: '' }).lines).toEqual([
      expect.stringContaining('[environment] PORTICO_DATADIR: this variable is unknown'),
    ])
    expect(resolveText('', { PORTICO_DATADIR: 'x' }).lines[0]).toContain('did you mean "PORTICO_DATA_DIR"?')
  })

  test('a port that is none is a problem, from both sides', () => {
    const { lines, resolved } = resolveText('', { PORTICO_PORT: 'http' })
    expect(lines).toEqual(['[environment] PORTICO_PORT: is no port; found "http"; expected an integer from 0 to 65535'])
    expect(resolved.gateway.port).toBe(4766)
    expect(resolveText('', {}, { port: '70000' }).lines[0]).toContain('[flags] --port')
  })
})

describe('spelling', () => {
  test('camelCase and snake_case are the same at every level the schema knows', () => {
    const { pager, resolved, problems } = resolveText(`
      [gateway]
      allow_public_bind = true
      rate_limit = { window_ms = 1000, max_requests = 5 }
      [pager]
      max_retries = 1
      quiet = { from_hour = 1 }
      targets = [{ name = "a", api_key = "k" }]
      [auth_token]
      tokens = [{ id = "x", secret = "y" }]
    `)
    expect(problems).toEqual([])
    expect(resolved.gateway).toMatchObject({ allowPublicBind: true })
    expect(resolved.sections.limits).toEqual({ rateLimit: { windowMs: 1000, maxRequests: 5 } })
    expect(pager).toMatchObject({ maxRetries: 1, quiet: { fromHour: 1 }, targets: [{ name: 'a', apiKey: 'k' }] })
    expect(resolved.sections['auth-token']).toEqual({ tokens: [{ id: 'x', secret: 'y' }] })
  })

  test('names in records and free-form values are kept as written', () => {
    const { pager, problems } = resolveText(`
      [pager.lines.my_local_line]
      type = "http"
      base_url = "http://x"
      [pager.labels]
      some_key = { inner_key = 1 }
    `)
    expect(problems).toEqual([])
    expect(pager.lines).toEqual({ my_local_line: { type: 'http', baseUrl: 'http://x' } })
    expect(pager.labels).toEqual({ some_key: { inner_key: 1 } })
  })

  test('both spellings of one key at once are a problem', () => {
    expect(resolveText('[gateway]\nallowPublicBind = false\nallow_public_bind = true').lines).toEqual([
      '[gateway] allowPublicBind: is given twice; found allowPublicBind and allow_public_bind',
    ])
    expect(resolveText('[auth-token]\n[authToken]').lines).toEqual(['[config] authToken: this section is given twice; expected only [auth-token]'])
  })
})

describe('problems', () => {
  test('are all reported at once, each with what was found and expected', () => {
    const { lines } = resolveText(`
      plugins = "x"
      [gatway]
      [gateway]
      prot = 1
      port = "80"
      host = "0.0.0.0"
      trustedProxies = ["10.0.0.0/8", ""]
      [pager]
      maxRetries = 12
      mode = "lout"
      enabled = "no"
      on_failure = "explode"
      targets = [{ name = 1 }]
      [pager.quiet]
      fromHour = 1.5
      [log]
      level = true
    `)
    expect(lines.toSorted()).toEqual(
      [
        '[config] plugins: has the wrong type; expected a list of strings, e.g. plugins = ["./my-plugin.ts"]',
        '[config] gatway: no loaded plugin has this section; did you mean "gateway"?',
        '[gateway] prot: this key is unknown; did you mean "port"?',
        '[gateway] port: has a wrong value; found "80"; expected an integer from 0 to 65535',
        '[gateway] trustedProxies[1]: has a wrong value; found ""; expected a string of at least 1 characters',
        '[gateway] host: others could reach this address; found "0.0.0.0"; expected a loopback address such as 127.0.0.1, or gateway.allowPublicBind = true',
        '[pager] maxRetries: has a wrong value; found 12; expected an integer from 0 to 9',
        '[pager] mode: has a wrong value; found "lout"; expected "loud" or "quiet"',
        '[pager] enabled: has a wrong value; found "no"; expected true or false',
        '[pager] onFailure: has a wrong value; found "explode"; expected "continue" or "abort"',
        '[pager] targets[0].name: has a wrong value; found 1; expected a string',
        '[pager] targets[0].apiKey: is missing; expected a secret: "env:NAME", "file:PATH" or the text itself',
        '[pager] quiet.fromHour: has a wrong value; found 1.5; expected an integer',
        '[log] level: has a wrong value; found true; expected "debug" or "info" or "warn" or "error"',
      ].toSorted(),
    )
  })

  test('values at fault are replaced by their defaults, so that the log can still be made', () => {
    expect(resolveText('[log]\nlevel = 3').resolved.log.level).toBe('info')
  })

  test('an unknown key without a near one lists those that exist', () => {
    expect(resolveText('[log]\nzzzzzzzz = 1').lines).toEqual(['[log] zzzzzzzz: this key is unknown; expected one of level, format, access'])
  })

  test('a section that is no table', () => {
    expect(resolveText('pager = 3').lines).toEqual(['[config] pager: is no section; found number; expected a table: [pager]'])
  })

  test('a variant is chosen by its constant, and its own problems are named', () => {
    expect(resolveText('[pager.lines.a]\ntype = "stdio"\ncomand = ["x"]').lines).toEqual([
      '[pager] lines.a.comand: this key is unknown; did you mean "command"?',
      '[pager] lines.a.command: is missing; expected a list',
    ])
    expect(resolveText('[pager.lines.a]\ntype = "smoke"').lines[0]).toContain('lines.a: has a wrong value; found a table')
  })

  test('a file that is not TOML is named with line and column, and not quoted', () => {
    const { lines } = resolveText('[pager]\ntoken = "hunter2hunter2\n')
    expect(lines).toHaveLength(1)
    expect(lines[0]).toMatch(/^\[config\] portico\.toml:\d+:\d+: the file is not TOML: /)
    expect(lines.join()).not.toContain('hunter2')
  })

  test('keys that reach a prototype are refused, everywhere', () => {
    const { lines, pager } = resolveText(
      '[pager.labels.__proto__]\npolluted = true\n[pager.lines]\nconstructor = { type = "http", baseUrl = "" }\n["__proto__"]\nx = 1',
    )
    expect(lines).toEqual([
      '[config] pager.labels.__proto__: this name is not allowed for a key',
      '[config] pager.lines.constructor: this name is not allowed for a key',
      '[config] __proto__: this name is not allowed for a key',
    ])
    expect(pager.labels.polluted).toBeUndefined()
    expect(({} as any).polluted).toBeUndefined()
  })
})

describe('public addresses', () => {
  test.each(['0.0.0.0', '::', '192.168.0.1', 'example.com', '127.evil.com'])('%s needs allowPublicBind', (host) => {
    expect(resolveText('', {}, { host }).lines).toHaveLength(1)
    expect(resolveText('[gateway]\nallowPublicBind = true', {}, { host }).lines).toEqual([])
  })
  test.each(['localhost', '127.0.0.9', '::1'])('%s does not', (host) => {
    expect(resolveText('', {}, { host }).lines).toEqual([])
  })
})

describe('plugins', () => {
  test('every section takes enabled and onFailure', () => {
    const { raw, resolved, problems } = resolveText('[pager]\nenabled = true\non_failure = "abort"\n[chat]\nenabled = false')
    expect(problems).toEqual([])
    expect(['pager', 'auth-token', 'chat'].filter((id) => isSwitchedOff(raw, id))).toEqual(['chat'])
    expect(resolved.onFailure).toEqual({ pager: 'abort' })
    expect(resolved.sections.pager).not.toHaveProperty('enabled')
  })
  test('a slip in those is named too', () => {
    expect(resolveText('[pager]\nenabeld = false').lines).toEqual(['[pager] enabeld: this key is unknown; did you mean "enabled"?'])
  })
  test('kernel sections take neither', () => {
    expect(resolveText('[gateway]\nenabled = true').lines[0]).toContain('[gateway] enabled: this key is unknown')
  })
  test('third-party specifiers are a list beside the sections', () => {
    expect(resolveText('plugins = ["./a.ts", "b"]').raw.plugins).toEqual(['./a.ts', 'b'])
  })
})

describe('[bus]', () => {
  const retention = t.Object({ maxAgeDays: t.Number({ default: 7 }), maxRows: t.Integer({ default: 1_000_000 }) })
  const withLog = [...sections, pluginSection('event-log', t.Object({ retention }))]
  const read = (text: string) => {
    const raw = readConfig({ configText: text, env: {}, cwd: folder })
    const resolved = resolveConfig(raw, withLog, [])
    return { log: resolved.sections['event-log'], lines: [...raw.problems, ...resolved.problems].map(formatProblem) }
  }

  test('is the section of the plugin event-log, in both spellings of its keys', () => {
    expect(read('')).toEqual({ log: { retention: { maxAgeDays: 7, maxRows: 1_000_000 } }, lines: [] })
    expect(read('[bus.retention]\nmax_age_days = 1')).toEqual({ log: { retention: { maxAgeDays: 1, maxRows: 1_000_000 } }, lines: [] })
    expect(read('[event_log]\nretention = { maxRows = 5 }')).toEqual({ log: { retention: { maxAgeDays: 7, maxRows: 5 } }, lines: [] })
    expect(read('[bus.retention]\nmaxRows = "x"').lines).toEqual(['[event-log] retention.maxRows: has a wrong value; found "x"; expected an integer'])
  })
  test('beside that section is a problem', () => {
    expect(read('[event-log]\n[bus]').lines).toEqual(['[config] bus: this section is given twice; expected only [event-log]'])
  })
  test('is told to those who make the JSON Schema', () => {
    expect(withLog.at(-1)?.aliases).toEqual(['bus'])
  })
})

describe("the seeds' keys", () => {
  test('go to the plugin that reads them, in both spellings', () => {
    const { resolved, problems } = resolveText('[[gateway.tokens]]\nid = "a"\nsecret = "s"')
    expect(problems).toEqual([])
    expect(resolved.sections['auth-token']).toEqual({ tokens: [{ id: 'a', secret: 's' }] })
  })
  test('are a problem that says so when that plugin is absent', () => {
    const { lines } = resolveText('[gateway]\nrequire_pairing = true\nweb = { enabled = true }\n[gateway.node_control]\nenabled = true')
    expect(lines.toSorted()).toEqual([
      '[gateway] node_control: this key is read by the plugin auth-pairing, which this gateway does not have; expected the key to be left out',
      '[gateway] require_pairing: this key is read by the plugin auth-pairing, which this gateway does not have; expected the key to be left out',
      '[gateway] web: this key is read by the plugin chat, which is not loaded; expected the key to be left out',
    ])
  })
  test('given in both places are a problem', () => {
    expect(resolveText('[gateway]\ntokens = []\n[auth-token]\ntokens = []').lines).toEqual([
      '[gateway] tokens: is given twice; found also as auth-token.tokens',
    ])
  })
})

describe('secrets', () => {
  const hidden = 'hunter2hunter2'

  test('env: and file: references are resolved; a file is relative to the config', () => {
    writeFileSync(join(folder, 'key.txt'), `${hidden}\n`)
    const path = file(
      '[pager]\ntoken = "env:PAGER_TOKEN"\ntargets = [{ name = "a", apiKey = "file:key.txt" }, { name = "b", apiKey = "$'.concat('{SEED_TWO}" }]'),
      0o644,
    )
    const { pager, problems, resolved } = resolveRaw(readConfig({ env: { PAGER_TOKEN: hidden, SEED_TWO: 'two' }, flags: { config: path }, cwd: '/' }))
    expect(problems).toEqual([])
    expect(pager).toMatchObject({ token: hidden, targets: [{ apiKey: hidden }, { apiKey: 'two' }] })
    expect(resolved.secrets.map(({ key, reference }) => [key, reference])).toEqual([
      ['token', 'env:PAGER_TOKEN'],
      ['targets[0].apiKey', 'file:key.txt'],
      ['targets[1].apiKey', `$${'{SEED_TWO}'}`],
    ])
  })

  test('a missing reference is a problem by name', () => {
    expect(resolveText('[pager]\ntoken = "env:NOT_SET"\ntargets = [{ name = "a", apiKey = "file:none.txt" }]').lines).toEqual([
      '[pager] token: the environment variable is not set; found env:NOT_SET; expected NOT_SET to hold the secret',
      '[pager] targets[0].apiKey: the file of the secret cannot be read; found file:none.txt (ENOENT); expected a readable file',
    ])
  })

  test('no problem ever shows one', () => {
    const { problems } = resolveText(`
      database = "${hidden}"
      [pager]
      token = "abc"
      tokn = "${hidden}"
      targets = ["${hidden}", { name = "x", apiKey = 7 }]
      [auth-token]
      tokens = "${hidden}"
    `)
    expect(problems).toHaveLength(6)
    expect(JSON.stringify(problems)).not.toContain(hidden)
    expect(JSON.stringify(problems)).not.toContain('abc')
  })

  test('the shown config has references as written and *** for literals', () => {
    const text = `[pager]\ntoken = "${hidden}"\ntargets = [{ name = "a", apiKey = "env:K" }]\n[pager.lines.l]\ntype = "http"\nbaseUrl = "x"\napiKey = "${hidden}"\n[database]\nurl = "postgres://u:${hidden}@h/d"`
    const { resolved } = resolveText(text, { K: 'kkkk' })
    const shown = redactConfig(resolved)
    expect(shown).toMatchObject({
      pager: { token: '***', targets: [{ name: 'a', apiKey: 'env:K' }], lines: { l: { apiKey: '***' } } },
      database: { url: '***' },
    })
    expect(JSON.stringify(shown)).not.toContain(hidden)
    expect((resolved.sections.pager as any).token).toBe(hidden)
  })
})

test('the #:schema line of an editor is a comment to us', () => {
  expect(resolveText('#:schema ./portico.schema.json\n[gateway]\nport = 5').resolved.gateway.port).toBe(5)
})

describe('gateway.tls', () => {
  test('names files, from the config file’s folder', () => {
    const { problems, resolved } = resolveText('[gateway]\ntls = { cert = "server.pem", key = "./server.key" }')
    expect(problems).toEqual([])
    expect(resolved.gateway.tls).toEqual({ cert: join(folder, 'server.pem'), key: join(folder, 'server.key') })
  })

  test('takes nothing but the two: client certificates are not asked for', () => {
    const { lines } = resolveText('[gateway]\ntls = { cert = "server.pem", key = "server.key", requireClientCert = true, ca = "ca.pem" }')
    expect(lines).toEqual(['requireClientCert', 'ca'].map((key) => `[gateway] tls.${key}: this key is unknown; expected one of cert, key`))
  })
})

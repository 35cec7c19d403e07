/** What is wrong with the plugins or the config keeps the real command from starting: all of it named at once, exit 1, nothing left behind. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { runPortico, runtimes } from '../fixtures/gateway-process.ts'

const project = join(import.meta.dir, '../..')
const contract = pathToFileURL(join(project, 'kernel/contract/index.ts')).href
let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'portico-plan-errors-'))
})
afterAll(() => rm(root, { recursive: true, force: true }))

/** A folder with a plugin file for each entry, and a config that names them by relative paths. */
async function folderOf(plugins: Record<string, string>, config = ''): Promise<string> {
  const folder = await mkdtemp(join(root, 'f-'))
  for (const [name, descriptor] of Object.entries(plugins)) {
    const source = `import { defineEvent, definePlugin, defineScope, defineService, guard, open, rpc, t } from '${contract}'
export default definePlugin({ id: '${name}', version: '1.0.0', api: 1, summary: 'A test plugin', setup() {}, ${descriptor} })\n`
    await writeFile(join(folder, `${name}.ts`), source)
  }
  const paths = Object.keys(plugins).map((name) => JSON.stringify(`./${name}.ts`))
  await writeFile(join(folder, 'portico.toml'), `plugins = [${paths.join(', ')}]\n${config}`, { mode: 0o600 })
  return folder
}

describe.each(runtimes)('on %s', (runtime) => {
  /** The lines of problems that `portico start` ends with. Only what shows in `setup` shows when there is a data folder. */
  async function refusals(folder: string, { inSetup = false } = {}): Promise<string[]> {
    const dataDir = join(folder, `data-${runtime}`)
    const { code, stdout, stderr } = await runPortico(['start', '--port', '0', '--data-dir', dataDir], { runtime, cwd: folder })
    expect({ code, stdout }, stderr).toEqual({ code: 1, stdout: '' })
    for (const [name, is] of Object.entries({ '.': inSetup, 'run.json': false, 'cli.token': false }))
      expect([name, existsSync(join(dataDir, name))]).toEqual([name, is])
    return stderr.split('\n').filter((line) => line.includes('['))
  }
  const named = (lines: readonly string[], ...parts: (string | RegExp)[]) => {
    const found = lines.some((line) => parts.every((part) => (typeof part === 'string' ? line.includes(part) : part.test(line))))
    expect(found, `no line says ${parts.join(' and ')}:\n${lines.join('\n')}`).toBe(true)
  }

  test('all that the descriptors and the config show, at once', async () => {
    const event = `events: [defineEvent('one:done', t.Object({}), { scope: rpc, durable: true })]`
    const owned = `paths: ['/mine'], ${event}, scopes: [defineScope('mining', 'Mine')]`
    const folder = await folderOf(
      {
        one: `${owned}, config: t.Object({ retries: t.Integer({ default: 3, minimum: 1 }) })`,
        two: owned,
        twin: `id: 'one'`,
        asker: `requires: { x: defineService('kernle') }`,
        circle: `requires: { a: defineService('left') }, provides: { b: defineService('right') }`,
        elcric: `requires: { b: defineService('right') }, provides: { a: defineService('left') }`,
        future: `api: 2`,
        slip: `pathes: ['/x']`,
        thief: `paths: ['/v1/models']`,
      },
      '[one]\nretires = 3\n[gateway]\nprot = 1\nmaxStreams = 0\ntrustedProxies = ["10.0.0.0/33"]\n[twoo]\n[provider-demo]\nenabled = "no"\n[metrics]\nonFailure = "explode"\n',
    )
    const lines = await refusals(folder)
    named(lines, 'one', 'two plugins have this id')
    named(lines, '[two]', '/mine', 'found one')
    named(lines, '[two]', 'one:done', 'found one')
    named(lines, '[two]', 'mining', 'found one')
    named(lines, '[asker]', 'kernle', 'did you mean "kernel"?')
    named(lines, /circle → elcric → circle|elcric → circle → elcric/)
    named(lines, '[future]', 'api', 'found 2', 'expected 1')
    named(lines, '[slip]', 'pathes', 'did you mean "paths"?')
    named(lines, '[thief]', '/v1/models', 'found openai')
    named(lines, '[one]', 'retires', 'did you mean "retries"?')
    named(lines, '[gateway]', 'prot', 'did you mean "port"?')
    named(lines, '[gateway]', 'maxStreams', 'found 0')
    named(lines, '[gateway]', 'trustedProxies[0]', 'found "10.0.0.0/33"', 'expected an address')
    named(lines, 'twoo', 'did you mean "two"?')
    named(lines, '[provider-demo]', 'enabled', 'found "no"')
    named(lines, '[metrics]', 'onFailure', 'found "explode"')
  }, 30_000)

  test('all that set-up shows, at once', async () => {
    const routes = (groups: string) => `setup: () => ({ routes: [${groups}] })`
    const folder = await folderOf({
      pair: `paths: ['/couple'], ${routes(`open((app) => app.get('/couple/:id', () => 'x')), guard(rpc, (app) => app.get('/couple/:name/', () => 'y'))`)}`,
      same: `paths: ['/same'], ${routes(`open((app) => app.get('/same', () => 'x')), guard(rpc, (app) => app.get('/same/', () => 'y'))`)}`,
      first: `paths: ['/a'], ${routes(`open((app) => app.get('/a/x/:id', () => 'x'))`)}`,
      second: `paths: ['/a/x'], ${routes(`open((app) => app.get('/a/x/:name', () => 'y'))`)}`,
      outside: `paths: ['/b'], ${routes(`open((app) => app.get('/bb/elsewhere', () => 'z'))`)}`,
      names: `paths: ['/n'], ${routes(`open((app) => app.get('/n/:id', () => 'x').get('/n/:name/more', () => 'y'))`)}`,
      slip: `setup: () => ({ route: [] })`,
      talker: `setup: (ctx) => { ctx.publish(defineEvent('talker:said', t.Object({}), { scope: rpc, durable: false }), {}) }`,
      bare: `paths: ['/c'], ${routes(`{ get() {} }`)}`,
      giver: `provides: { gift: defineService('gift') }`,
    })
    const lines = await refusals(folder, { inSetup: true })
    named(lines, 'pair', '/couple/:id', '/couple/:name')
    named(lines, '[same]', '/same', 'another group of this plugin')
    named(lines, 'first', 'second', '/a/x/:id', '/a/x/:name')
    named(lines, '[outside]', '/bb/elsewhere', '/b')
    named(lines, '[names]', '/n/:name/more', 'found :name', 'expected :id')
    named(lines, '[slip]', 'route', 'did you mean "routes"?')
    named(lines, '[talker]', 'talker:said', 'not declared in events')
    named(lines, '[bare]', 'access')
    named(lines, '[giver]', 'services.gift')
  }, 30_000)

  test('an address that is not loopback, without allowPublicBind', async () => {
    for (const host of ['0.0.0.0', '::', '192.0.2.1']) {
      const folder = await folderOf({}, `[gateway]\nhost = "${host}"\n`)
      named(await refusals(folder), '[gateway]', 'host', host, 'allowPublicBind')
    }
    const dataDir = join(root, `flag-${runtime}`)
    const { code, stderr } = await runPortico(['start', '--port', '0', '--host', '0.0.0.0', '--data-dir', dataDir], { runtime, cwd: root })
    expect([code, stderr]).toEqual([1, expect.stringContaining('allowPublicBind')])
  }, 30_000)

  test('a plugin that does not find portico from where it lies is told what helps, and that helps', async () => {
    const folder = await folderOf({})
    await writeFile(
      join(folder, 'own.ts'),
      `import { definePlugin } from 'portico'\nexport default definePlugin({ id: 'own', version: '1.0.0', api: 1, summary: 'Own', setup() {} })\n`,
    )
    await writeFile(join(folder, 'portico.toml'), 'plugins = ["./own.ts"]\n', { mode: 0o600 })
    named(await refusals(folder), '[./own.ts]', 'could not be loaded', 'node_modules/portico', project)
    await mkdir(join(folder, 'node_modules'))
    await symlink(project, join(folder, 'node_modules/portico'))
    const { code, stdout } = await runPortico(['config', 'check'], { runtime, cwd: folder })
    expect([code, stdout]).toEqual([0, expect.stringContaining('good')])
  }, 30_000)

  test('a plugin that is not there, is none, or breaks as it loads', async () => {
    const folder = await folderOf({ good: '' })
    await writeFile(join(folder, 'none.ts'), 'export default { id: "none" }\n')
    await writeFile(join(folder, 'broken.ts'), 'throw new Error("no such luck")\n')
    await writeFile(join(folder, 'portico.toml'), 'plugins = ["./good.ts", "./none.ts", "./broken.ts", "./missing.ts", "portico-plugin-missing"]\n', {
      mode: 0o600,
    })
    const lines = await refusals(folder)
    named(lines, '[./none.ts]', 'no plugin')
    named(lines, '[./broken.ts]', 'no such luck')
    named(lines, '[./missing.ts]', 'could not be loaded')
    named(lines, '[portico-plugin-missing]', 'could not be loaded')
    expect(lines.some((line) => line.includes('good'))).toBe(false)
  }, 30_000)

  test('a certificate that nothing shows: it is not served in the clear', async () => {
    const folder = await folderOf({}, '[gateway]\ntls = { cert = "./cert.pem", key = "./key.pem" }\n[tls]\nenabled = false\n')
    const { code, stdout, stderr } = await runPortico(['start', '--port', '0', '--data-dir', join(folder, `data-${runtime}`)], { runtime, cwd: folder })
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toContain('gateway.tls is set, and what shows certificates, "certificates", is not running')
    expect(existsSync(join(folder, `data-${runtime}`, 'run.json'))).toBe(false)
  }, 30_000)
})

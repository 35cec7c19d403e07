/** `portico doctor` beside broken gateways: it says what is wrong, and what it says to type is typed as it stands, and mends it. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { type RuntimeName, runPortico, runtimePath, runtimes } from '../fixtures/gateway-process.ts'

const main = fileURLToPath(new URL('../../kernel/cli/main.ts', import.meta.url))
const contract = pathToFileURL(fileURLToPath(new URL('../../kernel/contract/index.ts', import.meta.url))).href
const badPlugin = `import { definePlugin } from '${contract}'
export default definePlugin({ id: 'bad', version: '1.0.0', api: 1, summary: 'Fails', setup() { throw new Error('no luck') } })\n`

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'portico-doctor-'))
})
afterAll(() => rm(root, { recursive: true, force: true }))

interface Finding {
  readonly check: string
  readonly state: string
  readonly what: string
  readonly mend?: string
}

/** A folder with a config, one with a blank in its name, so that paths have to be quoted. */
async function place(config: string, runtime: RuntimeName) {
  const folder = await mkdtemp(join(root, 'a house '))
  const file = join(folder, 'portico.toml')
  await writeFile(file, config, { mode: 0o600 })
  const dataDir = join(folder, 'data')
  /** What is not well. */
  const doctor = async (data = dataDir) => {
    const { code, stdout, stderr } = await runPortico(['doctor', '--json', '--data-dir', data], { runtime, cwd: folder })
    const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: Finding[] }
    expect([code, stderr]).toEqual([ok ? 0 : 1, ''])
    return { ok, findings: findings.filter(({ state }) => state !== 'ok') }
  }
  /** As a person would type it, from another folder than that of the config. */
  const type = (command: string) => {
    const portico = `portico() { '${runtimePath(runtime)}' ${runtime === 'deno' ? 'run -A' : ''} '${main}' "$@"; }`
    const { exitCode, stdout, stderr } = Bun.spawnSync(['sh', '-c', `${portico}; ${command}`], {
      cwd: folder,
      env: { ...base, NO_COLOR: '1' },
      timeout: 20_000,
    })
    return { code: exitCode, stdout: String(stdout), stderr: String(stderr) }
  }
  return { folder, file, dataDir, doctor, type }
}
const base = { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '' }

describe.each(runtimes)('on %s', (runtime) => {
  test('a config that does not hold together, with the last good one beside it; files and folders that others can read', async () => {
    const secret = '[[auth-token.tokens]]\nid = "ci"\nsecret = "a-literal-secret-that-is-long-enough"\n'
    const { file, folder, dataDir, doctor, type } = await place(`${secret}[gateway]\nmaxStreems = 5\n`, runtime)
    await mkdir(dataDir, { mode: 0o755 })
    await Promise.all([chmod(file, 0o644), chmod(dataDir, 0o755)])
    await writeFile(join(folder, 'own.ts'), badPlugin.replace("throw new Error('no luck')", ''))
    const lastGood = `plugins = ["./own.ts"]\n${secret}`
    await writeFile(join(dataDir, 'config.last-good.toml'), lastGood)

    const { ok, findings } = await doctor()
    expect(ok).toBe(false)
    const data = ` --data-dir '${dataDir}'`
    expect(findings).toEqual([
      {
        ...{ check: 'config', state: 'problem', what: '[gateway] maxStreems: this key is unknown; did you mean "maxStreams"?' },
        mend: `correct ${file}, then: portico config check${data}`,
      },
      { check: 'config', state: 'warning', what: expect.stringContaining('[auth-token] tokens[0].secret stands in a file'), mend: `chmod 600 '${file}'` },
      {
        ...{ check: 'config', state: 'warning', what: 'the last config that worked is kept' },
        mend: `cp '${file}' '${file}.broken' && cp '${join(dataDir, 'config.last-good.toml')}' '${file}'`,
      },
      { check: 'data folder', state: 'warning', what: `others can look into ${dataDir}`, mend: `chmod 700 '${dataDir}'` },
    ])
    const [correct = '', ...others] = findings.map(({ mend = '' }) => mend)
    const check = correct.split(', then: ')[1] ?? ''
    expect(type(check)).toMatchObject({ code: 1, stdout: expect.stringContaining('maxStreems') })
    for (const command of others) expect(type(command)).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(type(check).code).toBe(0)
    expect(await readFile(file, 'utf8')).toBe(lastGood)
    expect(await readFile(`${file}.broken`, 'utf8')).toContain('maxStreems')
    expect(await doctor()).toEqual({ ok: true, findings: [] })
  }, 30_000)

  test('a plugin that fails, and a port that another process has', async () => {
    const other = Bun.listen({ hostname: '127.0.0.1', port: 0, socket: { data() {} } })
    const { folder, file, dataDir, doctor, type } = await place(`plugins = ["./bad.ts"]\n[gateway]\nport = ${other.port}\n`, runtime)
    await writeFile(join(folder, 'bad.ts'), badPlugin)
    const { ok, findings } = await doctor()
    expect(ok).toBe(false)
    const data = ` --data-dir '${dataDir}'`
    expect(findings).toEqual([
      {
        ...{ check: 'gateway', state: 'problem', what: `another process listens on 127.0.0.1:${other.port}` },
        mend: `stop it, or: portico start --port 0${data}`,
      },
      { check: 'plugins', state: 'warning', what: 'reachable' },
      {
        ...{ check: 'plugin bad', state: 'problem', what: 'failed: setup: no luck' },
        mend: `mend it, then: portico plugins reload bad${data} ; or leave it out: portico plugins disable bad${data}`,
      },
    ])
    const start = findings[0]?.mend?.replace('stop it, or: ', '') ?? ''
    // It serves until it is told to stop.
    const run = `'${dataDir}/run.json'`
    const stop = `until [ -e ${run} ]; do sleep 0.1; done; kill "$(sed -n 's/.*"pid": \\([0-9]*\\).*/\\1/p' ${run})"; wait`
    expect(type(`${start} --json & ${stop}`)).toMatchObject({ stdout: expect.stringContaining('"url":"http://127.0.0.1:') })
    other.stop()
    const [reload = '', disable = ''] = findings[2]?.mend?.match(/portico plugins \w+ bad --data-dir '[^']+'/g) ?? []
    expect(type(disable)).toMatchObject({ code: 0, stdout: expect.stringContaining(`Written to ${file}`) })
    expect(await doctor()).toEqual({ ok: true, findings: [] })
    await writeFile(file, 'plugins = ["./bad.ts"]\n')
    await writeFile(join(folder, 'bad.ts'), badPlugin.replace("throw new Error('no luck')", ''))
    expect(type(reload)).toMatchObject({ code: 0, stdout: expect.stringContaining('bad') })
  }, 30_000)
})

test('a data folder that is none, and a database that does not answer', async () => {
  const { folder, dataDir, doctor, type } = await place('', 'bun')
  const file = join(folder, 'a file')
  await writeFile(file, '')
  const none = { check: 'data folder', state: 'problem', what: `${file} is no folder`, mend: 'portico start --data-dir FOLDER' }
  expect(await doctor(file)).toEqual({ ok: false, findings: [none] })

  await writeFile(join(folder, 'portico.toml'), '[database]\nurl = "postgres://127.0.0.1:1/none"\n', { mode: 0o600 })
  const { findings } = await doctor()
  const what = 'The database does not answer. Check that the server runs and that database.url is right.'
  expect(findings).toEqual([{ check: 'gateway', state: 'problem', what, mend: `portico start --data-dir '${dataDir}' shows it in full` }])
  const { code, stderr } = type(findings[0]?.mend?.replace(' shows it in full', '') ?? '')
  expect([code, stderr]).toEqual([1, expect.stringContaining('ECONNREFUSED')])
  await writeFile(join(folder, 'portico.toml'), '')
  expect(await doctor()).toEqual({ ok: true, findings: [] })
}, 30_000)

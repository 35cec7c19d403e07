import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import { chmod, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { startTestGateway, type TestGateway } from 'portico/testkit'
import { until } from '../../test/fixtures/until.ts'

let file: string
let gateway: TestGateway
const original = `# The gateway of the house
[gateway]
maxStreams = 10 # enough

[[gateway.tokens]]
id = "ci"
secret = "env:CI_TOKEN"

[bus.retention]
max_age_days = 3 # days
`

beforeEach(async () => {
  const env = { CI_TOKEN: 'ci-token-that-is-long-enough-0123456789', OTHER: 'other-token-that-is-long-enough-0123456789' }
  gateway = await startTestGateway({ config: original, configFile: true, env })
  file = join(gateway.dataDir, 'portico.toml')
})
afterEach(() => gateway.stop())

const call = (method: string, path: string, body?: unknown) => gateway.json(path, { method, body })
const text = () => readFile(file, 'utf8')

describe('PATCH /api/config', () => {
  test('changes what runs and the file, whose comments, mode and spelling stay', async () => {
    await chmod(file, 0o640)
    const { status, body } = await call('PATCH', '/api/config', {
      gateway: { maxStreams: 20, corsOrigins: ['https://a.example'] },
      'event-log': { retention: { maxAgeDays: 5 } },
    })
    expect([status, body.keys.sort(), body.needsRestart, body.file]).toEqual([
      200,
      ['event-log.retention.maxAgeDays', 'gateway.corsOrigins', 'gateway.maxStreams'],
      ['event-log'],
      file,
    ])
    expect(await text()).toBe(
      original
        .replace('maxStreams = 10', 'maxStreams = 20')
        .replace('# enough\n', '# enough\ncorsOrigins = [ "https://a.example" ]\n')
        .replace('max_age_days = 3', 'max_age_days = 5'),
    )
    expect((await stat(file)).mode & 0o777).toBe(0o640)
    expect((await call('GET', '/api/config')).body.config.gateway.maxStreams).toBe(20)
    expect(await readFile(join(gateway.dataDir, 'config.last-good.toml'), 'utf8')).toBe(await text())
  })

  test('removes a key with null, and changes a key that stands under [gateway] there', async () => {
    const { body } = await call('PATCH', '/api/config', { gateway: { maxStreams: null }, 'auth-token': { tokens: [{ id: 'ci', secret: 'env:OTHER' }] } })
    expect(body.restarted).toContain('auth-token')
    expect(await text()).not.toContain('maxStreams')
    expect(await text()).toContain('env:OTHER')
    expect(await text()).not.toContain('[auth-token]')
  })

  test('that does not hold together is refused with everything that is wrong, and nothing is changed', async () => {
    const { status, body } = await call('PATCH', '/api/config', { gateway: { maxStreams: 'many' }, nobody: { x: 1 }, log: { levle: 'info' } })
    expect([status, body.error.code, body.error.details.length]).toEqual([400, 'validation_failed', 3])
    expect(body.error.message).toContain('did you mean "level"?')
    expect((await call('PATCH', '/api/config', { 'auth-token': { tokens: [{ id: 'ci', secret: '***' }] } })).body.error.message).toContain('***')
    expect((await call('PATCH', '/api/config', { plugins: ['./nowhere.ts'] })).status).toBe(400)
    expect(await text()).toBe(original)
    expect((await call('GET', '/api/config')).body.config.gateway.maxStreams).toBe(10)
  })

  test('goes back when the file cannot be written', async () => {
    await rm(file)
    await mkdir(file)
    const { status, body } = await call('PATCH', '/api/config', { gateway: { maxStreams: 30 } })
    expect(status).toBeGreaterThanOrEqual(400)
    expect(body.error.message).not.toContain(gateway.dataDir)
    expect((await call('GET', '/api/config')).body.config.gateway.maxStreams).toBe(10)
  })

  test('tells by whom, which keys and which secrets, never their values', async () => {
    const events: any[] = []
    gateway.gateway.kernel.subscribeAll(({ event }) => void events.push(event))
    await call('PATCH', '/api/config', { 'auth-token': { tokens: [{ id: 'ci', secret: 'a-new-literal-secret-0123456789-0123456789' }] } })
    await until(() => events.some(({ type }) => type === 'secret:modified'))
    expect(events.find(({ type }) => type === 'config:patched').data).toMatchObject({ keys: ['auth-token.tokens'], by: 'local' })
    expect(events.find(({ type }) => type === 'secret:modified').data).toEqual({ key: 'auth-token.tokens', by: 'local' })
    expect(JSON.stringify(events)).not.toContain('a-new-literal-secret-0123456789-0123456789')
  })
})

describe('the file', () => {
  test('is followed when somebody edits it; an invalid one leaves what runs, and says why once', async () => {
    await writeFile(file, original.replace('maxStreams = 10', 'maxStreams = 11'))
    await until(async () => (await call('GET', '/api/config')).body.config.gateway.maxStreams === 11)
    await writeFile(file, original.replace('maxStreams = 10', 'maxStreams = "x"'))
    await until(() => gateway.log.some(({ message }) => message.includes('was not taken') && message.includes('maxStreams')))
    expect((await call('GET', '/api/config')).body.config.gateway.maxStreams).toBe(11)
    expect(await readFile(join(gateway.dataDir, 'config.last-good.toml'), 'utf8')).toContain('maxStreams = 11')
    await writeFile(file, original.replace('maxStreams = 10', 'maxStreams = 12'))
    await until(async () => (await call('GET', '/api/config')).body.config.gateway.maxStreams === 12)
    expect(gateway.log.filter(({ message }) => message.includes('was not taken'))).toHaveLength(1)
  })
})

describe('plugins', () => {
  test('are switched off and on, in what runs and in the file', async () => {
    expect((await call('POST', '/api/plugins/metrics/disable')).body).toMatchObject({ stopped: ['metrics'] })
    expect((await call('GET', '/metrics')).status).toBe(404)
    expect(await text()).toContain('[metrics]\nenabled = false\n')
    expect((await call('POST', '/api/plugins/metrics/enable')).body).toMatchObject({ started: ['metrics'] })
    expect((await gateway.fetch('/metrics')).status).toBe(200)
    expect((await call('POST', '/api/plugins/event-log/disable')).status).toBe(400)
    expect((await call('POST', '/api/plugins/settings/disable')).body.error.code).toBe('conflict')
    expect((await call('POST', '/api/plugins/nobody/disable')).status).toBe(404)
    expect((await call('POST', '/api/plugins/nobody/enable')).status).toBe(400)
  })

  test('are set up anew one by one', async () => {
    expect((await call('POST', '/api/plugins/models/reload')).body).toMatchObject({ keys: [], restarted: expect.arrayContaining(['models', 'openai']) })
    expect((await call('GET', '/v1/models')).status).toBe(200)
  })
})

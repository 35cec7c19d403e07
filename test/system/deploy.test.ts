/** deploy/: the image's file is linted and the layout that it makes runs; the systemd unit is verified by systemd itself. No daemon is needed. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DockerfileParser } from 'dockerfile-ast'
import { validate } from 'dockerfile-utils'
import manifest from '../../package.json'
import { runtimePath } from '../fixtures/gateway-process.ts'
import { installedPortico } from '../fixtures/package.ts'
import { systemdAnalyze } from '../fixtures/systemd.ts'
import { until } from '../fixtures/until.ts'
import { root } from '../rules/source.ts'

const folder = mkdtempSync(join(tmpdir(), 'portico-deploy-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const read = (path: string) => readFileSync(join(root, 'deploy', path), 'utf8')

async function output(words: readonly string[], env: Record<string, string> = {}) {
  const child = Bun.spawn([...words], { cwd: folder, env: { PATH: process.env.PATH ?? '', HOME: folder, ...env }, stdout: 'pipe', stderr: 'pipe' })
  const [code, out, err] = await Promise.all([child.exited, new Response(child.stdout).text(), new Response(child.stderr).text()])
  return { code, text: out + err }
}

describe('deploy/docker', () => {
  const dockerfile = DockerfileParser.parse(read('docker/Dockerfile'))
  const instructions = dockerfile.getInstructions().map((entry) => ({ keyword: entry.getKeyword(), words: entry.getArguments().map(String) }))
  const last = (keyword: string) => instructions.filter((entry) => entry.keyword === keyword).at(-1)?.words ?? []
  const env = Object.fromEntries(
    dockerfile.getENVs().flatMap((entry) => entry.getProperties().map((property) => [property.getName(), property.getValue() ?? ''] as const)),
  )

  test('the Dockerfile has no fault that a linter finds', () => {
    expect(validate(read('docker/Dockerfile'))).toEqual([])
    expect(validate('FROM x\nENTRYPOINT ["a"]\nENTRYPOINT ["b"]\nCOPPY a b\n').length).toBeGreaterThan(1)
  })

  test('each image it starts from is Bun in the version of the project', () => {
    const images = dockerfile.getFROMs().map((entry) => entry.getImage())
    expect(new Set(images)).toEqual(new Set([`oven/bun:${manifest.devDependencies.bun}-slim`]))
    expect(images.length).toBeGreaterThan(1)
  })

  test('it runs as another user than root, keeps its data in a volume, and has a health check', () => {
    expect(Number(last('USER')[0]?.split(':')[0])).toBeGreaterThan(0)
    expect(instructions.findIndex((entry) => entry.keyword === 'USER')).toBeLessThan(instructions.findIndex((entry) => entry.keyword === 'ENTRYPOINT'))
    expect(last('VOLUME')).toEqual([env.PORTICO_DATA_DIR as string])
    expect(last('HEALTHCHECK')).toContain('CMD')
    expect(last('STOPSIGNAL')).toEqual(['SIGTERM'])
  })

  test('all that it copies from the checkout is there, and goes to the daemon', () => {
    const sent = read('docker/Dockerfile.dockerignore').split('\n')
    expect(sent[1]).toBe('*')
    for (const line of ['package.json', 'bun.lock', 'deploy/docker/portico.toml']) {
      expect(existsSync(join(root, line))).toBe(true)
      expect(sent).toContain(`!${line}`)
    }
    for (const folder of ['kernel', 'plugins', 'docs', 'deploy/npm']) expect(sent).toContain(`!${folder}`)
    expect(sent.indexOf('**/*.test.ts')).toBeGreaterThan(sent.indexOf('!plugins'))
  })

  test('the layout that it makes starts with its config, is healthy for its own check, and is not when it is gone', async () => {
    const installed = join(await installedPortico(), 'node_modules')
    const app = join(folder, 'app')
    cpSync(join(installed, 'portico'), app, { recursive: true })
    symlinkSync(installed, join(app, 'node_modules'))
    const port = String(await freePort())
    const toml = join(folder, 'portico.toml')
    writeFileSync(toml, read('docker/portico.toml').replaceAll('4766', port))
    const vars = { ...env, PORTICO_CONFIG: toml, PORTICO_DATA_DIR: join(folder, 'data'), PORTICO_PORT: port }
    const own = (words: string[]) => words.map((word) => word.replace('/app/', `${app}/`)).map((word) => (word === 'bun' ? runtimePath('bun') : word))
    const commandOf = (words: string[]) => own(JSON.parse(words.join(' ')) as string[])
    const health = commandOf(healthCommand())
    const start = [...commandOf(last('ENTRYPOINT')), ...commandOf(last('CMD'))]
    const gateway = Bun.spawn(start, { cwd: app, env: { PATH: process.env.PATH ?? '', HOME: folder, ...vars }, stdout: 'pipe', stderr: 'inherit' })
    try {
      let said = ''
      void (async () => {
        for await (const chunk of gateway.stdout) said += new TextDecoder().decode(chunk)
      })()
      await until(() => said.includes('Listening') || gateway.exitCode !== null, { ms: 60_000, message: () => `it listens:\n${said}` })
      expect(said).toContain(`http://0.0.0.0:${port}`)
      expect(said).toContain('demo/echo')
      expect((await output(health, vars)).code).toBe(0)
      expect(await output([...commandOf(last('ENTRYPOINT')), 'keys', 'create', 'my-app'], vars)).toMatchObject({ code: 0 })
    } finally {
      gateway.kill('SIGTERM')
    }
    expect(await gateway.exited).toBe(0)
    expect((await output(health, vars)).code).not.toBe(0)
  }, 120_000)

  /** What stands after HEALTHCHECK … CMD. */
  function healthCommand(): string[] {
    const text = /HEALTHCHECK[^[]*CMD (\[.*\])/.exec(read('docker/Dockerfile'))?.[1]
    return [text ?? '[]']
  }
})

describe('deploy/systemd', () => {
  let analyze = ''
  const unit = join(folder, 'portico.service')
  beforeAll(async () => {
    analyze = await systemdAnalyze()
    // Verify wants to find what it starts.
    const command = join(folder, 'portico')
    writeFileSync(command, '#!/bin/sh\n', { mode: 0o755 })
    writeFileSync(unit, read('systemd/portico.service').replace('/opt/portico/node_modules/.bin/portico', command))
  }, 300_000)

  test('systemd finds no fault in the unit, and would find one', async () => {
    expect(await output([analyze, 'verify', '--man=no', unit])).toEqual({ code: 0, text: '' })
    const bad = join(folder, 'bad.service')
    writeFileSync(bad, readFileSync(unit, 'utf8').replace('Restart=on-failure', 'Restrt=on-failure'))
    expect((await output([analyze, 'verify', '--man=no', bad])).text).toContain('Restrt')
  })

  test('systemd judges it hardened', async () => {
    const { code, text } = await output([analyze, 'security', '--offline=true', '--no-pager', '--threshold=20', unit])
    expect(code, text.slice(-300)).toBe(0)
  })

  test('it starts the command itself, is stopped by SIGTERM with more time than the gateway takes, and starts again when it fails', () => {
    const text = read('systemd/portico.service')
    expect(text).toContain('\nExecStart=/opt/portico/node_modules/.bin/portico start\n')
    for (const line of ['KillSignal=SIGTERM', 'Restart=on-failure', 'DynamicUser=yes', 'StateDirectory=portico', 'NoNewPrivileges=yes'])
      expect(text).toContain(`\n${line}\n`)
    expect(Number(/\nTimeoutStopSec=(\d+)\n/.exec(text)?.[1])).toBeGreaterThan(10)
    expect(text).not.toContain('\nMemoryDenyWriteExecute')
  })
})

/** One that was free a moment ago. */
function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}

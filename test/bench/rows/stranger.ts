/** The path of a stranger: a new clone, an empty HOME, nothing installed; the README's commands as they stand. */
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import manifest from '../../../package.json' with { type: 'json' }
import { root } from '../../rules/source.ts'
import { temporaryFolder } from '../gateway.ts'
import type { Row } from '../row.ts'

const bun = `npx -y bun@${manifest.devDependencies.bun}`

export const stranger: Row = {
  id: 'stranger',
  figures: [
    {
      id: 'stranger-answer',
      title: 'a stranger: new clone and empty HOME, from the first command of the README to the first streamed word of an answer, the code typed at once',
      unit: 's',
      digits: 1,
      bound: { atMost: 120 },
    },
    {
      id: 'stranger-plugin',
      title: 'the same stranger: from `portico plugins new` to a plugin whose tests have passed',
      unit: 's',
      digits: 1,
      bound: { atMost: 60 },
    },
  ],
  rounds: 3,
  cold: true,
  // It asks the registry of packages.
  apart: true,
  async prepare(_, { runtime }) {
    if (runtime !== 'bun') throw new Error('The README’s commands run on Bun: take --runtime bun.')
    return {
      async gateway() {
        await using own = new AsyncDisposableStack()
        const folder = await temporaryFolder(own)
        const [home, clone] = [join(folder, 'home'), join(folder, 'portico')]
        await mkdir(home)
        const path = (process.env.PATH ?? '').split(':').filter((entry) => !/node_modules|\/\.(bun|deno)/.test(entry))
        const env = {
          HOME: home,
          PATH: path.join(':'),
          PORTICO_PORT: '0',
          NO_COLOR: '1',
          npm_config_registry: process.env.npm_config_registry ?? (await registry()),
        }
        await run(['git', 'clone', '-q', root, clone], folder, env)

        const at = performance.now()
        const gateway = Bun.spawn(['bash', '-c', `exec ${bun} run start`], { cwd: clone, env, stdout: 'pipe', stderr: 'ignore' })
        own.defer(async () => {
          const { pid } = JSON.parse(await readFile(join(home, '.local/share/portico/run.json'), 'utf8')) as { pid: number }
          process.kill(pid, 'SIGTERM')
          await gateway.exited
        })
        let said = ''
        for await (const chunk of gateway.stdout) {
          said += new TextDecoder().decode(chunk)
          if (said.includes('Ctrl-C stops it')) break
        }
        const url = /Listening +(http:\S+)/.exec(said)?.[1] ?? ''
        const paired = await fetch(`${url}/pair`, { method: 'POST', headers: { 'x-pairing-code': /Pairing +(\S+)/.exec(said)?.[1] ?? '' } })
        const { token } = (await paired.json()) as { token: string }
        const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
        const answer = await fetch(`${url}/api/chat/stream`, { method: 'POST', headers, body: '{"message":"hello there"}' })
        let streamed = ''
        for await (const chunk of answer.body ?? []) {
          streamed += new TextDecoder().decode(chunk)
          if (streamed.includes('event: token')) break
        }
        const answered = performance.now() - at

        const began = performance.now()
        await run(['bash', '-c', `${bun} run --silent portico plugins new greeter && cd greeter && ${bun} test`], clone, env)
        return [answered / 1_000, (performance.now() - began) / 1_000]
      },
    }
  },
}

async function run(command: string[], cwd: string, env: Record<string, string>): Promise<string> {
  const child = Bun.spawn(command, { cwd, env, stdout: 'pipe', stderr: 'pipe' })
  const [out, err, code] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited])
  if (code !== 0) throw new Error(`${command.join(' ')} ended with ${code}:\n${out}${err}`)
  return out
}

/** Where this machine gets its packages; the stranger's HOME does not know. */
async function registry(): Promise<string> {
  return (await run(['npm', 'config', 'get', 'registry'], root, { ...process.env } as Record<string, string>)).trim()
}

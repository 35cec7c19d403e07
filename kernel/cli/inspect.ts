/** Reads a plugin's descriptor in a child process: importing a module runs its top level, and that shall not be ours. */
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { GatewayError } from '../contract/errors.ts'
import type { JsonSchema } from '../contract/schema.ts'

const deadline = 20_000
/** ms for the last of its output, when a process that it left behind still holds the pipes. */
const afterExit = 500
/** What a module needs to be found and to run. The rest holds the gateway's secrets, and the module may be a stranger's. */
const handedOn = ['PATH', 'HOME', 'TMPDIR', 'LANG', 'NODE_PATH', 'DENO_DIR', 'XDG_CACHE_HOME', 'SystemRoot', 'TEMP', 'TMP', 'USERPROFILE', 'LOCALAPPDATA']
const child = fileURLToPath(new URL(`./inspect-child.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url).href)

/** The descriptor as JSON. Throws `plugin_failed` with what the module said when it cannot be read within 20 s. */
export async function inspectPlugin(name: string, cwd: string): Promise<JsonSchema> {
  const mark = randomUUID()
  const args = [...(process.versions.deno ? ['run', '-A'] : []), child, name, cwd, mark]
  const { code, stdout, stderr } = await run(args, cwd)
  const line = stdout.split('\n').find((entry) => entry.startsWith(mark))
  if (line !== undefined) return JSON.parse(line.slice(mark.length)) as JsonSchema
  const why = stderr.trim().split('\n').at(-1) || `its process ended with ${code === null ? 'a signal, perhaps at the deadline of 20 s' : `exit code ${code}`}`
  throw new GatewayError('plugin_failed', `${name} cannot be inspected: ${why}`)
}

function run(args: readonly string[], cwd: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const env = Object.fromEntries(handedOn.map((key) => [key, process.env[key]]))
    const spawned = spawn(process.execPath, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'], timeout: deadline, killSignal: 'SIGKILL' })
    const output = { stdout: '', stderr: '' }
    for (const name of ['stdout', 'stderr'] as const) {
      spawned[name].setEncoding('utf8').on('data', (chunk: string) => {
        if (output[name].length < 4_000_000) output[name] += chunk
      })
    }
    spawned.on('error', reject)
    const end = (code: number | null) => {
      for (const name of ['stdout', 'stderr'] as const) spawned[name].destroy()
      resolve({ code, ...output })
    }
    spawned.on('exit', (code) => {
      const timer = setTimeout(end, afterExit, code)
      spawned.on('close', () => {
        clearTimeout(timer)
        end(code)
      })
    })
  })
}

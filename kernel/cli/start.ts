/** `portico start`: runs the gateway in this process until a signal. */
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { Gateway } from '../boot/gateway.ts'
import type { GatewayOptions } from '../boot/planning.ts'
import type { GatewayConfig, KernelConfig } from '../config/index.ts'
import { GatewayError } from '../contract/errors.ts'
import { isLoopbackHost } from '../contract/host.ts'
import { createAccessLog } from './access-log.ts'
import type { Command } from './command.ts'
import { exitCode } from './exit-code.ts'
import { columns } from './help.ts'
import { createLocalAccess } from './local-access.ts'
import type { KernelCommandContext } from './run.ts'
import { certificateOf, reachable, writeRunFiles } from './running.ts'

// Bun reads it before anything runs: more requests than this at once wait for each other, 256 when it is not set.
const fetchLimit = { BUN_CONFIG_MAX_HTTP_REQUESTS: '4096' }

/** The command. */
export const startCommand: Command = {
  summary: 'Start the gateway, and serve until Ctrl-C or SIGTERM',
  args: {
    port: { type: 'string', summary: 'The port; 0 = any free one (default 4766)', hint: 'n' },
    host: { type: 'string', summary: 'The address to listen on (default 127.0.0.1)', hint: 'address' },
    newPairing: { type: 'boolean', summary: 'Show a new pairing code; devices that are paired stay so' },
  },
  examples: [
    'portico start',
    'portico start --new-pairing',
    'portico start --port 0 --data-dir ./data',
    'portico start --config /etc/portico/portico.toml --json',
  ],
  run: (context) => run(context as KernelCommandContext),
}

async function run(context: KernelCommandContext): Promise<number> {
  const { args, cli } = context
  if (process.versions.bun && !cli.env.BUN_CONFIG_MAX_HTTP_REQUESTS) cli.restart?.(fetchLimit)
  const text = (name: string) => (typeof args[name] === 'string' ? args[name] : undefined)
  const flags = { config: text('config'), dataDir: text('dataDir'), port: text('port'), host: text('host') }
  const { prepareStart } = await import('../../plugins/builtins.ts')
  await prepareStart()
  const [{ startGateway }, { configureLog, loggerOf }] = await Promise.all([import('../boot/start.ts'), import('./log.ts')])
  const { token, options: access } = createLocalAccess(cli.env)
  const broken = new AbortController()
  let switchAccessLog: ((isOn: boolean) => void) | undefined
  const options: GatewayOptions = {
    ...{ flags, env: cli.env, cwd: cli.cwd, endProcess: () => broken.abort(), ...access },
    // Asked again by a reload.
    log(options) {
      switchAccessLog?.(options.access)
      return configureLog(options, access.redactor)
    },
  }
  const gateway = await startGateway(options).catch((error: unknown) => {
    throw explain(error)
  })
  try {
    const { version, runtime, config, startedAt } = gateway.kernel
    const { gateway: gatewayConfig, log } = config().values as unknown as KernelConfig
    const { tls } = gatewayConfig
    switchAccessLog = createAccessLog(gateway.kernel, loggerOf('access'))
    switchAccessLog(log.access)
    const run = {
      ...{ url: `${gateway.url}`, pid: process.pid, startedAt: new Date(startedAt).toISOString(), socket: gateway.socketPath },
      certificate: tls ? certificateOf(tls.cert) : null,
    }
    const removeRunFiles = writeRunFiles(gateway.dataDir, run, token)
    try {
      const { url, dataDir } = gateway
      const facts = { url, pid: run.pid, version, runtime, dataDir, config: config().file, models: await modelsOf(gateway, token) }
      noteTroubles(gateway, context)
      // For the eyes before the terminal alone: neither --json nor the log has it.
      const isAsked = args.newPairing === true
      const pairing = context.json ? undefined : await pairingOf(gateway, token, isAsked)
      if (isAsked && !pairing?.code)
        context.note(`No pairing code is shown${context.json ? ' with --json' : ''}. Make one beside the gateway: ${cli.name} pair`)
      context.print(facts, welcome(facts, pairing, context))
      await aborted(AbortSignal.any([context.signal, broken.signal]))
      context.note(broken.signal.aborted ? 'Stopping: the gateway itself is broken, see its log.' : 'Stopping: requests in flight may finish.')
    } finally {
      await removeRunFiles()
    }
  } finally {
    await gateway.stop()
  }
  return broken.signal.aborted ? exitCode.failed : exitCode.done
}

interface Facts {
  readonly url: string | null
  readonly version: string
  readonly runtime: string
  readonly dataDir: string
  readonly config: string | null
  readonly models: readonly string[]
}

interface Pairing {
  readonly code: string | null
  readonly expiresAt: string | null
}

function welcome(facts: Facts, pairing: Pairing | undefined, { style, cli }: KernelCommandContext): string {
  const { models } = facts
  const where = facts.dataDir === join(homedir(), '.local', 'share', 'portico') ? '' : ` --data-dir ${facts.dataDir}`
  const shown =
    models.length === 0
      ? 'none yet: name a provider in the config'
      : models.slice(0, 8).join(', ') + (models.length > 8 ? ` and ${models.length - 8} more` : '')
  const lines = columns([
    ['  Listening', `${facts.url}`],
    ['  Models', shown],
    ['  Data', facts.dataDir],
    ['  Config', facts.config ?? 'none: ./portico.toml does not exist, defaults apply'],
    ...(pairing?.code
      ? [
          [
            '  Pairing',
            `${style.bold(pairing.code)} at ${reachable(facts.url ?? '')}/ for ten minutes and one device; again: ${cli.name} pair${where}`,
          ] as const,
        ]
      : []),
  ])
  const next = columns([
    [`  ${cli.name} chat${where}`, 'chat with a model, here'],
    [`  ${cli.name} keys create my-app${where}`, 'make a key'],
    [`  curl ${reachable(facts.url ?? '')}/v1/models -H "Authorization: Bearer KEY"`, 'use it'],
    [`  ${cli.name} events tail${where}`, 'watch what happens'],
  ])
  return [
    `${style.bold(`Portico ${facts.version}`)} on ${facts.runtime}`,
    '',
    ...lines,
    '',
    style.bold('Type next, in another terminal:'),
    ...next,
    '',
    'Ctrl-C stops it.',
  ].join('\n')
}

/** A pairing code, when one is asked for, or when pairing is required and no device is paired yet. */
async function pairingOf(gateway: Gateway, token: string, isAsked: boolean): Promise<Pairing | undefined> {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const body = JSON.stringify(isAsked ? {} : { first: true })
  const response = await gateway.fetch(new Request(`${reachable(gateway.url ?? '')}/api/pairing`, { method: 'POST', headers, body }))
  return response.ok ? ((await response.json()) as Pairing) : undefined
}

/** Ids of the models, as a client would list them; an upstream that is slow to answer is not waited for. */
async function modelsOf(gateway: Gateway, token: string): Promise<string[]> {
  try {
    const headers = { authorization: `Bearer ${token}` }
    const response = await gateway.fetch(new Request(`${reachable(gateway.url ?? '')}/v1/models`, { headers, signal: AbortSignal.timeout(2_000) }))
    const { data } = (await response.json()) as { data?: { id: string }[] }
    return response.ok ? (data ?? []).map(({ id }) => id) : []
  } catch {
    return []
  }
}

function noteTroubles(gateway: Gateway, { note }: KernelCommandContext): void {
  for (const { id, state, reason } of gateway.kernel.plugins()) {
    if (state === 'failed' || state === 'blocked') note(`The plugin ${id} is ${state}: ${reason ?? 'the log says why'}`)
  }
  const { host, hosts } = gateway.kernel.config().values.gateway as GatewayConfig
  if (hosts.length === 0 && !isLoopbackHost(host))
    note('gateway.hosts is empty: others can connect, but only 127.0.0.1, localhost and [::1] are answered as Host.')
}

function explain(error: unknown): unknown {
  const { code } = error as { code?: unknown }
  if (code === 'EADDRINUSE')
    return new GatewayError('conflict', 'The port is taken by another process. Choose another with --port, or --port 0 for any free one.', { cause: error })
  if (code === 'EADDRNOTAVAIL') return new GatewayError('config_invalid', 'This machine has no such address. Choose another with --host.', { cause: error })
  return error
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

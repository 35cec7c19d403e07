/** Sections and keys that stand elsewhere than they may be written. The one table of them. */
import type { Problem } from '../contract/problem.ts'
import { fold, isTable, type Table } from './table.ts'

/** Sections that belong to a plugin of another name. */
export const sectionAliases: ReadonlyMap<string, string> = new Map([['bus', 'event-log']])

/** Keys of `[gateway]` in the seeds' own config files, and the plugin and key they belong to. */
export const aliases: Readonly<Record<string, readonly [plugin: string, key: string]>> = {
  requirePairing: ['auth-pairing', 'requirePairing'],
  tokens: ['auth-token', 'tokens'],
  web: ['chat', 'web'],
  webDistPath: ['chat', 'webDistPath'],
  maxBatchSize: ['rpc', 'maxBatchSize'],
  wsHeartbeatMs: ['rpc', 'heartbeatMs'],
  wsMaxMessageBytes: ['rpc', 'maxMessageBytes'],
  wsMessageRateLimit: ['rpc', 'messageRateLimit'],
  tls: ['auth-mtls', 'tls'],
  nodeControl: ['nodes', 'nodeControl'],
}

/** Moves the seeds' keys to where they belong. One whose plugin is not `present` is a problem that says so; plugins that are `known` exist, but are not loaded. */
export function applyAliases(table: Table, present: ReadonlySet<string>, known: readonly string[], problems: Problem[]): Table {
  if (!isTable(table.gateway)) return table
  const gateway: Table = {}
  const out: Table = { ...table, gateway }
  for (const [key, value] of Object.entries(table.gateway)) {
    const [plugin, target] = (Object.hasOwn(aliases, fold(key)) && aliases[fold(key)]) || []
    const section = out[plugin ?? ''] ?? {}
    if (plugin === undefined || target === undefined) gateway[key] = value
    else if (!present.has(plugin)) {
      const why = known.includes(plugin) ? 'which is not loaded' : 'which this gateway does not have'
      problems.push({ where: 'gateway', key, what: `this key is read by the plugin ${plugin}, ${why}`, expected: 'the key to be left out' })
    } else if (isTable(section) && !Object.keys(section).some((other) => fold(other) === target)) out[plugin] = { ...section, [target]: value }
    else problems.push({ where: 'gateway', key, what: 'is given twice', found: `also as ${plugin}.${target}` })
  }
  return out
}

/** Keys of the seeds' own config files that stand elsewhere here. The one table of them. */
import type { Problem } from '../contract/problem.ts'
import { fold, isTable, type Table } from './table.ts'

/** From where it is written (camelCase) to where it belongs: `section.key…`, both. */
export const aliases: readonly (readonly [from: string, to: string])[] = [
  ['gateway.requirePairing', 'auth-pairing.requirePairing'],
  ['gateway.tokens', 'auth-token.tokens'],
  ['gateway.web', 'chat.web'],
  ['gateway.webDistPath', 'chat.webDistPath'],
  ['gateway.maxBatchSize', 'rpc.maxBatchSize'],
  ['gateway.wsHeartbeatMs', 'rpc.heartbeatMs'],
  ['gateway.wsMaxMessageBytes', 'rpc.maxMessageBytes'],
  ['gateway.wsMessageRateLimit', 'rpc.messageRateLimit'],
  ['gateway.tls.requireClientCert', 'auth-mtls.requireClientCert'],
  ['gateway.nodeControl', 'nodes.nodeControl'],
]

/** Moves the seeds' keys to where they belong. A key whose plugin is not among `present` is a problem that says so; `known` are plugins that exist but are not loaded. */
export function applyAliases(table: Table, present: ReadonlySet<string>, known: readonly string[], problems: Problem[]): Table {
  const out = structuredClone(table)
  for (const [from, to] of aliases) {
    const [section = '', ...path] = from.split('.')
    const found = take(out, [section, ...path])
    if (!found) continue
    const [plugin = '', ...target] = to.split('.')
    const key = found.written.slice(section.length + 1)
    if (!present.has(plugin)) {
      const why = known.includes(plugin) ? 'which is not loaded' : 'which this gateway does not have'
      problems.push({ where: section, key, what: `this key is read by the plugin ${plugin}, ${why}`, expected: 'the key to be left out' })
    } else if (!put(out, [plugin, ...target], found.value)) {
      problems.push({ where: section, key, what: 'is given twice', found: `also as ${plugin}.${target.join('.')}` })
    }
  }
  return out
}

function take(table: Table, path: readonly string[]): { written: string; value: unknown } | undefined {
  const [name = '', ...rest] = path
  const key = Object.keys(table).find((written) => fold(written) === name)
  if (key === undefined) return undefined
  const value = table[key]
  if (rest.length === 0) {
    delete table[key]
    return { written: key, value }
  }
  if (!isTable(value)) return undefined
  const found = take(value, rest)
  // A table that held nothing but moved keys is gone with them; a section stays.
  if (found && rest.length === 1 && Object.keys(value).length === 0) delete table[key]
  return found && { ...found, written: `${key}.${found.written}` }
}

function put(table: Table, path: readonly string[], value: unknown): boolean {
  const [name = '', ...rest] = path
  const key = Object.keys(table).find((written) => written === name || fold(written) === name) ?? name
  if (rest.length === 0) {
    if (Object.hasOwn(table, key)) return false
    table[name] = value
    return true
  }
  if (!Object.hasOwn(table, key)) table[key] = {}
  const inner = table[key]
  return isTable(inner) && put(inner, rest, value)
}

/** Turns what was written into what is meant: aliases, each section against its schema, and the rules between keys. */
import { resolve } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { isLoopbackHost } from '../contract/host.ts'
import type { ConfigSection } from '../contract/kernel-service.ts'
import { nearestName, type Problem } from '../contract/problem.ts'
import { applyAliases } from './aliases.ts'
import type { RawConfig } from './read.ts'
import type { ResolvedSecret } from './secrets.ts'
import type { KernelConfig } from './sections.ts'
import { settle } from './settle.ts'
import { isTable, type Table } from './table.ts'

export { type ConfigFlags, isSwitchedOff, type RawConfig, type ReadConfigOptions, readConfig } from './read.ts'
export { type ResolvedSecret, redactConfig } from './secrets.ts'
export { type GatewayConfig, type KernelConfig, kernelSections, pluginSection } from './sections.ts'

/** The config as the gateway uses it. With problems, values at fault are their defaults. */
export interface ResolvedConfig extends KernelConfig {
  /** By section id, camelCase, secrets resolved. */
  readonly sections: Readonly<Record<string, unknown>>
  readonly onFailure: Readonly<Record<string, 'continue' | 'abort'>>
  readonly secrets: readonly ResolvedSecret[]
  /** Every problem but those of the reading. */
  readonly problems: readonly Problem[]
}

/** Checks everything and reports all problems. `knownPlugins` exist but need not be loaded: their sections are not read. */
export function resolveConfig(raw: RawConfig, sections: readonly ConfigSection[], knownPlugins: readonly string[]): ResolvedConfig {
  const problems: Problem[] = []
  const secrets: ResolvedSecret[] = []
  const present = new Set(sections.map(({ id }) => id))
  const known = [...present, ...knownPlugins]
  const table = applyAliases(raw.table, present, knownPlugins, problems)
  const resolved: Table = {}
  const onFailure: Record<string, 'continue' | 'abort'> = {}

  for (const { id, schema } of sections) {
    const written = table[id] ?? {}
    if (!isTable(written)) problems.push({ where: 'config', key: id, what: 'is no section', found: typeof written, expected: `a table: [${id}]` })
    const settled = settle(schema, isTable(written) ? written : {}, [], { section: id, raw, problems, secrets }) as Table
    const { enabled: _, onFailure: then, ...values } = settled
    if (then === 'continue' || then === 'abort') onFailure[id] = then
    resolved[id] = values
  }
  for (const id of Object.keys(table)) {
    if (known.includes(id)) continue
    problems.push({ where: 'config', key: id, what: 'no loaded plugin has this section', nearest: nearestName(id, [...known, 'plugins']) })
  }
  const config = resolved as Table & KernelConfig
  if (!isLoopbackHost(config.gateway.host) && !config.gateway.allowPublicBind) {
    const expected = 'a loopback address such as 127.0.0.1, or gateway.allowPublicBind = true'
    problems.push({ where: 'gateway', key: 'host', what: 'others could reach this address', found: JSON.stringify(config.gateway.host), expected })
  }
  const { tls } = config.gateway
  if (tls) Object.assign(tls, { cert: resolve(raw.baseDir, tls.cert), key: resolve(raw.baseDir, tls.key) })
  return { ...config, sections: resolved, onFailure, secrets, problems }
}

/** Where two configs differ: `gateway.maxStreams`, a list by its own key, a whole section when only one has it. */
export function changedKeys(before: Readonly<Table>, after: Readonly<Table>): string[] {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])].flatMap((key) => {
    const [old, now] = [before[key], after[key]]
    if (isTable(old) && isTable(now)) return changedKeys(old, now).map((inner) => `${key}.${inner}`)
    return isDeepStrictEqual(old, now) ? [] : [key]
  })
}

/** Turns what was written into what is meant: aliases, each section against its schema, and the rules between keys. */
import { nearestName, type Problem } from '../contract/problem.ts'
import { applyAliases } from './aliases.ts'
import type { RawConfig } from './read.ts'
import { type BusConfig, type ConfigSection, type DatabaseConfig, type GatewayConfig, kernelSections, type LogConfig, pluginKeys } from './sections.ts'
import { settle } from './settle.ts'
import type { ResolvedSecret, Settling } from './settling.ts'
import { fold, isTable, type Table } from './table.ts'

export { type ConfigFlags, type RawConfig, type ReadConfigOptions, readConfig } from './read.ts'
export { type BusConfig, type ConfigSection, type DatabaseConfig, type GatewayConfig, kernelSections, type LogConfig } from './sections.ts'
export type { ResolvedSecret } from './settling.ts'
export { configJsonSchema, redactConfig } from './show.ts'

/** The config as the gateway uses it. With problems, values at fault are their defaults. */
export interface ResolvedConfig {
  /** By section id, camelCase, secrets resolved. */
  readonly sections: Readonly<Record<string, unknown>>
  readonly gateway: GatewayConfig
  readonly database: DatabaseConfig
  readonly bus: BusConfig
  readonly log: LogConfig
  readonly enabled: Readonly<Record<string, boolean>>
  readonly onFailure: Readonly<Record<string, 'continue' | 'abort'>>
  readonly secrets: readonly ResolvedSecret[]
  /** Every problem but those of the reading. */
  readonly problems: readonly Problem[]
}

const kernelIds = new Set(kernelSections.map(({ id }) => id))

/** Checks everything and reports all problems. `knownPlugins` exist but need not be loaded: their sections are not read. */
export function resolveConfig(raw: RawConfig, sections: readonly ConfigSection[], knownPlugins: readonly string[]): ResolvedConfig {
  const problems: Problem[] = []
  const secrets: ResolvedSecret[] = []
  const present = new Set(sections.map(({ id }) => id))
  const table = applyAliases(raw.table, present, knownPlugins, problems)
  const resolved: Table = {}
  const enabled: Record<string, boolean> = {}
  const onFailure: Record<string, 'continue' | 'abort'> = {}
  const settling = (section: string): Settling => ({ section, raw, problems, secrets })

  for (const { id, schema } of sections) {
    const written = sectionTable(table, id, problems)
    const [own, common] = kernelIds.has(id) ? [written, {}] : splitCommon(written)
    resolved[id] = settle(schema, own, [], settling(id))
    if (kernelIds.has(id)) continue
    const keys = settle(pluginKeys, common, [], settling(id)) as { enabled: boolean; onFailure?: 'continue' | 'abort' }
    enabled[id] = keys.enabled
    if (keys.onFailure) onFailure[id] = keys.onFailure
  }
  for (const id of Object.keys(table)) {
    if (present.has(id)) continue
    if (knownPlugins.includes(id)) enabled[id] = isTable(table[id]) && table[id].enabled !== false
    else
      problems.push({ where: 'config', key: id, what: 'no loaded plugin has this section', nearest: nearestName(id, [...present, ...knownPlugins, 'plugins']) })
  }
  checkBind(resolved.gateway as GatewayConfig | undefined, problems)
  return { ...(resolved as Pick<ResolvedConfig, 'gateway' | 'database' | 'bus' | 'log'>), sections: resolved, enabled, onFailure, secrets, problems }
}

function sectionTable(table: Table, id: string, problems: Problem[]): Table {
  const written = table[id] ?? {}
  if (isTable(written)) return written
  problems.push({
    where: 'config',
    key: id,
    what: 'is no section',
    found: Array.isArray(written) ? 'a list' : `a ${typeof written}`,
    expected: `a table: [${id}]`,
  })
  return {}
}

function splitCommon(written: Table): [own: Table, common: Table] {
  const own: Table = {}
  const common: Table = {}
  for (const [key, value] of Object.entries(written)) (Object.hasOwn(pluginKeys.properties, fold(key)) ? common : own)[key] = value
  return [own, common]
}

function checkBind(gateway: GatewayConfig | undefined, problems: Problem[]): void {
  if (!gateway || gateway.allowPublicBind || isLoopbackHost(gateway.host)) return
  problems.push({
    where: 'gateway',
    key: 'host',
    what: 'others could reach this address',
    found: JSON.stringify(gateway.host),
    expected: 'a loopback address such as 127.0.0.1, or gateway.allowPublicBind = true',
  })
}

/** True for names and addresses that only this machine reaches. */
export function isLoopbackHost(host: string): boolean {
  return /^(localhost|::1|\[::1\]|127(\.\d{1,3}){3})$/i.test(host)
}

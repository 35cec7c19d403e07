/** Turns what was written into what is meant: aliases, each section against its schema, and the rules between keys. */
import { isLoopbackHost } from '../contract/host.ts'
import { nearestName, type Problem } from '../contract/problem.ts'
import { applyAliases } from './aliases.ts'
import type { RawConfig } from './read.ts'
import { type ConfigSection, type DatabaseConfig, type GatewayConfig, kernelIds, type LogConfig, pluginKeys, wholeSchema } from './sections.ts'
import { settle } from './settle.ts'
import type { ResolvedSecret } from './settling.ts'
import { isTable, type Table } from './table.ts'

export { sectionAliases } from './aliases.ts'
export { type ConfigFlags, type RawConfig, type ReadConfigOptions, readConfig } from './read.ts'
export { exposedSecrets } from './secrets.ts'
export { type ConfigSection, type DatabaseConfig, type GatewayConfig, kernelSections, type LogConfig } from './sections.ts'
export type { ResolvedSecret } from './settling.ts'
export { configJsonSchema, redactConfig } from './show.ts'

/** The config as the gateway uses it. With problems, values at fault are their defaults. */
export interface ResolvedConfig {
  /** By section id, camelCase, secrets resolved. */
  readonly sections: Readonly<Record<string, unknown>>
  readonly gateway: GatewayConfig
  readonly database: DatabaseConfig
  readonly log: LogConfig
  readonly enabled: Readonly<Record<string, boolean>>
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
  const table = applyAliases(raw.table, present, knownPlugins, problems)
  const resolved: Table = {}
  const enabled: Record<string, boolean> = {}
  const onFailure: Record<string, 'continue' | 'abort'> = {}

  for (const section of sections) {
    const { id } = section
    const written = table[id] ?? {}
    if (!isTable(written)) problems.push({ where: 'config', key: id, what: 'is no section', found: typeof written, expected: `a table: [${id}]` })
    const values = settle(wholeSchema(section), isTable(written) ? written : {}, [], { section: id, raw, problems, secrets }) as Table
    if (!kernelIds.has(id)) {
      const { enabled: on, onFailure: then } = values as { enabled: boolean; onFailure?: 'continue' | 'abort' }
      enabled[id] = on
      if (then) onFailure[id] = then
      for (const key of Object.keys(pluginKeys.properties)) delete values[key]
    }
    resolved[id] = values
  }
  for (const id of Object.keys(table)) {
    if (present.has(id)) continue
    if (knownPlugins.includes(id)) enabled[id] = isTable(table[id]) && table[id].enabled !== false
    else
      problems.push({ where: 'config', key: id, what: 'no loaded plugin has this section', nearest: nearestName(id, [...present, ...knownPlugins, 'plugins']) })
  }
  checkBind(resolved.gateway as GatewayConfig | undefined, problems)
  return { ...(resolved as Pick<ResolvedConfig, 'gateway' | 'database' | 'log'>), sections: resolved, enabled, onFailure, secrets, problems }
}

function checkBind(gateway: GatewayConfig | undefined, problems: Problem[]): void {
  if (!gateway || gateway.allowPublicBind || isLoopbackHost(gateway.host)) return
  const expected = 'a loopback address such as 127.0.0.1, or gateway.allowPublicBind = true'
  problems.push({ where: 'gateway', key: 'host', what: 'others could reach this address', found: JSON.stringify(gateway.host), expected })
}

/** Sections and keys that stand elsewhere than they may be written. */
import { gatewayAliases as aliases, sectionAliases } from '../../plugins/builtins.ts'
import type { Problem } from '../contract/problem.ts'
import { fold, isTable, type Table } from './table.ts'

/** What is read as the plugin's section, or as a key in it: `bus`, `gateway.tokens`. */
export function aliasesOf(plugin: string): string[] {
  const sections = [...sectionAliases].filter(([, id]) => id === plugin).map(([section]) => section)
  return [...sections, ...Object.keys(aliases[plugin] ?? {}).map((key) => `gateway.${key}`)]
}

/** Moves the seeds' keys to where they belong. One whose plugin is not `present` is a problem that says so; plugins that are `known` exist, but are not loaded. */
export function applyAliases(table: Table, present: ReadonlySet<string>, known: readonly string[], problems: Problem[]): Table {
  if (!isTable(table.gateway)) return table
  const gateway: Table = {}
  const out: Table = { ...table, gateway }
  for (const [key, value] of Object.entries(table.gateway)) {
    const [plugin = '', keys = {}] = Object.entries(aliases).find(([, names]) => Object.hasOwn(names, fold(key))) ?? []
    const target = keys[fold(key)]
    const section = out[plugin] ?? {}
    if (target === undefined) gateway[key] = value
    else if (!present.has(plugin)) {
      const why = known.includes(plugin) ? 'which is not loaded' : 'which this gateway does not have'
      problems.push({ where: 'gateway', key, what: `this key is read by the plugin ${plugin}, ${why}`, expected: 'the key to be left out' })
    } else if (isTable(section) && !Object.keys(section).some((other) => fold(other) === target)) out[plugin] = { ...section, [target]: value }
    else problems.push({ where: 'gateway', key, what: 'is given twice', found: `also as ${plugin}.${target}` })
  }
  return out
}

/** Changes the running config, and the file it comes from: checked first, taken by what runs, then written; a file changed by somebody else is taken as well. */
import { readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type ConfigSection, GatewayError, isGatewayError, isSecret, type Kernel, type ReloadOptions, type ReloadReport } from 'portico'
import { parse } from 'smol-toml'
import { fold, toSectionId } from './spelling.ts'
import { isTable, type Table } from './table.ts'

/** What the writer works with. */
export interface WriterOptions {
  readonly kernel: Kernel
  /** Told of each secret whose value changed: section and key. */
  secretChanged(key: string, by: string | undefined): void
}

/** Writes. One change after the other. */
export interface Writer {
  /** A merge patch (RFC 7396) of the config. @throws GatewayError `validation_failed` with every problem, `conflict`: then nothing has changed */
  patch(patch: Table, by?: string): Promise<ReloadReport & { file: string }>
  /** Takes what the file says now, or sets plugins up anew. */
  reload(options: ReloadOptions): Promise<ReloadReport>
  /** Takes the file if it says something else than what runs; false when it does not. */
  follow(): Promise<ReloadReport | false>
  /** Keeps the text of the running config in the data folder, for the day on which the file is broken. */
  keep(): Promise<void>
}

/** Makes the writer. */
export function createWriter({ kernel, secretChanged }: WriterOptions): Writer {
  let queue: Promise<unknown> = Promise.resolve()
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const next = queue.then(work)
    queue = next.catch(() => undefined)
    return next
  }

  async function take(options: ReloadOptions): Promise<ReloadReport> {
    const report = await kernel.reload(options).catch((error: unknown) => {
      throw asAnswer(error)
    })
    for (const key of report.keys) for (const secret of secretsUnder(key, kernel.config().sections)) secretChanged(secret, options.by)
    return report
  }

  return {
    patch: (patch, by) =>
      inTurn(async () => {
        refuseMask(patch)
        const { path, sections, text: running } = kernel.config()
        const before = (await readFile(path, 'utf8').catch(missing)) ?? running
        // Loaded when first needed: a start has other things to do.
        const { patchToml } = await import('./patch-toml.ts')
        const text = patchToml(before, placed(patch, before, sections), { holdsNames: namesIn(sections) })
        const report = await take({ text, by })
        try {
          await replaceFile(path, text)
        } catch (cause) {
          await kernel.reload({ text: before })
          throw unwritten(cause)
        }
        return { ...report, file: path }
      }),
    reload: (options) => inTurn(() => take(options)),
    follow: () =>
      inTurn(async () => {
        const { file, text } = kernel.config()
        const now = file === null ? undefined : await readFile(file, 'utf8').catch(missing)
        return now === undefined || now.replace(/^\uFEFF/, '') === text.replace(/^\uFEFF/, '') ? false : take({})
      }),
    async keep() {
      const { file, text } = kernel.config()
      if (file !== null) await replaceFile(join(kernel.dataDir, 'config.last-good.toml'), text, 0o600)
    },
  }
}

function unwritten(cause: unknown): GatewayError {
  const code = (cause as NodeJS.ErrnoException).code ?? 'error'
  return new GatewayError('conflict', `The config cannot be written to its file (${code}): nothing was changed.`, { cause })
}

/** Who sends back what was shown to him would write asterisks over his secrets. */
function refuseMask(value: unknown): void {
  if (value === '***')
    throw new GatewayError('validation_failed', 'A secret is shown as ***: leave it out of the patch, or send the new one, best as "env:NAME" or "file:PATH".')
  if (typeof value === 'object' && value !== null) for (const inner of Object.values(value)) refuseMask(inner)
}

function missing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined
  throw error
}

/** By rename: nobody ever reads half of it. Its mode stays; a new one is its owner's alone. */
async function replaceFile(path: string, text: string, mode?: number): Promise<void> {
  const draft = `${path}.${process.pid}.draft`
  const old = await stat(path).catch(missing)
  try {
    await rm(draft, { force: true })
    await writeFile(draft, text, { mode: mode ?? (old ? old.mode & 0o777 : 0o600), flag: 'wx' })
    await rename(draft, path)
  } catch (error) {
    await rm(draft, { force: true })
    throw error
  }
}

/** A start's errors, as what they are here: the caller's. */
function asAnswer(error: unknown): unknown {
  if (!isGatewayError(error)) return error
  const { message, details } = error
  const said = message.replace(/^The gateway cannot start/, 'The change was not taken')
  if (error.code === 'plan_invalid' || error.code === 'config_invalid') return new GatewayError('validation_failed', said, { details, cause: error })
  return error.code === 'plugin_failed' ? new GatewayError('conflict', said, { cause: error }) : error
}

/** The patch as the file writes it: a section that stands there under its other name, or a key of it under `[gateway]`, is changed there. */
function placed(patch: Table, text: string, sections: readonly ConfigSection[]): Table {
  const written = parse(text) as Table
  const has = (table: unknown, key: string, spelling: (name: string) => string) => isTable(table) && Object.keys(table).some((name) => spelling(name) === key)
  const out: Table = {}
  const put = (section: string, value: unknown) => {
    out[section] = isTable(out[section]) && isTable(value) ? { ...out[section], ...value } : value
  }
  for (const [key, value] of Object.entries(patch)) {
    const aliases = sections.find(({ id }) => id === toSectionId(key))?.aliases ?? []
    const other = aliases.find((alias) => !alias.includes('.') && has(written, alias, toSectionId) && !has(written, toSectionId(key), toSectionId))
    const moved: Table = {}
    const kept: Table = {}
    for (const [name, inner] of isTable(value) ? Object.entries(value) : []) {
      const isMoved = aliases.includes(`gateway.${fold(name)}`) && has(written.gateway, fold(name), fold)
      ;(isMoved ? moved : kept)[name] = inner
    }
    if (Object.keys(moved).length > 0) put('gateway', moved)
    if (!isTable(value) || Object.keys(kept).length > 0 || Object.keys(moved).length === 0) put(other ?? key, isTable(value) ? kept : value)
  }
  return out
}

/** Tables whose keys are names that somebody chose, such as providers. */
function namesIn(sections: readonly ConfigSection[]): (path: readonly string[]) => boolean {
  return (path) => {
    let schema: Table | undefined = sections.find(({ id }) => id === toSectionId(path[0] ?? ''))?.schema as Table | undefined
    for (const key of path.slice(1)) {
      const properties = (schema?.properties ?? {}) as Table
      schema = (properties[fold(key)] ?? Object.values((schema?.patternProperties ?? {}) as Table)[0]) as Table | undefined
    }
    return schema?.patternProperties !== undefined
  }
}

/** The secrets at or under a changed key. */
function secretsUnder(key: string, sections: readonly ConfigSection[]): string[] {
  const [id = '', ...path] = key.split('.')
  let schema: unknown = sections.find((section) => section.id === id)?.schema
  for (const part of path) {
    const { properties = {}, patternProperties = {} } = (schema ?? {}) as { properties?: Table; patternProperties?: Table }
    schema = properties[part] ?? Object.values(patternProperties)[0]
  }
  const holds = (node: unknown): boolean => typeof node === 'object' && node !== null && (isSecret(node) || Object.values(node).some(holds))
  return holds(schema) ? [key] : []
}

/** The log: LogTape behind the contract's `Logger`, to stderr, secrets redacted at the sink. */
import { configureSync, getJsonLinesFormatter, getLogger, getTextFormatter, type LogLevel, type LogRecord, type Sink } from '@logtape/logtape'
import type { Logger } from '../contract/plugin.ts'

/** Makes the logger of a plugin, or of `kernel`. */
export type LogFactory = (plugin: string) => Logger

/** How the process logs. */
export interface LogOptions {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly format: 'text' | 'json'
}

/** Secrets that must never be written: values known by config, and everything that looks like a bearer, a key or a ticket. */
export class Redactor {
  readonly #values = new Set<string>()

  /** Adds a value; shorter than 6 characters it would only garble the log. */
  add(value: string): void {
    if (value.length >= 6) this.#values.add(value)
  }

  /** The text without secrets. */
  apply(text: string): string {
    let out = text
    for (const value of this.#values) if (out.includes(value)) out = out.replaceAll(value, '***')
    return out
      .replace(/\b(ptk|ptl|tkt)_[A-Za-z0-9_-]{8,}/g, '$1_***')
      .replace(/(authorization["']?\s*[:=]\s*["']?\s*(?:bearer|basic)?\s*)[^\s"',}]+/gi, '$1***')
      .replace(/(bearer\s+)[A-Za-z0-9._~+/=-]{8,}/gi, '$1***')
      .replace(/([?&](?:token|ticket|key|api_key|access_token)=)[^&\s"']+/gi, '$1***')
  }
}

/** Configures the process-wide log and returns the factory. One call per process. */
export function configureLog(options: LogOptions, redactor: Redactor): LogFactory {
  const format = options.format === 'json' ? getJsonLinesFormatter() : getTextFormatter({ timestamp: 'rfc3339' })
  const sink: Sink = (record: LogRecord) => {
    process.stderr.write(redactor.apply(format(record)))
  }
  configureSync({
    reset: true,
    sinks: { stderr: sink },
    loggers: [
      { category: ['portico'], lowestLevel: logtapeLevel(options.level), sinks: ['stderr'] },
      { category: ['logtape', 'meta'], lowestLevel: 'error', sinks: ['stderr'] },
    ],
  })
  return (plugin) => {
    const logger = getLogger(['portico', plugin])
    return {
      debug: (message, properties) => logger.debug(escape(message, properties), properties ?? {}),
      info: (message, properties) => logger.info(escape(message, properties), properties ?? {}),
      warn: (message, properties) => logger.warn(escape(message, properties), properties ?? {}),
      error: (message, properties) => logger.error(escape(message, properties), properties ?? {}),
    }
  }
}

/** A log that keeps nothing, for in-process use. */
export const silentLog: LogFactory = () => ({ debug() {}, info() {}, warn() {}, error() {} })

const logtapeLevel = (level: LogOptions['level']): LogLevel => (level === 'warn' ? 'warning' : level)

/** LogTape's `{name}` placeholders are shown only for properties that exist; a text formatter shows no others, so they are appended. */
function escape(message: string, properties: Record<string, unknown> | undefined): string {
  const text = message.replaceAll('{', '{{').replaceAll('}', '}}')
  const names = Object.keys(properties ?? {})
  return names.length === 0 ? text : `${text} ${names.map((name) => `${name}={${name}}`).join(' ')}`
}

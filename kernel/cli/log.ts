/** The log of a running gateway: LogTape behind the contract's `Logger`, to stderr, secrets redacted at the sink. */
import { configureSync, getJsonLinesFormatter, getLogger, getTextFormatter, type LogLevel, type LogRecord, type Sink } from '@logtape/logtape'
import type { LogFactory, LogOptions, Redaction } from '../boot/log.ts'

/** Configures the process-wide log and returns the factory. One call per process. */
export function configureLog(options: LogOptions, redactor: Redaction): LogFactory {
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
  return loggerOf
}

/** The logger of a plugin, of `kernel`, or of `access`, once the log is configured. */
export const loggerOf: LogFactory = (plugin) => {
  const logger = getLogger(['portico', plugin])
  return {
    debug: (message, properties) => logger.debug(toTemplate(message, properties), properties ?? {}),
    info: (message, properties) => logger.info(toTemplate(message, properties), properties ?? {}),
    warn: (message, properties) => logger.warn(toTemplate(message, properties), properties ?? {}),
    error: (message, properties) => logger.error(toTemplate(message, properties), properties ?? {}),
  }
}

// A message may quote a stranger, who must not begin a line of his own or speak to the terminal.
const unprintable = /\p{Cc}|[\u2028\u2029]/gu

const escaped = (sign: string) => (sign === '\n' ? '\\n' : `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`)

const logtapeLevel = (level: LogOptions['level']): LogLevel => (level === 'warn' ? 'warning' : level)

/** LogTape's `{name}` placeholders are shown only for properties that exist; a text formatter shows no others, so they are appended. */
function toTemplate(message: string, properties: Record<string, unknown> | undefined): string {
  const text = message.replace(unprintable, escaped).replaceAll('{', '{{').replaceAll('}', '}}')
  const names = Object.keys(properties ?? {})
  return names.length === 0 ? text : `${text} ${names.map((name) => `${name}={${name}}`).join(' ')}`
}

/** What a log is to the kernel, and what never gets into it. The sink itself is the command's: see cli/log.ts. */
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
      .replace(/((?:authorization|x-api-key)[\\"']*\s*[:=]\s*[\\"']*\s*(?:bearer|basic)?\s*)[^\s\\"',}]+/gi, '$1***')
      .replace(/(bearer\s+)[A-Za-z0-9._~+/=-]{8,}/gi, '$1***')
      .replace(/([?&](?:token|ticket|key|api_key|access_token)=)[^&\s"']+/gi, '$1***')
  }
}

/** A log that keeps nothing, for in-process use. */
export const silentLog: LogFactory = () => ({ debug() {}, info() {}, warn() {}, error() {} })

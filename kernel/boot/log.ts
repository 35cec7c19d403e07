/** What a log is to the kernel. The sink, and how a secret is known in what comes to it, are the command's: see cli/log.ts. */
import type { KernelConfig } from '../config/index.ts'
import type { Logger } from '../contract/plugin.ts'

/** Makes the logger of a plugin, or of `kernel`. */
export type LogFactory = (plugin: string) => Logger

/** How the process logs. */
export type LogOptions = KernelConfig['log']

/** What never gets into a log or an event: see cli/redactor.ts. */
export interface Redaction {
  /** Learns a secret. */
  add(value: string): void
  /** The text without secrets. */
  apply(text: string): string
}

/** A log that keeps nothing, for in-process use. */
export const silentLog: LogFactory = () => ({ debug() {}, info() {}, warn() {}, error() {} })

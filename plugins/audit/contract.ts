/** Telling the operator of what may be an attack. */
import { defineService } from 'portico'

/** Warnings. */
export interface Security {
  /** Tells of it, in the log and as `security:warn`. Say the same at most once in a while. No secret may stand in it. */
  warn(kind: string, details: Readonly<Record<string, string | undefined>>): void
}

/** Provided by the plugin `audit`. */
export const security = defineService<Security>('security')

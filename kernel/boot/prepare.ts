/** What a start begins before the gateway's own modules are loaded. */
import { warmPglite } from '../store/pglite.ts'

/** Begins what takes longest, the embedded database's compilation; a gateway with `database.url` lets it go unused. Call it before `startGateway` is imported. */
export function prepareStart(): void {
  warmPglite()
}

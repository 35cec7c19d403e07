/** What other plugins may tell `GET /api/v1/health` and `GET /api/v1/status`. */
import { defineSlot } from 'portico'

/** A component's state, or a group of them: `{ llm_provider: 'ok', tools: { git: 'detected' } }`. */
export type ComponentStates = Readonly<Record<string, string | Readonly<Record<string, string>>>>

/** What a plugin contributes. Both are asked at most once a second, each under a deadline of one second. */
export interface StatusInfo {
  /** For `components` of `/api/v1/health`, which is open: no secrets, no paths. A state `down` or `degraded` makes the whole `degraded`. */
  health?(): ComponentStates | Promise<ComponentStates>
  /** Top-level keys of `/api/v1/status`, for callers with the scope rpc. */
  status?(): Readonly<Record<string, unknown>> | Promise<Readonly<Record<string, unknown>>>
}

/** Read by the plugin health. */
export const statusInfo = defineSlot<StatusInfo>('statusInfo')

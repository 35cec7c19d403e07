/** What may refuse a request because there are too many: limits are plugins' own, the kernel only asks them. */
import { defineSlot } from './refs.ts'
import type { RequestContext } from './request.ts'

/** Refuses by throwing `rate_limit_exceeded`; what it sets in `answerHeaders` shows in the answer. It is not asked about route groups that are `unlimited`. */
export interface RequestLimit {
  /** A request came, also one that no route takes; who is calling is not known yet. */
  arrived?(request: RequestContext): void | Promise<void>
  /** Its `principal` is known, and let in. */
  admitted?(request: RequestContext): void | Promise<void>
}

/** Asked by the kernel for every request and every upgrade of a socket, in `order`. A plugin that adds to it fails closed: the gateway does not start without it. */
export const requestLimits = defineSlot<RequestLimit>('requestLimits')

/** Counts a live stream or a socket that begins (1), of which its caller may have so many (`gateway.maxStreams`), or has ended (−1). */
export type StreamLimit = (request: RequestContext, by: 1 | -1, most: number) => void

/** Asked by the kernel for each. */
export const streamLimits = defineSlot<StreamLimit>('streamLimits')

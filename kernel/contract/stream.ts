/** Streamed answers: who says when one breaks. */
import type { RouteGroup } from './access.ts'
import { defineService } from './refs.ts'

const brand = Symbol.for('portico.self-reporting')

/** Marks a stream that reports its own failures, and returns it: the kernel passes it on as it is. Any other one it watches, at the price of a second reading, to name the plugin whose stream breaks. */
export function selfReporting<S extends ReadableStream>(stream: S): S {
  return Object.assign(stream, { [brand]: true })
}

/** True for what is marked so. */
export function isSelfReporting(stream: ReadableStream): boolean {
  return (stream as { [brand]?: true })[brand] === true
}

/** Looks after streamed answers on their way. */
export interface AnswerWatch {
  /** The answer, or one that passes it on. */
  watch(answer: Response, route: { readonly request: Request; readonly target?: { readonly template: string; readonly group: WatchedGroup } }): Response
}

/** Of which plugin an answer is. */
export type WatchedGroup = { readonly plugin: string } & Pick<RouteGroup, 'options'>

/** Asked by the kernel for each answer of a route. Without it nobody is named whose stream breaks. */
export const answerWatch = defineService<AnswerWatch>('answer-watch')

/** What a run's end means to whoever waited for its answer. */
import { errorTable, GatewayError } from 'portico'
import type { Run } from './contract.ts'

/** The run, if it was completed. @throws GatewayError what it ended by otherwise, with `retryAfter` */
export function wholeRun(run: Run): Run {
  const { id, state, error } = run
  if (state === 'completed') return run
  if (state !== 'failed' || !error) throw new GatewayError('conflict', `The run was ${state}; GET /v1/runs/${id} says more.`)
  const code = Object.hasOwn(errorTable, error.code) ? (error.code as keyof typeof errorTable) : 'unprocessable'
  throw new GatewayError(code, error.message, { retryAfter: error.retryAfter })
}

/** What the routes of runs have in common. */
import { t } from 'portico'

/** In the OpenAPI document. */
export const tags = ['runs']
/** An id of a run, an artifact. */
export const idOf = (description: string) => t.String({ pattern: '^[A-Za-z0-9_-]{1,100}$', description })
/** Of a run. */
export const id = idOf('run_…')
/** `/v1/runs/:id`. */
export const runParams = t.Object({ id })

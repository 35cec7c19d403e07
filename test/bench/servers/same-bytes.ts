/** Baseline: answers everything with the JSON given as its argument. Prints its URL. */
import { serve } from './serve.ts'

const body = process.argv[2] ?? ''
serve(() => new Response(body, { headers: { 'content-type': 'application/json' } }))

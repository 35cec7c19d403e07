/** Asks a port of this machine whether it is a model server of a kind. */
import { Agent, get, type IncomingMessage } from 'node:http'
import type { Kind } from './kinds.ts'

/** ms for one look. */
const deadlineMs = 1_000
const maxBytes = 1024 * 1024

/** `other` = something answers, but not as this kind; `silent` = nothing in time; `closed` = nobody listens. */
export type Sight = 'it' | 'other' | 'silent' | 'closed'

/** Looks once, within a second. It follows no redirect, and sends nothing but the request. Never rejects. */
export async function probe(kind: Kind, port: number, signal: AbortSignal): Promise<Sight> {
  const late = AbortSignal.timeout(deadlineMs)
  try {
    return (await kind.is((path) => getJson(port, path, AbortSignal.any([signal, late])))) ? 'it' : 'other'
  } catch {
    return late.aborted ? 'silent' : 'closed'
  }
}

/** By an agent that takes no proxy from the environment: `fetch` would, and on Deno a request without an agent. */
async function getJson(port: number, path: string, signal: AbortSignal): Promise<unknown> {
  const agent = new Agent({ keepAlive: false, proxyEnv: {} })
  try {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      get({ agent, host: '127.0.0.1', port, path, signal, headers: { accept: 'application/json', 'user-agent': 'portico' } }, resolve).on('error', reject)
    })
    return await readJson(response)
  } finally {
    agent.destroy()
  }
}

async function readJson(response: IncomingMessage): Promise<unknown> {
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of response) {
    size += piece.length
    if (size > maxBytes) return undefined
    pieces.push(piece)
  }
  if (response.statusCode !== 200) return undefined
  try {
    return JSON.parse(Buffer.concat(pieces).toString('utf8'))
  } catch {
    return undefined
  }
}

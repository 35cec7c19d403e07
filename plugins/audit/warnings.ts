/** Which finished requests are worth a warning: those whose error says so, at most one in ten seconds for each kind and address; of a flood from many addresses not all. */
import type { RequestRecord } from 'portico'
import type { Security } from './contract.ts'

const quietMs = 10_000
const maxWarned = 100

/** Makes the listener. What a client sent is cut to 200 characters. */
export function createWarnings(now: () => number, warn: Security['warn']): (record: RequestRecord) => void {
  const warned = new Map<string, number>()
  return (record) => {
    const { security } = record
    if (security === undefined) return
    const { address, requestId, request } = record
    const at = now()
    const key = `${security} ${address}`
    for (const [old, until] of warned) {
      if (until > at) break
      warned.delete(old)
    }
    if (warned.has(key) || warned.size >= maxWarned) return
    warned.set(key, at + quietMs)
    const sent = (name: string) => request.headers.get(name)?.slice(0, 200)
    warn(security, { address, requestId, host: sent('host'), origin: sent('origin') })
  }
}

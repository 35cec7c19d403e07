/** Events that are gathered for an SQL function of the publisher's. */
import { GatewayError, type Transaction } from 'portico'
import type { EventBatch } from './contract.ts'
import type { EventRecord } from './record.ts'

const nothingElse = 'The tx of a batch takes events and nothing else: it is no transaction, what it gathers is written by the call that gets its json().'

/** Makes batches; `onCommitted` hears when rows of one stand in the outbox. */
export function createBatches(onCommitted: () => void) {
  const gathered = new WeakMap<object, EventRecord[]>()
  return {
    open(): EventBatch {
      const rows: EventRecord[] = []
      const tx = new Proxy({}, { get: refuse }) as Transaction
      gathered.set(tx, rows)
      return {
        tx,
        json: () => JSON.stringify(rows),
        committed() {
          if (rows.length > 0) onCommitted()
        },
      }
    },
    /** True = it was the tx of a batch, and the row is in it. */
    take(tx: Transaction, row: EventRecord): boolean {
      const rows = gathered.get(tx)
      rows?.push(row)
      return rows !== undefined
    },
  }
}

function refuse(): never {
  throw new GatewayError('internal_error', nothingElse)
}

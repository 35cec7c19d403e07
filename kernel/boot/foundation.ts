/** What all plugins stand on: the plugins that keep the data folder, serve a database and open it, set up before the others; and the kernel's own parts that need no more. */
import { type Bus, createBus } from '../bus/bus.ts'
import { type DatabaseAccess, type DatabaseServer, database, databaseServer, type OpenDatabase } from '../contract/database.ts'
import { GatewayError } from '../contract/errors.ts'
import { kernel } from '../contract/kernel-service.ts'
import type { Clock } from '../contract/plugin.ts'
import { PlanError } from '../contract/problem.ts'
import { createFaults, type Faults } from './faults.ts'
import { Instance, type InstanceHost } from './instance.ts'
import type { LogFactory, Redactor } from './log.ts'
import type { Plan } from './plan.ts'
import { Slots } from './slots.ts'

/** What it is made from. */
export interface FoundationOptions {
  /** Of its plugins alone. */
  readonly plan: Plan
  readonly dataDir: string
  readonly clock: Clock
  readonly logFor: LogFactory
  readonly redactor: Redactor
  /** Takes what ends it, in order. */
  readonly undo: (() => Promise<unknown>)[]
}

/** What the other plugins are set up on. */
export interface Foundation {
  readonly host: InstanceHost
  readonly bus: Bus
  readonly slots: Slots
  readonly faults: Faults
  readonly database: OpenDatabase
  /** Of what serves it here. */
  readonly socketPath: string | null
  /** Its plugins, set up. */
  readonly instances: readonly Instance[]
}

/** Before it is open there are no transactions, and no error is its own. */
const closed: Pick<DatabaseAccess, 'inTransaction' | 'outsideTransaction' | 'isConnectionError'> = {
  inTransaction: () => false,
  outsideTransaction: (body) => body(),
  isConnectionError: () => false,
}

/** Sets its plugins up, one after the other. What is wrong with their descriptors and their config the whole plan says too. */
export async function layFoundation({ plan, dataDir, clock, logFor, redactor, undo }: FoundationOptions): Promise<Foundation> {
  const own = plan.problems.filter(({ where }) => plan.order.some(({ plugin }) => plugin.id === where))
  if (own.length > 0) throw new PlanError(own)
  for (const { value } of plan.resolved.secrets) redactor.add(value)
  let open: OpenDatabase | undefined
  const opened = () => open ?? closed
  const redact = (text: string) => redactor.apply(text)
  const faults = createFaults({ logFor, bus: () => bus, redact, database: opened })
  const bus = createBus({ clock, log: logFor('kernel'), onError: faults.report, database: opened })
  const slots = new Slots(faults.report, (error) => opened().isConnectionError(error))
  const dbOf = (plugin: string) => (open ?? refuse(plugin, 'db')).db
  const host: InstanceHost = { bus, slots, clock, dataDir, logFor, redact, onError: faults.report, dbOf }
  const instances: Instance[] = []
  const found = (id: string) => instances.map((each) => each.services().get(id)).find((service) => service !== undefined)
  for (const planned of plan.order) {
    const instance = new Instance({ ...planned, onFailure: 'abort' }, host)
    undo.push(() => instance.unwind('stopped'))
    const breaches = await instance.setup((id) => (id === kernel.id ? refuse(instance.id, `service "${id}"`) : found(id)))
    if (breaches.length > 0) throw new PlanError(breaches)
    instances.push(instance)
    open = found(database.id) as OpenDatabase | undefined
  }
  if (!open) throw new PlanError(plan.problems)
  const server = found(databaseServer.id) as DatabaseServer | undefined
  return { host, bus, slots, faults, database: open, socketPath: server?.socketPath ?? null, instances }
}

function refuse(plugin: string, what: string): never {
  throw new GatewayError('internal_error', `It is set up before the database is open: it has no ${what}.`, { plugin })
}

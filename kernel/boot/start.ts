/** Starts a gateway: the config, what holds the data while the rest still loads, the whole plan, all plugins, the listener. */
import { existsSync } from 'node:fs'
import { readConfig } from '../config/index.ts'
import { PlanError } from '../contract/problem.ts'
import { currentRuntime } from '../runtime/index.ts'
import { createGateway, type Gateway } from './gateway.ts'
import type { LoadedPlugin } from './load.ts'
import { silentLog } from './log.ts'
import { makePlan } from './plan.ts'
import { assertSound, type GatewayOptions, planFrom } from './planning.ts'

/** Starts a gateway. Rejects with a `PlanError` naming every problem, or with what kept it from starting; then nothing is left open. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const raw = readConfig(options)
  const finding = currentRuntime()
  let made: ReturnType<typeof createGateway> | undefined
  const lay = async (loaded: readonly LoadedPlugin[]) => {
    const plan = makePlan(loaded, raw, [])
    // What is wrong with the descriptors and the config of others the whole plan says.
    const own = plan.problems.filter(({ where }) => plan.order.some(({ plugin }) => plugin.id === where))
    if (own.length > 0) throw new PlanError(own)
    const logFor = options.log?.(plan.resolved.log) ?? silentLog
    made = createGateway({ plan, raw, options, logFor, runtime: await finding })
    await made.lay()
    return made
  }
  try {
    // The database opens in its own thread while the other plugins' modules load: start-up is the longer of the two, not their sum.
    const { promise: found, resolve: onFound } = Promise.withResolvers<readonly LoadedPlugin[]>()
    const planning = planFrom(raw, options, { onFound })
    // A folder that is not there yet is made when nothing is wrong any more: a start that is refused leaves none behind.
    const laying = (existsSync(raw.dataDir) && raw.problems.length === 0 ? found : planning.then(assertSound).then(() => found)).then(lay)
    const [planned, laid] = await Promise.allSettled([planning, laying])
    if (planned.status === 'rejected') throw planned.reason
    const plan = assertSound(planned.value)
    if (laid.status === 'rejected') throw laid.reason
    return await laid.value.start(plan)
  } catch (error) {
    await made?.stop()
    throw error
  }
}

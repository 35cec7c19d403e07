/** The plugin `diagnostics`: says who blocked the event loop or threw what nobody caught, and what is wrong with an installation. */
import { answerWatch, definePlugin, kernel, statSources, t } from 'portico'
import { createBlame } from './blame.ts'
import { type Sampler, startSampler } from './sampler.ts'
import { catchUncaught } from './uncaught.ts'
import { startWatchdog } from './watchdog.ts'
import { createAnswerWatch } from './watched.ts'

/** ms after the start before it is watched: beginning to sample takes Deno a fifth of a second, which is nobody's fault. */
const settlingMs = 1_000

export default definePlugin({
  id: 'diagnostics',
  version: '0.1.0',
  api: 1,
  summary: 'Names who blocks the event loop or throws what nobody catches; portico doctor',
  config: t.Object({
    blockedMs: t.Integer({ minimum: 50, maximum: 60_000, default: 500, description: 'ms from which on a blocked event loop is reported' }),
    sample: t.Boolean({ default: true, description: 'Looks twenty times a second where the code is, so that who blocked the loop can be named' }),
  }),
  requires: { kernel },
  provides: { answerWatch },
  adds: [statSources],
  commands: [{ name: 'doctor', summary: 'Say what is wrong, and what mends it', load: () => import('./cli.ts') }],
  setup(ctx) {
    const { kernel } = ctx.services
    const counters = { 'loop.blocked': 0, 'loop.blocked.milliseconds': 0 }
    let sampler: Sampler | null = null
    const watch = (thresholdMs: number) =>
      startWatchdog({
        ...{ thresholdMs, sampler },
        blame: (files) => blame().of(files),
        onBlocked(plugin, ms, place) {
          counters['loop.blocked']++
          counters['loop.blocked.milliseconds'] += Math.round(ms)
          const where = place ? ` in ${place.name} (${place.files[0]}:${place.line})` : ''
          kernel.report(plugin, 'the event loop', new Error(`it was blocked for ${Math.round(ms)} ms${where}. Nobody else was served meanwhile.`))
        },
      })
    ctx.add(statSources, () => ({ gauges: { 'loop.sampled': sampler ? 1 : 0 }, counters }))
    const blame = () => createBlame(kernel.plugins().flatMap(({ id, file }) => (file === undefined ? [] : [{ plugin: id, file }])))
    const { endProcess, report } = kernel
    if (endProcess) ctx.defer(catchUncaught({ blame: (error) => blame().ofError(error), report, endProcess }))
    return {
      services: { answerWatch: createAnswerWatch(report) },
      ready() {
        let stop = () => {}
        const begin = async () => {
          try {
            if (ctx.config.sample) {
              await ctx.clock.sleep(settlingMs, ctx.signal)
              sampler = await startSampler()
            }
          } catch (error) {
            if (!ctx.signal.aborted) ctx.log.warn('Nobody can be named who blocks the event loop: the runtime does not sample', { error })
          }
          if (!ctx.signal.aborted) stop = watch(ctx.config.blockedMs)
        }
        const begun = begin()
        ctx.defer(async () => {
          await begun
          stop()
          await sampler?.stop()
        })
      },
    }
  },
})

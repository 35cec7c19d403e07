/** The plugin `events`: the event stream over HTTP, recent activity, and tickets for browsers. */
import { authMethods, definePlugin, kernel, statSources } from 'portico'
import { endsConnections, keyChanged, keyRevoked, keyRotated, viaOfKey } from 'portico/plugins/auth-token'
import { eventLog } from 'portico/plugins/event-log'
import { activityRoutes, streamRoutes } from './routes.ts'
import { tickets as table } from './schema.ts'
import { createStreams } from './streams.ts'
import { createTickets } from './tickets.ts'

const housekeeping = 60_000

export default definePlugin({
  id: 'events',
  version: '0.1.0',
  api: 1,
  summary: 'Watch events over HTTP; tickets for browsers',
  requires: { kernel, eventLog },
  adds: [authMethods, statSources],
  paths: ['/api/events', '/api/activity', '/api/tickets'],
  tables: { tickets: table },
  migrations: new URL('./migrations', import.meta.url),
  commands: [{ name: 'events', summary: 'Watch events, list their types', load: () => import('./cli.ts') }],

  setup(ctx) {
    const { kernel, eventLog } = ctx.services
    const streams = createStreams({ kernel, eventLog, log: ctx.log })
    ctx.add(statSources, streams.stats)
    ctx.defer(streams.end)
    const tickets = createTickets({ db: ctx.db, clock: ctx.clock })
    ctx.add(authMethods, tickets.method, { order: 20 })
    // With cursors: a ticket must not outlive its key because the gateway stopped between the two.
    for (const ref of [keyChanged, keyRotated, keyRevoked]) {
      ctx.on(ref, ({ data }) => (endsConnections(data) ? tickets.lose(viaOfKey(data.id), data.version) : undefined))
      const forget = ({ data }: { data: { id: string; changed?: readonly string[]; version?: number } }) =>
        endsConnections(data) ? tickets.forget(viaOfKey(data.id), data.version) : undefined
      ctx.on(ref, forget, { cursor: `tickets-${ref.type.replace(':', '-')}` })
    }

    let loop = Promise.resolve()
    ctx.defer(() => loop)
    return {
      routes: [streamRoutes(streams), activityRoutes(kernel, eventLog, tickets)],
      ready() {
        loop = (async () => {
          while (!ctx.signal.aborted) {
            await ctx.clock.sleep(housekeeping, ctx.signal).catch(() => undefined)
            if (ctx.signal.aborted) return
            await tickets.sweep().catch((error) => ctx.log.warn('Housekeeping of tickets failed; it is tried again in a minute', { error }))
          }
        })()
      },
    }
  },
})

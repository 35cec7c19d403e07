/** The plugin `chat`: conversations with models over JSON, SSE and sockets, in the terminal, and on a page. */
import { definePlugin, t } from 'portico'
import { runListeners, runs } from 'portico/plugins/runs'
import { messageRateLimit } from 'portico/plugins/sockets'
import { pageRoutes } from './page.ts'
import { chatRoutes, ownerRoutes, sessionRoutes, streamRoutes } from './routes.ts'
import { chatSocket } from './socket.ts'
import { answersOf, chatEvents, createTurns } from './turns.ts'

export default definePlugin({
  id: 'chat',
  version: '0.1.0',
  api: 1,
  summary: 'Chat: /api/chat, /ws/chat, sessions, and a page at /app/',
  config: t.Object({
    model: t.Optional(t.String({ minLength: 1, description: '`provider/model` or an alias, when nobody names one; default the first model there is' })),
    system: t.Optional(t.String({ description: 'What every conversation begins with, as a message of the system' })),
    messageRateLimit,
    web: t.Object({ enabled: t.Boolean({ default: true, description: 'The page at /app/' }) }, { default: {} }),
    webDistPath: t.Optional(t.String({ description: 'Taken as it is written; the page that is served is the plugin’s own' })),
  }),
  events: chatEvents,
  requires: { runs },
  adds: [runListeners],
  paths: ['/api/chat', '/ws/chat', '/app'],
  migrations: new URL('./migrations', import.meta.url),
  commands: [{ name: 'chat', summary: 'Chat with a model in the terminal', load: () => import('./cli.ts') }],

  setup(ctx) {
    const { model, system, messageRateLimit, web } = ctx.config
    const { runs } = ctx.services
    const turns = createTurns({ runs, publish: ctx.publish, model, system })
    ctx.add(runListeners, answersOf(ctx.publish))
    return {
      routes: [
        chatRoutes(turns),
        streamRoutes(turns, ctx.log),
        sessionRoutes(runs.sessions),
        ownerRoutes(runs.sessions),
        ...(web.enabled ? [pageRoutes()] : []),
      ],
      sockets: [chatSocket({ turns, log: ctx.log, clock: ctx.clock, messageRateLimit })],
    }
  },
})

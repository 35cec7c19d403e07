/** The plugin `chat`: conversations with models over JSON, SSE and sockets, in the terminal, and on a page. */
import { definePlugin, t } from 'portico'
import { models } from 'portico/plugins/models'
import { pageRoutes } from './page.ts'
import { chatRoutes, sessionRoutes, streamRoutes } from './routes.ts'
import { messages, sessions as table } from './schema.ts'
import { createSessions } from './sessions.ts'
import { chatSocket } from './socket.ts'
import { chatEvents, createTurns } from './turns.ts'

export default definePlugin({
  id: 'chat',
  version: '0.1.0',
  api: 1,
  summary: 'Chat: /api/chat, /ws/chat, sessions, and a page at /app/',
  config: t.Object({
    model: t.Optional(t.String({ minLength: 1, description: '`provider/model` or an alias, when nobody names one; default the first model there is' })),
    system: t.Optional(t.String({ description: 'What every conversation begins with, as a message of the system' })),
    maxMessages: t.Integer({ minimum: 2, maximum: 10_000, default: 200, description: 'Of one session; older ones are forgotten' }),
    maxSessions: t.Integer({ minimum: 1, maximum: 100_000, default: 1_000, description: 'Of one principal; those unused for longest are forgotten' }),
    maxContext: t.Integer({
      minimum: 0,
      maximum: 100_000_000,
      default: 400_000,
      description: 'Characters of what was said before that go to the model with a message: the newest; about four are a token',
    }),
    maxImages: t.Integer({
      minimum: 0,
      maximum: 10_000_000,
      default: 1_000_000,
      description: 'Characters of one message’s images that stay in its session; of larger ones it says only that they were there. 0 = none stay',
    }),
    web: t.Object({ enabled: t.Boolean({ default: true, description: 'The page at /app/' }) }, { default: {} }),
    webDistPath: t.Optional(t.String({ description: 'Taken as it is written; the page that is served is the plugin’s own' })),
  }),
  events: chatEvents,
  requires: { models },
  paths: ['/api/chat', '/ws/chat', '/app'],
  tables: { sessions: table, messages },
  migrations: new URL('./migrations', import.meta.url),
  commands: [{ name: 'chat', summary: 'Chat with a model in the terminal', load: () => import('./cli.ts') }],

  setup(ctx) {
    const { model, system, maxMessages, maxSessions, maxContext, maxImages, web } = ctx.config
    const sessions = createSessions(ctx.db, ctx.clock, { maxMessages, maxSessions, maxContext, maxImages })
    const turns = createTurns({ models: ctx.services.models, sessions, publish: ctx.publish, log: ctx.log, model, system })
    return {
      routes: [chatRoutes(turns), streamRoutes(turns, ctx.log), sessionRoutes(sessions), ...(web.enabled ? [pageRoutes()] : [])],
      sockets: [chatSocket(turns, ctx.log)],
    }
  },
})

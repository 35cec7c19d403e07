/** The plugin `rpc`: JSON-RPC 2.0 over the socket `/ws`, with methods from every plugin. */
import { definePlugin, defineScope, hasScope, kernel, rpc, statSources, t } from 'portico'
import { eventLog } from 'portico/plugins/event-log'
import { messageRateLimit } from 'portico/plugins/sockets'
import { defineRpcMethod, plainFrames, type RpcMethod, rpcMethods } from './contract.ts'
import { createMethods, type Methods } from './methods.ts'
import { createSocket } from './socket.ts'
import { createSubscriptions, type Subscriptions } from './subscriptions.ts'

const ws = defineScope('ws', 'Use JSON-RPC over /ws')

export default definePlugin({
  id: 'rpc',
  version: '0.1.0',
  api: 1,
  summary: 'JSON-RPC 2.0 over /ws',
  config: t.Object({
    maxBatchSize: t.Integer({ minimum: 1, maximum: 1_000, default: 50, description: 'Members of one batch' }),
    maxMessageBytes: t.Integer({
      minimum: 1_024,
      maximum: 16_777_216,
      default: 1_048_576,
      description: 'Bytes of one message; larger ones end the connection (1009)',
    }),
    heartbeatMs: t.Integer({ minimum: 0, maximum: 3_600_000, default: 30_000, description: 'ms between two notifications "heartbeat"; 0 = none' }),
    messageRateLimit,
  }),
  scopes: [ws],
  requires: { kernel, eventLog },
  adds: [rpcMethods, statSources],
  slots: [rpcMethods, plainFrames],
  paths: ['/ws'],

  setup(ctx) {
    const { kernel, eventLog } = ctx.services
    const { heartbeatMs, ...limits } = ctx.config
    const methods = createMethods(() => ctx.items(rpcMethods), {
      report: (method, error) => kernel.report(ctx.id, method, error),
      twice: (name) => ctx.log.warn(`Two plugins bring the method ${name}: the first counts`),
    })
    const subscriptions = createSubscriptions({ kernel, eventLog, log: ctx.log, clock: ctx.clock })
    for (const method of ownMethods(methods, subscriptions)) ctx.add(rpcMethods, method)
    const socket = createSocket({ ...limits, methods, plain: () => ctx.items(plainFrames), clock: ctx.clock, scopes: [ws, rpc] })
    ctx.add(statSources, () => ({ gauges: { 'rpc.connections': socket.size }, counters: {} }))

    let beating = Promise.resolve()
    ctx.defer(() => beating)
    return {
      sockets: [socket.route],
      ready() {
        beating = (async () => {
          while (heartbeatMs > 0 && !ctx.signal.aborted) {
            await ctx.clock.sleep(heartbeatMs, ctx.signal).catch(() => undefined)
            if (!ctx.signal.aborted) socket.heartbeat()
          }
        })()
      },
    }
  },
})

function ownMethods(methods: Methods, subscriptions: Subscriptions): RpcMethod[] {
  const cursor = t.String({ description: 'A cursor <ms>-<n>' })
  const pattern = t.String({ pattern: '^(\\*|[a-z0-9_.-]+:(\\*|[a-z0-9_.-]+))$' })
  return [
    defineRpcMethod({
      ...{ name: 'system.describe', scope: ws, summary: 'The methods that you may call, with the schemas of their params and results' },
      params: t.Object({}),
      result: t.Object({
        methods: t.Array(t.Object({ name: t.String(), summary: t.String(), scope: t.String(), params: t.Unknown(), result: t.Unknown() })),
      }),
      run: (_, { principal }) => ({ methods: methods.describe((scope) => scope === ws.id || hasScope(principal, scope)) }),
    }),
    defineRpcMethod({
      ...{ name: 'events.subscribe', scope: rpc, summary: 'Get events as notifications "event", first what came since the cursor' },
      params: t.Object({
        types: t.Optional(t.Array(pattern, { minItems: 1, maxItems: 100, description: 'message:*, key:created; default all' })),
        since: t.Optional(cursor),
      }),
      result: t.Object({ subscription: t.String(), cursor }),
      run: (asked, { connection, answered }) => subscriptions.open(connection, asked, answered),
    }),
    defineRpcMethod({
      ...{ name: 'events.unsubscribe', scope: rpc, summary: 'End a subscription' },
      params: t.Object({ subscription: t.String() }),
      result: t.Object({ ended: t.Boolean() }),
      run: ({ subscription }, { connection }) => ({ ended: subscriptions.close(connection, subscription) }),
    }),
  ]
}

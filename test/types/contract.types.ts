/**
 * The plugin contract's types, as authors meet them. Never run: `tsc` and `deno check` read it, and each `@ts-expect-error` is a promise that the line below is refused.
 * A refusal that goes away is an error of the checker ("unused directive").
 */
import {
  type AuthMethod,
  admin,
  api,
  authMethods,
  defineEvent,
  definePlugin,
  defineScope,
  defineService,
  defineSlot,
  type EventRef,
  guard,
  kernel,
  type Logger,
  open,
  optional,
  rpc,
  secret,
  signed,
  t,
} from 'portico'

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
/** Compiles only if the two types are the same. */
function same<A, B>(..._: Same<A, B> extends true ? [] : [never]): void {}

const common = { version: '0.1.0', api: 1, summary: 'A probe' }
const paged = defineEvent('pager:paged', t.Object({ runId: t.String(), note: t.Optional(t.String()) }), { scope: rpc, durable: true })
const ringing = defineEvent('pager:ringing', t.Object({ times: t.Integer() }), { scope: rpc, durable: false })
const foreign = defineEvent('other:happened', t.Object({ x: t.Number() }), { scope: admin, durable: true })
const pager = defineService<{ page(text: string): Promise<void> }>('pager')
const media = defineService<{ store(bytes: Uint8Array): string }>('media')
const panels = defineSlot<{ title: string; render(): string }>('panels')

// Which TypeBox: `t` of `portico` is the copy that config, events and routes take, and a ref carries the data's type, never the schema's.
same<typeof paged, EventRef<'pager:paged', { note?: string; runId: string }, true>>()
same<EventRef['schema'], unknown>()

export const whole = definePlugin({
  ...common,
  id: 'pager',
  config: t.Object({ token: secret(), retries: t.Integer({ default: 3 }), mode: t.Enum(['loud', 'quiet']), label: t.Nullable(t.String()) }),
  events: [paged, ringing],
  scopes: [defineScope('page', 'Page somebody')],
  requires: { kernel },
  optional: { media },
  provides: { pager },
  paths: ['/pager'],
  adds: [authMethods],
  slots: [panels],
  commands: [{ name: 'pager', summary: 'Show the pager', load: async () => ({ default: { summary: 'Show', run: async ({ print }) => print({}, 'none') } }) }],
  async setup(ctx) {
    same<typeof ctx.config, { token: string; retries: number; mode: 'loud' | 'quiet'; label: string | null }>()
    same<typeof ctx.log, Logger>()
    ctx.on(paged, (event) => same<typeof event.data, { note?: string; runId: string }>())
    ctx.on(foreign, ({ data }) => same<typeof data, { x: number }>(), { cursor: 'pages', from: 'oldest' })
    const written = ctx.publish(paged, { runId: 'run_1' }, { principal: 'alice' })
    same<typeof written, Promise<void>>()
    await written
    const gone = ctx.publish(ringing, { times: 1 })
    same<typeof gone, void>()
    ctx.add(authMethods, { name: 'pager', authenticate: () => null } satisfies AuthMethod, { order: 10 })
    same<ReturnType<typeof ctx.services.kernel.plugins>[number]['id'], string>()
    same<typeof ctx.services.media, { store(bytes: Uint8Array): string } | undefined>()
    for (const panel of ctx.items(panels)) same<typeof panel.title, string>()

    // @ts-expect-error the data lacks runId
    void ctx.publish(paged, { note: 'x' })
    // @ts-expect-error runId is a string
    void ctx.publish(paged, { runId: 7 })
    // @ts-expect-error an event of somebody else
    void ctx.publish(foreign, { x: 1 })
    // @ts-expect-error the listener's data has no such field
    ctx.on(paged, ({ data }) => data.nope)
    // @ts-expect-error an item of another slot
    ctx.add(authMethods, { title: 'x', render: () => '' })
    // @ts-expect-error not a key of the config
    ctx.config.tokn
    // @ts-expect-error a service that was not asked for
    ctx.services.pager
    // @ts-expect-error an optional service may be absent
    ctx.services.media.store(new Uint8Array())

    return {
      routes: [
        open((app) => app.get('/pager', ({ principal, requestId, signal, loopback }) => [principal.id, requestId, signal.aborted, loopback])),
        optional(rpc, (app) => app.get('/pager/now', () => 'now')),
        guard([rpc, api], (app) =>
          app.post('/pager/:id', ({ params, body, query }) => `${params.id} ${body.text} ${query.limit ?? 1}`, {
            body: t.Object({ text: t.String() }),
            query: t.Object({ limit: t.Optional(t.String()) }),
          }),
        ),
        signed((app) => app.post('/pager/callback', ({ request }) => request.text()), { bodyLimit: 1_000 }),
      ],
      sockets: [{ path: '/pager/live', access: rpc, message: (socket, data) => void socket.send(data) }],
      services: { pager: { page: async (text: string) => void text } },
      async ready(signal) {
        signal.throwIfAborted()
      },
      reconfigure(config) {
        same<typeof config.retries, number>()
      },
    }
  },
})

// Defaults of the generics: who declares nothing may do nothing.
export const bare = definePlugin({
  ...common,
  id: 'bare',
  setup(ctx) {
    // @ts-expect-error it declares no events, so it may publish none
    void ctx.publish(paged, { runId: 'x' })
    // @ts-expect-error it requires nothing, so it has no services
    ctx.services.kernel
    // @ts-expect-error it has no config
    ctx.config.anything
  },
})

export const unpromised = definePlugin({
  ...common,
  id: 'unpromised',
  // @ts-expect-error services without `provides`: the result must not infer what is promised
  setup: () => ({ services: { pager: { page: async (_: string) => {} } } }),
})

export const broken = definePlugin({
  ...common,
  id: 'broken',
  provides: { pager },
  // @ts-expect-error it promises a service and returns none
  setup: () => ({ routes: [] }),
})

export const silent = definePlugin({
  ...common,
  id: 'silent',
  provides: { pager },
  // @ts-expect-error it promises a service and returns nothing
  setup: () => {},
})

export const other = definePlugin({
  ...common,
  id: 'other',
  provides: { pager },
  // @ts-expect-error the service has another shape
  setup: () => ({ services: { pager: { page: (count: number) => count } } }),
})

// A misspelt key in the result compiles, because TypeScript does not refuse extra keys there: boot does, by name.
export const misspelt = definePlugin({ ...common, id: 'misspelt', setup: () => ({ routes: [], sokets: [] }) })

// @ts-expect-error a descriptor without an id
export const nameless = definePlugin({ ...common, setup() {} })

// @ts-expect-error a key the descriptor does not know
export const extra = definePlugin({ ...common, id: 'extra', evnts: [paged], setup() {} })

// Scopes are refs: a string cannot be checked across plugins.
// @ts-expect-error a scope by its name
guard('rpc', (app) => app)
// @ts-expect-error one of them by its name
guard([rpc, 'api'], (app) => app)
// @ts-expect-error an event's scope by its name
defineEvent('a:happened', t.Object({}), { scope: 'rpc', durable: true })
// @ts-expect-error an event that does not say whether it is durable
defineEvent('a:happened', t.Object({}), { scope: rpc })
// @ts-expect-error a route group without a builder
open()

export const access = definePlugin({
  ...common,
  id: 'access',
  // @ts-expect-error routes without access: a bare function is no group
  setup: () => ({ routes: [(app: unknown) => app] }),
})

// `t` is plain JSON Schema: what is none is not there.
// @ts-expect-error a Date is no JSON
t.Date()
// @ts-expect-error coercion
t.Numeric()
// @ts-expect-error transforms
t.Transform(t.String())
// @ts-expect-error Elysia's files
t.File()

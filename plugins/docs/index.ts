/** The plugin `docs`: the documents of the API and of the events, and a page. */
import { definePlugin, type Kernel, kernel, open, t } from 'portico'
import { buildAsyncApi } from './asyncapi.ts'
import { pageHeaders, renderPage } from './page.ts'

const tags = ['docs']
const document = t.Record(t.String(), t.Unknown())
const index = {
  200: { description: 'The roots of each plugin', content: { 'application/json': { schema: document } } },
  302: { description: 'To the chat, for a browser' },
}
const html = { 200: { description: 'The page', content: { 'text/html': { schema: { type: 'string' as const } } } } }

export default definePlugin({
  id: 'docs',
  version: '0.1.0',
  api: 1,
  summary: 'OpenAPI, AsyncAPI, and a page to read them',
  requires: { kernel },
  paths: ['/', '/openapi.json', '/asyncapi.json', '/docs'],
  setup(ctx) {
    const { kernel } = ctx.services
    const openApi = untilChanged(
      () => routeParts(kernel),
      // Loaded when first asked for: a start has other things to do.
      async () => (await import('./openapi.ts')).buildOpenApi(kernel),
    )
    const asyncApi = untilChanged(
      () => kernel.eventTypes().map(({ ref }) => ref),
      () => buildAsyncApi(kernel),
    )
    const page = untilChanged(
      () => routeParts(kernel),
      async () => renderPage(await openApi()),
    )
    return {
      routes: [
        open((app) =>
          app
            .get(
              '/',
              ({ request }) => {
                const hasPage = kernel.routes().some(({ method, path }) => method === 'GET' && path === '/app')
                if (hasPage && request.headers.get('accept')?.includes('text/html'))
                  return new Response(null, { status: 302, headers: { vary: 'accept', location: '/app/' } })
                const surfaces = kernel.plugins().flatMap(({ id, descriptor: { paths = [] } }) => (paths.length > 0 ? [{ plugin: id, paths: [...paths] }] : []))
                return Response.json({ name: 'portico', surfaces })
              },
              { detail: { operationId: 'getIndex', summary: 'What there is, by plugin; a browser is shown the chat', tags, responses: index } },
            )
            .get('/openapi.json', () => openApi(), { response: document, detail: { operationId: 'getOpenApi', summary: 'This API as OpenAPI 3.1', tags } })
            .get('/asyncapi.json', () => asyncApi(), {
              response: document,
              detail: { operationId: 'getAsyncApi', summary: 'The events as AsyncAPI 3.1', tags },
            })
            .get('/docs', async () => new Response(await page(), { headers: pageHeaders }), {
              detail: { operationId: 'getDocs', summary: 'This API as a page', tags, responses: html },
            }),
        ),
      ],
    }
  },
})

function routeParts(kernel: Kernel): unknown[] {
  return [
    ...kernel.routeGroups().map(({ app }) => app),
    ...kernel
      .routes()
      .filter(({ plugin }) => plugin === 'kernel')
      .map(({ path }) => path),
  ]
}

/** Makes it once, and again when one of the parts is another. */
function untilChanged<T>(parts: () => readonly unknown[], make: () => T): () => T {
  let latest: { parts: readonly unknown[]; made: T } | undefined
  return () => {
    const now = parts()
    if (!latest || latest.parts.length !== now.length || now.some((part, index) => part !== latest?.parts[index])) latest = { parts: now, made: make() }
    return latest.made
  }
}

/** The page at `/app/`: its files, sent with headers that let nothing else load. */
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { resolveModulePath } from 'exsolve'
import { GatewayError, open, type RouteGroup } from 'portico'

const own = (name: string) => fileURLToPath(new URL(`./page/${name}`, import.meta.url).href)
const library = (name: string) => resolveModulePath(name, { from: import.meta.url, conditions: ['import', 'browser', 'default'] })

const script = 'text/javascript; charset=utf-8'
const files: Readonly<Record<string, { readonly type: string; readonly path: () => string }>> = {
  '': { type: 'text/html; charset=utf-8', path: () => own('index.html') },
  'app.js': { type: script, path: () => own('app.js') },
  'gateway.js': { type: script, path: () => own('gateway.js') },
  'events.js': { type: script, path: () => own('events.js') },
  'sse.js': { type: script, path: () => own('sse.js') },
  'markdown.js': { type: script, path: () => own('markdown.js') },
  'style.css': { type: 'text/css; charset=utf-8', path: () => own('style.css') },
  'icon.svg': { type: 'image/svg+xml', path: () => own('icon.svg') },
  'marked.js': { type: script, path: () => library('marked') },
  'purify.js': { type: script, path: () => library('dompurify') },
}

/** Scripts and styles from here only, none inline; images from here or inline: what a model writes can call nobody. */
const headers = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-cache',
}

/** `/app/` and what it loads. */
export function pageRoutes(): RouteGroup {
  const kept = new Map<string, Promise<Uint8Array>>()
  const send = async (name: string) => {
    const file = Object.hasOwn(files, name) ? files[name] : undefined
    if (!file) throw new GatewayError('not_found', 'The page has no such file: it is at /app/.')
    let bytes = kept.get(name)
    if (!bytes) {
      bytes = readFile(file.path())
      kept.set(name, bytes)
      bytes.catch(() => kept.delete(name))
    }
    return new Response((await bytes) as BodyInit, { headers: { ...headers, 'content-type': file.type } })
  }
  const tags = ['chat']
  const text = { schema: { type: 'string' as const } }
  const content = Object.fromEntries(Object.values(files).map(({ type }) => [type.replace(/;.*/, ''), text]))
  const responses = { 200: { description: 'The file', content } }
  return open((app) =>
    app
      .get('/app', () => send(''), { detail: { operationId: 'getApp', summary: 'The chat page', tags, responses } })
      .get('/app/*', ({ params }) => send(params['*']), { detail: { operationId: 'getAppFile', summary: 'A file of the chat page', tags, responses } }),
  )
}

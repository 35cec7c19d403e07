/** What stands between Elysia and the kernel: one adapter for both runtimes, which gives each handler its `RequestInfo` and reads JSON bodies strictly. */
import type { AnyElysia } from 'elysia'
import { WebStandardAdapter } from 'elysia/adapter/web-standard'
import type { RequestInfo } from '../contract/access.ts'
import { GatewayError } from '../contract/errors.ts'
import { contextOf } from '../contract/request.ts'
import type { Context } from './context.ts'

type Adapter = typeof WebStandardAdapter
type Mapper = Adapter['handler']['mapResponse']

/** The prototype of Elysia's context: nothing is computed for handlers that do not ask, and `signal` costs much. */
const requestInfo = Object.create(null)
for (const key of ['principal', 'requestId', 'signal', 'loopback'] satisfies (keyof RequestInfo)[]) {
  Object.defineProperty(requestInfo, key, {
    get(this: { request: Request }) {
      return contextOf(this.request)[key]
    },
  })
}

/** A body that was announced as JSON; `undefined` for an empty one where the schema allows none. */
async function readJson(request: Request, isOptional: boolean): Promise<unknown> {
  const bytes = await request.arrayBuffer()
  const { revocation } = contextOf(request) as Context
  // Nothing is done any more for a credential that was revoked while the body came in.
  if (revocation) throw revocation
  const text = decode(bytes)
  if (text === '' && isOptional) return undefined
  if (text === '') throw new GatewayError('invalid_json', 'The body is empty; this route takes a JSON body.')
  if (text.length > maxDepth && isDeeper(text)) throw new GatewayError('invalid_json', `The body is nested deeper than ${maxDepth} levels.`)
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw badJson(cause)
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** RFC 8259 §8.1: JSON is UTF-8. What is not would be stored as something else than what was sent. */
function decode(bytes: ArrayBuffer): string {
  try {
    return utf8.decode(bytes)
  } catch (cause) {
    throw badJson(cause)
  }
}

// Elysia shows a wrong value in its errors, indented: time and memory by the square of the depth (36 kB took 4 GB).
const maxDepth = 100

function isDeeper(text: string): boolean {
  let depth = 0
  let inString = false
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (inString) {
      if (code === 0x5c) at++
      else if (code === 0x22) inString = false
    } else if (code === 0x22) inString = true
    else if (code === 0x5b || code === 0x7b) {
      if (++depth > maxDepth) return true
    } else if (code === 0x5d || code === 0x7d) depth--
  }
  return false
}

const badJson = (cause: unknown) => new GatewayError('invalid_json', 'The body is not valid JSON.', { cause })

/** An `Error` that is returned instead of thrown must not be shown to the client either; and Elysia ends a stream that breaks as if it were whole. */
function throwErrors<M extends Mapper>(map: M): M {
  return ((response: unknown, ...rest: [never]) => {
    if (response instanceof Error) throw response
    if (response instanceof ReadableStream) return map(new Response(response as BodyInit, bytes), ...rest)
    return map(response, ...rest)
  }) as M
}

const { handler, composeHandler, composeGeneralHandler } = WebStandardAdapter

const bytes = { headers: { 'content-type': 'application/octet-stream' } }
const json = { headers: new Headers({ 'content-type': 'application/json' }) }
const mapOthers = throwErrors(handler.mapCompactResponse as Mapper)

/** The usual answer, a plain object, without a detour: made headers are copied faster than written ones are parsed. */
function toResponse(value: unknown, request: never): unknown {
  const kind = (value as object | null | undefined)?.constructor
  return kind === Object || kind === Array ? new Response(JSON.stringify(value), json) : mapOthers(value, request)
}

/** Elysia's web-standard adapter with our context and our JSON parser. The code strings are Elysia's contract for adapters; `compile.test.ts` holds them to the pinned version. */
export const kernelAdapter: Adapter = {
  ...WebStandardAdapter,
  name: 'portico',
  handler: {
    ...handler,
    mapResponse: throwErrors(handler.mapResponse),
    mapEarlyResponse: throwErrors(handler.mapEarlyResponse),
    mapCompactResponse: toResponse as Adapter['handler']['mapCompactResponse'],
  },
  composeHandler: {
    ...composeHandler,
    inject: { readJson },
    parser: { ...composeHandler.parser, json: (isOptional) => `c.body=await readJson(c.request,${isOptional === true})\n` },
  },
  composeGeneralHandler: {
    ...composeGeneralHandler,
    inject: { contextOf, requestInfo },
    createContext(app: AnyElysia) {
      const decorators = Object.keys(app.decorator).map((key) => `,${JSON.stringify(key)}:decorator[${JSON.stringify(key)}]`)
      const headers = (app as unknown as { setHeaders?: unknown }).setHeaders ? 'Object.assign({},app.setHeaders)' : 'Object.create(null)'
      // The path is the one that the kernel checked and matched: Elysia's own search for it is shifted by short Hosts and by https.
      return `const k=contextOf(r),u=k.url,qi=k.queryAt,p=k.path
const c={__proto__:requestInfo,request:r,store,qi,path:p,url:u,redirect,status,set:{headers:${headers},status:200}${decorators.join('')}}
`
    },
  },
}

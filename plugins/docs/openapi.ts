/** The OpenAPI 3.1 document: each group's app read by @elysiajs/openapi, merged over the plugins, with security and errors from what the kernel knows. */
import { toOpenAPISchema } from '@elysiajs/openapi/openapi'
import { type Access, errorTable, type JsonSchema, type Kernel, type RouteGroupInfo } from 'portico'
import { toJsonSchema } from './contract.ts'

/** An operation of the document. */
export type Operation = JsonSchema & { operationId: string; summary?: string; tags: string[]; security: JsonSchema[]; responses: Record<string, JsonSchema> }
/** The document, as far as it is read here. */
export type OpenApiDocument = JsonSchema & { paths: Record<string, Record<string, Operation>>; tags: { name: string; description: string }[] }

const verbs = new Set(['get', 'put', 'post', 'delete', 'options', 'head', 'patch', 'trace'])
const statuses = [400, 401, 403, 404, 429, 500, 503]

/** Makes the document from the routes as they are now. */
export function buildOpenApi(kernel: Pick<Kernel, 'routes' | 'routeGroups' | 'plugins' | 'version'>): OpenApiDocument {
  const paths: OpenApiDocument['paths'] = {}
  const schemas: JsonSchema = {}
  const ids = new Set<string>()
  const tagOwners = new Map<string, string>()
  const streams = new Set(
    kernel
      .routes()
      .filter((route) => route.stream)
      .map((route) => `${route.method} ${toTemplate(route.path)}`),
  )

  const put = (path: string, method: string, operation: Operation, plugin: string) => {
    operation.operationId = unique(operation.operationId, ids)
    for (const tag of operation.tags) if (!tagOwners.has(tag)) tagOwners.set(tag, plugin)
    const item = paths[path] ?? {}
    item[method] = operation
    paths[path] = item
  }

  for (const group of kernel.routeGroups()) {
    for (const { path, method, operation } of operationsOf(group, schemas)) {
      put(
        path,
        method,
        complete(operation, { path, method, plugin: group.plugin, access: group.access, stream: streams.has(`${method.toUpperCase()} ${path}`) }),
        group.plugin,
      )
    }
  }
  // The kernel's own index is no group's.
  for (const { plugin, method, path, access } of kernel.routes()) {
    const verb = method.toLowerCase()
    if (plugin !== 'kernel' || !verbs.has(verb) || verb === 'head' || verb === 'options' || paths[toTemplate(path)]?.[verb]) continue
    put(
      toTemplate(path),
      verb,
      complete({ summary: 'What this gateway serves', operationId: 'getIndex' }, { path: toTemplate(path), method: verb, plugin, access, stream: false }),
      plugin,
    )
  }

  const summaries = new Map(kernel.plugins().map(({ id, summary }) => [id, summary]))
  const document = {
    openapi: '3.1.1',
    info: {
      title: 'Portico',
      version: kernel.version,
      description: 'One gateway for AI agents. `/asyncapi.json` describes its events.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/', description: 'This gateway' }],
    tags: [...tagOwners]
      .map(([name, plugin]) => ({ name, description: summaries.get(plugin) ?? 'The gateway itself' }))
      .sort((a, b) => a.name.localeCompare(b.name)),
    paths: Object.fromEntries(Object.entries(paths).sort(([a], [b]) => a.localeCompare(b))),
    components: {
      schemas: { ...schemas, Error: errorSchema },
      responses: Object.fromEntries(statuses.map((status) => [`Error${status}`, errorResponse(status)])),
      securitySchemes,
    },
  }
  return JSON.parse(JSON.stringify(toJsonSchema(dropUnused(document)))) as OpenApiDocument
}

/** A path of Elysia's as OpenAPI writes it. */
export function toTemplate(path: string): string {
  return path.replace(/:([^/]+)/g, '{$1}').replace(/\*$/, '{rest}') || '/'
}

interface Found {
  path: string
  method: string
  operation: Partial<Operation> & JsonSchema
}

function operationsOf({ app, plugin }: RouteGroupInfo, schemas: JsonSchema): Found[] {
  const made = toOpenAPISchema(app, { staticFile: false, methods: ['options', 'head'] }, undefined, undefined, '3.1.1')
  const prefix = (value: unknown) =>
    JSON.parse(JSON.stringify(toJsonSchema(value)).replaceAll('"$ref":"#/components/schemas/', `"$ref":"#/components/schemas/${plugin}.`))
  for (const [name, schema] of Object.entries((made.components.schemas ?? {}) as JsonSchema)) schemas[`${plugin}.${name}`] = prefix(schema)
  return Object.entries(made.paths).flatMap(([path, item]) =>
    Object.entries(item ?? {})
      .filter(([method]) => verbs.has(method))
      .map(([method, operation]) => ({ path: toTemplate(path), method, operation: prefix(operation) })),
  )
}

interface Place {
  path: string
  method: string
  plugin: string
  access: Access
  stream: boolean
}

function complete(operation: Found['operation'], { path, method, plugin, access, stream }: Place): Operation {
  const guarded = access.kind === 'guard' || access.kind === 'optional'
  const parameters = [...((operation.parameters as JsonSchema[] | undefined) ?? [])]
  if (path.endsWith('{rest}') && !parameters.some(({ name }) => name === 'rest'))
    parameters.push({ name: 'rest', in: 'path', required: true, schema: { type: 'string' } })
  const responses: Record<string, JsonSchema> = { ...operation.responses }
  if (!Object.keys(responses).some((status) => status.startsWith('2') || status.startsWith('3')))
    responses[200] = { description: 'Done', content: { 'application/json': { schema: {} } } }
  const errors = [403, 429, 500, 503]
  if (parameters.length > 0 || operation.requestBody) errors.push(400)
  if (guarded) errors.push(401)
  if (path.includes('{')) errors.push(404)
  for (const status of errors) responses[status] ??= { $ref: `#/components/responses/Error${status}` }

  const credentials: JsonSchema[] = [{ bearer: [] }, { apiKey: [] }, ...(stream ? [{ ticket: [] }] : [])]
  return {
    // Linters want one of every operation, and third parties forget it.
    summary: `${method.toUpperCase()} ${path}`,
    ...operation,
    operationId: toOperationId(operation, method, path),
    tags: operation.tags ?? [plugin],
    security: access.kind === 'guard' ? credentials : access.kind === 'optional' ? [{}, ...credentials] : [],
    ...('scopes' in access ? { 'x-scopes': access.scopes.map(({ id }) => id) } : {}),
    ...(access.kind === 'signed' ? { 'x-signed': true } : {}),
    ...(parameters.length > 0 ? { parameters: parameters.map(plainParameter) } : {}),
    ...(operation.requestBody ? { requestBody: onlyJson(operation.requestBody as JsonSchema) } : {}),
    responses: Object.fromEntries(
      Object.entries(responses).map(([status, response]) => [status, '$ref' in response ? response : { description: 'Done', ...response }]),
    ),
  }
}

/** A query's integer is a number to Elysia, since only that is read from a string. */
function plainParameter(parameter: JsonSchema): JsonSchema {
  const schema = parameter.schema as JsonSchema | undefined
  if (!schema) return parameter
  const { description, multipleOf, ...rest } = schema
  const integer = schema.type === 'number' && multipleOf === 1
  return {
    ...parameter,
    ...(description === undefined ? {} : { description }),
    schema: integer ? { ...rest, type: 'integer' } : { ...rest, ...(multipleOf === undefined ? {} : { multipleOf }) },
  }
}

/** Without a declared parser the library lists every form; the gateway's default takes JSON only. */
function onlyJson(body: JsonSchema): JsonSchema {
  const content = body.content as JsonSchema | undefined
  const json = content?.['application/json']
  return content && json && 'multipart/form-data' in content ? { ...body, content: { 'application/json': json } } : body
}

/** As the route says, else method and path: `getApiKeysById`. The library's own guess may hold dots and dashes. */
function toOperationId(operation: Found['operation'], method: string, path: string): string {
  const said = operation.operationId
  if (said !== undefined && /^[A-Za-z][A-Za-z0-9_]*$/.test(said)) return said
  const words = path
    .split('/')
    .filter(Boolean)
    .flatMap((segment) => (segment.startsWith('{') ? ['by', segment.slice(1, -1)] : segment.split(/[^A-Za-z0-9]+/)).filter(Boolean))
  return method + (words.length > 0 ? words.map((word) => word.charAt(0).toUpperCase() + word.slice(1).replace(/[^A-Za-z0-9]/g, '')).join('') : 'Index')
}

function unique(id: string, taken: Set<string>): string {
  let free = id
  for (let n = 2; taken.has(free); n++) free = `${id}${n}`
  taken.add(free)
  return free
}

const errorSchema: JsonSchema = {
  type: 'object',
  description: 'The one error envelope',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['code', 'message', 'type', 'requestId'],
      properties: {
        code: { type: 'string', description: 'For programs' },
        message: { type: 'string', description: 'What, why, next step' },
        type: { type: 'string' },
        param: { type: ['string', 'null'], description: 'The offending field; null, or absent, when there is none' },
        details: {},
        requestId: { type: 'string' },
      },
    },
  },
}

function errorResponse(status: number): JsonSchema {
  const codes = Object.entries(errorTable).filter(([, kind]) => kind.status === status)
  const retry = status === 429 || status === 503 ? { headers: { 'Retry-After': { description: 'Seconds', schema: { type: 'integer' } } } } : {}
  return {
    description: codes.map(([code, { summary }]) => `${code}: ${summary}`).join('; '),
    ...retry,
    content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
  }
}

const securitySchemes: JsonSchema = {
  bearer: { type: 'http', scheme: 'bearer', description: 'A key made by POST /api/keys or `portico keys create`' },
  apiKey: { type: 'apiKey', in: 'header', name: 'X-Api-Key', description: 'The same key in a header of its own' },
  ticket: { type: 'apiKey', in: 'query', name: 'ticket', description: 'A ticket made by POST /api/tickets, for streams and sockets in a browser' },
}

function dropUnused<D extends { components: Record<string, JsonSchema> }>(document: D): D {
  const text = JSON.stringify(document)
  const { securitySchemes: schemes = {}, ...others } = document.components
  const kept = Object.fromEntries(
    Object.entries(others).map(([kind, entries]) => [
      kind,
      Object.fromEntries(Object.entries(entries).filter(([name]) => text.includes(`"#/components/${kind}/${name}"`))),
    ]),
  )
  const used = Object.fromEntries(Object.entries(schemes).filter(([name]) => text.includes(`{"${name}":[]}`)))
  return { ...document, components: { ...kept, ...(Object.keys(used).length > 0 ? { securitySchemes: used } : {}) } }
}

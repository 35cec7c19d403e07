/** The page at `/docs`: the OpenAPI document for people. One file, no script, nothing from elsewhere. */
import { createHash } from 'node:crypto'
import type { JsonSchema } from 'portico'
import type { OpenApiDocument, Operation } from './openapi.ts'

const style = `
:root{color-scheme:light dark;--line:#8884;--soft:#8882}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}
h1{margin-bottom:0}h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}
details{border:1px solid var(--line);border-radius:.4rem;margin:.4rem 0}
summary{padding:.4rem .7rem;cursor:pointer;display:flex;gap:.8rem;flex-wrap:wrap;align-items:baseline}
details>div{padding:0 .9rem .6rem}
.verb{font:700 .85rem ui-monospace,monospace;min-width:4.2rem}
code,pre{font:.87rem/1.45 ui-monospace,monospace}
pre{background:var(--soft);padding:.6rem;overflow:auto;border-radius:.3rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.2rem .6rem .2rem 0;border-bottom:1px solid var(--line)}
nav a{margin-right:.8rem}h3{margin:.9rem 0 .3rem;font-size:1rem}
`

/** The headers the page is sent with: nothing but its own style may load. */
export const pageHeaders: Readonly<Record<string, string>> = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy': `default-src 'none'; style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
}

/** The page. */
export function renderPage(document: OpenApiDocument): string {
  const sections = document.tags.map(({ name, description }) => {
    const operations = Object.entries(document.paths).flatMap(([path, item]) =>
      Object.entries(item)
        .filter(([, operation]) => operation.tags[0] === name)
        .map(([method, operation]) => renderOperation(path, method, operation)),
    )
    return operations.length === 0
      ? ''
      : `<section id="${escapeHtml(name)}"><h2>${escapeHtml(name)}</h2><p>${escapeHtml(description)}</p>${operations.join('')}</section>`
  })
  const links = document.tags.map(({ name }) => `<a href="#${escapeHtml(name)}">${escapeHtml(name)}</a>`).join(' ')
  const { title, version } = document.info as { title: string; version: string }
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${escapeHtml(title)} API</title><style>${style}</style></head>
<body><header><h1>${escapeHtml(title)} API</h1><p>Version ${escapeHtml(version)} · <a href="/openapi.json">openapi.json</a> · <a href="/asyncapi.json">asyncapi.json</a></p><nav aria-label="Sections">${links}</nav></header>
<main>${sections.join('')}</main></body></html>`
}

function renderOperation(path: string, method: string, operation: Operation): string {
  const scopes = operation['x-scopes'] as string[] | undefined
  const access = operation['x-signed']
    ? 'signed'
    : scopes
      ? `${operation.security.some((one) => Object.keys(one).length === 0) ? 'open, or ' : ''}scope ${scopes.join(' or ')}`
      : 'open'
  const body = (operation.requestBody as { content?: Record<string, { schema?: JsonSchema }> } | undefined)?.content
  return `<details id="${escapeHtml(operation.operationId)}"><summary><span class="verb">${method.toUpperCase()}</span><code>${escapeHtml(path)}</code><span>${escapeHtml(operation.summary ?? '')}</span></summary><div>
${typeof operation.description === 'string' ? `<p>${escapeHtml(operation.description)}</p>` : ''}<p>Access: ${escapeHtml(access)}</p>
${renderParameters(operation.parameters as Parameter[] | undefined)}
${body ? `<h3>Body</h3>${renderContent(body)}` : ''}
<h3>Answers</h3>${Object.entries(operation.responses)
    .map(([status, response]) => renderResponse(status, response))
    .join('')}
</div></details>`
}

interface Parameter {
  name: string
  in: string
  required?: boolean
  description?: string
  schema?: JsonSchema
}

function renderParameters(parameters: Parameter[] | undefined): string {
  if (!parameters?.length) return ''
  const rows = parameters.map(
    ({ name, in: place, required, description, schema }) =>
      `<tr><td><code>${escapeHtml(name)}</code></td><td>${escapeHtml(place)}${required ? ', required' : ''}</td><td>${escapeHtml(description ?? '')}</td><td><code>${escapeHtml(JSON.stringify(schema ?? {}))}</code></td></tr>`,
  )
  return `<h3>Parameters</h3><table><thead><tr><th>Name</th><th>Where</th><th>What</th><th>Schema</th></tr></thead><tbody>${rows.join('')}</tbody></table>`
}

function renderResponse(status: string, response: JsonSchema): string {
  if (typeof response.$ref === 'string') return `<p>${escapeHtml(status)}: the error envelope</p>`
  return `<p>${escapeHtml(status)}: ${escapeHtml(String(response.description ?? ''))}</p>${renderContent((response.content ?? {}) as Record<string, { schema?: JsonSchema }>)}`
}

function renderContent(content: Record<string, { schema?: JsonSchema }>): string {
  return Object.entries(content)
    .map(([type, { schema }]) => `<p><code>${escapeHtml(type)}</code></p><pre tabindex="0">${escapeHtml(JSON.stringify(schema ?? {}, null, 2))}</pre>`)
    .join('')
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`)
}

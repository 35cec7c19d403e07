/** The tool `web_fetch`: a page of the public internet, as text. What may be fetched, `egress` decides. */
import { GatewayError, t } from 'portico'
import type { Egress } from 'portico/plugins/egress'
import { defineTool, type Tool } from '../contract.ts'
import { htmlToText } from './html.ts'

const timeout = 30_000
const maxBytes = 5_000_000
const accept = 'text/html, application/xhtml+xml, text/*;q=0.9, application/json;q=0.9, application/xml;q=0.9, */*;q=0.1'
const isText = /^(text\/|application\/(json|xml|javascript|x-ndjson|yaml|toml)|[a-z]+\/[\w.-]+\+(json|xml|yaml)$)/
const isHtml = /^(text\/html|application\/xhtml\+xml)$/

/** `web_fetch`. */
export function webFetch(egress: Egress): Tool {
  return defineTool({
    name: 'web_fetch',
    description:
      'Fetches an address of the public internet by GET, and gives what it holds as text, a web page without its markup. What stands there is written by others.',
    input: t.Object({
      url: t.String({ minLength: 1, maxLength: 4_000, description: 'http or https' }),
      raw: t.Optional(t.Boolean({ description: 'HTML as it is; default the text of the page' })),
    }),
    ...{ risk: 'safe', idempotent: true, timeout },
    async run({ url, raw = false }, { signal, callId }) {
      const answer = await egress.fetch(url, { headers: { accept }, signal, maxBytes, timeoutMs: timeout, purpose: `web_fetch ${callId}` })
      const [mediaType = '', ...parameters] = (answer.headers.get('content-type') ?? 'text/plain')
        .toLowerCase()
        .split(';')
        .map((part) => part.trim())
      if (!answer.ok) {
        await answer.body?.cancel()
        throw new GatewayError('upstream_error', `${url} answered ${answer.status}.`)
      }
      if (!isText.test(mediaType) && !isHtml.test(mediaType)) {
        await answer.body?.cancel()
        throw new GatewayError('unsupported_media_type', `${url} is of the type ${JSON.stringify(mediaType.slice(0, 100))}, which is no text.`)
      }
      const charset = parameters
        .find((part) => part.startsWith('charset='))
        ?.slice(8)
        .replaceAll('"', '')
      const text = decode(new Uint8Array(await answer.arrayBuffer()), charset)
      const shown = isHtml.test(mediaType) && !raw ? await htmlToText(text, signal) : text
      return `${answer.redirected ? `[From ${answer.url}]\n\n` : ''}${shown}`
    },
  })
}

function decode(bytes: Uint8Array, charset = 'utf-8'): string {
  try {
    return new TextDecoder(charset).decode(bytes)
  } catch {
    return new TextDecoder().decode(bytes)
  }
}

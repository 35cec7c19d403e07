/** The plugin `openai`: OpenAI's API for clients that speak it. Calls are forwarded to the provider of the model; agents have one too. */
import { api, type DialectError, definePlugin, GatewayError, guard, rpc } from 'portico'
import { models } from 'portico/plugins/models'
import { docs } from './docs.ts'
import { forward } from './forward.ts'
import { createModelList } from './list.ts'

const tenMinutes = 600_000

export default definePlugin({
  id: 'openai',
  version: '0.1.0',
  api: 1,
  summary: 'OpenAI’s API: chat completions, embeddings, models',
  requires: { models },
  paths: ['/v1/chat/completions', '/v1/embeddings', '/v1/models'],
  setup(ctx) {
    const options = { models: ctx.services.models, log: ctx.log }
    const list = createModelList(ctx.services.models)
    return {
      routes: [
        guard(
          [api, rpc],
          (app) =>
            app
              .post('/v1/chat/completions', ({ request }) => forward('chat', request, options), { parse: 'none', detail: docs.chat })
              .post('/v1/embeddings', ({ request }) => forward('embeddings', request, options), { parse: 'none', detail: docs.embeddings }),
          { deadline: tenMinutes, dialect },
        ),
        guard(
          [api, rpc],
          (app) =>
            app
              .get('/v1/models', () => list.all(), { detail: docs.models })
              .get('/v1/models/*', ({ params }) => list.one(decode(params['*'])), { detail: docs.model }),
          { dialect },
        ),
      ],
    }
  },
})

/** OpenAI's error object (https://platform.openai.com/docs/guides/error-codes), and the request's id. */
function dialect({ message, type, param, code, details, requestId }: DialectError) {
  return { error: { message, type, param: param ?? null, code, ...(details === undefined ? {} : { details }), requestId } }
}

/** Names hold slashes, which some clients encode. */
function decode(path: string): string {
  try {
    return decodeURIComponent(path)
  } catch (error) {
    throw badPath(error)
  }
}

function badPath(cause: unknown): GatewayError {
  return new GatewayError('invalid_request', 'The path is not properly percent-encoded.', { cause })
}

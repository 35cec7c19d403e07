/** What the API document says of these routes. Bodies pass untouched, so the schemas name what the gateway itself looks at, and let the rest be OpenAI's. */

// Literal types, as the route's `detail` wants them.
const object = 'object' as const
const string = 'string' as const
const array = 'array' as const
const integer = 'integer' as const
const boolean = 'boolean' as const

const tags = ['openai']
const more = { additionalProperties: true }
const model = { type: string, description: '`provider/model`, an alias, the name of a model that only one provider has, or `agent/<id>`: a run of that agent' }
const json = (schema: object) => ({ content: { 'application/json': { schema } } })
const listed = {
  type: object,
  required: ['id', 'object', 'created', 'owned_by'],
  properties: {
    id: { type: string },
    object: { type: string, enum: ['model'] },
    created: { type: integer },
    owned_by: { type: string },
    description: { type: string },
  },
}

/** OpenAPI's `detail` of each route. */
export const docs = {
  chat: {
    operationId: 'createChatCompletion',
    summary: 'Chat with a model, streamed or not',
    description: 'Forwarded byte for byte; only the value of `model` is replaced. A stream that breaks ends in a frame with `error`, without `[DONE]`.',
    tags,
    requestBody: {
      required: true,
      ...json({
        type: object,
        required: ['model', 'messages'],
        properties: { model, messages: { type: array, items: { type: object, ...more } }, stream: { type: boolean } },
        ...more,
      }),
    },
    responses: {
      200: {
        description: 'The provider’s answer as it is',
        content: {
          'application/json': { schema: { type: object, description: '`chat.completion`', ...more } },
          'text/event-stream': { schema: { type: string, description: 'Frames of `chat.completion.chunk`, then `[DONE]`' } },
        },
      },
    },
  },
  embeddings: {
    operationId: 'createEmbedding',
    summary: 'Embed texts',
    description: 'Forwarded byte for byte; only the value of `model` is replaced.',
    tags,
    requestBody: { required: true, ...json({ type: object, required: ['model', 'input'], properties: { model, input: {} }, ...more }) },
    responses: { 200: { description: 'The provider’s answer as it is', ...json({ type: object, ...more }) } },
  },
  models: {
    operationId: 'listModels',
    summary: 'The models of all providers',
    tags,
    responses: {
      200: {
        description: 'Every model, sorted by id',
        ...json({ type: object, required: ['object', 'data'], properties: { object: { type: string, enum: ['list'] }, data: { type: array, items: listed } } }),
      },
    },
  },
  model: {
    operationId: 'retrieveModel',
    summary: 'One model; its id may hold slashes',
    tags,
    responses: { 200: { description: 'The model', ...json(listed) } },
  },
}

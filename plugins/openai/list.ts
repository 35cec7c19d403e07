/** `GET /v1/models` as bytes, made once for each state of the catalog. */
import { GatewayError } from 'portico'
import type { ListedModel, Models } from 'portico/plugins/models'

/** Made headers are copied faster than written ones are parsed. */
const json = new Headers({ 'content-type': 'application/json' })
const encoder = new TextEncoder()

/** Answers both forms. */
export interface ModelList {
  all(): Response | Promise<Response>
  /** Throws `model_not_found`. */
  one(id: string): Promise<Response>
}

/** Keeps the encoded list until the catalog's changes. */
export function createModelList(models: Models): ModelList {
  let list: readonly ListedModel[] | undefined
  let bytes = new Uint8Array(0)

  function respond(now: readonly ListedModel[]): Response {
    if (now !== list) {
      list = now
      bytes = encoder.encode(JSON.stringify({ object: 'list', data: now.map(toWire) }))
    }
    return new Response(bytes, { headers: json })
  }

  return {
    all() {
      const now = models.list()
      return now instanceof Promise ? now.then(respond) : respond(now)
    },
    async one(id) {
      const found = (await models.list()).find((model) => model.id === id)
      if (found) return Response.json(toWire(found))
      throw new GatewayError('model_not_found', `The model "${id.slice(0, 200)}" does not exist. GET /v1/models lists what there is.`, { param: 'model' })
    },
  }
}

function toWire({ id, created, ownedBy, description }: ListedModel) {
  return { id, object: 'model', created, owned_by: ownedBy, ...(description === undefined ? {} : { description }) }
}

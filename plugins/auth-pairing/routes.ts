/** `POST /pair` for the device, `/api/pairing` for who runs the gateway. */
import { admin, contextOf, GatewayError, guard, isGatewayError, open, type RouteGroup, t } from 'portico'
import type { DeviceKeys } from 'portico/plugins/auth-token'
import type { GuessLimit } from 'portico/plugins/limits'
import type { Codes } from './codes.ts'
import { deviceName } from './device-name.ts'

const tags = ['auth']
const bodyLimit = 4_096
const moment = t.String({ format: 'date-time', description: 'RFC 3339, UTC' })

/** `POST /pair`: the code for a key. Which rights it has, nothing in the request decides. An address that guesses too much kills no more codes. */
export function pairRoute(codes: Codes, devices: DeviceKeys, guesses?: GuessLimit): RouteGroup {
  return open(
    (app) =>
      app.post(
        '/pair',
        async ({ request, set }) => {
          const code = request.headers.get('x-pairing-code')?.trim()
          const next = 'Send the header X-Pairing-Code with the code the gateway showed at its start, or that "portico pair" shows.'
          if (!code) throw new GatewayError('missing_credentials', `There is no pairing code in the request. ${next}`, { param: 'X-Pairing-Code' })
          const name = deviceName(nameOf(await request.text()), request.headers.get('user-agent'))
          const { address } = contextOf(request)
          guesses?.check(address)
          const giveBack = await codes.take(code).catch((error: unknown) => {
            if (isGatewayError(error) && isMiss(error)) guesses?.missed(address)
            throw error
          })
          const { id, key, scopes } = await devices.issue(name, request).catch(async (error: unknown) => {
            await giveBack().catch(() => undefined)
            throw error
          })
          set.headers['cache-control'] = 'no-store'
          return { paired: true as const, token: key, id, name, scopes: [...scopes] }
        },
        {
          parse: 'none',
          response: t.Object({
            paired: t.Literal(true),
            token: t.String({ description: 'The device’s key: shown this once' }),
            id: t.String({ description: 'Of the key, for /api/keys' }),
            name: t.String(),
            scopes: t.Array(t.String()),
          }),
          detail: {
            operationId: 'pair',
            summary: 'Exchange a pairing code for the key of a device',
            tags,
            parameters: [{ name: 'X-Pairing-Code', in: 'header', required: true, schema: { type: 'string' } }],
            requestBody: {
              required: false,
              content: { 'application/json': { schema: { type: 'object', properties: { name: { type: 'string' } }, additionalProperties: true } } },
            },
          },
        },
      ),
    { bodyLimit, audit: true },
  )
}

/** `POST /api/pairing`: a new code, beside the devices that are paired. */
export function pairingRoute(codes: Codes, devices: DeviceKeys, isRequired: boolean): RouteGroup {
  return guard(
    admin,
    (app) =>
      app.post(
        '/api/pairing',
        async ({ body, request, set }) => {
          const isWanted = !body?.first || (isRequired && (await devices.count()) === 0)
          const made = isWanted ? await codes.renew() : null
          set.headers['cache-control'] = 'no-store'
          return { code: made?.code ?? null, expiresAt: made?.expiresAt.toISOString() ?? null, url: new URL('/', request.url).href }
        },
        {
          body: t.Optional(t.Object({ first: t.Optional(t.Boolean({ description: 'Only when pairing is required and no device is paired yet' })) })),
          response: t.Object({
            code: t.Nullable(t.String({ description: 'Good for ten minutes, five attempts and one device; null = none was made' })),
            expiresAt: t.Nullable(moment),
            url: t.String({ description: 'Of the gateway' }),
          }),
          detail: { operationId: 'createPairingCode', summary: 'Make a pairing code; the one before is dead', tags },
        },
      ),
    { bodyLimit },
  )
}

/** Also when no code is waiting: whoever tries on is guessing. */
const isMiss = ({ code }: GatewayError) => code === 'missing_credentials' || code === 'forbidden'

/** The `name` of a JSON body; whatever else comes is nobody's name. */
function nameOf(body: string): string | undefined {
  try {
    const { name } = JSON.parse(body) as { name?: unknown }
    return typeof name === 'string' ? name : undefined
  } catch {
    return undefined
  }
}

import { describe, expect, test } from 'bun:test'
import { definePlugin, guard, rpc, t } from 'portico'
import { startTestGateway } from 'portico/testkit'

const nested = (levels: number) => '['.repeat(levels) + ']'.repeat(levels)

describe('a JSON body', () => {
  test('nested deeper than 100 levels is refused before it is parsed, on every plugin’s route; brackets in strings do not count', async () => {
    const takers = definePlugin({
      ...{ id: 'takers', version: '1.0.0', api: 1, summary: 'Takes JSON', paths: ['/take'] },
      setup: () => ({
        routes: [
          guard(rpc, (app) => app.post('/take', ({ body }) => ({ depth: JSON.stringify(body.value).length }), { body: t.Object({ value: t.Unknown() }) })),
        ],
      }),
    })
    await using gateway = await startTestGateway({ only: [takers] })
    const send = (value: string) => gateway.json('/take', { method: 'POST', body: `{"value":${value}}` })
    expect((await send(nested(99))).status).toBe(200)
    expect((await send(JSON.stringify(nested(5_000)))).status).toBe(200)
    for (const levels of [100, 18_000, 500_000]) {
      const { status, body } = await send(nested(levels))
      expect({ status, code: body.error.code }).toEqual({ status: 400, code: 'invalid_json' })
      expect(body.error.message).toContain('100 levels')
    }
  })
})

import { describe, expect, test } from 'bun:test'
import { type AuthMethod, GatewayError, guard, rpc } from 'portico'
import { as, testHttp } from '../../test/fixtures/http.ts'
import type { Security } from './contract.ts'
import { createWarnings } from './warnings.ts'

describe('warnings', () => {
  const told = async (authMethods?: AuthMethod[]) => {
    const warnings: string[] = []
    const room = await testHttp({ routes: [guard(rpc, (app) => app.get('/t', 'x'))], authMethods })
    const warn: Security['warn'] = (kind, { address, requestId, host, origin }) => void warnings.push([kind, address, requestId, host, origin].join(' '))
    room.http.onRequest(createWarnings(() => room.time, warn))
    const at = (host: string, from: string, headers: Record<string, string> = {}) =>
      room.http.handle(new Request(`http://${host}/t`, { headers: { host, 'x-request-id': 'r', ...headers } }), { address: from })
    return { warnings, at, room }
  }

  test('of a foreign Host or Origin come once in ten seconds for each kind and address', async () => {
    const { warnings, at, room } = await told()
    for (let n = 0; n < 5; n++) {
      await at('evil.example', '10.0.0.1')
      await at('evil.example', '10.0.0.2')
      await at('127.0.0.1:4766', '10.0.0.1', { origin: `https://evil.example${'x'.repeat(300)}` })
    }
    const [one, two, three = ''] = warnings
    expect([warnings.length, one, two]).toEqual([3, 'foreign_host 10.0.0.1 r evil.example ', 'foreign_host 10.0.0.2 r evil.example '])
    expect(three).toStartWith('foreign_origin 10.0.0.1 r 127.0.0.1:4766 https://evil.examplexxx')
    expect(three.length).toBeLessThan(260)
    room.time += 9_999
    await at('evil.example', '10.0.0.1')
    expect(warnings).toHaveLength(3)
    room.time += 1
    await at('evil.example', '10.0.0.1')
    expect(warnings).toHaveLength(4)
  })

  test('of guessing come when the bound on guesses is reached, not for a wrong key', async () => {
    const { warnings, at } = await told([
      {
        name: 'guesses',
        authenticate({ token }) {
          if (token !== 'over') return null
          throw new GatewayError('rate_limit_exceeded', 'Too many.', { security: 'auth_failures' })
        },
      },
    ])
    await at('127.0.0.1:4766', '10.0.0.1', as('wrong').headers)
    expect(warnings).toEqual([])
    const answer = await at('127.0.0.1:4766', '10.0.0.1', as('over').headers)
    expect(warnings).toEqual(['auth_failures 10.0.0.1 r 127.0.0.1:4766 '])
    expect(await answer.text()).not.toContain('auth_failures')
  })

  test('are bounded, whatever number of addresses gives cause', async () => {
    const { warnings, at, room } = await told()
    for (let n = 0; n < 1_000; n++) await at('evil.example', `10.0.${n >> 8}.${n & 255}`)
    expect(warnings).toHaveLength(100)
    room.time += 10_000
    await at('evil.example', '10.9.9.9')
    expect(warnings).toHaveLength(101)
  })
})

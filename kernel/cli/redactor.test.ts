import { describe, expect, test } from 'bun:test'
import { inspect } from 'node:util'
import { Redactor } from './redactor.ts'

describe('the log never shows', () => {
  const redactor = new Redactor()
  redactor.add('canary-secret-value')
  const lines = {
    'a secret of the config': 'upstream said canary-secret-value is wrong',
    'a bearer': 'authorization: Bearer abcdefghijklmnop',
    'a bearer in JSON': '{"authorization":"Bearer abcdefghijklmnop"}',
    'a key of ours': 'key ptk_abcdefgh_ijklmnop was used',
    'the local token': 'ptl_abcdefghijklmnop',
    'a bearer in JSON within JSON': '"{\\"authorization\\":\\"Bearer abcdefghijklmnop\\"}"',
    'a bare authorization': "{ authorization: 'abcdefghijklmnop' }",
    'an API key': '{"x-api-key":"abcdefghijklmnop"}',
    'an API key in JSON within JSON': '"{\\"x-api-key\\":\\"abcdefghijklmnop\\"}"',
    'an API key as it is shown by a runtime': "Headers { 'X-Api-Key': 'abcdefghijklmnop' }",
    'a basic credential': 'Authorization: Basic abcdefghijklmnop==',
    'a token in a query': 'GET /api/events?types=x&token=abcdefghijklmnop HTTP/1.1',
    'a ticket in a query': 'GET /api/events?ticket=abcdefghijklmnop',
  }
  for (const [name, line] of Object.entries(lines)) {
    test(name, () => {
      const shown = redactor.apply(line)
      expect(shown).toContain('***')
      expect(shown).not.toContain('ijklmnop')
      expect(shown).not.toContain('canary')
    })
  }

  test('a secret in any of the spellings a formatter gives it', () => {
    const odd = 'pa"ss\\w\'o/rd'
    const strict = new Redactor()
    strict.add(odd)
    strict.add('postgres://gate:db%2Fpass-word@db.example/portico')
    const spellings = [odd, JSON.stringify({ odd }), JSON.stringify(JSON.stringify({ odd })), inspect({ odd }), `?x=${encodeURIComponent(odd)}`]
    for (const text of [...spellings, 'postgres://gate:db%2Fpass-word@db.example/portico', 'db/pass-word', 'db%2Fpass-word']) {
      expect(strict.apply(text)).toContain('***')
      expect(strict.apply(text)).not.toMatch(/rd\b/)
    }
  })

  test('and leaves the rest as it is', () => {
    expect(redactor.apply('GET /v1/models 200 in 3 ms')).toBe('GET /v1/models 200 in 3 ms')
  })
})

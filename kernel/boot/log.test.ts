import { describe, expect, test } from 'bun:test'
import { Redactor } from './log.ts'

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

  test('and leaves the rest as it is', () => {
    expect(redactor.apply('GET /v1/models 200 in 3 ms')).toBe('GET /v1/models 200 in 3 ms')
  })
})

import { describe, expect, test } from 'bun:test'
import type { Principal } from 'portico'
import { assertGrantable, isUsable } from './keys.ts'

const granter = (...scopes: string[]): Principal => ({ id: 'p', kind: 'user', scopes, groups: [], via: 'token:p' })
const known = ['rpc', 'api', 'admin', 'mcp-client']
const codeOf = (call: () => void): string | undefined => {
  try {
    call()
  } catch (error) {
    return (error as { code?: string }).code
  }
  return undefined
}

describe('the scopes of a new key', () => {
  test('are at most the granter’s', () => {
    expect(codeOf(() => assertGrantable(granter('rpc'), ['rpc'], 'user', known))).toBeUndefined()
    expect(codeOf(() => assertGrantable(granter('rpc'), ['rpc', 'api'], 'user', known))).toBe('insufficient_scope')
    expect(codeOf(() => assertGrantable(granter('rpc', 'api'), ['admin'], 'user', known))).toBe('insufficient_scope')
  })

  test('may be any for an administrator', () => {
    expect(codeOf(() => assertGrantable(granter('admin'), known, 'user', known))).toBeUndefined()
  })

  test('must exist; the nearest is named', () => {
    expect(() => assertGrantable(granter('admin'), ['admn'], 'user', known)).toThrow('did you mean "admin"?')
    expect(codeOf(() => assertGrantable(granter('admin'), ['admn'], 'user', known))).toBe('validation_failed')
  })

  test('never decide approvals for an agent', () => {
    expect(codeOf(() => assertGrantable(granter('admin'), ['admin'], 'agent', known))).toBe('forbidden')
    expect(codeOf(() => assertGrantable(granter('admin'), ['rpc'], 'agent', known))).toBeUndefined()
  })
})

test('a key is usable until it expires or is revoked', () => {
  const at = (ms: number) => new Date(ms)
  expect(isUsable({ revokedAt: null, expiresAt: null }, 5)).toBe(true)
  expect(isUsable({ revokedAt: null, expiresAt: at(6) }, 5)).toBe(true)
  expect(isUsable({ revokedAt: null, expiresAt: at(5) }, 5)).toBe(false)
  expect(isUsable({ revokedAt: at(1), expiresAt: null }, 5)).toBe(false)
})

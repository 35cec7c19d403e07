import { afterAll, describe, expect, spyOn, test } from 'bun:test'
import { resetSync } from '@logtape/logtape'
import { configureLog } from './log.ts'
import { Redactor } from './redactor.ts'

afterAll(() => resetSync())

function logged(format: 'text' | 'json', message: string, properties?: Record<string, unknown>): string {
  let text = ''
  const redactor = new Redactor()
  redactor.add('pa"ss\\word')
  const log = configureLog({ level: 'info', access: false, format }, redactor)('portal')
  const write = spyOn(process.stderr, 'write').mockImplementation((chunk) => {
    text += String(chunk)
    return true
  })
  try {
    log.error(message, properties)
  } finally {
    write.mockRestore()
  }
  return text
}

describe.each(['text', 'json'] as const)('the log as %s', (format) => {
  test('is one line a record, whatever the message quotes: nobody else begins a line', () => {
    const text = logged(format, 'upstream said: no\r\n2026-01-01T00:00:00.000Z [INF] portico·kernel: all is well\u2028\u001b[2J\u009b2J {braces}', { n: 1 })
    expect(text.trimEnd().split(/\r\n|[\r\n\u2028\u2029]/)).toHaveLength(1)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(text.trimEnd()).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/)
    expect(text).toContain('all is well')
    expect(text).toContain('{braces}')
  })

  test('shows no secret, in the message or beside it', () => {
    expect(logged(format, 'wrong: pa"ss\\word', { password: 'pa"ss\\word', deep: { password: 'pa"ss\\word' } })).not.toMatch(/ss\\+word/)
  })
})

/** The kernel reads both spellings of a key, and the plugin `settings` finds keys in the file by them: each has its own functions, which must agree. */
import { expect, test } from 'bun:test'
import fc from 'fast-check'
import * as kernel from '../../kernel/config/table.ts'
import * as settings from '../../plugins/settings/spelling.ts'

test('the kernel and settings fold keys and sections alike', () => {
  const key = fc.string({ unit: fc.constantFrom('a', 'B', 'z', '7', '_', '-', '.', 'é') })
  fc.assert(
    fc.property(key, (text) => {
      expect(settings.fold(text)).toBe(kernel.fold(text))
      expect(settings.toSectionId(text)).toBe(kernel.toSectionId(text))
    }),
    { numRuns: 2_000 },
  )
})

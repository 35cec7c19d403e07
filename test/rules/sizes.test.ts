import { expect, test } from 'bun:test'
import { isTest, linesOfCode, projectFiles, report } from './source.ts'

/** The plan allows 3,500 lines (docs/decisions/0008-kernel-budget.md); what was reached may only be lowered. */
const budget = 3_497
const files = projectFiles()
  .filter((file) => /^(kernel|plugins|channels|test)\//.test(file.path))
  .map((file) => ({ path: file.path, lines: linesOfCode(file.text) }))

test('the kernel does not grow: lines of code without cli, testkit and tests', () => {
  const rooms: Record<string, number> = {}
  for (const { path, lines } of files) {
    const room = /^kernel\/([^/]+)\//.exec(path)?.[1]
    if (room && room !== 'cli' && room !== 'testkit' && !isTest(path)) rooms[room] = (rooms[room] ?? 0) + lines
  }
  const total = Object.values(rooms).reduce((sum, lines) => sum + lines, 0)
  expect(total).toBeGreaterThan(500)
  if (total > budget)
    report(
      `the kernel has ${total} lines of code, ${total - budget} over its budget`,
      Object.entries(rooms).map(([room, lines]) => `${room} ${lines}`),
    )
})

test('a file says one thing: at most 300 lines of code in the kernel, 350 elsewhere', () => {
  const limit = (path: string) => (path.startsWith('kernel/') && !isTest(path) ? 300 : 350)
  report(
    'file sizes',
    files
      .filter(({ path, lines }) => !path.endsWith('.test.ts') && lines > limit(path))
      .map(({ path, lines }) => `${path} has ${lines} lines of code, ${limit(path)} are allowed`),
  )
})

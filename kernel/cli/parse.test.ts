import { describe, expect, test } from 'bun:test'
import type { Command } from './command.ts'
import { type CommandSource, parseCommandLine, UsageError } from './parse.ts'

const create: Command = {
  summary: 'Make',
  args: {
    name: { type: 'positional', summary: 'Its name', required: true },
    scope: { type: 'string', summary: 'A scope', multiple: true },
    maxAge: { type: 'string', summary: 'How old', default: '7', alias: 'm' },
    force: { type: 'boolean', summary: 'Whatever' },
  },
  run: async () => undefined,
}
const known: Record<string, Command> = { keys: { summary: 'Keys', commands: { create, list: { summary: 'List', run: async () => undefined } } } }
const source: CommandSource = { find: async (name) => known[name], names: async () => ['start', 'keys'] }
const parse = (line: string) => parseCommandLine(line === '' ? [] : line.split(' '), source)
const refusal = (line: string) =>
  parse(line).then(
    () => 'understood',
    (error) => (error instanceof UsageError ? `${error.message} [${error.path.join(' ')}]` : String(error)),
  )

describe('a command line', () => {
  test('names a command, its arguments and flags, in any order', async () => {
    expect(await parse('keys create me --scope a --max-age=5 --scope b')).toMatchObject({
      path: ['keys', 'create'],
      command: create,
      args: { name: 'me', scope: ['a', 'b'], maxAge: '5' },
    })
    expect((await parse('--json keys --data-dir /x create -m 5 me')).args).toEqual({ json: true, dataDir: '/x', maxAge: '5', name: 'me' })
    expect((await parse('keys create me')).args).toEqual({ name: 'me', maxAge: '7' })
  })
  test('after -- everything is an argument', async () => {
    expect((await parse('keys create -- --scope')).args.name).toBe('--scope')
  })
  test('may be empty, or ask for help without what is required', async () => {
    expect(await parse('')).toMatchObject({ command: null, path: [] })
    expect((await parse('keys create --help')).args.help).toBe(true)
    expect((await parse('keys create -h')).args.help).toBe(true)
  })
  test.each([
    ['kyes', 'unknown command kyes; did you mean keys? []'],
    ['keys craete x', 'unknown command keys craete; did you mean create? [keys]'],
    ['keys create x --scpoe y', 'unknown flag --scpoe; did you mean --scope? [keys create]'],
    ['keys create x --scope=', '--scope needs a value: --scope <value> [keys create]'],
    ['keys create x --scope --force', '--scope needs a value: --scope <value> [keys create]'],
    ['keys create x --scope', '--scope needs a value: --scope <value> [keys create]'],
    ['keys create x --max-age 1 --max-age 2', '--max-age is given twice [keys create]'],
    ['keys create x --force=yes', '--force takes no value [keys create]'],
    ['keys create x y', 'unexpected argument "y" [keys create]'],
    ['keys create', 'NAME is missing: Its name [keys create]'],
    ['keys list --version', 'unknown flag --version [keys list]'],
    ['--config', '--config needs a value: --config <file> []'],
    ['constructor', 'unknown command constructor []'],
    ['keys toString', 'unknown command keys toString [keys]'],
  ])('is refused: %s', async (line, message) => {
    known.constructor = undefined as never
    expect(await refusal(line)).toBe(message)
  })
})

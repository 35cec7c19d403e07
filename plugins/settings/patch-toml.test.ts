import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { GatewayError } from 'portico'
import { parse } from 'smol-toml'
import { patchToml } from './patch-toml.ts'

const file = `#:schema ./portico.schema.json
# The gateway of the house
plugins = ["./a.ts"] # ours

[gateway]
port = 4766          # the default
hosts = [
  "a.example",  # the old name
  "b.example",
]
# host = "0.0.0.0"
rate_limit = { window_ms = 1000, max_requests = 5 } # tight

# Who may come in
[[auth_token.tokens]]
id = "ci"          # the builds
secret = "env:CI"

# a person
[[auth_token.tokens]]
id = "ann"
secret = "env:ANN"

[bus]
retention.max_age_days = 3 # dotted
`

/** The lines that went and those that came. */
function changes(text: string, patch: Record<string, unknown>, options?: Parameters<typeof patchToml>[2]) {
  const [before, after] = [text.split('\n'), patchToml(text, patch, options).split('\n')]
  const less = (from: string[], other: string[]) => other.reduce((rest, line) => rest.toSpliced(rest.indexOf(line), rest.includes(line) ? 1 : 0), from)
  return { gone: less(before, after), new: less(after, before) }
}

describe('a value', () => {
  test('is changed where it stands: comment, spacing and spelling stay', () => {
    expect(changes(file, { gateway: { port: 80 } })).toEqual({ gone: ['port = 4766          # the default'], new: ['port = 80          # the default'] })
    expect(changes(file, { gateway: { rateLimit: { maxRequests: 9 } } }).new).toEqual(['rate_limit = { window_ms = 1000, max_requests = 9 } # tight'])
    expect(changes(file, { bus: { retention: { maxAgeDays: 4 } } }).new).toEqual(['retention.max_age_days = 4 # dotted'])
    expect(changes(file, { 'auth-token': { tokens: [] } }).new).toEqual(['[auth_token]', 'tokens = []'])
  })

  test('that is equal is not touched', () => {
    expect(patchToml(file, { gateway: { port: 4766, hosts: ['a.example', 'b.example'] }, bus: {}, log: null })).toBe(file)
  })

  test('is written as TOML, whatever it is', () => {
    const value = ['q"u\\o\n\u007f\u0000té', -1.5, 1e21, 9007199254740992, true, [], {}, { 'a b': { c: [{ d: 1 }] } }]
    expect(parse(patchToml('a = 1 # here', { a: value })) as unknown).toEqual({ a: value })
    expect(patchToml('a = 1', { a: -0 })).toBe('a = 0')
    expect(patchToml('a = 1', { a: { b: 2 } })).toBe('a = { b = 2 }')
  })

  test('that is a list takes as many lines as the one before', () => {
    expect(changes(file, { gateway: { hosts: ['c.example', 'd.example'] } }).new).toEqual(['  "c.example",', '  "d.example",'])
    expect(changes(file, { plugins: ['b'] }).new).toEqual(['plugins = [ "b" ] # ours'])
  })
})

describe('a key', () => {
  test('goes into its table, below the last key there', () => {
    expect(patchToml(file, { gateway: { maxStreams: 2 } })).toBe(file.replace('# tight\n', '# tight\nmaxStreams = 2\n'))
    expect(patchToml('  [a]\n  b = 1\n\n[c]', { a: { d: 2 }, c: { e: 3 } })).toBe('  [a]\n  b = 1\n  d = 2\n\n[c]\ne = 3\n')
  })

  test('goes into inline tables and beside dotted keys', () => {
    expect(changes(file, { gateway: { rateLimit: { burst: 2 } } }).new).toEqual(['rate_limit = { window_ms = 1000, max_requests = 5, burst = 2 } # tight'])
    expect(changes(file, { bus: { retention: { maxRows: 5 } } })).toEqual({ gone: [], new: ['retention.maxRows = 5'] })
    expect(patchToml('a = { b.c = 1 }\n', { a: { b: { d: { e: 2 } } } })).toBe('a = { b.c = 1, b.d = { e = 2 } }\n')
    expect(patchToml('a = {}', { a: { 'b c': 2 } })).toBe('a = { "b c" = 2 }')
    expect(patchToml('a = { # none\n}', { a: { b: 2 } })).toBe('a = { b = 2 # none\n}')
  })

  test('gets a header where its table has none, behind the comments that end the section before', () => {
    const text = '[a]\nb = 1\n# c = 2\n\n# about d\n[d]\n'
    expect(patchToml(text, { a: { e: { f: { g: 1 } } } })).toBe('[a]\nb = 1\n# c = 2\n\n[a.e.f]\ng = 1\n\n# about d\n[d]\n')
    expect(patchToml('[a.b]\nc = 1\n', { a: { d: 2 } })).toBe('[a.b]\nc = 1\n\n[a]\nd = 2\n')
    expect(patchToml('', { log: { level: 'debug' }, top: 1 })).toBe('top = 1\n\n[log]\nlevel = "debug"\n')
  })

  test('at the top stands above the first section and its comments, below the line for editors', () => {
    expect(patchToml('#:schema ./s.json\n# The gateway\n[gateway]\n', { plugins: ['a'] })).toBe(
      '#:schema ./s.json\n\nplugins = [ "a" ]\n\n# The gateway\n[gateway]\n',
    )
  })

  test('is deleted with its line; tables with all that is in them; comments of their own stay', () => {
    expect(changes(file, { gateway: { port: null } })).toEqual({ gone: ['port = 4766          # the default'], new: [] })
    expect(changes(file, { gateway: { rateLimit: { windowMs: null } } }).new).toEqual(['rate_limit = { max_requests = 5 } # tight'])
    expect(changes(file, { gateway: { rateLimit: { maxRequests: null } } }).new).toEqual(['rate_limit = { window_ms = 1000 } # tight'])
    expect(patchToml('a = { b = 1, # of b\n c = 2, }', { a: { b: null } })).toBe('a = { # of b\n c = 2, }')
    expect(patchToml('a = { b = 1 }', { a: { b: null } })).toBe('a = { }')
    expect(patchToml('[a]\nb = 1\n\n# above\n[c]\nd = 1\n[c.e]\n\n[f]\n', { c: null })).toBe('[a]\nb = 1\n\n# above\n\n[f]\n')
  })

  test('that was the last leaves an empty table', () => {
    expect(patchToml('a.b.c = 1\n', { a: { b: { c: null } } })).toBe('[a.b]\n')
    expect(patchToml('[a]\nb = 1\n', { a: { b: null } })).toBe('[a]\n')
  })
})

describe('an entry of a [[list]]', () => {
  const [ci, ann] = [
    { id: 'ci', secret: 'env:CI' },
    { id: 'ann', secret: 'env:ANN' },
  ]
  const bob = { id: 'bob', secret: 'env:BOB' }
  const set = (...tokens: unknown[]) => patchToml(file, { authToken: { tokens } })

  test('is added without touching the others', () => {
    const added = '[[auth_token.tokens]]\nid = "bob"\nsecret = "env:BOB"\n\n'
    expect(set(ci, ann, bob)).toBe(file.replace('[bus]', `${added}[bus]`))
    expect(set(bob, ci, ann)).toBe(file.replace('# Who', `${added}# Who`))
    expect(set(ci, bob, ann)).toBe(file.replace('# a person', `${added}# a person`))
  })

  test('is removed, and changed in its place', () => {
    expect(set(ann)).toBe(file.replace('[[auth_token.tokens]]\nid = "ci"          # the builds\nsecret = "env:CI"\n\n', '').replace('in\n#', 'in\n\n#'))
    expect(set(ci)).toBe(file.replace('[[auth_token.tokens]]\nid = "ann"\nsecret = "env:ANN"\n', ''))
    expect(set(ci, bob)).toBe(file.replace('"ann"', '"bob"').replace('env:ANN', 'env:BOB'))
    expect(set(bob, ann)).toBe(file.replace('"ci"          # the builds', '"bob"').replace('env:CI', 'env:BOB'))
    expect(parse(set(ann, ci, ann)).auth_token as unknown).toEqual({ tokens: [ann, ci, ann] })
  })
})

describe('a value of another kind', () => {
  test('stands where the first of the tables stood that it replaces', () => {
    const [tokens, rest] = [file.slice(file.indexOf('[[auth_token'), file.indexOf('[bus]')), { authToken: { tokens: [] } }]
    expect(patchToml(file, rest)).toBe(file.replace(tokens, '[auth_token]\ntokens = []\n\n# a person\n\n'))
    const text = '[a]\nb = 1\n\n# of c\n[a.c.d]\ne = 1\n\n[a.f]\n\n[a.c.g]\n\n[h]\n'
    expect(patchToml(text, { a: { c: [{ i: 1 }, { i: 2 }] } })).toBe('[a]\nb = 1\n\n# of c\n[[a.c]]\ni = 1\n\n[[a.c]]\ni = 2\n\n[a.f]\n\n[h]\n')
    expect(patchToml('[x]\n\n[[y.z]]\n\n[w]\n', { y: { z: 'none' } })).toBe('[x]\n\n[y]\nz = "none"\n\n[w]\n')
    expect(patchToml('[x]\n\n[[y.z]]', { y: { z: 2 } })).toBe('[x]\n\n[y]\nz = 2\n')
    // Where its table has a place already, that is the place.
    expect(patchToml(text, { a: { c: 2 } })).toBe('[a]\nb = 1\nc = 2\n\n# of c\n\n[a.f]\n\n[h]\n')
  })
})

describe('the text around', () => {
  test('keeps its line breaks, its byte order mark and its missing last line break', () => {
    expect(patchToml('\uFEFF[a]\r\nb = [\r\n  1,\r\n]\r\n', { a: { b: [2], c: 'x\ny' }, d: {} })).toBe(
      '\uFEFF[a]\r\nb = [\r\n  2,\r\n]\r\nc = "x\\ny"\r\n\r\n[d]\r\n',
    )
    expect(patchToml('a = 1 # one', { a: 2 })).toBe('a = 2 # one')
    expect(patchToml('a = 1 # one', { b: 2 })).toBe('a = 1 # one\nb = 2\n')
  })

  test('is not taken for keys: strings and comments that look like TOML', () => {
    const text = 'a = """\n[b]\nc = 1 # no\n"""\n# [b]\n# c = 1\n[b] # [c]\nc = "]" # = 2\n'
    expect(patchToml(text, { b: { c: 3 } })).toBe(text.replace('"]"', '3'))
  })
})

describe('names that somebody chose', () => {
  const text = '[pager.lines.my_line]\nport = 1\n'
  test('are taken as written where the caller says so', () => {
    const holdsNames = (path: readonly string[]) => path.join('.') === 'pager.lines'
    expect(parse(patchToml(text, { pager: { lines: { myLine: { port: 2 } } } }, { holdsNames }))).toMatchObject({
      pager: { lines: { my_line: { port: 1 }, myLine: { port: 2 } } },
    })
    expect(patchToml(text, { pager: { lines: { myLine: { port: 2 } } } })).toBe(text.replace('1', '2'))
  })
})

describe('what cannot be written is refused', () => {
  const refusal = (text: string, patch: Record<string, unknown>) => {
    try {
      return patchToml(text, patch)
    } catch (error) {
      return error instanceof GatewayError ? { code: error.code, message: error.message } : error
    }
  }
  test.each([
    ['null in a list', { a: [null] }],
    ['a key that reaches a prototype', JSON.parse('{ "a": { "__proto__": { "b": 1 } } }')],
    ['half a character', { a: '\uD800' }],
    ['half a character in a key', { '\uD800': 1 }],
  ])('%s', (_, patch) => {
    expect(refusal('a = 1\n', patch)).toMatchObject({ code: 'unprocessable' })
  })

  test('a file that is not TOML is named by its place, and not quoted', () => {
    const error = refusal('[a]\ntoken = "hunter2hunter2\n', { a: null }) as { code: string; message: string }
    expect(error).toMatchObject({ code: 'config_invalid', message: expect.stringMatching(/line \d+, column \d+/) })
    expect(JSON.stringify(error)).not.toContain('hunter2')
  })

  test('a text that does not read back as what was asked for', () => {
    expect(refusal('a = 1\n', { a: 10n })).toMatchObject({ code: 'internal_error' })
  })
})

/** RFC 7396, §2. */
function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isTable(patch)) return patch
  const out: Record<string, unknown> = isTable(target) ? { ...target } : {}
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete out[key]
    else out[key] = mergePatch(out[key], value)
  }
  return out
}
const isTable = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)

/** A line of a file, or a value on several: what it says, and where that belongs; `lists` are the paths of the `[[lists]]` around it. */
interface Piece {
  readonly text: string
  readonly path: readonly string[]
  readonly kind: 'entry' | 'comment' | 'header'
  readonly lists: readonly (readonly string[])[]
}

const keys = ['port', 'host', 'max_age', 'a', 'b', 'q k']
const key = fc.constantFrom(...keys)
const dotted = (path: readonly string[]) => path.map((part) => (part.includes(' ') ? `"${part}"` : part)).join('.')
const scalar = fc.oneof(
  fc.integer({ min: -99, max: 9_999 }).map(String),
  fc.constantFrom('1.5', '0x1F', '1_000', 'true', '"s # none"', "'lit'", '"""\nlines\n# none\n[a]\n"""', '2024-01-02', '2024-01-02T03:04:05Z', '[]', '{}'),
)
const pairs = (value: fc.Arbitrary<string>) =>
  fc
    .uniqueArray(fc.tuple(fc.array(key, { minLength: 1, maxLength: 2 }), value), { maxLength: 3, selector: ([path]) => path.join() })
    .map((all) => all.map(([path, one]) => `${dotted(path)} = ${one}`))
const { value } = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    scalar,
    fc.array(tie('value'), { maxLength: 3 }).map((all) => `[${all.join(', ')}]`),
    fc.array(tie('value'), { minLength: 1, maxLength: 3 }).map((all) => `[\n${all.map((one) => `    ${one}, # in\n`).join('')}  ]`),
    pairs(tie('value')).map((all) => `{ ${all.join(', ')} }`),
    fc.tuple(pairs(tie('value')), fc.constantFrom('', ',')).map(([all, last]) => `{ # open\n${all.join(', # in\n  # own\n')}${all.length > 0 ? last : ''}\n}`),
  ),
}))
const path = fc.array(key, { minLength: 1, maxLength: 3 })
const above = fc.constantFrom([], [], ['# above'], [''], ['', '# far', ''], ['# [a]', '# port = 1'])
const body = fc.array(
  fc.record({ path, value, above, indent: fc.constantFrom('', '  '), equals: fc.constantFrom(' = ', '=', '   =  '), end: fc.constantFrom('', ' # end') }),
  {
    maxLength: 4,
  },
)
const section = fc.record({ path, body, above, isList: fc.nat(3).map((n) => n === 0), end: fc.constantFrom('', '  # head') })

/** Files with every kind of table, comments everywhere, each comment with a number of its own. */
const toml = fc
  .record({ top: body, sections: fc.array(section, { maxLength: 4 }), last: fc.constantFrom([], ['# last'], ['']), isWindows: fc.nat(4).map((n) => n === 0) })
  .map(({ top, sections, last, isWindows }) => {
    let count = 0
    const numbered = (text: string) => text.replace(/# (?!none)/g, () => `# ${count++} `).replaceAll('\n', isWindows ? '\r\n' : '\n')
    const pieces: Piece[] = []
    const add = (home: readonly string[], lists: Piece['lists'], entries: typeof top) => {
      for (const { above, indent, path, equals, value, end } of entries) {
        for (const text of above) pieces.push({ text: numbered(text), path: home, kind: 'comment', lists })
        pieces.push({ text: numbered(`${indent}${dotted(path)}${equals}${value}${end}`), path: [...home, ...path], kind: 'entry', lists })
      }
    }
    add([], [], top)
    const known: (readonly string[])[] = []
    let around: Pick<Piece, 'path' | 'lists'> = { path: [], lists: [] }
    for (const { path, body, above, isList, end } of sections) {
      // Comments above a header belong to the section before: they go with it only when something of it stands below them.
      for (const text of above) pieces.push({ text: numbered(text), ...around, kind: 'comment' })
      if (isList) known.push(path)
      const lists = known.filter((one) => one.every((part, index) => path[index] === part))
      pieces.push({ text: numbered(`${isList ? `[[${dotted(path)}]]` : `[${dotted(path)}]`}${end}`), path, kind: 'header', lists })
      add(path, lists, body)
      around = { path, lists }
    }
    for (const text of last) pieces.push({ text: numbered(text), ...around, kind: 'comment' })
    return { pieces, text: pieces.map(({ text }) => text + (isWindows ? '\r\n' : '\n')).join('') }
  })
  .filter(({ text }) => {
    try {
      return parse(text) !== undefined
    } catch {
      return false
    }
  })

const json = fc.letrec<{ value: unknown; table: Record<string, unknown>; patch: unknown; patches: Record<string, unknown> }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    fc.constantFrom<unknown>(7, -1.25, true, 'new', 'two\nlines', '# "hash"', ''),
    fc.array(tie('value'), { maxLength: 3 }),
    tie('table'),
  ),
  table: fc.dictionary(key, tie('value'), { maxKeys: 3, noNullPrototype: true }),
  patch: fc.oneof({ depthSize: 'medium' }, fc.constant(null), tie('value'), tie('patches')),
  patches: fc.dictionary(key, tie('patch'), { maxKeys: 3, noNullPrototype: true }),
}))
const plain = (text: string): unknown => structuredClone(parse(text))

/** What the patch says of a path: `whole` = it, or what it lies in, is replaced or deleted; `inside` = something below it changes. */
function touch(patch: unknown, path: readonly string[]): 'whole' | 'inside' | undefined {
  let at = patch
  for (const part of path) {
    if (!isTable(at)) return 'whole'
    if (!Object.hasOwn(at, part)) return undefined
    at = at[part]
  }
  return isTable(at) ? 'inside' : 'whole'
}

describe('any patch of any file', () => {
  test('reads back as the merge, twice is once, and nothing else changes', () => {
    fc.assert(
      fc.property(toml, json.patches, ({ pieces, text }, patch) => {
        const patched = patchToml(text, patch)
        expect(plain(patched)).toEqual(mergePatch(plain(text), patch))
        expect(patchToml(patched, patch)).toBe(patched)
        let from = 0
        for (const piece of pieces) {
          const isSafe = touch(patch, piece.path) === undefined || (piece.kind !== 'entry' && touch(patch, piece.path) === 'inside')
          if (piece.text === '' || !isSafe || piece.lists.some((list) => touch(patch, list))) continue
          const at = patched.indexOf(piece.text, from)
          if (at < 0) throw new Error(`lost or moved: ${JSON.stringify(piece.text)} in\n${patched}`)
          from = at + piece.text.length
        }
      }),
      { numRuns: 1_000 },
    )
  }, 60_000)

  test('of which only comments are left keeps every one that is not in what it deletes', () => {
    fc.assert(
      fc.property(toml, ({ pieces, text }) => {
        const patched = patchToml(text, Object.fromEntries(keys.map((name) => [name, null])))
        expect(plain(patched)).toEqual({})
        for (const piece of pieces) if (piece.kind === 'comment' && piece.path.length === 0) expect(patched).toContain(piece.text)
      }),
      { numRuns: 300 },
    )
  }, 60_000)
})

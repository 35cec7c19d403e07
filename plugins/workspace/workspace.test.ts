import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import { chmod, mkdir, readdir, readFile, rm, stat, symlink, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { createFakeClock } from 'portico/testkit'
import { silent, temporaryFolder } from '../../test/fixtures/pglite.ts'
import { databases, useStore } from '../../test/fixtures/stores.ts'
import type { Workspace } from './contract.ts'
import { createFiles, type Files } from './files.ts'
import { createWorkspace, type WorkspaceLimits } from './workspace.ts'

const bytes = (text: string) => new TextEncoder().encode(text)
const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'ok',
    (error) => error.code ?? String(error),
  )

/** Works for so many calls, and then no more, as after kill -9. */
function dyingAfter(files: Files, calls: number): Files {
  let left = calls
  const mortal =
    <A extends unknown[], R>(work: (...given: A) => Promise<R>) =>
    (...given: A): Promise<R> =>
      left-- > 0 ? work(...given) : Promise.reject(new Error('killed'))
  const { read, kindOf, list, prepare, commit, remove } = files
  return {
    ...{ read: mortal(read), kindOf: mortal(kindOf), list: mortal(list) },
    ...{ prepare: mortal(prepare), commit: mortal(commit), remove: mortal(remove) },
  }
}

describe.each(databases)('the workspace on %s', (kind) => {
  const fixture = useStore(kind)
  let folder: string
  let root: string
  let count = 0
  let runId: string
  let workspace: Workspace
  const make = (limits: Partial<WorkspaceLimits> = {}, files: Files = createFiles(root)) =>
    createWorkspace({
      ...{ db: fixture.store.db, clock: createFakeClock(), log: silent, files },
      limits: { maxFileBytes: 10_000, maxStagedBytes: 100_000, maxFiles: 10, ...limits },
    })
  const put = (path: string, text: string) => writeFile(join(root, path), text)
  const get = (path: string) => readFile(join(root, path), 'utf8').catch(() => null)
  const stage = (path: string, text: string | null) => workspace.open(runId).stage(path, text === null ? null : bytes(text))
  const read = async (path: string) => Buffer.from(await workspace.open(runId).read(path)).toString()

  beforeEach(async () => {
    await fixture.store.migrate('workspace', new URL('./migrations', import.meta.url))
    folder = await temporaryFolder()
    root = join(folder, 'root')
    await mkdir(root)
    runId = `run_${++count}`
    workspace = make()
  })
  afterEach(() => rm(folder, { recursive: true, force: true }))

  test('is seen by a run with its own staged files over it, and by nobody else', async () => {
    await mkdir(join(root, 'docs'))
    await put('docs/a.md', 'one\ntwo\n')
    await put('gone.md', 'x')
    await stage('docs/a.md', 'one\n2\n')
    await stage('new/deep/b.md', 'two here\n')
    await stage('gone.md', null)
    const run = workspace.open(runId)
    expect(await read('./docs//a.md')).toBe('one\n2\n')
    expect(await codeOf(run.read('gone.md'))).toBe('not_found')
    expect(await get('docs/a.md')).toBe('one\ntwo\n')
    expect((await run.list('', { depth: 9 })).map(({ path, kind, size }) => `${path} ${kind} ${size}`)).toEqual([
      ...['docs folder 0', 'docs/a.md file 6', 'new folder 0', 'new/deep folder 0', 'new/deep/b.md file 9'],
    ])
    expect(await run.list('.')).toHaveLength(2)
    expect(await codeOf(run.list('nowhere'))).toBe('not_found')
    expect(await run.search({ text: 'two' })).toEqual([{ path: 'new/deep/b.md', line: 1, text: 'two here' }])
    expect(await run.search({ text: '^\\d$', isRegex: true, path: 'docs/a.md' })).toEqual([{ path: 'docs/a.md', line: 2, text: '2' }])
    const other = workspace.open('run_other')
    expect(await other.search({ text: 'two' })).toEqual([{ path: 'docs/a.md', line: 2, text: 'two' }])
    expect((await other.list('')).map(({ path }) => path)).toEqual(['docs', 'gone.md'])
  })

  test('says of each artifact how it changes, and shows the patch', async () => {
    await put('a.md', 'one\ntwo\n')
    await put('logo.bin', 'a\0b')
    await stage('a.md', 'one\n2\nthree\n')
    await stage('logo.bin', 'a\0c')
    await stage('z.md', 'x'.repeat(85).split('').join('\n'))
    const [text, binary, created] = await workspace.artifacts(runId)
    expect(text).toMatchObject({ runId, path: 'a.md', change: 'modified', state: 'staged', size: 12, isBinary: false, diff: '+2 -1' })
    expect(text?.id).toMatch(/^art_[0-9a-f]{24}$/)
    expect(await workspace.patch(runId, text?.id ?? '')).toBe('--- a/a.md\n+++ b/a.md\n@@ -1,2 +1,3 @@\n one\n-two\n+2\n+three\n')
    expect(binary).toMatchObject({ isBinary: true, diff: 'binary' })
    expect(await workspace.patch(runId, binary?.id ?? '')).toMatch(/sha256 [0-9a-f]{64} \(3 bytes\) → sha256/)
    expect(created).toMatchObject({ change: 'created', diff: '+85 -0', before: null })
    expect(Buffer.from((await workspace.content(runId, text?.id ?? '')) ?? []).toString()).toBe('one\n2\nthree\n')
    expect(await codeOf(workspace.patch('run_other', text?.id ?? ''))).toBe('not_found')
  })

  test('texts that differ in everything are compared in time', async () => {
    workspace = make({ maxFileBytes: 1_000_000, maxStagedBytes: 9_000_000 })
    const lines = (salt: number) => Array.from({ length: 60_000 }, (_, n) => `${(n * 7_919 * salt) % 10_007}`).join('\n')
    await put('a.txt', lines(1))
    const from = performance.now()
    const { diff } = await stage('a.txt', lines(3))
    expect(performance.now() - from).toBeLessThan(5_000)
    expect(diff).toMatch(/^\+\d+ -\d+$/)
  })

  test('applies all files, keeps permissions, can be asked again, and undone', async () => {
    await put('tool.sh', 'old')
    await chmod(join(root, 'tool.sh'), 0o750)
    await put('gone.md', 'bye')
    await stage('tool.sh', 'new')
    await stage('made/by/run.md', 'made')
    await stage('gone.md', null)
    const applied = await workspace.apply(runId)
    expect(applied.map(({ state, change }) => `${state} ${change}`)).toEqual(['applied deleted', 'applied created', 'applied modified'])
    expect([await get('tool.sh'), await get('made/by/run.md'), await get('gone.md')]).toEqual(['new', 'made', null])
    expect((await stat(join(root, 'tool.sh'))).mode & 0o777).toBe(0o750)
    expect(await workspace.apply(runId)).toEqual(applied)
    expect((await readdir(root)).sort()).toEqual(['made', 'tool.sh'])
    expect((await workspace.undo(runId)).every(({ state }) => state === 'undone')).toBe(true)
    expect([await get('tool.sh'), await get('made/by/run.md'), await get('gone.md')]).toEqual(['old', null, 'bye'])
    await workspace.undo(runId)
    await workspace.apply(runId)
    expect(await get('tool.sh')).toBe('old')
    await workspace.forget(runId)
    expect(await workspace.artifacts(runId)).toEqual([])
  })

  test('writes nothing when one file has changed since it was staged, and names it; undo likewise', async () => {
    await put('a.md', 'a')
    await put('b.md', 'b')
    await stage('a.md', 'A')
    await stage('b.md', 'B')
    await put('b.md', 'by hand')
    const refused = await workspace.apply(runId).catch((error) => error)
    expect(refused).toMatchObject({ code: 'conflict', details: { files: ['b.md'] } })
    expect(refused.message).toContain('b.md')
    expect([await get('a.md'), await get('b.md')]).toEqual(['a', 'by hand'])
    expect((await workspace.artifacts(runId)).map(({ state }) => state)).toEqual(['staged', 'staged'])
    await put('b.md', 'b')
    await workspace.apply(runId)
    await unlink(join(root, 'a.md'))
    expect(await workspace.undo(runId).catch((error) => error)).toMatchObject({ code: 'conflict', details: { files: ['a.md'] } })
    expect(await get('b.md')).toBe('B')
  })

  test.each([
    ['before the first rename', 0, false],
    ['between two renames', 1, false],
    ['after the last rename', 3, false],
    ['between two renames, and then somebody changes one', 1, true],
  ])('a crash %s: asked again, it ends with all or with none', async (_, renames, meddled) => {
    for (const name of ['a', 'b', 'c']) {
      await put(name, 'old')
      await stage(name, 'new')
    }
    // Dead: nothing works any more, as after kill -9.
    const files = createFiles(root)
    let left = renames
    const dying: Files = { ...files }
    const dead = () => Promise.reject(new Error('killed'))
    dying.commit = async (...given) => {
      if (left-- > 0) return files.commit(...given)
      Object.assign(dying, { read: dead, prepare: dead, commit: dead, remove: dead })
      return dead()
    }
    const set = fixture.store.db.update.bind(fixture.store.db)
    if (renames === 3)
      Object.assign(dying, {
        remove: () => {
          fixture.store.db.update = () => {
            throw new Error('killed')
          }
          return dead()
        },
      })
    await expect(make({}, dying).apply(runId)).rejects.toThrow('killed')
    fixture.store.db.update = set
    const written = async () => Promise.all(['a', 'b', 'c'].map(get))
    expect((await written()).filter((text) => text === 'new')).toHaveLength(renames)
    expect((await workspace.artifacts(runId)).every(({ state }) => state === 'staged')).toBe(true)
    expect(await codeOf(stage('a', 'newer'))).toBe('conflict')
    expect(await codeOf(workspace.undo(runId))).toBe('conflict')
    if (meddled) {
      await put('c', 'by hand')
      expect(await codeOf(workspace.apply(runId))).toBe('conflict')
      expect(await written()).toEqual(['old', 'old', 'by hand'])
    } else {
      expect((await workspace.apply(runId)).map(({ state }) => state)).toEqual(['applied', 'applied', 'applied'])
      expect(await written()).toEqual(['new', 'new', 'new'])
    }
    expect((await readdir(root)).sort()).toEqual(['a', 'b', 'c'])
  })

  test('whatever is staged, and wherever it dies: asked again all stands there, and undone nothing of it', async () => {
    const names = ['a', 'b', 'c/d', 'c/e']
    const content = fc.option(fc.constantFrom('', 'one', 'two\n', '\0binary'))
    await fc.assert(
      fc.asyncProperty(
        fc.tuple(content, content, content, content),
        fc.tuple(content, content, content, content),
        fc.nat(40),
        fc.nat(40),
        async (old, next, dies, dies2) => {
          runId = `run_${++count}`
          await rm(root, { recursive: true, force: true })
          await mkdir(join(root, 'c'), { recursive: true })
          for (const [n, text] of old.entries()) if (text !== null) await put(names[n]!, text)
          for (const [n, text] of next.entries()) if (text !== null || old[n] !== null) await stage(names[n]!, text)
          for (const [direction, left, wanted] of [
            ['apply', dies, next],
            ['undo', dies2, old],
          ] as const) {
            await make({}, dyingAfter(createFiles(root), left))
              [direction](runId)
              .catch((error) => expect(error.message).toBe('killed'))
            await workspace[direction](runId)
            expect(await Promise.all(names.map(get))).toEqual([...wanted])
          }
          expect((await readdir(root, { recursive: true })).filter((name) => name.includes('.tmp'))).toEqual([])
        },
      ),
      { numRuns: 40 },
    )
  })

  test('a rename that fails puts back what was written before it', async () => {
    await put('a', 'old')
    await stage('a', 'new')
    await stage('b', 'new')
    const files = createFiles(root)
    const commit: Files['commit'] = (path, name) => (path[0] === 'b' ? Promise.reject(new Error('no right')) : files.commit(path, name))
    await expect(make({}, { ...files, commit }).apply(runId)).rejects.toThrow('no right')
    expect([await get('a'), await readdir(root)]).toEqual(['old', ['a']])
    await workspace.apply(runId)
    expect([await get('a'), await get('b')]).toEqual(['new', 'new'])
  })

  test('two at once apply once; two runs with the same file: the later one is told', async () => {
    await put('a', 'old')
    await stage('a', 'mine')
    await workspace.open('run_rival').stage('a', bytes('theirs'))
    await Promise.all([workspace.apply(runId), workspace.apply(runId)])
    expect(await codeOf(workspace.apply('run_rival'))).toBe('conflict')
    expect(await get('a')).toBe('mine')
    await workspace.forget('run_rival')
  })

  test('what is rejected is never written; staging what stands there stages nothing', async () => {
    await put('a', 'old')
    await stage('a', 'new')
    expect(await stage('a', 'old')).toMatchObject({ state: 'discarded' })
    expect(await workspace.artifacts(runId)).toEqual([])
    await stage('a', 'new')
    await fixture.store.db.transaction((tx) => workspace.discard(runId, tx))
    expect((await workspace.apply(runId)).map(({ state }) => state)).toEqual(['discarded'])
    expect([await get('a'), await read('a')]).toEqual(['old', 'old'])
  })

  test('has a cap for a file, for what is staged, and for their number', async () => {
    await put('big', 'x'.repeat(10_001))
    await put('half', 'x'.repeat(9_000))
    expect(await codeOf(workspace.open(runId).read('big'))).toBe('body_too_large')
    expect(await codeOf(stage('big', 'small'))).toBe('body_too_large')
    expect(await codeOf(stage('a', 'x'.repeat(10_001)))).toBe('body_too_large')
    expect(await workspace.open(runId).search({ text: 'x' })).toEqual([{ path: 'half', line: 1, text: `${'x'.repeat(500)}…` }])
    workspace = make({ maxStagedBytes: 18_000, maxFiles: 2 })
    await stage('half', 'y'.repeat(8_000))
    expect(await codeOf(stage('more', 'y'.repeat(1_001)))).toBe('body_too_large')
    await stage('more', 'y')
    expect(await codeOf(stage('third', 'y'))).toBe('body_too_large')
  })

  test('a file cannot be where a folder is, or below a file', async () => {
    await mkdir(join(root, 'folder'))
    await put('file', 'x')
    await stage('staged', 'x')
    for (const path of ['folder', 'file/below', 'staged/below']) expect([path, await codeOf(stage(path, 'x'))]).toEqual([path, 'invalid_request'])
  })

  test.each([true, false])('no link leads out, with /proc %p', async (usesProc) => {
    if (usesProc && process.platform !== 'linux') return
    workspace = make({}, createFiles(root, { usesProc }))
    await mkdir(join(folder, 'outside'))
    await writeFile(join(folder, 'outside/secret'), 'secret')
    await symlink(join(folder, 'outside'), join(root, 'link'))
    await symlink(join(folder, 'outside/secret'), join(root, 'file'))
    const run = workspace.open(runId)
    for (const path of ['link/secret', 'file', 'link']) expect([path, await codeOf(run.read(path))]).toEqual([path, 'invalid_request'])
    for (const path of ['link/new', 'file']) expect([path, await codeOf(stage(path, 'x'))]).toEqual([path, 'invalid_request'])
    expect(await codeOf(run.list('link'))).toBe('invalid_request')
    expect([await run.list(''), await run.search({ text: 'secret' })]).toEqual([[], []])
    // Swapped after it was staged.
    await mkdir(join(root, 'dir'))
    await stage('dir/secret', 'stolen')
    await rm(join(root, 'dir'), { recursive: true })
    await symlink(join(folder, 'outside'), join(root, 'dir'))
    expect(await codeOf(workspace.apply(runId))).toBe('conflict')
    expect(await readFile(join(folder, 'outside/secret'), 'utf8')).toBe('secret')
  })
})

test.each(['..', '../x', 'a/../../x', '/etc/passwd', 'C:\\x', 'a\\..\\x', 'a\0b', 'a\nb', `${'a/'.repeat(33)}b`, 'x'.repeat(256), '.portico-x.tmp'])(
  'the path %j is refused',
  async (path) => {
    const files = { read: () => Promise.reject(new Error('touched')) } as unknown as Files
    const workspace = createWorkspace({
      ...{ db: undefined as never, clock: createFakeClock(), log: silent, files },
      limits: { maxFileBytes: 1, maxStagedBytes: 1, maxFiles: 1 },
    })
    const run = workspace.open('run_1')
    for (const work of [run.read(path), run.list(path), run.stage(path, null), run.search({ text: 'x', path })])
      expect(await codeOf(work)).toBe('invalid_request')
  },
)

test('a folder that is swapped for a link again and again, while it is read and written, never leads out', async () => {
  if (process.platform !== 'linux') return
  const folder = await temporaryFolder()
  const root = join(folder, 'root')
  await mkdir(join(root, 'real'), { recursive: true })
  await mkdir(join(folder, 'outside'))
  await writeFile(join(folder, 'outside/x'), 'secret')
  await writeFile(join(root, 'real/x'), 'inside')
  // Swaps in one step, as an attacker would.
  const swapper = Bun.spawn(
    [
      process.execPath,
      '-e',
      `const fs = require('fs'); const [root, outside] = process.argv.slice(-2); console.log('on')
       for (let n = 0; ; n++) { try { fs.renameSync(root + '/real', root + '/dir'); fs.renameSync(root + '/dir', root + '/real'); fs.symlinkSync(outside, root + '/dir'); fs.unlinkSync(root + '/dir') } catch {} }`,
      root,
      join(folder, 'outside'),
    ],
    { stdout: 'pipe' },
  )
  try {
    await swapper.stdout.getReader().read()
    const files = createFiles(root)
    const seen = new Set<string>()
    for (let n = 0; n < 1_500; n++) {
      const { content } = (await files.read(['dir', 'x'], 100).catch(() => null)) ?? {}
      if (content) seen.add(Buffer.from(content).toString())
      await files.prepare(['dir', 'x'], '.portico-race.tmp', bytes('written'), null).catch(() => undefined)
    }
    seen.delete('inside')
    expect([...seen]).toEqual([])
    expect(await readdir(join(folder, 'outside'))).toEqual(['x'])
  } finally {
    swapper.kill('SIGKILL')
    await swapper.exited
    await rm(folder, { recursive: true, force: true })
  }
}, 30_000)

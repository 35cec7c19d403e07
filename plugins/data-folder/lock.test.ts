import { afterEach, expect, test } from 'bun:test'
import { chmod, mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { denoCommand } from '../../test/fixtures/deno.ts'
import { temporaryFolder } from '../../test/fixtures/pglite.ts'
import { lockDataDir } from './lock.ts'

const folders: string[] = []
const folder = async () => {
  const made = await temporaryFolder()
  folders.push(made)
  return made
}
afterEach(async () => {
  for (const made of folders.splice(0)) await rm(made, { recursive: true, force: true })
})

/** A process that takes the lock, says so, and waits; or says why not and ends. */
function contender(dataDir: string, runtime: 'bun' | 'deno' = 'bun') {
  const script = join(import.meta.dir, '../../test/fixtures/lock-holder.ts')
  const command = runtime === 'bun' ? [process.execPath, script] : [...denoCommand, script]
  const child = Bun.spawn([...command, dataDir], { stdout: 'pipe', stderr: 'inherit', stdin: 'pipe', cwd: join(import.meta.dir, '../..') })
  const reader = child.stdout.pipeThrough(new TextDecoderStream() as any).getReader()
  return { child, said: async () => String((await reader.read()).value).trim() }
}

test('the folder is made with mode 0700, and a second lock is refused naming the pid and the next step', async () => {
  const dataDir = join(await folder(), 'a', 'b')
  const lock = await lockDataDir(dataDir)
  expect((await stat(dataDir)).mode & 0o777).toBe(0o700)
  const error = await lockDataDir(dataDir).catch((reason) => reason)
  expect(error.code).toBe('conflict')
  expect(error.message).toContain(`pid ${process.pid}`)
  expect(error.message).toContain('--data-dir')
  await lock.release()
  await lock.release()
  await (await lockDataDir(dataDir)).release()
})

test('locks hold although nobody keeps their results', async () => {
  const many = await Promise.all(Array.from({ length: 20 }, folder))
  for (const dataDir of many) await lockDataDir(dataDir)
  await Bun.sleep(1)
  Bun.gc(true)
  const refused = await Promise.allSettled(many.map(lockDataDir))
  expect(refused.filter(({ status }) => status === 'fulfilled')).toHaveLength(0)
})

test("an empty folder becomes private, a stranger's keeps its mode", async () => {
  const empty = join(await folder(), 'empty')
  const full = join(await folder(), 'full')
  for (const made of [empty, full]) {
    await mkdir(made)
    await chmod(made, 0o755)
  }
  await writeFile(join(full, 'file'), '')
  for (const made of [empty, full]) await (await lockDataDir(made)).release()
  expect((await stat(empty)).mode & 0o777).toBe(0o700)
  expect((await stat(full)).mode & 0o777).toBe(0o755)
})

test('a folder that everybody may write to is refused, with the command that mends it, and stays as it is', async () => {
  const open = join(await folder(), 'open')
  await mkdir(open)
  await writeFile(join(open, 'file'), '')
  await chmod(open, 0o777)
  await expect(lockDataDir(open)).rejects.toMatchObject({ code: 'config_invalid', message: expect.stringContaining(`chmod 700 ${open}`) })
  expect(await readdir(open)).toEqual(['file'])
})

test.each(['bun', 'deno'] as const)('another process (%s) excludes this one until it is killed', async (runtime) => {
  const dataDir = await folder()
  const { child, said } = contender(dataDir, runtime)
  expect(await said()).toBe('locked')
  await expect(lockDataDir(dataDir)).rejects.toThrow(`pid ${child.pid}`)
  child.kill('SIGKILL')
  await child.exited
  const lock = await lockDataDir(dataDir)
  await lock.release()
})

test('of eight processes that find the lock of a killed one, exactly one wins', async () => {
  const dataDir = await folder()
  const first = contender(dataDir)
  await first.said()
  first.child.kill('SIGKILL')
  await first.child.exited
  const eight = Array.from({ length: 8 }, () => contender(dataDir))
  const answers = await Promise.all(eight.map(({ said }) => said()))
  expect(answers.filter((answer) => answer === 'locked')).toHaveLength(1)
  expect(answers.filter((answer) => answer.startsWith('The data folder is in use'))).toHaveLength(7)
  for (const { child } of eight) child.kill('SIGKILL')
  await Promise.all(eight.map(({ child }) => child.exited))
})

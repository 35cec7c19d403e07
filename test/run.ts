/**
 * `bun run test [arguments of bun test]`: the whole suite, or what is named. Temporary folders lie in memory where there is plenty: hundreds of databases are made
 * and thrown away, and half of the time would go to the disk. The slowest files start first, by what timings.json says they took; `bun run test --update-timings` writes it anew.
 */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const timings = join(import.meta.dir, 'timings.json')
const memory = '/dev/shm'
/** Bytes. */
const plenty = 6 * 1024 ** 3

const isPlenty = await statfs(memory).then(
  ({ bavail, bsize }) => bavail * bsize > plenty,
  () => false,
)
// Short: the path of a socket has to fit into 108 bytes.
const folder = mkdtempSync(join(isPlenty ? memory : tmpdir(), 'p-'))
// PostgreSQL runs as a user of its own, and has to come through.
chmodSync(folder, 0o711)
const given = process.argv.slice(2)
const what = given.some((word) => !word.startsWith('-')) ? [] : ['kernel', 'plugins', 'test']
const child = Bun.spawn([process.execPath, 'test', '--parallel=2', '--timeout=60000', `--timings=${timings}`, ...given, ...what], {
  stdio: ['inherit', 'inherit', 'inherit'],
  env: {
    ...process.env,
    TMPDIR: folder,
    // What is worth keeping from one run to the next.
    TEST_CACHE: tmpdir(),
    BUN_CONFIG_MAX_HTTP_REQUESTS: '4096',
    // No test lives long enough for the last tier of the compiler to pay.
    BUN_JSC_useOMGJIT: '0',
    DENO_V8_FLAGS: '--liftoff-only',
    BUN_JSC_useConcurrentGC: '0',
  },
})
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal))
const code = await child.exited
rmSync(folder, { recursive: true, force: true })
process.exit(code)

import { afterAll, beforeAll, expect, test } from 'bun:test'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatProblem } from 'portico'
import { expiredCertificate, renewedCertificate, serverCertificate } from '../../test/fixtures/tls.ts'
import { readPair } from './pair.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'portico-tls-'))
  const files = { 'server.pem': serverCertificate.cert, 'server.key': serverCertificate.key, 'other.key': renewedCertificate.key }
  const old = { 'old.pem': expiredCertificate.cert, 'old.key': expiredCertificate.key }
  for (const [name, text] of Object.entries({ ...files, ...old })) await writeFile(join(folder, name), text)
})
afterAll(() => rm(folder, { recursive: true, force: true }))
const read = (cert: string, key: string) => readPair({ cert: join(folder, cert), key: join(folder, key) })

test('a pair that is sound is given as it stands', () => {
  expect(read('server.pem', 'server.key')).toEqual({ ...serverCertificate, problems: [] })
})

test.each([
  ['none.pem', 'none.key', ['cert: the file cannot be read; found FOLDER/none.pem (ENOENT)', 'key: the file cannot be read; found FOLDER/none.key (ENOENT)']],
  ['server.key', 'server.pem', ['cert: the file does not hold what it should; found FOLDER/server.key', 'key: the file does not hold what it should']],
  ['server.pem', 'other.key', ['key: the key is not that of the certificate; found FOLDER/other.key; expected the key of FOLDER/server.pem']],
  ['old.pem', 'old.key', ['cert: the certificate has expired; found Jan  1 00:00:00 2024 GMT to Jan  1 00:00:00 2025 GMT; expected one that is valid now']],
])('%s with %s is a problem that says what was found and expected', (cert, key, expected) => {
  const lines = read(cert, key).problems.map((problem) => formatProblem(problem).replaceAll(folder, 'FOLDER'))
  expect(lines).toHaveLength(expected.length)
  for (const [index, text] of expected.entries()) expect(lines[index]).toStartWith(`[gateway] tls.${text}`)
})

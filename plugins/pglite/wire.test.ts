import { afterEach, describe, expect, test } from 'bun:test'
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import type { Server } from 'node:net'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { temporaryFolder } from '../../test/fixtures/pglite.ts'
import { createWireServer } from './wire.ts'

const frame = (type: string, body: Buffer | string = '') => {
  const bytes = Buffer.from(body)
  const head = Buffer.alloc(5)
  head.write(type)
  head.writeUInt32BE(bytes.length + 4, 1)
  return Buffer.concat([head, bytes])
}
const packet = (code: number) => {
  const bytes = Buffer.alloc(8)
  bytes.writeUInt32BE(8)
  bytes.writeUInt32BE(code, 4)
  return bytes
}
const startUp = packet(3 << 16)
const query = (text: string) => frame('Q', `${text}\0`)

const open: { server: Server; folder: string; clients: Socket[] }[] = []
afterEach(async () => {
  for (const { server, folder, clients } of open.splice(0)) {
    for (const client of clients) client.destroy()
    server.close()
    await rm(folder, { recursive: true, force: true })
  }
})

/** A server over a database that answers each unit by its texts: `begin` leaves it in a transaction, `rollback` and `commit` end it, `notify` notifies. */
async function serve(silenceMs = 10_000) {
  const units: string[] = []
  const deaths: string[] = []
  let status = 'I'
  const execute = (bytes: Uint8Array) => {
    const text = Buffer.from(bytes).toString('latin1')
    units.push(text)
    if (text.includes('begin')) status = 'T'
    if (/rollback|commit/.test(text)) status = 'I'
    const parts = [frame('C', `${text.replace(/[^\w ]/g, '').slice(0, 20)}\0`)]
    if (text.includes('panic')) return frame('E', 'SPANIK\0VPANIC\0C53100\0Mno space left\0\0')
    if (text.includes('wrong')) parts.push(frame('E', 'SERROR\0VERROR\0C42P01\0Mno VPANIC\0\0'))
    if (text.includes('notify')) parts.push(frame('A', 'news'))
    if (!/^[^QS]*H/.test(text)) parts.push(frame('Z', status))
    return Buffer.concat(parts)
  }
  const folder = await temporaryFolder()
  const path = join(folder, 's')
  const server = createWireServer({ execute, parameters: { server_version: '18' }, silenceMs, died: (reason) => void deaths.push(reason) })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  const clients: Socket[] = []
  open.push({ server, folder, clients })
  const client = async (greet = true) => {
    const socket = connect(path)
    clients.push(socket)
    let got = ''
    socket.on('data', (bytes) => {
      got += bytes.toString('latin1')
    })
    socket.on('error', () => {})
    await once(socket, 'connect')
    const self = {
      socket,
      got: () => got,
      /** Waits until what came matches. */
      async until(pattern: RegExp) {
        while (!pattern.test(got)) await once(socket, 'data', { signal: AbortSignal.timeout(5_000) })
        const all = got
        got = ''
        return all
      },
    }
    if (greet) {
      socket.write(startUp)
      await self.until(/Z\0\0\0.I$/)
    }
    return self
  }
  return { units, deaths, client }
}

describe('the wire server', () => {
  test('refuses encryption with N, then starts up with parameters and ReadyForQuery', async () => {
    const { client } = await serve()
    const one = await client(false)
    one.socket.write(packet(80877103))
    expect(await one.until(/./)).toBe('N')
    one.socket.write(packet(80877104))
    expect(await one.until(/./)).toBe('N')
    one.socket.write(startUp)
    expect(await one.until(/Z\0\0\0.I$/)).toMatch(/^R\0\0\0.\0\0\0\0S\0\0\0.server_version\0+18\0/s)
  })

  test('a database that ends itself is told of, with what it said; an error of a statement is not, whatever it quotes', async () => {
    const { client, deaths } = await serve()
    const one = await client()
    one.socket.write(query('wrong'))
    await one.until(/Z\0\0\0.I$/)
    expect(deaths).toEqual([])
    one.socket.write(query('panic'))
    await one.until(/no space left/)
    expect(deaths).toEqual(['no space left'])
  })

  test.each([
    ['a CancelRequest', packet(80877102)],
    ['another protocol', packet(2 << 16)],
    ['nonsense', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['a message of negative length', Buffer.concat([startUp, Buffer.from('Q\xff\xff\xff\xff', 'latin1')])],
    ['a message of length 3', Buffer.concat([startUp, Buffer.from('Q\0\0\0\x03', 'latin1')])],
  ])('%s ends the connection and runs nothing', async (_name, bytes) => {
    const { client, units } = await serve()
    const one = await client(false)
    one.socket.resume().write(bytes)
    await once(one.socket, 'close', { signal: AbortSignal.timeout(5_000) })
    expect(units).toEqual([])
  })

  test('messages may arrive byte by byte, or many in one piece', async () => {
    const { client, units } = await serve()
    const one = await client()
    for (const byte of query('slowly')) one.socket.write(Buffer.of(byte))
    await one.until(/slowly/)
    one.socket.write(Buffer.concat([query('one'), query('two'), query('three')]))
    await one.until(/Qthree.*Z/s)
    expect(units.map((unit) => unit.slice(5, -1))).toEqual(['slowly', 'one', 'two', 'three'])
  })

  test('an exchange is run as one unit, never cut by another connection', async () => {
    const { client, units } = await serve()
    const [one, two] = [await client(), await client()]
    one.socket.write(Buffer.concat([frame('P', '\0parse\0\0\0'), frame('B', '\0\0bind')]))
    two.socket.write(query('between'))
    await two.until(/between/)
    one.socket.write(Buffer.concat([frame('E', '\0\0\0\0\0'), frame('S')]))
    await one.until(/Z/)
    expect(units).toHaveLength(2)
    expect(units[1]).toMatch(/^P.*parse.*bind.*E.*S/s)
  })

  test('a connection in a transaction holds the session until it is idle again', async () => {
    const { client, units } = await serve()
    const [one, two] = [await client(), await client()]
    one.socket.write(query('begin'))
    await one.until(/T$/)
    two.socket.write(query('second'))
    one.socket.write(query('first'))
    await one.until(/first/)
    expect(units.map((unit) => unit.slice(5, -1))).toEqual(['begin', 'first'])
    one.socket.write(query('commit'))
    await two.until(/second/)
  })

  test.each(['dies', 'says goodbye', 'is silent too long'])('who %s inside a transaction is rolled back, and the next one goes on', async (how) => {
    const { client, units } = await serve(how === 'is silent too long' ? 100 : 10_000)
    const [one, two] = [await client(), await client()]
    one.socket.write(query('begin'))
    await one.until(/T$/)
    two.socket.write(query('next'))
    if (how === 'dies') one.socket.destroy()
    if (how === 'says goodbye') one.socket.write(frame('X'))
    await two.until(/next/)
    expect(units.join()).toMatch(/begin.*rollback.*next/s)
    if (how === 'is silent too long') expect(await one.until(/25P03/)).toContain('silent for 100 ms')
  })

  test('notifications go to every connection, whole', async () => {
    const { client } = await serve()
    const [one, two, three] = [await client(), await client(), await client()]
    one.socket.write(query('notify'))
    for (const each of [one, two, three]) expect(await each.until(/news/)).toContain('A\0\0\0\x08news')
  })
})

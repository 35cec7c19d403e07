import { describe, expect, test } from 'bun:test'
import { type ReadFrame, readSse } from './read-sse.ts'
import { encodeSse } from './sse.ts'

async function read(bytes: Uint8Array, cut: number): Promise<ReadFrame[]> {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (let at = 0; at < bytes.length; at += cut) controller.enqueue(bytes.slice(at, at + cut))
      controller.close()
    },
  })
  return await Array.fromAsync(readSse(body))
}

describe('reading Server-Sent Events', () => {
  const text = 'retry: 3000\n\n: ping\nid: 5-0\n\r\nevent: key:created\r\nid: 6-0\r\ndata: {"a":"ü"}\r\n\r\nevent:x\ndata: one\ndata: two\n\n'
  const expected = [{ data: '' }, { id: '5-0', data: '' }, { event: 'key:created', id: '6-0', data: '{"a":"ü"}' }, { event: 'x', data: 'one\ntwo' }]

  test.each([1, 2, 3, 7, 1_000])('gives the same frames however they are cut: by %d', async (cut) => {
    expect(await read(new TextEncoder().encode(text), cut)).toEqual(expected)
  })
  test('a frame that was not ended is not given', async () => {
    expect(await read(new TextEncoder().encode('data: a\n\ndata: b\n'), 4)).toEqual([{ data: 'a' }])
  })
  test('reads what the gateway writes', async () => {
    expect(await read(encodeSse({ event: 'e', id: '1-0', data: { text: 'a\nb' } }), 5)).toEqual([{ event: 'e', id: '1-0', data: '{"text":"a\\nb"}' }])
  })
})

import { describe, expect, test } from 'bun:test'
import { GatewayError } from 'portico'
import { Slots } from './slots.ts'

const errors: string[] = []
const slots = () =>
  new Slots(
    (owner, what) => void errors.push(`${owner} ${what}`),
    () => false,
  )
const at = (owner: string, planIndex: number, order = 0) => ({ owner, planIndex, order })

describe('a slot', () => {
  test('is read in order, then in plan order, and an item is withdrawn by its undo', () => {
    const s = slots()
    const undo = s.add('list', { name: 'late' }, at('a', 0, 10))
    s.add('list', { name: 'second' }, at('c', 2))
    s.add('list', { name: 'first' }, at('b', 1))
    const names = () => (s.items('list') as { name: string }[]).map(({ name }) => name)
    expect(names()).toEqual(['first', 'second', 'late'])
    undo()
    expect(names()).toEqual(['first', 'second'])
  })

  test('names the owner of an item that throws, or rejects', async () => {
    const s = slots()
    s.add('list', { sync: () => { throw new Error('boom') }, later: async () => { throw new Error('bang') } }, at('culprit', 0)) // biome-ignore format: short
    const [item] = s.items('list') as { sync(): void; later(): Promise<void> }[]
    expect(() => item?.sync()).toThrow('[plugin culprit]')
    expect(item?.later()).rejects.toThrow('[plugin culprit]')
    expect(errors).toContain('culprit list.sync')
    expect(errors).toContain('culprit list.later')
  })

  test('lets an error with a code, and an abort, through as they are', () => {
    const s = slots()
    const refused = new GatewayError('invalid_api_key', 'No.')
    s.add('list', { refuse: () => { throw refused }, abort: () => { throw new DOMException('gone', 'AbortError') } }, at('a', 0)) // biome-ignore format: short
    const [item] = s.items('list') as { refuse(): void; abort(): void }[]
    expect(() => item?.refuse()).toThrow(refused)
    expect(() => item?.abort()).toThrow('gone')
  })

  test('names the owner of an item that does not settle in time; what it does later is nobody’s fault', async () => {
    const s = slots()
    const gate = Promise.withResolvers<void>()
    s.add('list', { hang: () => gate.promise, soon: async () => 'here' }, { ...at('sleeper', 0), deadline: 50 })
    const [item] = s.items('list') as { hang(): Promise<void>; soon(): Promise<string> }[]
    expect(await item?.soon()).toBe('here')
    await expect(item?.hang()).rejects.toMatchObject({ code: 'deadline_exceeded', plugin: 'sleeper' })
    expect(errors).toContain('sleeper list.hang')
    gate.reject(new Error('late'))
  })

  test('takes class instances: methods keep their this, private state and getters work', () => {
    class Counter {
      #n = 0
      get n() {
        return this.#n
      }
      up() {
        return ++this.#n
      }
    }
    const s = slots()
    const counter = new Counter()
    s.add('list', counter, at('a', 0))
    const [item] = s.items('list') as Counter[]
    expect(item?.up()).toBe(1)
    expect(item?.n).toBe(1)
  })
})

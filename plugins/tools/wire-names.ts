/**
 * The names of tools as model APIs take them: `^[A-Za-z0-9_-]{1,64}$`. One that fits stays as it is. Others are escaped, so that the name can be read back out of them;
 * those that would get too long are cut and end in a hash, and are found again by the registry alone.
 */
import { createHash } from 'node:crypto'

/** What model APIs take. */
export const wireForm = /^[A-Za-z0-9_-]{1,64}$/
const escaped = 'x--'
const hashed = 'h--'

/** The name on the wire. Two names never share one: what is escaped or hashed begins as no other name does. */
export function toWireName(name: string): string {
  if (wireForm.test(name) && !name.startsWith(escaped) && !name.startsWith(hashed)) return name
  const body = [...name].map((char) => (/^[A-Za-z0-9_]$/.test(char) ? char : `-${(char.codePointAt(0) ?? 0).toString(16)}-`)).join('')
  if (body !== '' && body.length <= 64 - escaped.length) return escaped + body
  const hash = createHash('sha256')
    .update(name.isWellFormed() ? name : JSON.stringify(name))
    .digest('hex')
    .slice(0, 24)
  return `${hashed}${body.slice(0, 64 - hashed.length - hash.length - 1)}-${hash}`
}

/** The name, or undefined when it cannot be read out of this: it was cut, or `toWireName` did not make it. */
export function fromWireName(wire: string): string | undefined {
  if (!wireForm.test(wire) || wire.startsWith(hashed)) return undefined
  if (!wire.startsWith(escaped)) return wire
  const name = wire.slice(escaped.length).replace(/-([0-9a-f]{1,6})-/g, (_, hex: string) => {
    const code = Number.parseInt(hex, 16)
    return code > 0x10ffff ? '' : String.fromCodePoint(code)
  })
  return toWireName(name) === wire ? name : undefined
}

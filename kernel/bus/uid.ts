/** UUIDs (version 4 in form) by the million: 4,096 of them share 110 random bits and differ in the last twelve. Unique, not secret. */
import { randomUUID } from 'node:crypto'

const endings = Array.from({ length: 4_096 }, (_, n) => n.toString(16).padStart(3, '0'))

/** A source of them: some nanoseconds each, where `randomUUID` costs more than the rest of a publication. */
export function createUids(): () => string {
  let [prefix, next] = ['', endings.length]
  return () => {
    if (next === endings.length) [prefix, next] = [randomUUID().slice(0, -3), 0]
    return prefix + endings[next++]
  }
}

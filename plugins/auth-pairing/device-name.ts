/** What a device is called in the list of keys. */

const systems = [
  [/iPhone|iPad/, 'iOS'],
  [/Android/, 'Android'],
  [/Windows/, 'Windows'],
  [/Mac OS X/, 'macOS'],
  [/Linux/, 'Linux'],
] as const
const browsers = [
  [/Edg\//, 'Edge'],
  [/Firefox\//, 'Firefox'],
  [/Chrome\//, 'Chrome'],
  [/Safari\//, 'Safari'],
] as const
const longest = 60

/** The name given, else what the User-Agent says of itself, in printable characters. */
export function deviceName(given: string | undefined, userAgent: string | null): string {
  return clean(given ?? '') || fromAgent(userAgent ?? '') || 'a device'
}

function fromAgent(agent: string): string {
  const find = (names: readonly (readonly [RegExp, string])[]) => names.find(([pattern]) => pattern.test(agent))?.[1]
  const [browser, system] = [find(browsers), find(systems)]
  return browser && system ? `${browser} on ${system}` : clean(agent)
}

/** Without what moves a cursor or turns a line round: the name is shown in terminals. */
function clean(text: string): string {
  const shown = text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '').trim()
  // By characters, or half of one may be left.
  return [...shown].slice(0, longest).join('')
}

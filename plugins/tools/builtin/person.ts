/** The tools `current_time` and `ask_user`. */
import { type Clock, GatewayError, t } from 'portico'
import { defineTool, type Tool } from '../contract.ts'

/** `current_time`. */
export function currentTime(clock: Clock): Tool {
  return defineTool({
    name: 'current_time',
    description: 'The date and time now, in UTC and in a time zone.',
    input: t.Object({ timeZone: t.Optional(t.String({ maxLength: 64, description: 'An IANA name, as in "Europe/Vienna"; default that of the gateway' })) }),
    output: t.Object({ utc: t.String(), local: t.String(), weekday: t.String(), timeZone: t.String() }),
    ...{ risk: 'safe', idempotent: true, timeout: 5_000 },
    run: ({ timeZone }) => ({ structured: timeIn(new Date(clock.now()), timeZone) }),
  })
}

function timeIn(now: Date, timeZone: string | undefined) {
  let format: Intl.DateTimeFormat
  const parts = { year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit' } as const
  try {
    format = new Intl.DateTimeFormat('en-GB', { timeZone, weekday: 'long', ...parts, hourCycle: 'h23', timeZoneName: 'longOffset' })
  } catch (error) {
    throw noZone(timeZone, error)
  }
  const of = Object.fromEntries(format.formatToParts(now).map(({ type, value }) => [type, value]))
  const offset = (of.timeZoneName ?? '').replace('GMT', '') || '+00:00'
  const local = `${of.year}-${of.month}-${of.day}T${of.hour}:${of.minute}:${of.second}${offset}`
  return { utc: now.toISOString(), local, weekday: of.weekday ?? '', timeZone: timeZone ?? format.resolvedOptions().timeZone }
}

function noZone(timeZone: string | undefined, cause: unknown): GatewayError {
  return new GatewayError('invalid_request', `There is no time zone ${JSON.stringify(timeZone)}. Give an IANA name, as in "Europe/Vienna".`, { cause })
}

/** `ask_user`. */
export const askUser: Tool = defineTool({
  name: 'ask_user',
  description: 'Asks the person a question, and waits for the answer. Only when you cannot go on without it.',
  input: t.Object({
    question: t.String({ minLength: 1, maxLength: 10_000 }),
    choices: t.Optional(t.Array(t.String({ minLength: 1, maxLength: 1_000 }), { maxItems: 20, description: 'Answers to choose from' })),
  }),
  ...{ risk: 'safe', idempotent: true, timeout: 60_000 },
  run: ({ question, choices }, { ask }) => ask(question, choices && { choices }),
})

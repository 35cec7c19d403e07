/** `portico chat`: a conversation in the terminal, or one answer. */

import { createInterface } from 'node:readline/promises'
import { text } from 'node:stream/consumers'
import { setImmediate } from 'node:timers/promises'
import { type Command, type CommandContext, defineCommand, GatewayError } from 'portico'
import { readSse } from 'portico/plugins/events'

interface Answer {
  readonly response: string
  readonly sessionKey: string
  readonly model: string
}

const command: Command = {
  summary: 'Chat with a model; Ctrl-C stops an answer, and at the prompt it ends the chat',
  args: {
    message: { type: 'positional', summary: 'One message, for one answer; without it a conversation, or what is piped in' },
    model: { type: 'string', summary: 'provider/model or an alias (default: the session’s, or the first there is)', hint: 'name' },
    session: { type: 'string', summary: 'Go on in this session', hint: 'key' },
    continue: { type: 'boolean', summary: 'Go on in the latest session' },
  },
  examples: ['portico chat', 'portico chat "What is a gateway?" --model demo/echo', 'portico chat --continue', 'cat notes.txt | portico chat --json'],
  run,
}
export default defineCommand(command)

async function run(context: CommandContext): Promise<number> {
  const { args, note, signal } = context
  const state = { sessionKey: await sessionOf(context), model: typeof args.model === 'string' ? args.model : undefined }
  const given = typeof args.message === 'string' ? args.message : process.stdin.isTTY ? undefined : (await text(process.stdin)).trim()
  if (given !== undefined) {
    if (given === '') throw new GatewayError('validation_failed', 'There is nothing to send: write a message, as in portico chat "hello".')
    return (await say(context, given, state, signal)) ? 0 : 1
  }
  note(`Chatting${state.sessionKey ? ` in ${state.sessionKey}` : ''}. Ctrl-C stops an answer; Ctrl-C or Ctrl-D at the prompt ends the chat.`)
  let code = 0
  const prompt = createPrompt()
  for (;;) {
    const line = await prompt()
    if (line === undefined) break
    if (line.trim() === '') continue
    code = (await converse(context, line, state)) ? 0 : 1
  }
  if (state.sessionKey) note(`To go on: portico chat --session ${state.sessionKey}`)
  return code
}

/** The answer to one line; Ctrl-C stops it, and is not the command's end. */
async function converse(context: CommandContext, line: string, state: { sessionKey?: string; model?: string }): Promise<boolean> {
  const stop = new AbortController()
  const onSignal = () => stop.abort()
  const others = process.listeners('SIGINT')
  process.removeAllListeners('SIGINT')
  process.on('SIGINT', onSignal)
  try {
    return await say(context, line, state, stop.signal)
  } finally {
    process.removeListener('SIGINT', onSignal)
    for (const other of others) process.on('SIGINT', other)
  }
}

/**
 * Asks for lines: each call gives the next; undefined at Ctrl-C and Ctrl-D. Between two calls the terminal is its own again, so that Ctrl-C is a signal.
 * Of several lines that were pasted at once, each is one.
 */
function createPrompt(): () => Promise<string | undefined> {
  const pasted: string[] = []
  let begun = ''
  return async () => {
    const next = pasted.shift()
    if (next !== undefined) {
      process.stdout.write(`> ${next}\n`)
      return next
    }
    const lines = createInterface({ input: process.stdin, output: process.stdout, prompt: '> ' })
    try {
      const ended = new Promise<undefined>((resolve) => lines.once('SIGINT', () => resolve(undefined)).once('close', () => resolve(undefined)))
      const first = new Promise<string>((resolve) => {
        lines.once('line', (line) => {
          lines.on('line', (more) => pasted.push(more))
          resolve(line)
        })
      })
      lines.prompt()
      if (begun) lines.write(begun)
      begun = ''
      const line = await Promise.race([first, ended])
      // What came in one piece with it is read within this turn.
      if (line !== undefined) await setImmediate()
      begun = line === undefined ? '' : lines.line
      if (begun) process.stdout.write('\n')
      return line
    } finally {
      lines.close()
    }
  }
}

/** What a terminal may be given: nothing of an answer moves the cursor, changes the title or writes to the clipboard. */
function printable(text: string): string {
  return process.stdout.isTTY ? text.replace(/[^\P{Cc}\n\t]/gu, '') : text
}

/** Sends the message and writes the answer as it comes. True when it is whole. */
async function say(context: CommandContext, message: string, state: { sessionKey?: string; model?: string }, signal: AbortSignal): Promise<boolean> {
  const { json, note, print } = context
  const body = JSON.stringify({ message, sessionKey: state.sessionKey, model: state.model, channelId: 'cli', accumulated: false })
  const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body, signal }
  let wrote = false
  try {
    const response = await context.fetch('/api/chat/stream', init)
    if (!response.ok || !response.body) throw await refusal(response)
    for await (const { event, data } of readSse(response.body)) {
      if (event === 'session') state.sessionKey = (JSON.parse(data) as Answer).sessionKey
      else if (event === 'token' && !json) {
        wrote = true
        process.stdout.write(printable((JSON.parse(data) as { delta: string }).delta))
      } else if (event === 'done') {
        const answer = JSON.parse(data) as Answer
        if (json) print(answer)
        else process.stdout.write('\n')
        return true
      } else if (event === 'error') throw new GatewayError('upstream_error', (JSON.parse(data) as { message: string }).message)
    }
    throw new GatewayError('unavailable', 'The answer broke off. See whether the gateway runs: portico status')
  } catch (error) {
    if (wrote) process.stdout.write('\n')
    if (!signal.aborted) {
      if (context.signal === signal) throw error
      note(`portico: ${(error as Error).message}`)
      return false
    }
    note('Stopped.')
    return false
  }
}

async function sessionOf({ args, request }: CommandContext): Promise<string | undefined> {
  if (typeof args.session === 'string') return args.session
  if (args.continue !== true) return undefined
  const { sessions } = await request<{ sessions: { sessionKey: string }[] }>('GET', '/api/chat/sessions?limit=1')
  return sessions[0]?.sessionKey
}

async function refusal(response: Response): Promise<GatewayError> {
  const { error } = (await response.json().catch(() => ({}))) as { error?: { message?: string; code?: GatewayError['code'] } }
  return new GatewayError(error?.code ?? 'upstream_error', error?.message ?? `The gateway answered ${response.status}.`)
}

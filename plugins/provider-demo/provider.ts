/** `demo/echo` and `demo/tools`, in OpenAI's wire form. The same request gets the same answer, but for its id and time. */
import { createHash } from 'node:crypto'
import type { Clock } from 'portico'
import { type ChatAnswer, chatResponse, type ModelProvider, wireError } from 'portico/plugins/models'
import { sampleSchema } from './sample.ts'

const maxChoices = 16
/** Bytes of a request. The demo works on the gateway's own thread: what no model would answer in a second must not hold all others up. */
const maxBody = 1_048_576
const fingerprint = 'portico-demo'

const descriptions: Readonly<Record<string, string>> = {
  echo: 'Demo, not a model: says the last user message again, word by word',
  tools: 'Demo, not a model: calls the first offered tool with made-up arguments, then says what it answered',
}

interface Message {
  role?: unknown
  content?: unknown
}

interface Body {
  messages?: unknown
  stream?: unknown
  stream_options?: { include_usage?: unknown } | null
  n?: unknown
  tools?: unknown
  tool_choice?: unknown
}

/** Makes the provider `demo`. */
export function createDemoProvider(clock: Clock): ModelProvider {
  return {
    id: 'demo',
    closed: true,
    models: async () => Object.entries(descriptions).map(([id, description]) => ({ id, ownedBy: 'portico-demo', description })),
    async chat({ body: bytes, model }) {
      if (bytes.length > maxBody) return refusal(`The demo takes requests of at most ${maxBody} bytes.`, 'messages', 'context_length_exceeded')
      const body = JSON.parse(new TextDecoder().decode(bytes)) as Body
      const problem = problemOf(body)
      if (problem) return refusal(problem.message, problem.param)
      const messages = body.messages as Message[]
      const answer = model === 'tools' ? answerWithTools(messages, body) : say(messages, lastOf(messages, 'user'))
      return chatResponse(answer, {
        id: `chatcmpl-demo-${crypto.randomUUID()}`,
        created: Math.floor(clock.now() / 1_000),
        model: `demo/${model}`,
        stream: body.stream === true,
        includeUsage: body.stream_options?.include_usage === true,
        n: (body.n as number | null | undefined) ?? 1,
        fingerprint,
      })
    },
  }
}

function refusal(message: string, param: string, code?: string): Response {
  return Response.json(wireError(message, { type: 'invalid_request_error', param, code }), { status: 400 })
}

function problemOf({ messages, n }: Body): { message: string; param: string } | null {
  if (!Array.isArray(messages) || messages.length === 0 || messages.some((entry) => typeof entry !== 'object' || entry === null)) {
    return { message: '"messages" is not a list of at least one message.', param: 'messages' }
  }
  if (n != null && !(Number.isInteger(n) && (n as number) >= 1 && (n as number) <= maxChoices))
    return { message: `"n" is not between 1 and ${maxChoices}.`, param: 'n' }
  return null
}

function answerWithTools(messages: readonly Message[], { tools, tool_choice: choice }: Body): ChatAnswer {
  const last = messages.at(-1)
  if (last?.role === 'tool') return say(messages, `The tool answered: ${textOf(last.content)}`)
  const prompt = lastOf(messages, 'user')
  const tool = chooseTool(tools, choice)
  if (!tool) return say(messages, `No tool was offered. You said: ${prompt}`)
  const args = JSON.stringify(sampleSchema(tool.parameters ?? {}, prompt))
  // The place in the conversation makes the id the same each time, yet another one for each call.
  const id = `call_demo_${createHash('sha256').update(`${messages.length}\n${tool.name}\n${args}`).digest('hex').slice(0, 16)}`
  return { toolCalls: [{ id, name: tool.name, arguments: args }], usage: { promptTokens: tokensOf(messages), completionTokens: countWords(args) } }
}

interface Tool {
  name: string
  parameters?: unknown
}

function chooseTool(tools: unknown, choice: unknown): Tool | undefined {
  if (!Array.isArray(tools) || choice === 'none') return undefined
  const offered = tools.map((entry: { function?: Partial<Tool> } | null) => entry?.function).filter((entry): entry is Tool => typeof entry?.name === 'string')
  const named = (choice as { function?: { name?: unknown } } | null | undefined)?.function?.name
  return offered.find(({ name }) => name === named) ?? offered[0]
}

function say(messages: readonly Message[], text: string): ChatAnswer {
  return { text, pieces: piecesOf(text), usage: { promptTokens: tokensOf(messages), completionTokens: countWords(text) } }
}

/** Words, each with the space before it; the last one with the space behind it too. */
function piecesOf(text: string): string[] {
  const words = text.match(/\S+/g) ?? []
  let from = 0
  return words.map((word, index) => {
    const end = index === words.length - 1 ? text.length : text.indexOf(word, from) + word.length
    const piece = text.slice(from, end)
    from = end
    return piece
  })
}

function lastOf(messages: readonly Message[], role: string): string {
  return textOf(messages.findLast((entry) => entry.role === role)?.content)
}

/** A message's text; what else it holds (images) is named. */
function textOf(content: unknown): string {
  if (typeof content === 'string') return content
  if (!Array.isArray(content)) return ''
  return content
    .map((part: { type?: unknown; text?: unknown } | null) => (typeof part?.text === 'string' ? part.text : `[${String(part?.type ?? 'part')}]`))
    .join(' ')
}

/** Tokens as the demo counts them: words. */
function countWords(text: string): number {
  return text.match(/\S+/g)?.length ?? 0
}

function tokensOf(messages: readonly Message[]): number {
  return messages.reduce((sum, { content }) => sum + countWords(textOf(content)), 0)
}

/** What a call costs, from the published price list. The list is loaded at the first question; answers are kept. */
import type { TokenUsage } from './contract.ts'

const kept = 1_000

/** One question. */
export interface PriceQuestion {
  /** The provider's own name of the model. */
  readonly model: string
  /** Where its provider lies; prices are those of the owner of that address. */
  readonly baseUrl?: string
  readonly usage: TokenUsage
}

/** Answers in US dollars; null = no published price. */
export function createPrices(): (question: PriceQuestion) => Promise<number | null> {
  const answers = new Map<string, number | null>()
  let library: Promise<typeof import('@pydantic/genai-prices')> | undefined

  return async ({ model, baseUrl, usage }) => {
    if (baseUrl === undefined) return null
    const key = `${model}\n${baseUrl}\n${usage.inputTokens} ${usage.outputTokens} ${usage.cacheReadTokens ?? 0} ${usage.cacheWriteTokens ?? 0}`
    const known = answers.get(key)
    if (known !== undefined) return known
    library ??= import('@pydantic/genai-prices')
    const { calcPrice, findProvider } = await library
    const provider = findProvider({ providerApiUrl: baseUrl })
    const price = provider && calcPrice(toUsage(usage), model, { provider })
    const answer = price ? price.total_price : null
    if (answers.size >= kept) answers.delete(answers.keys().next().value as string)
    answers.set(key, answer)
    return answer
  }
}

function toUsage(usage: TokenUsage): Record<string, number> {
  return {
    input_tokens: usage.inputTokens,
    output_tokens: usage.outputTokens,
    ...(usage.cacheReadTokens ? { cache_read_tokens: usage.cacheReadTokens } : {}),
    ...(usage.cacheWriteTokens ? { cache_write_tokens: usage.cacheWriteTokens } : {}),
  }
}

/** `portico pair`: a new code, also while the gateway runs. */
import { defineCommand } from 'portico'

export default defineCommand({
  summary: 'Show a code that pairs a device: good for ten minutes, five attempts and one device; paired ones stay',
  examples: ['portico pair', 'portico pair --json'],
  async run({ request, print, note }) {
    const made = await request<{ code: string; expiresAt: string; url: string }>('POST', '/api/pairing', {})
    note('Type it on the page, or send it as the header X-Pairing-Code to POST /pair. It is good for ten minutes and one device.')
    print(made, `${made.code}  at ${made.url}`)
  },
})

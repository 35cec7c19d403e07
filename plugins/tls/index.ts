/** The plugin `tls`: the certificate of `gateway.tls`, judged before anybody is shown it, and shown anew when its files change. */
import { unwatchFile, watchFile } from 'node:fs'
import { certificates, definePlugin, formatProblem, type TlsFiles } from 'portico'
import { readPair } from './pair.ts'

/** ms between two looks at the files, and from the last change to the reading: one is written after the other. */
const lookMs = 1_000

export default definePlugin({
  id: 'tls',
  version: '0.1.0',
  api: 1,
  summary: 'Shows the certificate of gateway.tls, anew when it is renewed',
  provides: { certificates },
  // With gateway.tls nothing is served in the clear.
  onFailure: 'abort',
  check: ({ tls }) => (tls ? readPair(tls).problems : []),

  setup({ log, defer }) {
    return {
      services: {
        certificates: {
          open(files, onRenewed) {
            const { cert, key } = readPair(files)
            const close = watch(files, async () => {
              const { problems, ...pair } = readPair(files)
              if (problems.length > 0) return log.error(`The changed certificate is not used, the one before stays: ${problems.map(formatProblem).join(', ')}`)
              await onRenewed(pair).then(
                () => log.info('The changed certificate is in use.'),
                (error: unknown) => log.error('The listener could not be opened with the changed certificate', { error: String(error) }),
              )
            })
            defer(close)
            return { cert, key }
          },
        },
      },
    }
  },
})

function watch({ cert, key }: TlsFiles, changed: () => Promise<void>): () => void {
  let timer: ReturnType<typeof setTimeout>
  const settle = () => {
    clearTimeout(timer)
    timer = setTimeout(changed, lookMs)
  }
  for (const file of [cert, key]) watchFile(file, { interval: lookMs, persistent: false }, settle)
  return () => {
    clearTimeout(timer)
    for (const file of [cert, key]) unwatchFile(file, settle)
  }
}

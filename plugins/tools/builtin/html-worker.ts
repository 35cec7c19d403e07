/** The thread in which a page becomes text. Started by html.ts, and ended by it. */
import { parentPort } from 'node:worker_threads'
import { convert } from 'html-to-text'

parentPort?.once('message', (html: string) => {
  const text = convert(html, {
    wordwrap: false,
    baseElements: { selectors: ['article', 'main', 'body'], orderBy: 'selectors', returnDomByDefault: true },
    limits: { maxInputLength: 5_000_000, maxDepth: 200, maxBaseElements: 1, ellipsis: '…' },
    selectors: [
      { selector: 'a', options: { hideLinkHrefIfSameAsText: true, ignoreHref: false, noAnchorUrl: true } },
      ...['nav', 'footer', 'aside', 'form', 'img', 'svg', 'noscript', 'template'].map((selector) => ({ selector, format: 'skip' })),
      ...['h1', 'h2', 'h3', 'h4', 'h5', 'h6'].map((selector) => ({ selector, options: { uppercase: false } })),
    ],
  })
  parentPort?.postMessage(text)
})

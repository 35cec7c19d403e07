import { expect, test } from 'bun:test'
import { htmlToText } from './html.ts'

const slow = `<body>${'<div>'.repeat(300_000)}x`

test('a page becomes its text: the article, without what is around it', async () => {
  const page = `<title>t</title><nav>menu</nav><aside>ad</aside><main><h1>Head</h1><ul><li>one<li>two</ul><table><tr><td>a<td>b</table><script>evil()</script></main>`
  expect(await htmlToText(page)).toBe('Head\n\n * one\n * two\n\nab')
  expect(await htmlToText('<p>no <b>article')).toBe('no article')
  expect(await htmlToText('')).toBe('')
})

test('one that is built to be slow is given up, and stops nobody meanwhile', async () => {
  let ticks = 0
  const timer = setInterval(() => ticks++, 5)
  await expect(htmlToText(slow, undefined, 400)).rejects.toMatchObject({ code: 'deadline_exceeded' })
  clearInterval(timer)
  expect(ticks).toBeGreaterThan(10)
})

test('a cancelled one ends at once, and gives its place to the next', async () => {
  const stop = new AbortController()
  const all = Array.from({ length: 6 }, () => htmlToText(slow, stop.signal))
  const next = htmlToText('<p>next')
  stop.abort(new Error('cancelled'))
  expect((await Promise.allSettled(all)).map(({ status }) => status)).toEqual(Array(6).fill('rejected'))
  expect(await next).toBe('next')
})

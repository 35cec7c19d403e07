/** Markdown of a model as elements of the page. What a model writes is anybody's: nothing of it may run, call anybody, or hold the page up. */
import { marked } from '/app/marked.js'
import purify from '/app/purify.js'

/** Characters of which Markdown is made; longer texts are shown as they are. */
const longest = 200_000

const rules = { FORBID_TAGS: ['style', 'img', 'form', 'input', 'button', 'svg', 'math', 'video', 'audio'], FORBID_ATTR: ['style', 'class', 'id', 'name'] }

const escapes = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }
const escaped = (text) => text.replace(/[&<>"']/g, (sign) => escapes[sign])
const renderer = {
  // HTML in an answer is shown, not used: what is left are the elements that Markdown itself makes.
  html: ({ text }) => escaped(text),
  // An image from elsewhere would tell its server what was said, and the page's policy refuses it: whoever wants it follows the link.
  image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`,
  checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
}
marked.use({ gfm: true, breaks: true, renderer })

purify.addHook('afterSanitizeAttributes', (node) => {
  if (node.tagName !== 'A') return
  node.setAttribute('target', '_blank')
  node.setAttribute('rel', 'noopener noreferrer nofollow')
})

/** Puts the text into the element. */
export function renderMarkdown(element, text) {
  const fragment = toFragment(text)
  element.classList.toggle('plain', !fragment)
  element.replaceChildren(fragment ?? text)
  // What scrolls is to be reached with the keyboard.
  for (const block of element.querySelectorAll('pre, table')) block.tabIndex = 0
}

/** Undefined for what Markdown cannot be made of: too long, or nested so deeply that the parser gives up. */
function toFragment(text) {
  if (text.length > longest) return undefined
  try {
    return purify.sanitize(marked.parse(text), { ...rules, RETURN_DOM_FRAGMENT: true })
  } catch {
    return undefined
  }
}

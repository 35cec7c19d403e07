/** Markdown of a model as elements of the page. What a model writes is anybody's: nothing of it may run, or call anybody. */
import { marked } from '/app/marked.js'
import purify from '/app/purify.js'

// Images from elsewhere would tell their server what was said: the page's policy refuses them, so they are left out here.
const rules = { FORBID_TAGS: ['style', 'img', 'form', 'input', 'button', 'svg', 'math', 'video', 'audio'], FORBID_ATTR: ['style', 'class', 'id', 'name'] }

// HTML in an answer is shown, not used: what is left are the elements that Markdown itself makes.
const escapes = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }
marked.use({ gfm: true, breaks: true, renderer: { html: ({ text }) => text.replace(/[&<>"']/g, (sign) => escapes[sign]) } })

purify.addHook('afterSanitizeAttributes', (node) => {
  if (node.tagName !== 'A') return
  node.setAttribute('target', '_blank')
  node.setAttribute('rel', 'noopener noreferrer nofollow')
})

/** Puts the text into the element. */
export function renderMarkdown(element, text) {
  element.replaceChildren(purify.sanitize(marked.parse(text), { ...rules, RETURN_DOM_FRAGMENT: true }))
  for (const block of element.querySelectorAll('pre')) block.tabIndex = 0
}

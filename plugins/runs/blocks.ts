/** An answer in blocks, as AgentZero's gateway cuts it: paragraphs, headers, list items and fenced code. No more of Markdown than that, in one pass over the lines. */
import { t } from 'portico'

/** A block. */
export const blockView = t.Object({
  type: t.Enum(['paragraph', 'header', 'list_item', 'code_block']),
  content: t.String(),
  level: t.Optional(t.Integer({ description: 'Of a header, 1–6' })),
  language: t.Optional(t.Nullable(t.String({ description: 'Of code, as the fence says' }))),
})

/** A block of an answer. */
export type Block = (typeof blockView)['static']

/** Cuts the text. A fence that is not closed goes to the end. */
export function toBlocks(text: string): Block[] {
  const blocks: Block[] = []
  let paragraph: string[] = []
  const endParagraph = () => {
    if (paragraph.length > 0) blocks.push({ type: 'paragraph', content: paragraph.join('\n') })
    paragraph = []
  }
  const lines = text.split(/\r?\n/)
  for (let index = 0; index < lines.length; index++) {
    const line = lines[index] as string
    const [, fence, language] = /^ {0,3}(`{3,}|~{3,})\s*([^\s`]*)/.exec(line) ?? []
    const [, marks, title] = /^ {0,3}(#{1,6})\s+(.*)$/.exec(line) ?? []
    const [, item] = /^\s*(?:[-*+]|\d{1,9}[.)])\s+(.*)$/.exec(line) ?? []
    if (fence !== undefined) {
      endParagraph()
      const first = index + 1
      do index++
      while (index < lines.length && !isClosing(lines[index] as string, fence))
      blocks.push({ type: 'code_block', language: language || null, content: lines.slice(first, index).join('\n') })
    } else if (marks !== undefined) {
      endParagraph()
      blocks.push({ type: 'header', level: marks.length, content: title ?? '' })
    } else if (item !== undefined) {
      endParagraph()
      blocks.push({ type: 'list_item', content: item })
    } else if (line.trim() === '') endParagraph()
    else paragraph.push(line)
  }
  endParagraph()
  return blocks
}

function isClosing(line: string, fence: string): boolean {
  const marks = line.trim()
  return marks.length >= fence.length && marks === (fence[0] as string).repeat(marks.length)
}

/** What other plugins may use of events: Server-Sent Events, written and read; what a principal is shown. */
export { type ReadFrame, readSse } from './read-sse.ts'
export { encodeSse, type SseFrame, sseHeaders } from './sse.ts'
export { createEventView, type EventView } from './view.ts'

/** What other plugins may know of chat: its events. */
import { defineEvent, rpc, t } from 'portico'

const message = {
  sessionKey: t.String(),
  channelId: t.String({ description: 'Where it came in: api, stream, ws, or what the caller named' }),
  /** Whole texts stay in the session: the log is read by more people. */
  preview: t.String({ description: 'Its beginning, at most 200 characters' }),
}

/** A message of a user came in. */
export const messageReceived = defineEvent('message:received', t.Object({ ...message, model: t.String() }), {
  scope: rpc,
  durable: true,
  summary: 'A message of a user came in',
})

/** An answer was given, whole or not. */
export const messageSent = defineEvent(
  'message:sent',
  t.Object({ ...message, runId: t.String(), model: t.String(), finishReason: t.String(), tokens: t.Integer({ minimum: 0 }) }),
  { scope: rpc, durable: true, summary: 'An answer was given, whole or cut short' },
)

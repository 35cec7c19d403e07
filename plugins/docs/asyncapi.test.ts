import { expect, test } from 'bun:test'
import { Parser } from '@asyncapi/parser'
import { defineEvent, rpc, t } from 'portico'
import { buildAsyncApi } from './asyncapi.ts'

const sent = defineEvent('message:sent', t.Object({ id: t.String(), pair: t.Tuple([t.String(), t.Integer()]), kind: t.Enum(['a', 'b']) }), {
  scope: rpc,
  durable: true,
  summary: 'It went out',
})
const delta = defineEvent('message:streaming', t.Object({ delta: t.String() }), { scope: rpc, durable: false })

test('an independent parser accepts the document, and it lists exactly the owned events', async () => {
  const document = buildAsyncApi({
    version: '0.1.0',
    eventTypes: () => [
      { owner: 'chat', ref: sent },
      { owner: 'chat', ref: delta },
    ],
  })
  const { document: parsed, diagnostics } = await new Parser().parse(JSON.stringify(document))
  expect(diagnostics.filter(({ severity }) => severity === 0)).toEqual([])
  expect(
    parsed
      ?.allMessages()
      .all()
      .map((message) => message.name())
      .sort(),
  ).toEqual(['message:sent', 'message:streaming'])
  expect(
    parsed
      ?.operations()
      .all()
      .map((operation) => operation.action()),
  ).toEqual(['send'])
})

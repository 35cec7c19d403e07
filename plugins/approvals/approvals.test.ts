import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test'
import { type Database, definePlugin, type Principal } from 'portico'
import { startTestGateway, type TestGateway } from 'portico/testkit'
import { startPostgres, type TestPostgres } from '../../test/fixtures/postgres.ts'
import { databases } from '../../test/fixtures/stores.ts'
import { until } from '../../test/fixtures/until.ts'
import { canonicalHash, toCanonicalJson } from './canonical.ts'
import { type Approval, type ApprovalRequest, type Approvals, approvalListeners, approvals as ref } from './contract.ts'

const day = 86_400_000

describe('canonical JSON', () => {
  test('is as RFC 8785, §3.2.3 and appendix B have it', () => {
    const value = { '\u20ac': 'Euro Sign', '\r': 'CR', '\ufb33': 'Dalet', '1': 'One', '\ud83d\ude00': 'Smiley', '\u0080': 'Control', '\u00f6': 'o' }
    expect(toCanonicalJson(value)).toBe('{"\\r":"CR","1":"One","\u0080":"Control","\u00f6":"o","\u20ac":"Euro Sign","\ud83d\ude00":"Smiley","\ufb33":"Dalet"}')
    expect(toCanonicalJson([333333333.3333333, 1e30, 4.5, 2e-3, 1e-27, -0, null, true])).toBe('[333333333.3333333,1e+30,4.5,0.002,1e-27,0,null,true]')
  })

  test('is the same for the same arguments, whatever their order', () => {
    expect(canonicalHash({ a: 1, b: { d: [1, 2], c: null } })).toBe(canonicalHash({ b: { c: null, d: [1, 2] }, a: 1 }))
    expect(canonicalHash({ a: [1, 2] })).not.toBe(canonicalHash({ a: [2, 1] }))
  })
})

describe.each(databases)('on %s', (database) => {
  let postgres: TestPostgres | undefined
  let gateway: TestGateway
  let approvals: Approvals
  let db: Database
  const told: Approval[] = []
  /** Deadlines of other tests may pass in between. */
  const toldOf = ({ id }: Approval) => told.filter((each) => each.id === id)
  let onTold: (() => void) | undefined
  const keys: Record<string, string> = {}

  /** Hands the service to the test, and listens. */
  const driver = definePlugin({
    id: 'driver',
    version: '0.0.0',
    api: 1,
    summary: 'Hands the service to the test',
    requires: { approvals: ref },
    adds: [approvalListeners],
    setup(ctx) {
      ;({ approvals } = ctx.services)
      db = ctx.db
      ctx.add(approvalListeners, {
        async resolved(approval) {
          onTold?.()
          told.push(approval)
        },
      })
    },
  })

  const start = (dataDir?: string, databaseUrl?: string) => startTestGateway({ plugins: [driver], dataDir, databaseUrl })
  beforeAll(async () => {
    postgres = database === 'postgres' ? await startPostgres() : undefined
    gateway = await start(undefined, await postgres?.newDatabase())
    const make = async (body: object): Promise<string> => (await gateway.json('/api/keys', { method: 'POST', body: { name: 'k', ...body } })).body.key
    keys.owner = await make({ owner: 'ann' })
    keys.other = await make({ owner: 'bob' })
    keys.agent = await make({ owner: 'ann', kind: 'agent' })
    keys.service = await make({ owner: 'ann', kind: 'service' })
    keys.admin = await make({ owner: 'root', scopes: ['admin'] })
  }, 60_000)
  afterAll(async () => {
    await gateway.stop()
    await postgres?.stop()
  })
  beforeEach(() => {
    told.length = 0
    onTold = undefined
  })

  let count = 0
  const request = (more: Partial<ApprovalRequest> = {}) =>
    db.transaction((tx) =>
      approvals.request(tx, { runId: `run_${++count}`, owner: 'ann', kind: 'tool', callId: '1.0', title: 'deploy', arguments: { to: 'production' }, ...more }),
    )
  const post = async (approval: Approval, what: string, as: string | undefined, body: object = {}) => {
    const { status, body: answer } = await gateway.json(`/api/approvals/${approval.id}/${what}`, { method: 'POST', as, body })
    return { status, answer, code: answer.error?.code, message: answer.error?.message as string | undefined }
  }

  describe('state × decision × actor', () => {
    const states = {
      pending: async () => request(),
      approved: async () => decided('approve'),
      denied: async () => decided('deny'),
      expired: async () => {
        const approval = await request({ deadline: 20 })
        await gateway.events.waitFor('approval:resolved', ({ data }) => (data as { approvalId: string }).approvalId === approval.id)
        return approval
      },
      'late, before the sweep has come': async () => {
        const approval = await request({ deadline: day })
        await db.transaction((tx) => tx.execute(`update approvals_approvals set expires_at = to_timestamp(0) where id = '${approval.id}'`))
        return approval
      },
      withdrawn: async () => {
        const approval = await request()
        await db.transaction((tx) => approvals.withdraw(tx, approval.runId))
        return approval
      },
      'asked again with other arguments': async () => {
        const approval = await request()
        await request({ runId: approval.runId, arguments: { to: 'staging' } })
        return approval
      },
    }
    async function decided(what: string) {
      const approval = await request()
      await post(approval, what, keys.owner)
      return approval
    }
    const actors = ['owner', 'admin', 'other', 'agent', 'service'] as const
    /** What approving and what denying answers the owner and the administrator. The same again by the same is answered as the first time; everything else says who was first. */
    const answers: Record<keyof typeof states, Record<'owner' | 'admin', readonly [approve: string, deny: string]>> = {
      pending: { owner: ['200', '200'], admin: ['200', '200'] },
      approved: { owner: ['200', '409 conflict'], admin: ['409 conflict', '409 conflict'] },
      denied: { owner: ['409 conflict', '200'], admin: ['409 conflict', '409 conflict'] },
      expired: { owner: ['409 conflict', '409 conflict'], admin: ['409 conflict', '409 conflict'] },
      'late, before the sweep has come': { owner: ['409 conflict', '409 conflict'], admin: ['409 conflict', '409 conflict'] },
      withdrawn: { owner: ['409 conflict', '409 conflict'], admin: ['409 conflict', '409 conflict'] },
      'asked again with other arguments': { owner: ['409 conflict', '409 conflict'], admin: ['409 conflict', '409 conflict'] },
    }
    const answerTo = (state: keyof typeof states, actor: (typeof actors)[number], what: 'approve' | 'deny') => {
      if (actor === 'other') return '404 not_found'
      if (actor === 'agent' || actor === 'service') return '403 insufficient_scope'
      return answers[state][actor][what === 'approve' ? 0 : 1]
    }
    const both = (Object.keys(states) as (keyof typeof states)[]).flatMap((state) =>
      actors.flatMap((actor) => (['approve', 'deny'] as const).map((what) => [state, what, actor, answerTo(state, actor, what)] as const)),
    )
    test.each(both)('%s, %s by %s is %s', async (state, what, actor, expected) => {
      const approval = await states[state]()
      told.length = 0
      const before = (await approvals.ofRun(approval.runId))[0]
      const { status, code, answer } = await post(approval, what, keys[actor])
      expect(code ? `${status} ${code}` : `${status}`).toBe(expected)
      const after = (await approvals.ofRun(approval.runId))[0] as Approval
      if (state === 'pending' && status === 200) {
        expect(answer).toMatchObject({ state: what === 'approve' ? 'approved' : 'denied', decidedBy: actor === 'owner' ? 'ann' : 'root', decidedVia: 'api' })
        expect(toldOf(approval).map(({ state }) => state)).toEqual([answer.state])
      } else {
        if (!state.startsWith('late')) expect<string | undefined>(after.state).toBe(before?.state)
        expect(toldOf(approval)).toEqual(state.startsWith('late') ? expect.any(Array) : [])
      }
    })

    const kinds = (['artifacts', 'repeat', 'question'] as const).flatMap((kind) => actors.map((actor) => [kind, actor] as const))
    test.each(kinds)('of the kind %s it is decided by who may: %s', async (kind, actor) => {
      const ask = () => request({ kind, ...(kind === 'question' ? { question: 'Which?' } : {}) })
      const yes = async (approval: Approval) =>
        kind === 'question' ? post(approval, 'answer', keys[actor], { answer: 'this' }) : post(approval, 'approve', keys[actor])
      for (const decide of [yes, async (approval: Approval) => post(approval, 'deny', keys[actor])]) {
        const approval = await ask()
        const { status, code } = await decide(approval)
        const expected = answerTo('pending', actor, 'approve')
        expect(code ? `${status} ${code}` : `${status}`).toBe(expected)
        const [now] = await approvals.ofRun(approval.runId)
        expect(now?.state).toBe(expected !== '200' ? 'pending' : decide === yes ? 'approved' : 'denied')
      }
    })

    test('an agent’s principal is refused by the service too, whatever its scopes', async () => {
      const approval = await request()
      const agent: Principal = { id: 'ann', kind: 'agent', scopes: ['admin', 'approve'], groups: [], via: 'x' }
      expect(approvals.decide(approval.id, { decision: 'approve', via: 'x' }, agent)).rejects.toMatchObject({ code: 'forbidden' })
    })

    test('a conflict says who decided, and when', async () => {
      const approval = await states.approved()
      const { message, answer } = await post(approval, 'deny', keys.admin)
      expect(message).toMatch(/was approved already by ann at 20\d\d-/)
      expect(answer.error.details).toMatchObject({ state: 'approved', decidedBy: 'ann' })
    })

    test('no key of an agent can have the scope', async () => {
      const { status } = await gateway.json('/api/keys', { method: 'POST', body: { name: 'x', kind: 'agent', scopes: ['rpc', 'approve'] } })
      expect(status).toBe(403)
    })
  })

  test('50 decisions at once: one counts', async () => {
    const approval = await request()
    const answers = await Promise.all(Array.from({ length: 50 }, (_, n) => post(approval, n % 2 ? 'approve' : 'deny', n % 3 ? keys.owner : keys.admin)))
    expect(toldOf(approval)).toHaveLength(1)
    const [decided] = await approvals.ofRun(approval.runId)
    const agreeing = answers.filter(({ status }) => status === 200)
    expect(agreeing.length).toBeGreaterThan(0)
    for (const { answer } of agreeing) expect(answer.state).toBe(decided?.state)
  })

  test('is bound to the exact arguments: with others the old gate is withdrawn', async () => {
    const runId = 'run_arguments'
    const first = await request({ runId })
    expect((await request({ runId })).id).toBe(first.id)
    const second = await request({ runId, arguments: { to: 'staging' } })
    expect(second.id).not.toBe(first.id)
    expect((await post(first, 'approve', keys.owner)).code).toBe('conflict')
    expect((await post(second, 'approve', keys.owner, { argumentsHash: first.argumentsHash })).message).toContain('not those you saw')
    expect((await post(second, 'approve', keys.owner, { argumentsHash: second.argumentsHash })).status).toBe(200)
  })

  test('a question is answered, among its choices', async () => {
    const ask = (choices: string[]) => request({ kind: 'question', question: 'Which?', choices, arguments: { question: 'Which?' } })
    const open = await ask([])
    expect((await post(open, 'approve', keys.owner)).code).toBe('validation_failed')
    expect((await post(open, 'answer', keys.owner, { answer: 'blue \0' })).answer).toMatchObject({ state: 'approved', answer: 'blue \ufffd' })
    const closed = await ask(['red', 'green'])
    expect((await post(closed, 'answer', keys.owner, { answer: 'blue' })).message).toContain('"red", "green"')
    expect((await post(closed, 'answer', keys.owner, { answer: 'red' })).status).toBe(200)
    expect((await post(await request(), 'answer', keys.owner, { answer: 'yes' })).code).toBe('validation_failed')
  })

  test('of one run at most 200 are open', async () => {
    const runId = 'run_many'
    await db.transaction(async (tx) => {
      for (let n = 0; n < 200; n++) await approvals.request(tx, { runId, owner: 'ann', kind: 'tool', callId: `1.${n}`, title: 'x', arguments: { n } })
    })
    await expect(request({ runId, callId: '2.0' })).rejects.toMatchObject({ code: 'unprocessable', message: expect.stringContaining('200 approvals') })
    await db.transaction((tx) => approvals.withdraw(tx, runId))
    expect((await request({ runId, callId: '2.0' })).state).toBe('pending')
  })

  test('the deadline denies, and tells', async () => {
    const usual = await request()
    expect(usual.expiresAt.getTime() - usual.createdAt.getTime()).toBe(day)
    const approval = await request({ deadline: 20 })
    await gateway.events.waitFor('approval:resolved', ({ data }) => (data as { approvalId: string }).approvalId === approval.id)
    expect(told.find(({ id }) => id === approval.id)).toMatchObject({ state: 'expired', decidedBy: null, decidedVia: 'deadline' })
  })

  test('a listener that fails takes the decision back', async () => {
    const approval = await request()
    onTold = () => {
      throw new Error('not now')
    }
    expect((await post(approval, 'approve', keys.owner)).status).toBe(500)
    expect((await approvals.ofRun(approval.runId))[0]?.state).toBe('pending')
    onTold = undefined
    expect((await post(approval, 'approve', keys.owner)).status).toBe(200)
  })

  test('a request whose transaction fails was never made', async () => {
    const failing = db.transaction(async (tx) => {
      await approvals.request(tx, { runId: 'run_failed', owner: 'ann', kind: 'tool', callId: '1.0', title: 'x', arguments: {} })
      throw new Error('rolled back')
    })
    await expect(failing).rejects.toThrow('rolled back')
    expect(await approvals.ofRun('run_failed')).toEqual([])
  })

  test('each sees his own, an admin all, in pages', async () => {
    const mine = [await request(), await request()]
    await request({ owner: 'bob' })
    const list = async (as: string | undefined, query: string) => (await gateway.json(`/api/approvals?state=pending&${query}`, { as })).body.approvals
    expect((await list(keys.owner, 'limit=2')).map(({ id }: Approval) => id)).toEqual([mine[1]?.id, mine[0]?.id])
    expect((await list(keys.owner, `limit=1&before=${mine[1]?.id}`)).map(({ id }: Approval) => id)).toEqual([mine[0]?.id])
    expect((await list(keys.other, '')).every(({ owner }: Approval) => owner === 'bob')).toBe(true)
    expect((await list(keys.admin, 'limit=1'))[0].owner).toBe('bob')
    expect((await gateway.json(`/api/approvals/${mine[0]?.id}`, { as: keys.other })).status).toBe(404)
    for (const wrong of ['?state=open', '?before=%00', '?runId=%00', '/%00']) expect((await gateway.json(`/api/approvals${wrong}`)).status).toBe(400)
  })

  test('is there after a restart, with its deadline', async () => {
    const databaseUrl = await postgres?.newDatabase()
    const first = await start(undefined, databaseUrl)
    const [kept, late] = [await request({ deadline: 10 * day }), await request({ deadline: 500 })]
    const { dataDir } = first
    // Its folder stays: it is stopped as a process is, without the test's cleaning up.
    await first.gateway.stop()
    // The deadline passes while nobody is there.
    await Bun.sleep(Math.max(0, late.expiresAt.getTime() - Date.now() + 1))
    const second = await start(dataDir, databaseUrl)
    try {
      expect((await second.json(`/api/approvals/${late.id}`)).body.state).toBe('expired')
      expect((await second.json(`/api/approvals/${late.id}/approve`, { method: 'POST', body: {} })).status).toBe(409)
      await until(async () => (await approvals.ofRun(late.runId))[0]?.state === 'expired')
      const make = async (body: object): Promise<string> => (await second.json('/api/keys', { method: 'POST', body: { name: 'k', ...body } })).body.key
      const others = [await make({ owner: 'bob' }), await make({ owner: 'ann', kind: 'agent' }), await make({ owner: 'ann', kind: 'service' })]
      const refused = await Promise.all(others.map((as) => second.json(`/api/approvals/${kept.id}/approve`, { method: 'POST', as, body: {} })))
      expect(refused.map(({ status }) => status)).toEqual([404, 403, 403])
      const { status, body } = await second.json(`/api/approvals/${kept.id}/approve`, { method: 'POST', body: {} })
      expect([status, body.state]).toEqual([200, 'approved'])
    } finally {
      await second.stop()
      await first.stop()
    }
  }, 30_000)
})

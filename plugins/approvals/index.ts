import { definePlugin } from 'portico'
import { approvalListeners, approvals } from 'portico/plugins/approvals'
export default definePlugin({
  id: 'approvals',
  version: '0.0.0',
  api: 1,
  summary: 'fake',
  provides: { approvals },
  slots: [approvalListeners],
  setup(ctx) {
    const all: any[] = []
    const api: any = {
      async request(_tx: any, r: any) {
        const known = all.find((a) => a.runId === r.runId && a.kind === r.kind && a.callId === (r.callId ?? null) && a.state === 'pending')
        if (known) return known
        const a = {
          id: 'apr_' + all.length,
          callId: null,
          question: null,
          choices: [],
          state: 'pending',
          answer: null,
          comment: null,
          decidedBy: null,
          ...JSON.parse(JSON.stringify(r)),
        }
        all.push(a)
        return a
      },
      async ofRun(id: string) {
        return all.filter((a) => a.runId === id)
      },
      async withdraw(_tx: any, id: string) {
        for (const a of all) if (a.runId === id && a.state === 'pending') a.state = 'withdrawn'
      },
      async forget() {},
      async decide(id: string, d: any, p: any) {
        const a = all.find((x) => x.id === id)
        await ctx.db.transaction(async (tx) => {
          Object.assign(a, { state: d.decision === 'approve' ? 'approved' : 'denied', answer: d.answer ?? null, comment: d.comment ?? null, decidedBy: p.id })
          for (const l of ctx.items(approvalListeners)) await l.resolved(a, tx)
        })
        return a
      },
    }
    return { services: { approvals: api } }
  },
})

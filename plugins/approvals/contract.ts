/** What other plugins may know of approvals: the gates at which runs wait, how they are asked for, and who is told when one is decided. */
import { defineEvent, defineScope, defineService, defineSlot, type Principal, rpc, type Transaction, t } from 'portico'

export { canonicalHash } from './canonical.ts'

/** Who decides approvals. Keys made for a person have it; agents never do, whatever their key says. */
export const approve = defineScope('approve', 'Decide approvals')

/**
 * Why a run waits: `tool` a gated call, `artifacts` the files it staged, `repeat` a call that may have happened already, `question` a tool asks the person. All but
 * a question are approved or denied; a question is answered, or denied.
 */
export type ApprovalKind = 'tool' | 'artifacts' | 'repeat' | 'question'

/** `expired`: the deadline passed, which counts as denied. `withdrawn`: the run ended otherwise. */
export type ApprovalState = 'pending' | 'approved' | 'denied' | 'expired' | 'withdrawn'

/** What a run asks for. */
export interface ApprovalRequest {
  readonly runId: string
  /** The run's principal: it, and `admin`, may decide. */
  readonly owner: string
  readonly kind: ApprovalKind
  /** Of the tool call; of artifacts absent. */
  readonly callId?: string
  /** In a few words: the tool's name, `3 files`. */
  readonly title: string
  /** The exact arguments of the call, or the artifacts with their hashes: the approval holds for these and no others. JSON. */
  readonly arguments: unknown
  readonly question?: string
  readonly choices?: readonly string[]
  /** ms until it is denied by itself; default `[approvals] deadline`. */
  readonly deadline?: number
}

/** A gate. */
export interface Approval {
  /** `apr_…` */
  readonly id: string
  readonly runId: string
  readonly owner: string
  readonly kind: ApprovalKind
  readonly callId: string | null
  readonly title: string
  readonly arguments: unknown
  /** SHA-256, hex, of the arguments in canonical JSON (RFC 8785). */
  readonly argumentsHash: string
  readonly question: string | null
  readonly choices: readonly string[]
  readonly state: ApprovalState
  /** Of a question that was answered. */
  readonly answer: string | null
  readonly comment: string | null
  /** Who decided: a principal's id, null of what no principal decided. */
  readonly decidedBy: string | null
  /** From where: `api`, `cli`, `chat`, a channel; `deadline`, `run`, or `rule:<name>`. */
  readonly decidedVia: string | null
  readonly createdAt: Date
  readonly expiresAt: Date
  readonly decidedAt: Date | null
}

/** What is decided. */
export interface ApprovalDecision {
  readonly decision: 'approve' | 'deny'
  /** Of a question, to be approved with; at most 20,000 characters. */
  readonly answer?: string
  readonly comment?: string
  /** `api`, `cli`, `chat`, a channel's id. */
  readonly via: string
  /** Given: refuses when the arguments are not these. */
  readonly argumentsHash?: string
}

/** Which approvals. */
export interface ApprovalFilter {
  readonly state?: ApprovalState
  readonly runId?: string
  readonly limit?: number
  /** Id of an approval: older ones only. */
  readonly before?: string
}

/** The service `approvals`. */
export interface Approvals {
  /**
   * Opens a gate within the run's transaction. The same run, kind and call again: the one there is, when the arguments are the same; with other arguments the
   * old one is withdrawn and a new one opened.
   * @throws GatewayError `unprocessable` when 200 of the run are open
   */
  request(tx: Transaction, request: ApprovalRequest): Promise<Approval>
  /** All of a run as recorded, oldest first: what is past its deadline is `pending` until listeners were told. `tx` reads within it. */
  ofRun(runId: string, tx?: Transaction): Promise<Approval[]>
  /** Those the principal may see: its own, of `admin` all; newest first. Here and in `get` what is past its deadline is `expired`, swept or not. */
  list(principal: Principal, filter?: ApprovalFilter): Promise<Approval[]>
  /** @throws GatewayError `not_found`, also for another principal's */
  get(id: string, principal: Principal): Promise<Approval>
  /**
   * Decides once. The same decision by the same principal again gives what was decided.
   * @throws GatewayError `not_found` of another principal's, `forbidden` for agents and without the scope, `conflict` when it is decided or over, or when the
   * hash is another, `validation_failed` for a question without an answer or an answer that is not among the choices
   */
  decide(id: string, decision: ApprovalDecision, principal: Principal): Promise<Approval>
  /** Closes what is pending of a run that ended; tells no listener. */
  withdraw(tx: Transaction, runId: string): Promise<void>
  /** Forgets all of a run. */
  forget(tx: Transaction, runId: string): Promise<void>
}

/** The ref of the service. */
export const approvals = defineService<Approvals>('approvals')

/** Who is told within the transaction that decides (or lets expire): what it writes is written with the decision, or not at all. */
export interface ApprovalListener {
  resolved(approval: Approval, tx: Transaction): Promise<void>
}

/** By which plugins hear of decisions. */
export const approvalListeners = defineSlot<ApprovalListener>('approvalListeners', { deadline: 10_000 })

const kind = t.Enum(['tool', 'artifacts', 'repeat', 'question'])
const common = { approvalId: t.String(), runId: t.String(), kind, title: t.String() }

/** A run waits for somebody. */
export const approvalRequested = defineEvent('approval:requested', t.Object({ ...common, expiresAt: t.String({ format: 'date-time' }) }), {
  scope: rpc,
  durable: true,
  summary: 'A run waits for somebody’s decision',
})

/** A gate was decided, or its deadline passed, or its run ended. */
export const approvalResolved = defineEvent(
  'approval:resolved',
  t.Object({
    ...common,
    state: t.Enum(['approved', 'denied', 'expired', 'withdrawn']),
    decidedBy: t.Nullable(t.String()),
    decidedVia: t.Nullable(t.String()),
  }),
  { scope: rpc, durable: true, summary: 'A decision fell: by a principal, by the deadline, or because the run ended' },
)

/** What goes wrong, as it is told: refusals to the caller and the operator, failures of others to the caller. */
import { type ErrorCode, GatewayError } from 'portico'
import type { AddressKind } from './addresses.ts'

/** Why. */
export type RefusalReason = 'scheme' | 'credentials' | 'port' | 'address' | 'downgrade' | 'redirects' | 'size' | 'busy'

/** One refusal. */
export interface Refusal {
  readonly reason: RefusalReason
  /** To the caller: what, why, what next; it names no address and no host but those the caller gave. */
  readonly message: string
  /** For the operator: where it led. */
  readonly host: string
  readonly address?: string
  readonly kind?: AddressKind
  readonly purpose?: string
}

const codes: Readonly<Record<RefusalReason, ErrorCode>> = {
  ...{ scheme: 'address_not_allowed', credentials: 'address_not_allowed', port: 'address_not_allowed', address: 'address_not_allowed' },
  ...{ downgrade: 'address_not_allowed', redirects: 'upstream_error', size: 'upstream_error', busy: 'rate_limit_exceeded' },
}

/** The refusal as the error that the caller gets. */
export function toError({ reason, message }: Refusal): GatewayError {
  return new GatewayError(codes[reason], message, reason === 'busy' ? { retryAfter: 1 } : {})
}

/** Another server's failure. What the runtime says of it may name addresses: it stays the cause, for the log. */
export function upstreamError(message: string, cause?: unknown): GatewayError {
  return new GatewayError('upstream_error', message, { cause })
}

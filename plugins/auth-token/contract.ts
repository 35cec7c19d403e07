/** What other plugins may know of keys: the events of a key's life, the slot of `GET /auth/config`, the keys of paired devices. */
import { admin, defineEvent, defineService, defineSlot, type Principal, t } from 'portico'

const change = t.Object({
  id: t.String(),
  name: t.String(),
  prefix: t.String(),
  kind: t.String(),
  owner: t.Nullable(t.String()),
  scopes: t.Array(t.String()),
  /** Id of the principal who did it; `system` when time did. */
  by: t.String(),
  reason: t.Optional(t.String()),
  /** Of `key:changed`: which fields are others now. */
  changed: t.Optional(t.Array(t.String())),
  /** Marks this one change, the same on every node. */
  change: t.String(),
  /** Of the key after it. Rises with each change after which what was opened with the key must end. */
  version: t.Optional(t.Integer()),
})

/** A key was made. */
export const keyCreated = defineEvent('key:created', change, { scope: admin, durable: true, summary: 'A key was made' })
/** Its name, scopes, expiry or quota changed. */
export const keyChanged = defineEvent('key:changed', change, { scope: admin, durable: true, summary: 'A key’s name, scopes, expiry or quota changed' })
/** It got a new secret; the old one is dead. */
export const keyRotated = defineEvent('key:rotated', change, { scope: admin, durable: true, summary: 'A key got a new secret' })
/** It was revoked, or expired (`reason`). */
export const keyRevoked = defineEvent('key:revoked', change, { scope: admin, durable: true, summary: 'A key was revoked, or expired' })

/** What `principal.via` says for a key: the name by which its connections are ended. */
export function viaOfKey(id: string): string {
  return `token:${id}`
}

const versions = new WeakMap<Principal, number>()

/** Notes which version of its key a principal was made from. The note is of the object: a copy does not have it. */
export function setKeyVersion(principal: Principal, version: number): void {
  versions.set(principal, version)
}

/** The version of its key that a request's principal was made from; undefined for every other credential. */
export function keyVersionOf(principal: Principal): number | undefined {
  return versions.get(principal)
}

/** True unless the change left everyone's rights as they were (a new name, another quota): then what was opened with the key must end. */
export function endsConnections({ changed }: { changed?: readonly string[] }): boolean {
  return changed === undefined || changed.includes('scopes') || changed.includes('expiresAt')
}

/** One way to authenticate, as `GET /auth/config` shows it to anyone: no secrets. */
export interface AuthInfo {
  /** The auth method's name: `token`, `jwt`. */
  readonly method: string
  /** Public facts beside it, e.g. `{ issuer, clientId, scopes }`. */
  info(): Readonly<Record<string, unknown>>
}

/** Read by `GET /auth/config`. */
export const authInfo = defineSlot<AuthInfo>('authInfo')

/** Keys for devices that were paired. They are keys like any other: listed, rotated and revoked under `/api/keys`. */
export interface DeviceKeys {
  /** Makes one, of kind device, with the scopes rpc and api: whoever asks, and whatever for. `request` is the one it is made in. */
  issue(name: string, request: Request): Promise<{ readonly id: string; readonly key: string; readonly scopes: readonly string[] }>
  /** How many are neither revoked nor expired. */
  count(): Promise<number>
}

/** Provided by auth-token. */
export const deviceKeys = defineService<DeviceKeys>('device-keys')

/** WebSockets as plugins see them. */
import type { Hooks } from 'crossws'
import type { Principal } from './principal.ts'
import { defineService, type ScopeRef } from './refs.ts'
import type { RequestContext } from './request.ts'

/** One connection. */
export interface Socket {
  readonly principal: Principal
  readonly requestId: string
  /** The request of the upgrade: its URL and headers. */
  readonly request: Request
  /** Yours, one per connection. */
  readonly data: Record<string, unknown>
  /** Bytes that were sent and wait for the peer: who has much to send waits for it to fall. */
  readonly behind: number
  /** False when the peer is over 1 MB behind; it is then closed with 1013. */
  send(data: string | Uint8Array): boolean
  /** Closes. Codes: RFC 6455 §7.4; 4001 = credential revoked, 1001 = the gateway stops. */
  close(code?: number, reason?: string): void
}

/** A socket at a path. Its hooks go through the kernel's guard: a throw closes that socket with 1011 and names the plugin. */
export interface SocketRoute {
  readonly path: string
  readonly access: 'open' | ScopeRef | readonly ScopeRef[]
  /** Bytes of one message; default 1 MB. Larger: closed with 1009. */
  readonly maxMessageBytes?: number
  open?(socket: Socket): void | Promise<void>
  message?(socket: Socket, data: string | Uint8Array): void | Promise<void>
  close?(socket: Socket, code: number, reason: string): void | Promise<void>
}

/** A request that was let in to a socket's path. */
export interface Upgrade {
  readonly route: SocketRoute
  readonly context: RequestContext
  /** Its URL and headers; `contextOf` knows it. */
  readonly request: Request
  /** Makes it a socket, whose hooks find `carried` as the peer's `context`. Resolves to what is answered; anything else than 101, or nothing, = it failed. */
  accept(carried: object): Promise<Response | undefined>
  /** Tells of what a hook of the route could not do. */
  report(what: string, error: unknown): void
}

/** What makes sockets of requests, and drives them. */
export interface SocketServer {
  /** Of every socket, as the runtimes' adapters call them. */
  readonly hooks: Partial<Hooks>
  /** Holds the connection of `context` until it ends. @throws GatewayError `rate_limit_exceeded` when its caller holds too many */
  upgrade(upgrade: Upgrade): Promise<Response>
}

/** Provided by one plugin; without it the sockets of all others are 503. */
export const socketServer = defineService<SocketServer>('socket-server')

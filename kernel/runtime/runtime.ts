/** What the kernel asks of a runtime. Only `bun.ts` and `deno.ts` name one. */
import type { Hooks } from 'crossws'
import type { TlsPair } from '../contract/listener.ts'

/** The other end of a connection. */
export interface RuntimePeer {
  /** Its address; '' in process. Read lazily, while the request is being answered. */
  readonly address: string
  /** Known without asking for the address, which costs a quarter of a short request: the listener is bound to loopback, or is not. */
  readonly isLocal?: boolean
  /** Bun: seconds of silence after which the connection is cut, 0 = never. Absent where there is no such time-out. */
  idleTimeout?(seconds: number): void
  /** Deno: the request's `signal` tells only what happens after this. */
  watch?(): void
  /** A request of HTTP/2: its body announces no length, and may be none. */
  readonly isHttp2?: boolean
  /** Makes the request a socket, whose hooks find `carried` as `context`. Resolves to what is answered: nothing on Bun, 101 on Deno; anything else = it failed. */
  upgrade?(carried: object): Promise<Response | undefined>
}

/** How to listen. */
export interface ServeOptions {
  readonly host: string
  /** 0 = any free port. */
  readonly port: number
  /** Absent = plain http. */
  readonly tls?: TlsPair
  /** Of one socket message, on Bun; the kernel judges bodies itself. */
  readonly maxBodyBytes: number
  handle(request: Request, peer: RuntimePeer): Response | Promise<Response>
  /** Of sockets. */
  readonly hooks: Partial<Hooks>
}

/** A listener. */
export interface Listener {
  readonly host: string
  readonly port: number
  /** Shows another certificate to who connects from now on. What is connected goes on; for a moment nobody can connect. */
  renew(tls: TlsPair): Promise<void>
  /** Ends the listener and what is still connected. */
  close(): Promise<void>
}

/** A runtime. */
export interface Runtime {
  readonly name: 'bun' | 'deno'
  readonly version: string
  serve(options: ServeOptions): Promise<Listener>
}

/** ms that the last bytes get to leave before a listener is cut. */
export const closingMs = 500

/** Opens a listener where another has just closed, and tries again while the runtime has not let go of the port. */
export async function reopen<T>(open: () => T): Promise<T> {
  for (const until = performance.now() + 5_000; ; await new Promise((resolve) => setTimeout(resolve))) {
    try {
      return open()
    } catch (error) {
      if (performance.now() > until) throw error
    }
  }
}

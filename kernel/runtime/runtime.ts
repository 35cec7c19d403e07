/** What the kernel asks of a runtime. Only `bun.ts` and `deno.ts` name one. */
import type { Hooks } from 'crossws'

/** The other end of a connection. */
export interface RuntimePeer {
  /** Its address; '' in process. Read lazily, while the request is being answered. */
  readonly address: string
  /** Known without asking for the address, which costs a quarter of a short request: the listener is bound to loopback, or is not. */
  readonly isLocal?: boolean
  /** Bun: seconds of silence after which the connection is cut, 0 = never. Absent where there is no such time-out. */
  idleTimeout?(seconds: number): void
}

/** An upgrade that was let in: what crossws carries along, and what is called if it fails after all. */
export interface SocketAdmission {
  readonly context: object
  abandon(): void
}

/** What stands before and behind the upgrade of a socket. */
export interface SocketDoor {
  readonly hooks: Partial<Hooks>
  admit(request: Request, peer: RuntimePeer): Promise<SocketAdmission | Response>
}

/** How to listen. */
export interface ServeOptions {
  readonly host: string
  /** 0 = any free port. */
  readonly port: number
  /** Of one socket message, on Bun; the kernel judges bodies itself. */
  readonly maxBodyBytes: number
  handle(request: Request, peer: RuntimePeer): Response | Promise<Response>
  readonly sockets: SocketDoor
}

/** A listener. */
export interface Listener {
  readonly host: string
  readonly port: number
  /** Ends the listener and what is still connected. */
  close(): Promise<void>
}

/** A runtime. */
export interface Runtime {
  readonly name: 'bun' | 'deno'
  readonly version: string
  serve(options: ServeOptions): Promise<Listener>
  onSignal(handler: (signal: 'SIGINT' | 'SIGTERM') => void): () => void
}

/** Both runtimes have Node's signals. */
export function onSignal(handler: (signal: 'SIGINT' | 'SIGTERM') => void): () => void {
  const [onInt, onTerm] = [() => handler('SIGINT'), () => handler('SIGTERM')]
  process.on('SIGINT', onInt).on('SIGTERM', onTerm)
  return () => void process.off('SIGINT', onInt).off('SIGTERM', onTerm)
}

/** ms that the last bytes get to leave before a listener is cut. */
export const closingMs = 500

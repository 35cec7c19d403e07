/** The door that each request passes first. */
import type { AuthResult, Principal } from './principal.ts'
import { defineService } from './refs.ts'
import type { RequestContext } from './request.ts'

/** A request that comes in: what is found out is written here. */
export interface Arrival extends Omit<RequestContext, 'principal'> {
  readonly request: Request
  readonly url: string
  /** Its address is empty in process. */
  readonly peer: { readonly address: string }
  /** Of the URL. The door sets it. */
  path: string
  /** Where the query begins in `url` (the `?`), -1 without one. The door sets it. */
  queryAt: number
  principal: Principal
  auth: AuthResult | undefined
}

/** Where the gateway listens, and what it is called besides. */
export interface DoorPlace {
  readonly host: string
  readonly port: number
  readonly isTls: boolean
  /** `gateway.hosts`. */
  readonly hosts: readonly string[]
  /** `gateway.corsOrigins`. */
  readonly corsOrigins: readonly string[]
}

/** Decides which requests are looked at at all. */
export interface Door {
  /** Called before the first request, and whenever something of it has changed. */
  place(place: DoorPlace): void
  /** Sets path, query and headers of the answer; throws 400 or 403. What it returns is the answer (of a preflight). `allowed` gives the methods of a path. */
  admit(arrival: Arrival, routes: { allowed(path: string): readonly string[] }): Response | undefined
}

/** Asked by the kernel. Without it nothing is answered. */
export const door = defineService<Door>('door')

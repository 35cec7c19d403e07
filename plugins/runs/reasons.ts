/** Why a run stops before its end: what its signal is aborted with, or what the turn throws. */
import type { RunError } from './contract.ts'

/** Somebody, or the client's leaving, ended it. */
export class Cancelled extends Error {
  constructor(reason: string) {
    super(reason)
    this.name = 'Cancelled'
  }
}

/** A person, or a deadline of an approval, refused it. */
export class Rejected extends Error {
  constructor(reason: string) {
    super(reason)
    this.name = 'Rejected'
  }
}

/** It may not go on. */
export class RunFailure extends Error {
  readonly error: RunError
  constructor(code: string, message: string) {
    super(message)
    this.name = 'RunFailure'
    this.error = { code, message }
  }
}

/** This process goes away; another goes on. */
export class Stopping extends Error {
  constructor() {
    super('The gateway stops')
    this.name = 'Stopping'
  }
}

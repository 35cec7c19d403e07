/** Exit codes, as `--help` says. */
export const exitCode = { done: 0, failed: 1, usage: 2 } as const

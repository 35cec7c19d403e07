/** What nobody caught, in a timer or a promise that nobody awaits: reported with the plugin whose code it was, and survived. Only an error of the kernel alone is fatal. */

/** What is done with it. */
export interface UncaughtOptions {
  /** Whose code it was: a plugin, `kernel`, or `unknown plugin`. */
  blame(error: unknown): string
  report(plugin: string, what: string, error: unknown): void
  /** The kernel's own code is broken: the process has to end, in order. */
  endProcess(): void
}

let release = () => {}

/** Catches for the whole process, on both runtimes, in place of whoever did before; returns the undo. */
export function catchUncaught({ blame, report, endProcess }: UncaughtOptions): () => void {
  const handle = (what: string) => (error: unknown) => {
    const plugin = blame(error)
    report(plugin, what, error)
    if (plugin === 'kernel') endProcess()
  }
  const onThrow = handle('code that nobody awaits')
  const onReject = handle('a promise that nobody awaits')
  release()
  process.on('uncaughtException', onThrow).on('unhandledRejection', onReject)
  const own = () => void process.off('uncaughtException', onThrow).off('unhandledRejection', onReject)
  release = own
  return own
}

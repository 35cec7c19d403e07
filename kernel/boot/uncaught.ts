/** What nobody caught, in a timer or a promise that nobody awaits: reported with the plugin whose code it was, and survived. Only an error of the kernel alone is fatal. */

/** What is done with it. */
export interface UncaughtOptions {
  /** Whose code it was: a plugin, `kernel`, or `unknown plugin`. */
  blame(error: unknown): string
  report(plugin: string, what: string, error: unknown): void
  /** The kernel's own code is broken: the process has to end, in order. */
  onFatal(error: unknown): void
}

/** Catches for the whole process, on both runtimes; returns the undo. */
export function catchUncaught({ blame, report, onFatal }: UncaughtOptions): () => void {
  const handle = (what: string) => (error: unknown) => {
    const plugin = blame(error)
    report(plugin, what, error)
    if (plugin === 'kernel') onFatal(error)
  }
  const onThrow = handle('code that nobody awaits')
  const onReject = handle('a promise that nobody awaits')
  process.on('uncaughtException', onThrow).on('unhandledRejection', onReject)
  return () => void process.off('uncaughtException', onThrow).off('unhandledRejection', onReject)
}

/** Finds the runtime. */
import type { Runtime } from './runtime.ts'

/** The runtime this process runs on. */
export async function currentRuntime(): Promise<Runtime> {
  return 'Bun' in globalThis ? (await import('./bun.ts')).bunRuntime : (await import('./deno.ts')).denoRuntime
}

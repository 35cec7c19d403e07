/** What a person types to start the command again, as hints say it. */
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'

/** How this process came to be. */
export interface Origin {
  readonly inCheckout: boolean
  /** npx or the like stands before it. */
  readonly isBehindTool: boolean
  readonly runtime: 'bun' | 'deno'
  readonly version: string
  /** Of the environment. */
  readonly path: string
}

/** `portico`, or how the checkout's script is run: also where there is only npm, by whose npx the runtime came. */
export function commandName({ inCheckout, isBehindTool, runtime, version, path }: Origin): string {
  if (!inCheckout) return isBehindTool ? 'npx portico' : 'portico'
  const script = runtime === 'deno' ? 'task portico' : 'run portico'
  return `${isTypeable(runtime, path) ? runtime : `npx -y ${runtime}@${version}`} ${script}`
}

/** In a folder of the person's own: those that npm, npx and Bun put before it for their children are not in a new terminal. */
function isTypeable(runtime: string, path: string): boolean {
  const own = path.split(delimiter).filter((folder) => folder !== '' && !/node_modules[\\/]\.bin[\\/]?$|[\\/]bun-node-[^\\/]*$/.test(folder))
  return own.some((folder) => existsSync(join(folder, runtime)) || existsSync(join(folder, `${runtime}.exe`)))
}

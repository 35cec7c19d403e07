/** The rows of the benchmark, in the order of the page. */
import type { Row } from './row.ts'
import { chatLatency, chatThroughput } from './rows/chat.ts'
import { durable, publish } from './rows/events.ts'
import { idleMemory, soak } from './rows/memory.ts'
import { models } from './rows/models.ts'
import { fanOut, idle } from './rows/readers.ts'
import { routes } from './rows/routes.ts'
import { runFirstToken, runLag, runStarted, runSubmissions, runTurn } from './rows/runs.ts'
import { start, startOnPostgres } from './rows/start.ts'
import { stranger } from './rows/stranger.ts'
import { pacedStreams } from './rows/streams.ts'

export const rows: readonly Row[] = [
  models,
  chatThroughput,
  chatLatency,
  pacedStreams,
  fanOut,
  idle,
  publish,
  durable,
  runSubmissions,
  runFirstToken,
  runStarted,
  runLag,
  runTurn,
  start,
  startOnPostgres,
  idleMemory,
  soak,
  routes,
  stranger,
]

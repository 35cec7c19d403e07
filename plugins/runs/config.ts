/** `[runs]`. */
import { type Static, t } from 'portico'

const day = 86_400_000

/** What an operator sets. */
export const config = t.Object({
  concurrency: t.Integer({
    minimum: 0,
    maximum: 10_000,
    default: 16,
    description: 'Queued runs that this process works on at once; 0 = none, it only takes them in',
  }),
  maxInteractive: t.Integer({ minimum: 1, maximum: 100_000, default: 512, description: 'Runs at once of people who wait for the answer' }),
  maxQueued: t.Integer({ minimum: 1, maximum: 1_000_000, default: 1_000, description: 'Runs of one principal that are not over' }),
  lease: t.Integer({ minimum: 1_000, maximum: 600_000, default: 15_000, description: 'ms after which the runs of a process that fell silent are taken over' }),
  timeout: t.Integer({ minimum: 1_000, maximum: 7 * day, default: 3_600_000, description: 'ms of work of a run, without waiting for people' }),
  maxSteps: t.Integer({ minimum: 1, maximum: 200, default: 20, description: 'Model calls of one run' }),
  model: t.Optional(t.String({ minLength: 1, description: 'Of the agent `default`: `provider/model` or an alias; default the first model there is' })),
  instructions: t.String({ default: '', maxLength: 100_000, description: 'Of the agent `default`' }),
  tools: t.Array(t.String({ minLength: 1 }), { default: [], maxItems: 1_000, description: 'Of the agent `default`: names of tools, or `*`' }),
  retention: t.Integer({ minimum: day / 24, maximum: 3_650 * day, default: 30 * day, description: 'ms that what a run did is kept after its end' }),
  maxMessages: t.Integer({ minimum: 2, maximum: 10_000, default: 200, description: 'Of one session; older ones are forgotten' }),
  maxSessions: t.Integer({ minimum: 1, maximum: 100_000, default: 1_000, description: 'Of one principal; those unused for longest are forgotten' }),
  maxContext: t.Integer({
    ...{ minimum: 0, maximum: 100_000_000, default: 400_000 },
    description: 'Characters of what was said before that go to the model with a message: the newest; about four are a token',
  }),
  maxImages: t.Integer({
    ...{ minimum: 0, maximum: 10_000_000, default: 1_000_000 },
    description: 'Characters of one message’s images that stay in its session; of larger ones it says only that they were there. 0 = none stay',
  }),
})

/** It, read. */
export type RunsConfig = Static<typeof config>

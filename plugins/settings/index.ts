/** The plugin `settings`: what runs here and how it is configured, to be read and changed. */
import { definePlugin, kernel, t } from 'portico'
import { secretModified } from './contract.ts'
import { settingsRoutes, settingsWrites } from './routes.ts'
import { createWriter } from './writer.ts'

export default definePlugin({
  id: 'settings',
  version: '0.1.0',
  api: 1,
  summary: 'Shows and changes the plugins and the running config',
  config: t.Object({
    watchMs: t.Integer({
      minimum: 0,
      maximum: 3_600_000,
      default: 1_000,
      description: 'ms between looks at the config file, whose changes are taken while the gateway runs; 0 = none',
    }),
  }),
  events: [secretModified],
  requires: { kernel },
  paths: ['/api/plugins', '/api/config'],
  commands: [
    { name: 'init', summary: 'Write a commented portico.toml', load: async () => ({ default: (await import('./init.ts')).init }) },
    {
      name: 'plugins',
      summary: 'List the plugins, make one, inspect one, switch them on and off',
      load: async () => ({ default: (await import('./cli.ts')).plugins }),
    },
    { name: 'config', summary: 'Check, show and change the config, print its schema', load: async () => ({ default: (await import('./cli.ts')).config }) },
  ],
  setup(ctx) {
    const { kernel } = ctx.services
    const writer = createWriter({
      kernel,
      secretChanged: (key, by) =>
        void ctx.publish(secretModified, { key, by: by ?? null }).catch((error: unknown) => ctx.log.warn('secret:modified could not be published', { error })),
    })
    /** Looks at the file by its content: that works on every file system, and whichever way an editor writes. */
    async function watch(): Promise<void> {
      let refused = ''
      while (!ctx.signal.aborted) {
        await ctx.clock.sleep(ctx.config.watchMs, ctx.signal).catch(() => undefined)
        if (ctx.signal.aborted) return
        try {
          const report = await writer.follow()
          if (report) ctx.log.info('The changed config file was taken', { keys: report.keys, needsRestart: report.needsRestart })
          if (report) await writer.keep()
          refused = ''
        } catch (error) {
          const why = error instanceof Error ? error.message : String(error)
          if (why !== refused) ctx.log.error(`The changed config file was not taken, what runs goes on. ${why}`)
          refused = why
        }
      }
    }
    return {
      routes: [settingsRoutes(kernel), settingsWrites(kernel, writer)],
      ready() {
        // The start does not wait for it, the stop does.
        const kept = writer.keep().catch((error: unknown) => ctx.log.warn('The running config could not be kept as the last good one', { error }))
        ctx.defer(() => kept)
        if (ctx.config.watchMs > 0) void watch()
      },
    }
  },
})

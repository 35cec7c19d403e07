/** The plugin `settings`: what runs here and how it is configured, to be read. */
import { definePlugin, kernel } from 'portico'
import { settingsRoutes } from './routes.ts'

export default definePlugin({
  id: 'settings',
  version: '0.1.0',
  api: 1,
  summary: 'Shows the plugins and the running config',
  requires: { kernel },
  paths: ['/api/plugins', '/api/config'],
  commands: [
    { name: 'plugins', summary: 'List the plugins, inspect one', load: async () => ({ default: (await import('./cli.ts')).plugins }) },
    { name: 'config', summary: 'Check and show the config, print its schema', load: async () => ({ default: (await import('./cli.ts')).config }) },
  ],
  setup: (ctx) => ({ routes: [settingsRoutes(ctx.services.kernel)] }),
})

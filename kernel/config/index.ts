/** The config room: read, resolve, show. */
export { type ConfigFlags, environment, type RawConfig, type ReadConfigOptions, readConfig } from './read.ts'
export { isLoopbackHost, type ResolvedConfig, resolveConfig } from './resolve.ts'
export { type BusConfig, type ConfigSection, type DatabaseConfig, type GatewayConfig, kernelSections, type LogConfig } from './sections.ts'
export type { ResolvedSecret } from './settling.ts'
export { configJsonSchema, redactConfig } from './show.ts'

/** `portico/testkit`: what plugin authors test with. */
export { type EventTrace, traceEvents } from './event-trace.ts'
export { createFakeClock, type FakeClock } from './fake-clock.ts'
export { type LogLine, startTestGateway, type TestGateway, type TestGatewayOptions, type TestRequestInit } from './gateway.ts'
export { type ContractCheck, type ContractOptions, pluginContract } from './plugin-contract.ts'

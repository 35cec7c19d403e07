/** The plugin `proxies`: believes what the proxies of `gateway.trustedProxies` say of whom they forward. */
import { definePlugin, proxies } from 'portico'
import { findStrangers, trust } from './trust.ts'

export default definePlugin({
  id: 'proxies',
  version: '0.1.0',
  api: 1,
  summary: 'Finds the client’s address behind trusted proxies',
  provides: { proxies },
  check: findStrangers,
  setup: () => ({ services: { proxies: { trust } } }),
})

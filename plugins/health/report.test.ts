import { describe, expect, test } from 'bun:test'
import type { StatusInfo } from './contract.ts'
import { createReport, isDegraded } from './report.ts'

let now = 0
const clock = { now: () => now, sleep: () => Promise.resolve() }
const reportOf = (contributors: StatusInfo[], ping: () => Promise<void> = async () => {}) =>
  createReport({ kernel: { plugins: () => [] }, database: { ping }, clock, contributors: () => contributors })

describe('the report', () => {
  test('asks the components once a second, however many probes there are', async () => {
    let asked = 0
    const report = reportOf([], async () => {
      asked++
    })
    await Promise.all([report.components(), report.components(), report.components()])
    expect(asked).toBe(1)
    now += 1_000
    await report.components()
    expect(asked).toBe(2)
  })

  test('says that the database is down when it does not answer, and asks it again', async () => {
    let isAway = true
    const report = reportOf([], async () => {
      if (isAway) throw new Error('away')
    })
    const states = async () => (await report.components()).map(({ name, state }) => `${name} ${state}`)
    expect(await states()).toEqual(['database down', 'plugins ok'])
    isAway = false
    now += 1_000
    expect(await states()).toEqual(['database ok', 'plugins ok'])
  })

  test('merges what plugins contribute, groups of components too', async () => {
    const report = reportOf([
      { health: () => ({ llm_provider: 'ok', tools: { git: 'detected' } }), status: () => ({ models: ['demo/echo'] }) },
      { health: async () => ({ tools: { ngspice: 'not_found' } }) },
    ])
    expect(await report.contributedHealth()).toEqual({ llm_provider: 'ok', tools: { git: 'detected', ngspice: 'not_found' } })
    expect(await report.contributedStatus()).toEqual({ models: ['demo/echo'] })
  })

  test('goes on without a contributor that throws or never answers', async () => {
    const report = reportOf([
      {
        health: () => {
          throw new Error('broken')
        },
      },
      { health: () => new Promise(() => {}) },
      { health: () => ({ llm_provider: 'ok' }) },
    ])
    expect(await report.contributedHealth()).toEqual({ llm_provider: 'ok' })
  })
})

test('degraded is whatever has a component that is reachable, down or degraded', () => {
  expect(isDegraded([{ name: 'a', state: 'ok' }], { tools: { git: 'not_found' } })).toBe(false)
  expect(isDegraded([{ name: 'a', state: 'reachable' }], {})).toBe(true)
  expect(isDegraded([], { llm_provider: 'down' })).toBe(true)
  expect(isDegraded([], { models: { local: 'degraded' } })).toBe(true)
})

/** How both sides of the fan-out publish: four events in each turn of the event loop, so that connections are written to in between. */

/** Of each event. */
export const burstText = 'x'.repeat(100)

/** Calls `publish` so often. */
export async function burst(count: number, publish: (n: number) => void): Promise<void> {
  for (let n = 0; n < count; n++) {
    publish(n)
    if (n % 4 === 3) await new Promise((resolve) => setImmediate(resolve))
  }
}

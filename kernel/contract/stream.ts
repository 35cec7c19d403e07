/** Streamed answers whose maker speaks for himself. */

const brand = Symbol.for('portico.self-reporting')

/** Marks a stream that reports its own failures, and returns it: the kernel passes it on as it is. Any other one it watches, at the price of a second reading, to name the plugin whose stream breaks. */
export function selfReporting<S extends ReadableStream>(stream: S): S {
  return Object.assign(stream, { [brand]: true })
}

/** For the kernel. */
export function isSelfReporting(stream: ReadableStream): boolean {
  return (stream as { [brand]?: true })[brand] === true
}

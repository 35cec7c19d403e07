/** A text that grows by small pieces and is read from where a reader has come to: joined once, not anew for each piece. */
export class GrowingText {
  length = 0
  #pieces: string[] = []

  append(piece: string): void {
    if (piece === '') return
    this.#pieces.push(piece)
    this.length += piece.length
  }

  clear(): void {
    this.#pieces = []
    this.length = 0
  }

  /** What stands behind so many characters. */
  since(offset: number): string {
    let first = this.#pieces.length
    let at = this.length
    while (first > 0 && at > offset) at -= (this.#pieces[--first] as string).length
    return this.#pieces
      .slice(first)
      .join('')
      .slice(Math.max(0, offset - at))
  }

  toString(): string {
    return this.since(0)
  }
}

/** What other plugins may know of the workspace: files that runs read, and stage until somebody lets them be written. */
import { defineService, type Transaction } from 'portico'

/** A file or folder, by its path inside the workspace: relative, `/` between segments, never above it. */
export interface WorkspaceEntry {
  readonly path: string
  readonly kind: 'file' | 'folder'
  /** Bytes; 0 of a folder. */
  readonly size: number
}

/** A line that was found. */
export interface WorkspaceMatch {
  readonly path: string
  /** From 1. */
  readonly line: number
  readonly text: string
}

/** A staged file: what a run wants to write, and what stood there when it was first staged. */
export interface Artifact {
  /** `art_…` */
  readonly id: string
  readonly runId: string
  readonly path: string
  readonly change: 'created' | 'modified' | 'deleted'
  readonly state: 'staged' | 'applied' | 'discarded' | 'undone'
  /** Bytes of the new content; 0 of a deletion. */
  readonly size: number
  /** SHA-256 of the content, hex; null where there is none. */
  readonly before: string | null
  readonly after: string | null
  readonly isBinary: boolean
  /** Lines that come and go: `+85 -0`; of a binary file `binary`. */
  readonly diff: string
}

/** The workspace as one run sees it: the folder, with its own staged files over it. Every path is checked: `invalid_request` names one that leaves it. */
export interface RunWorkspace {
  /** @throws GatewayError `not_found`, `body_too_large` over the limit of the config */
  read(path: string, signal?: AbortSignal): Promise<Uint8Array>
  list(path: string, options?: { depth?: number; signal?: AbortSignal }): Promise<WorkspaceEntry[]>
  search(query: { text: string; path?: string; isRegex?: boolean; limit?: number; signal?: AbortSignal }): Promise<WorkspaceMatch[]>
  /** Stages the content, or a deletion (null). Nothing outside the database changes. */
  stage(path: string, content: Uint8Array | null): Promise<Artifact>
  artifacts(): Promise<Artifact[]>
}

/** The service `workspace`. */
export interface Workspace {
  open(runId: string): RunWorkspace
  /** Of a run, in the order of their paths; `tx` reads within it. */
  artifacts(runId: string, tx?: Transaction): Promise<Artifact[]>
  /** A unified diff of one artifact; of a binary file its hashes. @throws GatewayError `not_found` */
  patch(runId: string, artifactId: string): Promise<string>
  /** What is staged. @throws GatewayError `not_found` */
  content(runId: string, artifactId: string): Promise<Uint8Array | null>
  /**
   * Writes all staged files of the run or none, and goes on with what a crash in the middle left: more calls do nothing more.
   * @throws GatewayError `conflict`, naming the files that have changed since they were staged
   */
  apply(runId: string): Promise<Artifact[]>
  discard(runId: string, tx?: Transaction): Promise<void>
  /** Puts back what stood there. @throws GatewayError `conflict` when a file has changed since it was applied */
  undo(runId: string): Promise<Artifact[]>
  /** Forgets all of the run. */
  forget(runId: string, tx?: Transaction): Promise<void>
}

/** The ref of the service. */
export const workspace = defineService<Workspace>('workspace')

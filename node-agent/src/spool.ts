import { randomUUID } from 'node:crypto';
import { readdir, readFile, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { diskError } from '@clipfarm/shared/disk-error';
import { mkdirDurable, renameDurable, writeFileDurable } from '@clipfarm/shared/durable-file';
import { hashFile } from '@clipfarm/shared/hash-file';
import type { Logger } from '@clipfarm/shared/log';
import { z } from 'zod';

const artifact = {
  /** Farm whose lease made it; empty where the farm has not told who it is. */
  farmId: z.string().default(''),
  jobId: z.string().min(1),
  leaseId: z.string().min(1),
  /** SHA-256 in hex. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  bytes: z.number().int().positive(),
};

const spoolManifest = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('chunk'),
    ...artifact,
    clip: z.number().int().nonnegative(),
    frames: z.number().int().positive(),
    /** Seconds that rendering took, encoding not counted. */
    renderSeconds: z.number().nonnegative(),
    /** Span whose model call rendered it; absent: that of the lease. */
    span: z.number().int().nonnegative().optional(),
    /** Most GPU memory that the call had needed, and had taken, and memory of the runner on the host; 0 where unknown. */
    peakMemoryBytes: z.number().int().nonnegative().default(0),
    reservedMemoryBytes: z.number().int().nonnegative().default(0),
    hostBytes: z.number().int().nonnegative().default(0),
  }),
  z.object({ kind: z.literal('anchor'), ...artifact }),
]);

/** What a spooled file is: an encoded clip, or the anchor picture of a job. */
export type SpoolManifest = z.infer<typeof spoolManifest>;

/** A manifest before its file was measured. */
export type SpoolDraft =
  | Omit<Extract<SpoolManifest, { kind: 'chunk' }>, 'sha256' | 'bytes'>
  | Omit<Extract<SpoolManifest, { kind: 'anchor' }>, 'sha256' | 'bytes'>;

/** A file in the spool. */
export interface SpoolEntry {
  /** Place in the order of production. */
  readonly sequence: number;
  /** Absolute path of the file. */
  readonly path: string;
  readonly manifest: SpoolManifest;
}

/** Where the spool lies and how large it may grow. */
export interface SpoolOptions {
  readonly dir: string;
  /** Bytes beyond which {@link Spool.whenRoom} waits. Each slot may exceed it by the chunk that it has in hand. */
  readonly maxBytes: number;
  readonly log: Logger;
}

/**
 * Finished chunks and anchors on disk, in order, until the coordinator has judged them. What {@link add} returned
 * survives a crash and a power cut: `N.mp4` or `N.png` with the content and `N.json` with the manifest, written last.
 */
export class Spool {
  readonly #options: SpoolOptions;
  readonly #entries = new Map<number, SpoolEntry>();
  readonly #waiting = new Set<() => void>();
  #bytes = 0;
  #next = 1;
  #farmId = '';
  #onDisplaced: (entry: SpoolEntry) => void = () => {};

  private constructor(options: SpoolOptions) {
    this.#options = options;
  }

  /**
   * Opens the spool and takes over what an earlier process left. Whatever is incomplete or does not match its manifest
   * is deleted and logged.
   *
   * @throws FarmError `internal` or `resource_exhausted` when the disk refuses.
   */
  static async open(options: SpoolOptions): Promise<Spool> {
    const spool = new Spool(options);
    try {
      await rm(join(options.dir, 'scratch'), { recursive: true, force: true });
      await mkdirDurable(join(options.dir, 'scratch'));
      await spool.#recover();
    } catch (error) {
      throw diskError(error, `open the spool ${options.dir}`);
    }
    return spool;
  }

  /** Files, in the order of production. */
  get entries(): readonly SpoolEntry[] {
    return [...this.#entries.values()];
  }

  /** Chunks among the files. */
  get chunkCount(): number {
    return this.entries.filter((entry) => entry.manifest.kind === 'chunk').length;
  }

  /** Chunks that were made for another farm than the one that leads now, and wait for theirs. */
  get foreignChunkCount(): number {
    return this.entries.filter((entry) => entry.manifest.kind === 'chunk' && this.isForeign(entry)).length;
  }

  /** Bytes of all files, manifests not counted. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Bytes that are free on the spool's disk. */
  async freeBytes(): Promise<number> {
    const disk = await statfs(this.#options.dir);
    return disk.bavail * disk.bsize;
  }

  /** A path on the spool's disk to write a file to before it is added. */
  scratchPath(extension: 'mp4' | 'png'): string {
    return join(this.#options.dir, 'scratch', `${randomUUID()}.${extension}`);
  }

  /**
   * A farm leads. What was made for other farms stays for them, as long as the room is not needed.
   *
   * @param farmId empty: a farm that does not tell who it is, and is taken for any
   * @param onDisplaced a file of another farm had to make room
   */
  serve(farmId: string, onDisplaced: (entry: SpoolEntry) => void): void {
    this.#farmId = farmId;
    this.#onDisplaced = onDisplaced;
    this.#wakeWaiting();
  }

  /** Whether a file was made for another farm than the one that leads now. */
  isForeign({ manifest: { farmId } }: SpoolEntry): boolean {
    return farmId !== '' && this.#farmId !== '' && farmId !== this.#farmId;
  }

  /**
   * Resolves when the spool is below its limit, for which files of other farms are deleted, the oldest first; rejects
   * with the signal's reason.
   */
  async whenRoom(signal: AbortSignal): Promise<void> {
    while (this.#bytes >= this.#options.maxBytes) {
      signal.throwIfAborted();
      const displaced = this.#displaceOldest();
      if (displaced !== null) {
        await displaced;
        continue;
      }
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake);
          signal.removeEventListener('abort', wake);
          resolve();
        };
        this.#waiting.add(wake);
        signal.addEventListener('abort', wake);
      });
    }
  }

  /**
   * Deletes files of other farms, the oldest first, until so many bytes are free on the disk or none of them is left.
   *
   * @returns bytes that are free then
   */
  async makeRoom(bytes: number): Promise<number> {
    for (;;) {
      const free = await this.freeBytes();
      const displaced = free < bytes ? this.#displaceOldest() : null;
      if (displaced === null) return free;
      await displaced;
    }
  }

  /**
   * Moves a finished file into the spool; durable when it returns.
   *
   * @throws FarmError `resource_exhausted` when the disk is full, otherwise `internal`; the file is deleted then.
   */
  async add(scratch: string, draft: SpoolDraft): Promise<SpoolEntry> {
    const sequence = this.#next++;
    const path = this.#path(sequence, draft.kind === 'chunk' ? 'mp4' : 'png');
    try {
      const [sha256, { size }] = await Promise.all([hashFile(scratch), stat(scratch)]);
      const manifest: SpoolManifest = { ...draft, sha256, bytes: size };
      await renameDurable(scratch, path);
      await writeFileDurable(this.#path(sequence, 'json'), JSON.stringify(manifest));
      const entry = { sequence, path, manifest };
      this.#entries.set(sequence, entry);
      this.#bytes += size;
      return entry;
    } catch (error) {
      await Promise.all([rm(scratch, { force: true }), rm(path, { force: true })]);
      throw diskError(error, `store ${describe(draft)} in the spool`);
    }
  }

  /** Deletes a file; a repeat does nothing. The manifest goes first, so that a crash in between leaves no entry. */
  async remove(entry: SpoolEntry): Promise<void> {
    if (!this.#entries.delete(entry.sequence)) return;
    this.#bytes -= entry.manifest.bytes;
    this.#wakeWaiting();
    await rm(this.#path(entry.sequence, 'json'), { force: true });
    await rm(entry.path, { force: true });
  }

  /** Whether the file still has the content that its manifest names. */
  async intact({ path, manifest }: SpoolEntry): Promise<boolean> {
    return matches(path, manifest);
  }

  /** Null when there is no file of another farm. */
  #displaceOldest(): Promise<void> | null {
    const oldest = this.entries.find((entry) => this.isForeign(entry));
    if (oldest === undefined) return null;
    const removed = this.remove(oldest);
    this.#onDisplaced(oldest);
    return removed;
  }

  #wakeWaiting(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  async #recover(): Promise<void> {
    const { dir, log } = this.#options;
    const names = (await readdir(dir)).filter((name) => name !== 'scratch');
    const sequences = names.flatMap((name) => /^(\d{8,15})\.json$/.exec(name)?.[1] ?? []).map(Number);
    const kept = new Set<string>();
    for (const sequence of sequences.sort((a, b) => a - b)) {
      this.#next = sequence + 1;
      const manifest = await readManifest(this.#path(sequence, 'json'));
      if (manifest === null) continue;
      const path = this.#path(sequence, manifest.kind === 'chunk' ? 'mp4' : 'png');
      if (!(await matches(path, manifest))) continue;
      this.#entries.set(sequence, { sequence, path, manifest });
      this.#bytes += manifest.bytes;
      kept.add(path).add(this.#path(sequence, 'json'));
    }
    for (const name of names) {
      const path = join(dir, name);
      if (kept.has(path)) continue;
      log.warn({ file: name }, 'removed a leftover of the spool: incomplete or damaged');
      await rm(path, { recursive: true, force: true });
    }
  }

  #path(sequence: number, extension: string): string {
    return join(this.#options.dir, `${String(sequence).padStart(8, '0')}.${extension}`);
  }
}

/** For messages: `clip 7 of job J`, or `the anchor of job J`. */
export function describe(manifest: SpoolDraft): string {
  return manifest.kind === 'chunk'
    ? `clip ${manifest.clip} of job ${manifest.jobId}`
    : `the anchor of job ${manifest.jobId}`;
}

async function readManifest(path: string): Promise<SpoolManifest | null> {
  try {
    return spoolManifest.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return null;
  }
}

async function matches(path: string, manifest: SpoolManifest): Promise<boolean> {
  try {
    return (await stat(path)).size === manifest.bytes && (await hashFile(path)) === manifest.sha256;
  } catch {
    return false;
  }
}

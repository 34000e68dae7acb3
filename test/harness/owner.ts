import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/*
 * Who owns what a test made. Everything that outlives a process (directories, namespaces, bridges, mounts) carries its
 * maker's tag in its name; whoever starts next removes what belongs to processes that are gone. So nothing stays behind
 * for longer than until the next run, even after kill -9 or a crash.
 */

/** Names of temporary directories begin so; the owner's tag follows. */
const DIR_PREFIX = 'clipfarm-test-';

/** Clock ticks since boot at which a process started, null when there is none. With the pid, it is never used again. */
function startOf(pid: number): number | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // Fields after the command, which may hold anything: state is the third of all, the start the 22nd.
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
  } catch {
    return null;
  }
}

/** This process's tag: at most 12 letters and digits with a dot between, so that it fits the name of a network device. */
export const ownTag = `${process.pid.toString(36)}.${(startOf(process.pid) ?? 0).toString(36)}`;

/** Whether a text is the tag of a process that runs no more. */
export function isStale(tag: string): boolean {
  const match = /^([0-9a-z]+)\.([0-9a-z]+)$/.exec(tag);
  if (!match) return false;
  return startOf(Number.parseInt(match[1] ?? '', 36)) !== Number.parseInt(match[2] ?? '', 36);
}

/**
 * A temporary directory, which is gone when it is disposed of or when this process ends. With `CLIPFARM_KEEP` set it stays,
 * for whoever wants to read the logs in it.
 */
export class OwnDirectory implements Disposable {
  readonly path: string;
  readonly #takeBack: () => void;

  constructor() {
    const kept = Boolean(process.env.CLIPFARM_KEEP);
    this.path = mkdtempSync(join(tmpdir(), kept ? 'clipfarm-kept-' : `${DIR_PREFIX}${ownTag}-`));
    this.#takeBack = kept ? () => undefined : atEnd(() => removeDir(this.path));
  }

  [Symbol.dispose](): void {
    if (process.env.CLIPFARM_KEEP) return;
    this.#takeBack();
    removeDir(this.path);
  }
}

function removeDir(path: string): void {
  // A process that was killed just now may still write its last file.
  rmSync(path, { recursive: true, force: true, maxRetries: 3 });
}

/** Temporary directories that belong to processes which are gone. */
export function staleDirs(): string[] {
  return readdirSync(tmpdir())
    .filter((name) => name.startsWith(DIR_PREFIX) && isStale(name.slice(DIR_PREFIX.length).split('-')[0] ?? ''))
    .map((name) => join(tmpdir(), name));
}

/** Removes temporary directories of processes that are gone. Mounts in them have to be gone before. */
export function sweepDirs(): void {
  for (const dir of staleDirs()) {
    try {
      removeDir(dir);
    } catch {
      // Another run removes it at the same time, or somebody still writes there: the next one finds what is left.
    }
  }
}

const cleanups = new Set<() => void>();

/**
 * Has something cleaned up when this process ends by itself or by a signal that can be caught.
 *
 * @param cleanup must not wait for anything, and must not throw
 * @returns takes it back, for what was cleaned up before
 */
export function atEnd(cleanup: () => void): () => void {
  if (cleanups.size === 0) listen();
  cleanups.add(cleanup);
  return () => cleanups.delete(cleanup);
}

let listening = false;

function listen(): void {
  if (listening) return;
  listening = true;
  process.on('exit', () => {
    for (const cleanup of [...cleanups].reverse()) cleanup();
  });
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    // Kept for good: without a listener a second signal would end the process in the middle of cleaning up.
    process.on(signal, () => process.exit(code));
  }
}

import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { atEnd, staleDirs, sweepDirs } from './owner.ts';

const PIECE = Buffer.alloc(256 * 1024);

/** A small file system of its own, in memory, that can be filled up and given room again. */
export class SmallDisk implements Disposable {
  readonly path: string;
  readonly #ballast: string;
  readonly #takeBack: () => void;

  private constructor(path: string) {
    this.path = path;
    this.#ballast = join(path, 'ballast');
    this.#takeBack = atEnd(() => unmount(path));
  }

  /** Mounts one of that many MiB at a new directory; null where this user may not. */
  static mount(path: string, mebibytes: number): SmallDisk | null {
    mkdirSync(path);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'tmpfs', path], { stdio: 'ignore' });
    } catch {
      return null;
    }
    return new SmallDisk(path);
  }

  /** Leaves no room for another byte of data. */
  fill(): void {
    const file = openSync(this.#ballast, 'a');
    try {
      for (let size = PIECE.length; size > 0; ) {
        try {
          writeSync(file, PIECE, 0, size);
        } catch {
          size >>= 1;
        }
      }
    } finally {
      closeSync(file);
    }
  }

  /** Gives the room back. */
  free(): void {
    rmSync(this.#ballast, { force: true });
  }

  [Symbol.dispose](): void {
    this.#takeBack();
    unmount(this.path);
  }
}

function unmount(path: string): void {
  execFileSync('umount', ['-l', path], { stdio: 'ignore' });
}

/** Removes directories, and file systems mounted in them, of processes that are gone. */
export function sweep(): void {
  const stale = staleDirs();
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  for (const path of mounts.map((line) => line.split(' ')[1] ?? '')) {
    if (stale.some((dir) => path.startsWith(`${dir}/`))) unmount(path);
  }
  sweepDirs();
}

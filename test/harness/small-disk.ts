import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, statfsSync } from 'node:fs';
import { atEnd, staleDirs, sweepDirs } from './owner.ts';

/** A file system that is written to is made full sooner or later. */
const FILL_ATTEMPTS = 50;

/** A small file system of its own, in memory, that can be made full and be given room again. */
export class SmallDisk implements Disposable {
  readonly path: string;
  readonly #mebibytes: number;
  readonly #takeBack: () => void;

  private constructor(path: string, mebibytes: number) {
    this.path = path;
    this.#mebibytes = mebibytes;
    this.#takeBack = atEnd(() => unmount(path));
  }

  /** Mounts one of that many MiB at a new directory; null, and just a directory, where this user may not. */
  static mount(path: string, mebibytes: number): SmallDisk | null {
    mkdirSync(path);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'tmpfs', path], { stdio: 'ignore' });
    } catch {
      return null;
    }
    return new SmallDisk(path, mebibytes);
  }

  /** Leaves no room for another block of data. */
  fill(): void {
    for (let attempts = FILL_ATTEMPTS; ; attempts--) {
      const { blocks, bfree, bsize } = statfsSync(this.path);
      try {
        // A size of nothing would mean no limit.
        this.#resize(`${Math.max(1, Math.ceil(((blocks - bfree) * bsize) / 1024))}k`);
        return;
      } catch (error) {
        // Somebody wrote in between, and what is used can't be taken away.
        if (attempts === 0) throw error;
      }
    }
  }

  /** Gives it all its room. */
  free(): void {
    this.#resize(`${this.#mebibytes}m`);
  }

  #resize(size: string): void {
    execFileSync('mount', ['-o', `remount,size=${size}`, this.path], { stdio: 'pipe' });
  }

  [Symbol.dispose](): void {
    this.#takeBack();
    unmount(this.path);
  }
}

function unmount(path: string): void {
  execFileSync('umount', ['-l', path], { stdio: 'ignore' });
}

/** Another run may unmount it at the same time. */
function unmountStale(path: string): void {
  try {
    unmount(path);
  } catch (error) {
    if (readFileSync('/proc/self/mounts', 'utf8').includes(` ${path} `)) throw error;
  }
}

/** Removes directories, and file systems mounted in them, of processes that are gone. */
export function sweep(): void {
  const stale = staleDirs();
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  for (const path of mounts.map((line) => line.split(' ')[1] ?? '')) {
    if (stale.some((dir) => path.startsWith(`${dir}/`))) unmountStale(path);
  }
  sweepDirs();
}

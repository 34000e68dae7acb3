import { execFileSync } from 'node:child_process';
import { mkdtempSync, realpathSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** A directory, without symbolic links in its path, that is gone after the test. */
export function temporaryDirectory(t: TestContext): string {
  const dir = realpathSync(mkdtempSync(join(tmpdir(), 'clipfarm-test-')));
  t.after(() => rmSync(dir, { recursive: true, force: true, maxRetries: 3 }));
  return dir;
}

/**
 * A file system of its own with this many KiB and room for so many files and directories, to be filled up by a test.
 * Undefined, and the test marked as skipped,
 * where the system does not let this user mount one.
 */
export function smallDisk(t: TestContext, kibibytes: number, files = 1000): string | undefined {
  const dir = realpathSync(mkdtempSync(join(tmpdir(), 'clipfarm-disk-')));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${kibibytes}k,nr_inodes=${files}`, 'tmpfs', dir], {
      stdio: 'ignore',
    });
  } catch {
    rmdirSync(dir);
    t.skip('mounting a small file system is not allowed here');
    return undefined;
  }
  t.after(() => {
    execFileSync('umount', ['-l', dir]);
    rmdirSync(dir);
  });
  return dir;
}

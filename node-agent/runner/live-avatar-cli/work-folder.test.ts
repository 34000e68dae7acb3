import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { makeWorkFolder } from './work-folder.ts';

const picture = { width: 64, height: 64 };

/** A process that makes a folder below `root` and keeps it until it is killed. */
async function holder(t: TestContext, root: string) {
  const module = new URL('./work-folder.ts', import.meta.url).href;
  const script = `
    import { makeWorkFolder } from ${JSON.stringify(module)};
    const { path } = await makeWorkFolder(${JSON.stringify(root)}, { width: 64, height: 64 }, 1);
    console.log(path);
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return { path: line.toString().trim(), child };
}

test('a folder stays while its runner lives, whatever its process number, and is removed by the next one after that', async (t) => {
  const root = temporaryDirectory(t);
  const { path, child } = await holder(t, root);
  writeFileSync(join(path, 'video.mp4'), 'half of it');
  {
    await using own = await makeWorkFolder(root, picture, 1);
    assert.deepEqual(readdirSync(root).length, 2);
    assert.ok(existsSync(own.path) && existsSync(join(path, 'video.mp4')));
  }
  assert.deepEqual(
    readdirSync(root).map((name) => join(root, name)),
    [path],
    'its own is gone',
  );
  child.kill('SIGKILL');
  await once(child, 'exit');
  await using next = await makeWorkFolder(root, picture, 1);
  assert.deepEqual(
    readdirSync(root).map((name) => join(root, name)),
    [next.path],
  );
});

test('a leftover goes although a process with the number of its runner is alive', async (t) => {
  const root = temporaryDirectory(t);
  // A runner that died between making its folder and locking it: what tells it from a live one is only the lock.
  const leftover = join(root, `clipfarm-cli-${String(process.pid).padStart(16, '0')}`);
  mkdirSync(leftover);
  mkdirSync(join(root, 'somebody-elses'));
  await using own = await makeWorkFolder(root, picture, 1);
  assert.deepEqual(
    readdirSync(root)
      .map((name) => join(root, name))
      .sort(),
    [own.path, join(root, 'somebody-elses')].sort(),
  );
});

test('runners that begin at once, each removing leftovers, all get a folder of their own and keep it', async (t) => {
  const root = temporaryDirectory(t);
  const made = await Promise.all(Array.from({ length: 20 }, () => makeWorkFolder(root, picture, 1)));
  assert.deepEqual(
    readdirSync(root)
      .map((name) => join(root, name))
      .sort(),
    made.map(({ path }) => path).sort(),
  );
  await Promise.all(made.map((folder) => folder[Symbol.asyncDispose]()));
  assert.deepEqual(readdirSync(root), []);
});

test('a folder of a version that had no locks goes when nothing happened in it for a day', async (t) => {
  const root = temporaryDirectory(t);
  const [old, young] = ['clipfarm-cli-17-aB3xY9', 'clipfarm-cli-18-aB3xY9'].map((name) => join(root, name));
  assert.ok(old && young);
  for (const path of [old, young]) mkdirSync(path);
  writeFileSync(join(old, 'video.mp4'), 'half of it');
  const yesterday = Date.now() / 1000 - 25 * 3600;
  utimesSync(old, yesterday, yesterday);
  await using own = await makeWorkFolder(root, picture, 1);
  assert.deepEqual(
    readdirSync(root)
      .map((name) => join(root, name))
      .sort(),
    [own.path, young].sort(),
  );
});

test('where no file can be locked that is said, and nothing is left behind', async (t) => {
  const root = temporaryDirectory(t);
  // What SQLite makes of a network file system without a lock service.
  const held = () => null;
  await assert.rejects(makeWorkFolder(root, picture, 1, held), { code: 'failed_precondition', field: '--work-dir' });
  assert.deepEqual(readdirSync(root), []);
});

test('too little room is refused with the numbers', async (t) => {
  await assert.rejects(makeWorkFolder(temporaryDirectory(t), { width: 1e6, height: 1e6 }, 1e6), {
    code: 'resource_exhausted',
    field: '--work-dir',
  });
});

import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { diskError } from '@clipfarm/shared/disk-error';
import { FarmError } from '@clipfarm/shared/errors';
import { createLogger } from '@clipfarm/shared/log';
import { smallDisk, temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { StorageHealth } from './storage-health.ts';

const PLENTY = 1024 ** 3;

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: as the system says it`), { code });
}

/** Health that writes down what it logs. */
function newHealth() {
  const lines: string[] = [];
  const destination = { write: (line: string) => void lines.push(JSON.parse(line).msg) };
  return { health: new StorageHealth(createLogger({ name: 'test', destination })), lines };
}

test('a full disk and a used-up quota are problems, however deep they lie; nothing else is', () => {
  const full = [
    systemError('ENOSPC'),
    diskError(systemError('EDQUOT'), 'store x'),
    new FarmError('internal', 'the video could not be written', { cause: diskError(systemError('ENOSPC'), 'write') }),
    new FarmError('resource_exhausted', 'the journal', { cause: Object.assign(new Error('sqlite'), { errcode: 13 }) }),
  ];
  for (const error of full) {
    const { health } = newHealth();
    health.failed(error);
    assert.match(health.problem ?? '', /disk is full/, String(error));
  }
  const others = [
    diskError(systemError('EMFILE'), 'store x'),
    systemError('EIO'),
    new FarmError('resource_exhausted', 'bytes: 5; accepted are at most 4; ENOSPC and full are words here'),
    new FarmError('internal', 'x', { cause: Object.assign(new Error('sqlite'), { errcode: 11 }) }),
    'ENOSPC',
  ];
  for (const error of others) {
    const { health } = newHealth();
    health.failed(error);
    assert.equal(health.problem, null, String(error));
  }
});

test('it says once that it began and once that it ended', async () => {
  const { health, lines } = newHealth();
  const full = () => health.watch(() => Promise.reject(systemError('ENOSPC')));
  await assert.rejects(full(), { code: 'ENOSPC' });
  await assert.rejects(full(), { code: 'ENOSPC' });
  assert.equal(await health.watch(async () => 7), 7);
  health.stored();
  assert.equal(health.problem, null);
  assert.equal(lines.length, 2);
});

test('it clears by itself once there is room and a file can be written, and leaves nothing behind', async (t) => {
  const dir = temporaryDirectory(t);
  const { health } = newHealth();
  health.failed(systemError('ENOSPC'));
  const store = (free: number, temp: string) => ({ freeBytes: async () => free, tempDir: () => temp });
  await health.recheck(store(64 * 1024 * 1024, dir));
  assert.notEqual(health.problem, null, 'too little room');
  await health.recheck(store(PLENTY, join(dir, 'missing')));
  assert.notEqual(health.problem, null, 'nothing can be written');
  await health.recheck({ freeBytes: () => Promise.reject(systemError('EIO')), tempDir: () => dir });
  assert.notEqual(health.problem, null, 'nobody knows');
  await health.recheck(store(PLENTY, dir));
  assert.equal(health.problem, null);
  assert.deepEqual(readdirSync(dir), []);
});

test('free bytes that a quota does not let be used do not clear it', async (t) => {
  const dir = smallDisk(t, 512);
  if (dir === undefined) return;
  const { health } = newHealth();
  health.failed(systemError('EDQUOT'));
  await health.recheck({ freeBytes: async () => PLENTY, tempDir: () => dir });
  assert.notEqual(health.problem, null);
  assert.deepEqual(readdirSync(dir), []);
});

test('it looks only while something is wrong, and once at a time', async (t) => {
  const dir = temporaryDirectory(t);
  const { health } = newHealth();
  let looks = 0;
  const store = {
    freeBytes: async () => {
      looks += 1;
      return PLENTY;
    },
    tempDir: () => dir,
  };
  await health.recheck(store);
  assert.equal(looks, 0);
  health.failed(systemError('ENOSPC'));
  await Promise.all([health.recheck(store), health.recheck(store)]);
  assert.equal(looks, 1);
});

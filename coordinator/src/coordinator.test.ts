import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { createLogger } from '@clipfarm/shared/log';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { coordinatorConfig } from './config.ts';
import { startCoordinator } from './coordinator.ts';

test('a data directory serves one coordinator, wherever the journal is', async (t) => {
  const dataDir = join(temporaryDirectory(t), 'data');
  const start = (...args: readonly string[]) => {
    const own = ['--data-dir', dataDir, '--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0'];
    const config = coordinatorConfig([...own, ...args], {}) ?? assert.fail('no configuration');
    return startCoordinator(config, createLogger({ name: 'test', level: 'silent' }));
  };
  const inUse = {
    code: 'failed_precondition',
    field: '--data-dir',
    message: `data directory ${dataDir} is in use by another coordinator`,
  };
  const first = await start();
  try {
    await assert.rejects(start(), inUse);
    // Nothing listens there: that the directory is in use is said first.
    await assert.rejects(start('--journal', 'nats://127.0.0.1:1'), inUse);
  } finally {
    await first.close();
  }
  await assert.rejects(start('--journal', 'nats://127.0.0.1:1'), { code: 'unavailable' });
  await (await start()).close();
});

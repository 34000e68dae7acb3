import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runnerEnvironment } from './runner-environment.ts';

test('a runner inherits listed names only', () => {
  const host = { PATH: '/bin', HOME: '/root', CLIPFARM_TOKEN: 's3cret', AWS_SECRET_ACCESS_KEY: 'k', LANG: undefined };
  assert.deepEqual(runnerEnvironment(host, {}), { PATH: '/bin', HOME: '/root' });
});

test("a slot's own settings win over inherited ones and are not filtered", () => {
  const own = { PATH: '/opt/venv/bin', CUDA_VISIBLE_DEVICES: '3' };
  assert.deepEqual(runnerEnvironment({ PATH: '/bin' }, own), own);
});

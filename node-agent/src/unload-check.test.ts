import assert from 'node:assert/strict';
import { test } from 'node:test';
import { unloadProblem } from './unload-check.ts';

const GIB = 2 ** 30;

test('workspaces and a context may stay, a model may not, whoever tells of it', () => {
  for (const [told, listed, problem] of [
    [0, null, null],
    [34 * 2 ** 20, 0.7 * GIB, null],
    [GIB, 3 * GIB, null],
    [1.5 * GIB, null, 'it still holds 1.5 GiB by its own account'],
    [15.6 * GIB, 16.2 * GIB, 'it still holds 15.6 GiB by its own account'],
    [0, 16.2 * GIB, 'the driver still accounts 16.2 GiB to it, though it says 0.0'],
  ] as const) {
    assert.equal(unloadProblem({ toldBytes: told, listedBytes: listed }), problem);
  }
});

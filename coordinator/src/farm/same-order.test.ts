import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resolveSettings } from '@clipfarm/shared/model/settings';
import { jobDefinition } from '../core/test-jobs.ts';
import type { CheckedSpec } from './job-spec.ts';

import { checkSameOrder } from './same-order.ts';

const { settings } = resolveSettings({});
const order: CheckedSpec = {
  ...{ name: 'talk', owner: 'default', prompt: 'hello', priority: 0, deadline: undefined, settings: {} },
  ...{ imageSha256: 'a'.repeat(64), audioSha256: 'b'.repeat(64) },
};
const job = jobDefinition({
  ...{ jobId: 'job-1', name: 'first', prompt: 'hello', imageSha256: order.imageSha256, audioSha256: order.audioSha256 },
  ...{ preset: settings.preset, size: settings.size, sampleSteps: settings.sampleSteps, baseSeed: 77 },
  anchorMode: settings.anchor,
});

test('a key stands for the same order under any name, priority and deadline, with the seed that was drawn for it', () => {
  checkSameOrder(job, order);
  checkSameOrder(job, { ...order, name: 'other', priority: 5, deadline: 1 });
  checkSameOrder(job, { ...order, settings: { baseSeed: 77 } });
  checkSameOrder({ ...job, numClip: 3 }, { ...order, settings: { numClip: 3 } });
});

test('an order of another video under a known key is a conflict that names what differs', () => {
  for (const [field, change] of [
    ['image', { imageSha256: 'c'.repeat(64) }],
    ['audio', { audioSha256: 'c'.repeat(64) }],
    ['prompt', { prompt: 'bye' }],
    ['num_clip', { settings: { numClip: 3 } }],
    ['sample_steps', { settings: { sampleSteps: 3 } }],
    ['base_seed', { settings: { baseSeed: 78 } }],
    ['anchor', { settings: { anchor: settings.anchor === 'image' ? 'first_frame' : 'image' } }],
    ['size', { settings: { size: settings.size === '384*256' ? '704*384' : '384*256' } }],
  ] as const) {
    assert.throws(() => checkSameOrder(job, { ...order, ...change }), {
      code: 'conflict',
      message: `idempotency_key: it stands for job job-1, which has another ${field}; accepted: the same order again, or another key`,
    });
  }
  const several = { ...order, prompt: 'bye', settings: { preset: 'preview' } };
  assert.throws(() => checkSameOrder(job, several), { message: /another prompt, preset, size/ });
});

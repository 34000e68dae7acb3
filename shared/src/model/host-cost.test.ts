import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GIB } from './gpu-cost.ts';
import { hostBytes, hostBytesToLoad, loadsAtOnce, upstreamClipsIn } from './host-cost.ts';

/** GiB of the host, then most clips of one call at 24, 60, 66 and 70 units with a tenth of the memory in reserve. */
const MOST_CLIPS = [
  [64, 184, 73, 67, 63],
  [128, 457, 183, 166, 156],
  [256, 1003, 401, 365, 344],
  [512, 2096, 838, 762, 718],
] as const;

test("upstream's script holds four copies of its video: as many clips as were worked out for each host", () => {
  for (const [host, ...clips] of MOST_CLIPS) {
    const found = [24, 60, 66, 70].map((units) => upstreamClipsIn(0.9 * host * GIB, units));
    assert.deepEqual(found, clips, `${host} GiB`);
  }
  assert.equal(upstreamClipsIn(10 * GIB, 24), 0);
});

test("a clip of upstream's takes what was measured, of which one copy was seen before the end", () => {
  for (const [units, measured] of [
    [24, 0.053],
    [66, 0.145],
  ] as const) {
    const perClip = (hostBytes('upstream', units, 11) - hostBytes('upstream', units, 10)) / 4 / GIB;
    assert.ok(Math.abs(perClip / measured - 1) < 0.01, `${perClip}`);
  }
});

test('a runner that streams needs what was measured at most, and the features of its audio', () => {
  for (const measured of [13.4, 15.0, 16.3]) assert.ok(hostBytes('streaming', 66, 0) >= measured * GIB);
  assert.ok(hostBytes('streaming', 66, 0) < 17 * GIB);
  assert.equal(hostBytes('streaming', 66, 1) - hostBytes('streaming', 24, 0), 1.28e6 * 1.92);
});

test('only as many runners load at a time as the host can hold', () => {
  assert.equal((hostBytesToLoad('streaming') / GIB).toFixed(1), '23.7');
  assert.equal((hostBytesToLoad('upstream') / GIB).toFixed(1), '34.4');
  assert.equal(loadsAtOnce(512 * GIB, 8, 'streaming'), 8);
  assert.equal(loadsAtOnce(160 * GIB, 8, 'streaming'), 3);
  assert.equal(loadsAtOnce(16 * GIB, 8, 'streaming'), 1);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLogger } from '@clipfarm/shared/log';
import { CopyWatch, lateCopies } from './jetstream-copies.ts';

const peer = (name: string, change: { current?: boolean; offline?: boolean } = {}) => {
  return { name, current: true, offline: false, active: 0, lag: 0, ...change };
};

test('copies are late where a server is away, behind or not there at all; a stream without a leader tells nothing', () => {
  const cluster = (...replicas: readonly ReturnType<typeof peer>[]) => {
    return { name: 'c', leader: 'n1', replicas: [...replicas] };
  };
  assert.deepEqual(lateCopies('S', cluster(peer('n2'), peer('n3')), 3), []);
  assert.deepEqual(lateCopies('S', undefined, 1), []);
  assert.deepEqual(lateCopies('S', { name: 'c', leader: 'n1' }, 1), []);
  assert.deepEqual(lateCopies('S', { name: 'c', leader: '', replicas: [peer('n2', { offline: true })] }, 3), []);
  const late = [peer('n2', { current: false }), peer('n3', { offline: true, current: false })];
  assert.deepEqual(lateCopies('S', cluster(...late), 3), [
    'S is not up to date on n2',
    'S has no copy on n3, which is offline',
  ]);
  assert.deepEqual(lateCopies('S', cluster(peer('n2')), 3), ['S has 2 of 3 copies']);
});

test('copies that stay late are said once, whatever else comes and goes, and so is that all are there again', () => {
  const said: string[] = [];
  const destination = { write: (line: string) => void said.push(JSON.parse(line).reason ?? 'all there') };
  let counted = 0;
  const watch = new CopyWatch(createLogger({ name: 'test', level: 'info', destination }), () => {
    counted += 1;
  });
  const looks = [
    ...[['a'], ['a'], [], ['b'], ['a'], ['b']],
    ...[
      ['a', 'b'],
      ['a', 'b'],
      ['b', 'a'],
    ],
    ...[['c', 'a'], ['a', 'c'], ['c', 'a'], ['a'], ['c', 'a'], [], []],
  ];
  const after = looks.map((late) => {
    watch.saw(late);
    return said.splice(0);
  });
  assert.deepEqual(after, [
    ...[[], [], [], [], [], []],
    ...[[], ['b'], ['a; b']],
    ...[[], [], ['a; c'], [], [], ['all there'], []],
  ]);
  assert.equal(counted, 3);
});

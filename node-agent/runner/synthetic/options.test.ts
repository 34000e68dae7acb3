import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseOptions } from './options.ts';

test('a socket alone gives a fast runner without faults', () => {
  assert.deepEqual(parseOptions(['--socket', '/run/s']), {
    socket: '/run/s',
    secondsPerClip: 0,
    warmUpSeconds: 0,
    loadSeconds: 0,
    drift: 1,
    faults: [],
  });
});

test('every option is understood', () => {
  const args = '--socket s --seconds-per-clip 0.5 --warm-up-seconds 3 --load-seconds 20 --memory-gib 24 --drift 0';
  const faults = '--fail-at-clip 3:out_of_memory --fail-at-clip 9:device --hang-at-clip 4 --crash-at-clip 5';
  assert.deepEqual(parseOptions(`${args} ${faults} --unload-keeps-gib 1.5 --fail-once-file f`.split(' ')), {
    socket: 's',
    secondsPerClip: 0.5,
    warmUpSeconds: 3,
    loadSeconds: 20,
    memoryBytes: 24 * 2 ** 30,
    drift: 0,
    unloadKeepsBytes: 1.5 * 2 ** 30,
    failOnceFile: 'f',
    faults: [
      { clip: 3, kind: 'fail', errorClass: 'out_of_memory' },
      { clip: 9, kind: 'fail', errorClass: 'device' },
      { clip: 4, kind: 'hang' },
      { clip: 5, kind: 'crash' },
    ],
  });
});

const refused: readonly (readonly [string, RegExp])[] = [
  ['', /^--socket is undefined; accepted: the path/],
  ['--seconds-per-clip=-1', /^--seconds-per-clip is "-1"; accepted: a number of 0 to 3600$/],
  ['--seconds-per-clip=', /^--seconds-per-clip is ""/],
  ['--seconds-per-clip=1e9', /^--seconds-per-clip is "1e9"/],
  ['--memory-gib=0', /^--memory-gib is "0"; accepted: a number of 1 to 4096$/],
  ['--drift=6', /^--drift is "6"; accepted: a number of 0 to 5$/],
  ['--fail-at-clip=3', /^--fail-at-clip is \["3"\]; accepted: CLIP:CLASS/],
  ['--fail-at-clip=3:boredom', /boredom.*out_of_memory, device/],
  ['--fail-at-clip=x:crash', /x:crash/],
  ['--hang-at-clip=1.5', /^--hang-at-clip is \["1.5"\]; accepted: the number of a clip$/],
  ['--speed=3', /Unknown option '--speed'/],
];

for (const [argument, message] of refused) {
  test(`"${argument}" is refused with what would be accepted`, () => {
    const args = argument === '' ? [] : ['--socket', 's', argument];
    assert.throws(() => parseOptions(args), { code: 'invalid_argument', message, hint: /^usage: / });
  });
}

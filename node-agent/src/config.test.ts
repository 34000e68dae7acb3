import assert from 'node:assert/strict';
import { test } from 'node:test';
import { agentConfigFromArgs } from './config.ts';

const surroundings = { env: {}, hostName: 'gpu-7', homeDir: '/home/render' };
const read = (...argv: string[]) => agentConfigFromArgs(argv, surroundings);

test('without flags an agent serves one synthetic slot of this host', () => {
  const config = read();
  assert.deepEqual(config?.coordinators, ['127.0.0.1:7400']);
  assert.equal(config?.name, 'gpu-7');
  assert.equal(config?.stateDir, '/home/render/.clipfarm/agent');
  assert.deepEqual([config?.profile, config?.slots, config?.gpus], ['synthetic', undefined, undefined]);
  assert.deepEqual(config?.access, { insecure: false });
});

test('the environment gives defaults and flags go before it', () => {
  const env = {
    CLIPFARM_COORDINATOR: 'farm:1',
    CLIPFARM_HOME: '/srv/farm',
    CLIPFARM_TLS_CA: '/ca.pem',
    CLIPFARM_TLS_KEY: '',
  };
  const config = agentConfigFromArgs(['--coordinator', 'a:7400, [::1]:7401'], { ...surroundings, env });
  assert.deepEqual(config?.coordinators, ['a:7400', '[::1]:7401']);
  assert.equal(config?.stateDir, '/srv/farm/agent');
  assert.deepEqual(config?.access, { caPath: '/ca.pem', insecure: false });
});

test('synthetic settings and runner arguments are taken over as they are', () => {
  const config = read(
    '--seconds-per-clip',
    '0.25',
    '--memory-gib',
    '80',
    '--runner-arg=--drift=2',
    '--runner-arg',
    'x',
  );
  assert.deepEqual(config?.synthetic, {
    secondsPerClip: 0.25,
    warmUpSeconds: 0,
    loadSeconds: 0,
    memoryGib: 80,
    runnerArgs: ['--drift=2', 'x'],
  });
});

test('help is no configuration', () => {
  assert.equal(read('--help'), null);
});

for (const [argv, message] of [
  [['--slots', '17'], /--slots is "17"; accepted: 1 to 16/],
  [['--slots', 'two'], /--slots is "two"; accepted: a whole number or auto/],
  [['--seconds-per-clip=-1'], /--seconds-per-clip is "-1"; accepted: a number of seconds, 0 or more/],
  [['--memory-gib', '0'], /--memory-gib is "0"; accepted: above 0/],
  [['--coordinator', 'farm'], /--coordinator: "farm" is not an address with a port/],
  [['--coordinator', 'a:1,'], /--coordinator: "" is not an address/],
  [['--admin', ':80'], /--admin: ":80" has no host/],
  [
    ['--profile', 'our-own'],
    /--profile: "our-own": is not known; there is: single-80g, single-48g-fp8, tpp-5x80g, synthetic$/,
  ],
  [['--profiles', 'own.yaml'], /--profiles: has no effect with --profile synthetic/],
  [['--gpus', '0'], /--gpus: has no effect with --profile synthetic/],
  [['--profile', 'single-80g', '--memory-gib', '24'], /--memory-gib: has no effect with --profile single-80g/],
  [['--name', 'two words'], /--name is "two words"; accepted: 1 to 100 printable/],
  [['--spool-max-bytes', '1000'], /--spool-max-bytes is "1000"; accepted: at least 1048576/],
  [['--log-level', 'loud'], /--log-level is "loud"/],
  [['--unload-idle-minutes', '0'], /--unload-idle-minutes is "0"; accepted: 0\.1 to 10080 minutes/],
  [['--unload-idle-minutes', 'never'], /--unload-idle-minutes is "never"; accepted: a number of minutes/],
  [['--gpus', 'all'], /--gpus is "all"; accepted: numbers of GPUs/],
  [['--gpus', '1,1'], /--gpus is "1,1"; accepted: each number once/],
  [['--dtype', 'fp4'], /--dtype is "fp4"; accepted: bf16 or fp8/],
  [['--python', ''], /--python is ""; accepted: the name or the path of a program/],
  [['extra'], /extra/],
] as const) {
  test(`refuses ${argv.join(' ')}`, () => {
    assert.throws(
      () => read(...argv),
      (error: unknown) => {
        assert.ok(error instanceof Error && 'code' in error && error.code === 'invalid_argument');
        assert.match(error.message, message);
        return true;
      },
    );
  });
}

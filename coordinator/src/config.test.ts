import assert from 'node:assert/strict';
import { test } from 'node:test';
import { coordinatorConfig } from './config.ts';

const config = (...argv: string[]) => coordinatorConfig(argv, { CLIPFARM_HOME: '/srv/farm' });

test('flags have the defaults that the help names', () => {
  const found = config() ?? assert.fail('help');
  const { listen, admin, journal } = found;
  assert.deepEqual([listen, admin, journal], ['127.0.0.1:7400', '127.0.0.1:7401', 'sqlite']);
  assert.deepEqual(
    [found['data-dir'], found['lease-millis'], found['hang-seconds']],
    ['/srv/farm/coordinator', 5000, 30],
  );
  assert.equal(config('--hang-seconds', '2.5')?.['hang-seconds'], 2.5);
  assert.equal(config('--help'), null);
});

test('a value that is not accepted is named with its flag and what would be', () => {
  const cases: readonly (readonly [argv: string[], message: string])[] = [
    [['--data-dir', ''], '--data-dir is ""; accepted: a path'],
    [['--lease-millis', '100'], '--lease-millis is "100"; accepted: a whole number of 250 to 600000'],
    [['--lease-millis', 'abc'], '--lease-millis is "abc"; accepted: a whole number of 250 to 600000'],
    [['--heartbeat-millis', '1.5'], '--heartbeat-millis is "1.5"; accepted: a whole number of 50 to 60000'],
    [['--hang-seconds', '0'], '--hang-seconds is "0"; accepted: a number of seconds, 1 to 86400'],
    [['--hang-seconds', ''], '--hang-seconds is ""; accepted: a number of seconds, 1 to 86400'],
    [['--nats-replicas', '9'], '--nats-replicas is "9"; accepted: a whole number of 1 to 5'],
    [['--log-level', 'loud'], '--log-level is "loud"; accepted: one of silent, fatal, error, warn, info, debug, trace'],
    [['--ffmpeg', ''], '--ffmpeg is ""; accepted: a path'],
    [
      ['--heartbeat-millis', '2000'],
      '--lease-millis is 5000; accepted: at least three times --heartbeat-millis (2000), or one late heartbeat costs a lease',
    ],
    [['--nats-ca', 'ca.pem'], '--nats-ca: has no effect with --journal sqlite'],
  ];
  for (const [argv, message] of cases) assert.throws(() => config(...argv), { code: 'invalid_argument', message });
  assert.throws(() => config('--advertise', 'x'), { field: '--advertise', message: /"x" is not an address/ });
  assert.throws(() => config('--admin', 'x'), { field: '--admin', message: /"x" is not an address/ });
});

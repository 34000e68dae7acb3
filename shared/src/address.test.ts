import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatAddress, isLoopback, parseAddress } from './address.ts';
import { FarmError } from './errors.ts';

test('addresses are split into host and port and put together again', () => {
  const cases = {
    '127.0.0.1:7400': { host: '127.0.0.1', port: 7400 },
    'localhost:0': { host: 'localhost', port: 0 },
    'a-b.farm.example:65535': { host: 'a-b.farm.example', port: 65535 },
    'gpu_host7:1': { host: 'gpu_host7', port: 1 },
    '[::1]:80': { host: '::1', port: 80 },
    '[2001:db8::7]:443': { host: '2001:db8::7', port: 443 },
  };
  for (const [text, address] of Object.entries(cases)) {
    assert.deepEqual(parseAddress(text, 'listen'), address);
    assert.equal(formatAddress(address), text);
  }
});

test('what is no address is refused with the field, the text and an example', () => {
  const wrong = [
    '',
    ':',
    ':80',
    'host',
    'host:',
    'host:x',
    'host:-1',
    'host:65536',
    'host:1:2',
    '::1',
    '::1:80',
    '[::1]',
  ];
  const more = [
    'http://host:80',
    '[host]:80',
    'a b:80',
    'host :80',
    '-host:80',
    'host.:80',
    'ho\u0000st:80',
    ' h:1',
    '1e3:1 ',
  ];
  for (const text of [...wrong, ...more]) {
    assert.throws(
      () => parseAddress(text, 'listen'),
      (error) =>
        error instanceof FarmError &&
        error.code === 'invalid_argument' &&
        error.field === 'listen' &&
        error.message.includes(`"${text}"`) &&
        error.message.includes('accepted is host:port'),
      JSON.stringify(text),
    );
  }
});

test('any text is either refused or comes back unchanged', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.ipV4(), fc.ipV6(), fc.domain()), fc.nat(70_000), (host, port) => {
      const text = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
      try {
        assert.equal(formatAddress(parseAddress(text, 'x')), text);
      } catch (error) {
        assert.ok(error instanceof FarmError, String(error));
      }
    }),
  );
});

test('only this machine counts as loopback', () => {
  for (const host of [
    'localhost',
    'LOCALHOST',
    '127.0.0.1',
    '127.255.0.9',
    '::1',
    '0:0:0:0:0:0:0:1',
    '::ffff:127.0.0.1',
  ]) {
    assert.ok(isLoopback(host), host);
  }
  const others = ['0.0.0.0', '::', '128.0.0.1', '10.0.0.1', '127.1', '127.0.0.1.example', 'localhost.example', '::2'];
  for (const host of others) assert.ok(!isLoopback(host), host);
});

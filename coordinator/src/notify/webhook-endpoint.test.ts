import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { inspect } from 'node:util';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { type WebhookSettings, webhookEndpoints } from './webhook-endpoint.ts';

const good = 'x'.repeat(16);

function secretFile(t: TestContext, content: string): string {
  const path = join(temporaryDirectory(t), 'secret');
  writeFileSync(path, content);
  return path;
}

function endpoints(t: TestContext, urls: readonly string[], given: Partial<WebhookSettings> = {}) {
  return webhookEndpoints({ urls, secretFiles: [secretFile(t, `${good}\n`)], allowPrivate: false, ...given });
}

test('an endpoint is its URL, a name that does not give it away, and its secrets', (t) => {
  const [one, two] = endpoints(t, ['https://Example.com:443/hook?key=canary', 'http://93.184.215.14:8080/canary'], {
    secretFiles: [secretFile(t, `${good}1\n\n ${good}2 \n`), secretFile(t, `${good}3`)],
  });
  assert.ok(one && two);
  assert.equal(one.url.reveal(), 'https://example.com/hook?key=canary');
  assert.equal(one.origin, 'https://example.com');
  assert.match(one.id, /^[0-9a-f]{16}$/);
  assert.deepEqual(
    [one, two].map(({ secrets }) => secrets.map((secret) => secret.reveal())),
    [[`${good}1`, `${good}2`], [`${good}3`]],
  );
  assert.doesNotMatch(`${inspect([one, two], { depth: 9 })} ${JSON.stringify([one, two])}`, /canary|xxx/);
});

test('without a URL there is no endpoint', (t) => {
  assert.deepEqual(endpoints(t, [], { secretFiles: [] }), []);
});

const badUrls = [
  ['example.com', /number 1 is no URL/],
  ['', /number 1 is no URL/],
  [`https://example.com/${'x'.repeat(2048)}`, /at most 2048 characters/],
  ['ftp://example.com/canary', /scheme "ftp"/],
  ['file:///etc/passwd', /scheme "file"/],
  ['javascript:canary()', /scheme "javascript"/],
  ['https://user:canary@example.com/', /at https:\/\/example\.com, has a user or password/],
  ['https://canary@example.com/', /has a user or password/],
  ['https://example.com/#canary', /has a fragment/],
  ['http://127.0.0.1/canary', /the address is loopback; --webhook-allow-private accepts it/],
  ['http://2130706433/', /loopback/],
  ['http://0x7f.1/', /loopback/],
  ['http://[::1]:9000/', /loopback/],
  ['http://[::ffff:10.0.0.1]/', /an IPv4 address in IPv6/],
  ['http://169.254.169.254/latest/meta-data', /link-local/],
  ['http://100.100.100.200/', /shared by a carrier/],
  ['http://0.0.0.0/', /unspecified/],
] as const;

for (const [url, message] of badUrls) {
  test(`the URL ${JSON.stringify(url.slice(0, 60))} is refused without repeating its secrets`, (t) => {
    assert.throws(
      () => endpoints(t, [url]),
      (error: Error) => {
        assert.match(error.message, /^--webhook-url: /);
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /canary/);
        return true;
      },
    );
  });
}

test('a private address is accepted where that is asked for', (t) => {
  assert.equal(endpoints(t, ['http://10.0.0.1/'], { allowPrivate: true }).length, 1);
});

test('too many URLs, the same one twice, and secrets that do not fit are refused', (t) => {
  const url = (n: number) => `https://host-${n}.example/`;
  const nine = Array.from({ length: 9 }, (_, n) => url(n));
  assert.throws(() => endpoints(t, nine), /given 9 times; at most 8/);
  assert.throws(() => endpoints(t, [url(1), 'https://HOST-1.example:443']), /same one is given twice/);
  assert.throws(() => endpoints(t, [url(1)], { secretFiles: [] }), /0 files for 1 of --webhook-url/);
  assert.throws(() => endpoints(t, ['foo'], { secretFiles: [] }), /^FarmError: --webhook-url: number 1 is no URL/);
  const file = secretFile(t, good);
  assert.throws(() => endpoints(t, [url(1), url(2), url(3)], { secretFiles: [file, file] }), /2 files for 3/);
  assert.throws(() => endpoints(t, [], { secretFiles: [file] }), /1 file for 0/);
});

test('a secret file that is missing, empty, too long or weak is refused, and its content not repeated', (t) => {
  const dir = temporaryDirectory(t);
  mkdirSync(join(dir, 'directory'));
  assert.throws(() => endpoints(t, ['https://a.example'], { secretFiles: [join(dir, 'none')] }), /cannot read/);
  assert.throws(() => endpoints(t, ['https://a.example'], { secretFiles: [join(dir, 'directory')] }), /cannot read/);
  const weak = ['', '\n\n', 'canary', `${good} canary`, `${good}ü`, `${good}\n`.repeat(5), 'canary'.repeat(1000)];
  for (const content of weak) {
    assert.throws(
      () => endpoints(t, ['https://a.example'], { secretFiles: [secretFile(t, content)] }),
      (error: Error) => /must hold 1 to 4 lines/.test(error.message) && !/canary/.test(error.message),
      content.slice(0, 30),
    );
  }
});

import assert from 'node:assert/strict';
import type { LookupAddress } from 'node:dns';
import { test } from 'node:test';
import { lookupFor, nonPublicKind } from './public-address.ts';

const refused = [
  ['unspecified', ['0.0.0.0', '0.1.2.3', '::']],
  ['loopback', ['127.0.0.1', '127.255.255.254', '::1']],
  ['private', ['10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', 'fc00::1', 'fd00:ec2::254']],
  ['shared by a carrier', ['100.64.0.1', '100.127.255.255', '100.100.100.200']],
  ['link-local', ['169.254.169.254', '169.254.170.2', 'fe80::1', 'febf::1', 'fe80::1%eth0', '2606:4700::1%lo']],
  ['for protocols', ['192.0.0.192', '2001::1', '2001:0:1::1']],
  ['for documentation', ['192.0.2.1', '198.51.100.1', '203.0.113.1', '2001:db8::1', '3fff::1']],
  ['for benchmarks', ['198.18.0.1', '198.19.255.255']],
  ['a 6to4 relay', ['192.88.99.1']],
  ['multicast', ['224.0.0.1', '239.255.255.255', 'ff02::1']],
  ['reserved', ['240.0.0.1', '255.255.255.255', '::127.0.0.1', 'fec0::1', '64:ff9b:1::1', '100::1', '4000::1']],
  ['an IPv4 address in IPv6', ['::ffff:127.0.0.1', '::ffff:8.8.8.8', '::ffff:7f00:1', '2002:7f00:1::']],
  ['no IP address', ['', 'localhost', '127.1', '0x7f.0.0.1', '127.0.0.1 ', '[::1]', '1.2.3.4.5']],
] as const;

for (const [kind, addresses] of refused) {
  test(`an address that is ${kind} is not public`, () => {
    for (const address of addresses) assert.equal(nonPublicKind(address), kind, address);
  });
}

test('an address that NAT64 leads to counts as what it leads to', () => {
  assert.equal(nonPublicKind('64:ff9b::10.0.0.1'), 'private');
  assert.equal(nonPublicKind('64:ff9b::a9fe:a9fe'), 'link-local');
  assert.equal(nonPublicKind('64:ff9b::8.8.8.8'), null);
});

test('addresses of the Internet are public, right up to the edges of the ranges', () => {
  const edges = ['9.255.255.255', '11.0.0.0', '100.63.255.255', '100.128.0.0', '172.15.255.255', '172.32.0.0'];
  const others = ['8.8.8.8', '1.1.1.1', '169.253.255.255', '192.0.1.0', '223.255.255.255', '126.255.255.255'];
  const ipv6 = ['2606:4700:4700::1111', '2a00:1450:4001:80e::200e', '2001:200::1', '2001:4860:4860::8888'];
  for (const address of [...edges, ...others, ...ipv6]) assert.equal(nonPublicKind(address), null, address);
});

function resolve(allowPrivate: boolean, all: boolean): Promise<string | readonly LookupAddress[]> {
  return new Promise((done, failed) => {
    lookupFor({ allowPrivate })('localhost', { all }, (error, found) => (error ? failed(error) : done(found)));
  });
}

test('a name that leads to this machine is resolved only where that is allowed', async () => {
  await assert.rejects(resolve(false, true), { code: 'permission_denied', message: /localhost is not .* is loopback/ });
  await assert.rejects(resolve(false, false), { code: 'permission_denied' });
  assert.match(String(await resolve(true, false)), /^(127\.0\.0\.1|::1)$/);
  const all = await resolve(true, true);
  assert.ok(Array.isArray(all) && all.length > 0);
});

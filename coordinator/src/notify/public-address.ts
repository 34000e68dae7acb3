import { type LookupAddress, lookup } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { FarmError } from '@clipfarm/shared/errors';
import { Mutex } from '../farm/mutex.ts';

/**
 * IPv4 ranges that are not of the public Internet, from IANA's special-purpose registry, by what they are for. Cloud
 * metadata services live in them: 169.254.169.254 (link-local), 100.100.100.200 (shared), 192.0.0.192 (protocol).
 */
const ipv4Ranges = [
  ['unspecified', '0.0.0.0', 8],
  ['loopback', '127.0.0.0', 8],
  ['private', '10.0.0.0', 8],
  ['private', '172.16.0.0', 12],
  ['private', '192.168.0.0', 16],
  ['shared by a carrier', '100.64.0.0', 10],
  ['link-local', '169.254.0.0', 16],
  ['for protocols', '192.0.0.0', 24],
  ['for documentation', '192.0.2.0', 24],
  ['for documentation', '198.51.100.0', 24],
  ['for documentation', '203.0.113.0', 24],
  ['a 6to4 relay', '192.88.99.0', 24],
  ['for benchmarks', '198.18.0.0', 15],
  ['multicast', '224.0.0.0', 4],
  ['reserved', '240.0.0.0', 4],
] as const;

/** Of IPv6 only 2000::/3 is global unicast; these parts of it are not. The others have names for the message only. */
const ipv6Ranges = [
  ['unspecified', '::', 128],
  ['loopback', '::1', 128],
  ['an IPv4 address in IPv6', '::ffff:0:0', 96],
  ['private', 'fc00::', 7],
  ['link-local', 'fe80::', 10],
  ['multicast', 'ff00::', 8],
  // Teredo is in it.
  ['for protocols', '2001::', 23],
  ['for documentation', '2001:db8::', 32],
  ['for documentation', '3fff::', 20],
  ['an IPv4 address in IPv6', '2002::', 16],
] as const;

/** NAT64 (RFC 6052): how hosts without IPv4 reach public IPv4 addresses, so it is judged by what it leads to. */
const NAT64 = '64:ff9b::';
const NAT64_BITS = 96;

const refused = refusedRanges();
const globalUnicast = new BlockList();
globalUnicast.addSubnet('2000::', 3, 'ipv6');
globalUnicast.addSubnet(NAT64, NAT64_BITS, 'ipv6');

/** What kind of address it is when it is not of the public Internet; null when it is. What is no address is refused. */
export function nonPublicKind(address: string): string | null {
  const version = isIP(address);
  if (version === 0) return 'no IP address';
  // Only link-local addresses have a zone, and a block list does not know them.
  if (address.includes('%')) return 'link-local';
  const family = version === 6 ? 'ipv6' : 'ipv4';
  for (const [kind, list] of refused[family]) if (list.check(address, family)) return kind;
  if (version === 6 && !globalUnicast.check(address, 'ipv6')) return 'reserved';
  return null;
}

/**
 * How to resolve names for connections. Whoever connects gets exactly the addresses that were checked, so that a name
 * can't mean something else a moment later.
 *
 * @param scope without `allowPrivate` all addresses must be public: a name that also leads inside is not for us
 */
export function lookupFor(scope: { readonly allowPrivate: boolean }): LookupFunction {
  return (hostname, options, callback) => {
    resolveName(hostname, options.family).then(
      (found) => {
        const bad = scope.allowPrivate ? undefined : found.find(({ address }) => nonPublicKind(address) !== null);
        const first = found[0];
        if (bad || !first) {
          const what = bad ? `${bad.address} is ${nonPublicKind(bad.address)}` : 'it has no address';
          callback(new FarmError('permission_denied', `${hostname} is not on the public Internet: ${what}`), []);
        } else if (options.all) callback(null, found);
        else callback(null, first.address, first.family);
      },
      (error: Error) => callback(error, []),
    );
  };
}

/** Looking names up blocks a thread of the pool that files need too; one that hangs must not take a second one. */
const lookups = new Mutex();

function resolveName(hostname: string, family: Parameters<LookupFunction>[1]['family']): Promise<LookupAddress[]> {
  return lookups.run(
    () =>
      new Promise((resolve, reject) => {
        lookup(hostname, { family: family ?? 0, all: true }, (error, addresses) =>
          error ? reject(error) : resolve(addresses),
        );
      }),
  );
}

type Ranges = ReadonlyMap<string, BlockList>;

function refusedRanges(): { readonly ipv4: Ranges; readonly ipv6: Ranges } {
  const ipv4 = new Map<string, BlockList>();
  const ipv6 = new Map<string, BlockList>();
  for (const [kind, net, bits] of ipv4Ranges) {
    listOf(ipv4, kind).addSubnet(net, bits, 'ipv4');
    listOf(ipv6, kind).addSubnet(NAT64 + net, NAT64_BITS + bits, 'ipv6');
  }
  for (const [kind, net, bits] of ipv6Ranges) listOf(ipv6, kind).addSubnet(net, bits, 'ipv6');
  return { ipv4, ipv6 };
}

function listOf(lists: Map<string, BlockList>, kind: string): BlockList {
  const list = lists.get(kind) ?? new BlockList();
  lists.set(kind, list);
  return list;
}

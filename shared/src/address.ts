import { BlockList, isIP } from 'node:net';
import { FarmError } from './errors.ts';

/** Where to listen or what to dial. */
export interface Address {
  /** Host name, IPv4 address, or IPv6 address without brackets. */
  readonly host: string;
  /** 0 to 65535; 0 lets the system choose a port to listen on. */
  readonly port: number;
}

const accepted = 'accepted is host:port, for example 127.0.0.1:7400, coordinator.example:7400 or [::1]:7400';
const label = '[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?';
const hostName = new RegExp(`^${label}(?:\\.${label})*$`);

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/**
 * Splits `host:port`.
 *
 * @param field name of the flag or setting, for the message.
 * @throws FarmError `invalid_argument` naming the text and what is accepted.
 */
export function parseAddress(text: string, field: string): Address {
  const refuse = (why: string) =>
    new FarmError('invalid_argument', `${field}: "${text}" ${why}; ${accepted}`, { field });
  if (text.includes('://')) throw refuse('has a scheme');
  const match = /^(?:\[([^\]]*)\]|([^:]*)):([0-9]+)$/.exec(text);
  if (match === null) throw refuse(isIP(text) === 6 ? 'lacks brackets and a port' : 'is not an address with a port');
  const [, bracketed, plain, digits] = match;
  const port = Number(digits);
  if (port > 65535) throw refuse('has a port above 65535');
  if (bracketed !== undefined) {
    if (isIP(bracketed) !== 6) throw refuse('has brackets round something that is no IPv6 address');
    return { host: bracketed, port };
  }
  const host = plain ?? '';
  if (host === '') throw refuse('has no host');
  if (host.length > 253 || (isIP(host) === 0 && !hostName.test(host))) throw refuse('has no valid host name');
  return { host, port };
}

/** `host:port`, with brackets round an IPv6 host. */
export function formatAddress(address: Address): string {
  return isIP(address.host) === 6 ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/**
 * True when only this machine can reach the host: `localhost`, 127.0.0.0/8, ::1. Other names count as not loopback,
 * whatever they resolve to, because that can change.
 */
export function isLoopback(host: string): boolean {
  const kind = isIP(host);
  if (kind === 0) return host.toLowerCase() === 'localhost';
  return loopback.check(host, kind === 6 ? 'ipv6' : 'ipv4');
}

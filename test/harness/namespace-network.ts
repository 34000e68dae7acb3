import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { promisify } from 'node:util';
import type { Host } from './host.ts';
import { HostRelay } from './host-relay.ts';
import type { Network, Trouble } from './network.ts';
import { atEnd, isStale, ownTag } from './owner.ts';

const run = promisify(execFile);

const NAMESPACE_PREFIX = 'clipfarm-';
const BRIDGE_PREFIX = 'cf';

/** Ports of a host from here on are free: nobody else lives there. */
const FIRST_PORT = 7400;

/** What namespaces need and this machine lacks, null when nothing. */
export function namespaceObstacle(): string | null {
  if (process.platform !== 'linux') return 'network namespaces are Linux only';
  if (process.getuid?.() !== 0) return 'network namespaces need root';
  const probe = `${NAMESPACE_PREFIX}${ownTag}-probe`;
  try {
    ip('netns', 'add', probe);
  } catch (error) {
    return `no network namespaces (${reasonOf(error)})`;
  }
  try {
    execFileSync('nsenter', [`--net=/run/netns/${probe}`, 'nft', '-f', '-'], {
      input: rulesetText([{ address: '10.0.0.1', trouble: { kind: 'loss', percent: 1 } }]),
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    return null;
  } catch (error) {
    return `no nftables (${reasonOf(error)}); install nftables`;
  } finally {
    ip('netns', 'del', probe);
  }
}

interface NamespaceHost extends Host {
  readonly namespace: string;
  /** What is wrong with what comes in, by sender. */
  readonly troubles: Map<string, PacketTrouble>;
  /** In front of its servers; none until one is to be reached. */
  relay?: HostRelay;
}

/** Troubles that a packet filter can make. */
type PacketTrouble = Exclude<Trouble, { readonly kind: 'delay' }>;

/**
 * Hosts in network namespaces, joined by a bridge on which this machine has an address too. Troubles are packet filter
 * rules of the receiver, so a connection sees exactly what a bad cable does: silence, not a closed socket. A filter does not
 * delay; relays on the hosts do, through which all servers are reached.
 */
export class NamespaceNetwork implements Network {
  readonly description: string;
  readonly #bridge = `${BRIDGE_PREFIX}${ownTag}`;
  readonly #subnet: string;
  readonly #hosts: NamespaceHost[] = [];
  readonly #takeBack: () => void;
  #made = 0;
  #nextPort = FIRST_PORT;
  #changes: Promise<unknown> = Promise.resolve();

  private constructor(subnet: string) {
    this.#subnet = subnet;
    this.description = `each process group in its own network namespace (${subnet}.0/24); nftables drops packets, and TCP relays behind it delay`;
    this.#takeBack = atEnd(() => removeAll(ownTag));
  }

  /** Makes the bridge, and removes what crashed runs left behind. */
  static async open(): Promise<NamespaceNetwork> {
    for (const tag of tagsInUse()) if (isStale(tag)) removeAll(tag);
    const network = new NamespaceNetwork(freeSubnet());
    await run('ip', ['link', 'add', network.#bridge, 'type', 'bridge']);
    await run('ip', ['addr', 'add', `${network.#subnet}.254/24`, 'dev', network.#bridge]);
    await run('ip', ['link', 'set', network.#bridge, 'up']);
    return network;
  }

  async host(name: string): Promise<Host> {
    this.#made += 1;
    const number = this.#made;
    assert.ok(number < 254, 'a network has at most 253 hosts');
    const namespace = `${NAMESPACE_PREFIX}${ownTag}-${number}`;
    const address = `${this.#subnet}.${number}`;
    const cable = `${BRIDGE_PREFIX}${number}.${process.pid.toString(36)}`;
    await run('ip', ['netns', 'add', namespace]);
    await run('ip', ['link', 'add', cable, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace]);
    await run('ip', ['link', 'set', cable, 'master', this.#bridge, 'up']);
    await run('ip', ['-n', namespace, 'addr', 'add', `${address}/24`, 'dev', 'eth0']);
    for (const device of ['lo', 'eth0']) await run('ip', ['-n', namespace, 'link', 'set', device, 'up']);
    const command = (argv: readonly string[]) => ['nsenter', `--net=/run/netns/${namespace}`, '--', ...argv];
    const host = { name, address, namespace, command, troubles: new Map<string, PacketTrouble>() };
    this.#hosts.push(host);
    return host;
  }

  async freePort(): Promise<number> {
    this.#nextPort += 1;
    return this.#nextPort;
  }

  async reach(_from: Host, to: Host, port: number): Promise<string> {
    return this.advertised(to, port);
  }

  async advertised(to: Host, port: number): Promise<string> {
    const host = this.#own(to);
    host.relay ??= new HostRelay(host);
    return `${host.address}:${await host.relay.portTo(port, () => this.freePort())}`;
  }

  supports(kind: Trouble['kind'], from: Host, to: Host): boolean {
    const relayed = [from, to].some((host) => this.#own(host).relay !== undefined);
    return from !== to && (kind !== 'delay' || relayed);
  }

  async disturb(from: Host, to: Host, trouble: Trouble | null): Promise<void> {
    const [sender, receiver] = [this.#own(from), this.#own(to)];
    const late = trouble?.kind === 'delay' ? trouble : null;
    await delay(sender, receiver, late);
    if (trouble === null || late !== null) receiver.troubles.delete(from.address);
    else receiver.troubles.set(from.address, trouble as PacketTrouble);
    await this.#apply(receiver);
  }

  #own(host: Host): NamespaceHost {
    return this.#hosts.find((own) => own === host) ?? assert.fail(`${host.name} is not of this network`);
  }

  async heal(): Promise<void> {
    const disturbed = this.#hosts.filter((host) => host.troubles.size > 0);
    for (const host of disturbed) host.troubles.clear();
    await Promise.all(disturbed.map((host) => this.#apply(host)));
    const pairs = this.#hosts.flatMap((from) => this.#hosts.map((to) => [from, to] as const));
    await Promise.all(pairs.map(([from, to]) => delay(from, to, null)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#changes;
    await Promise.all(this.#hosts.map(({ relay }) => relay?.close()));
    this.#takeBack();
    removeAll(ownTag);
  }

  /** Loads a host's rules, all at once and one change after the other. */
  #apply(host: NamespaceHost): Promise<void> {
    const change = this.#changes.then(async () => {
      const rules = [...host.troubles].map(([address, trouble]) => ({ address, trouble }));
      const loading = run('nsenter', [`--net=/run/netns/${host.namespace}`, 'nft', '-f', '-']);
      loading.child.stdin?.end(rulesetText(rules));
      await loading;
    });
    this.#changes = change.catch(() => undefined);
    return change;
  }
}

/** Makes one direction late, whoever of the two dialled; null ends that. */
async function delay(
  from: NamespaceHost,
  to: NamespaceHost,
  late: Extract<Trouble, { readonly kind: 'delay' }> | null,
): Promise<void> {
  const { millis, jitterMillis } = late ?? { millis: 0, jitterMillis: 0 };
  await Promise.all([
    to.relay?.delay(from, 'forth', millis, jitterMillis),
    from.relay?.delay(to, 'back', millis, jitterMillis),
  ]);
}

function rulesetText(rules: readonly { readonly address: string; readonly trouble: PacketTrouble }[]): string {
  const lines = rules.map(({ address, trouble }) => {
    const share = trouble.kind === 'loss' ? ` numgen random mod 100 < ${trouble.percent}` : '';
    return `add rule inet clipfarm faults ip saddr ${address}${share} drop`;
  });
  return [
    'add table inet clipfarm',
    'add chain inet clipfarm faults { type filter hook input priority 0; }',
    'flush chain inet clipfarm faults',
    ...lines,
    '',
  ].join('\n');
}

/** The first three numbers of a network that this machine knows nothing of yet. */
function freeSubnet(): string {
  const used = Object.values(networkInterfaces()).flatMap((of) => (of ?? []).map(({ address }) => address));
  for (;;) {
    const subnet = `10.${randomInt(100, 255)}.${randomInt(1, 255)}`;
    if (!used.some((address) => address.startsWith(`${subnet}.`))) return subnet;
  }
}

function namespaces(): string[] {
  const lines = ip('netns', 'list').split('\n');
  return lines.flatMap((line) => (line.startsWith(NAMESPACE_PREFIX) ? [line.split(' ')[0] ?? ''] : []));
}

/** Network devices of a type. */
function devices(type: string): string[] {
  const lines = ip('-o', 'link', 'show', 'type', type).split('\n');
  return lines.flatMap((line) => /^\d+: ([^:@]+)/.exec(line)?.[1] ?? []);
}

function tagsInUse(): Set<string> {
  const ofNamespaces = namespaces().map((name) => name.slice(NAMESPACE_PREFIX.length).split('-')[0] ?? '');
  const ofBridges = devices('bridge').flatMap((name) => (name.startsWith(BRIDGE_PREFIX) ? [name.slice(2)] : []));
  return new Set([...ofNamespaces, ...ofBridges]);
}

/** Ends what runs in the namespaces of an owner, and removes them, the cables into them and its bridge. */
function removeAll(tag: string): void {
  for (const name of namespaces()) {
    if (!name.startsWith(`${NAMESPACE_PREFIX}${tag}-`)) continue;
    for (const pid of tryIp('netns', 'pids', name).split('\n').filter(Boolean)) kill(Number(pid));
    tryIp('netns', 'del', name);
  }
  const cable = new RegExp(`^${BRIDGE_PREFIX}\\d+\\.${tag.split('.')[0]}$`);
  // A cable goes with its namespace, but only once the last process there is gone.
  for (const name of devices('veth')) if (cable.test(name)) tryIp('link', 'del', name);
  for (const name of devices('bridge')) if (name === `${BRIDGE_PREFIX}${tag}`) tryIp('link', 'del', name);
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Gone already.
  }
}

/** Like {@link ip}, and empty when what it is about is gone: another run may clean up at the same time. */
function tryIp(...args: readonly string[]): string {
  try {
    return ip(...args);
  } catch {
    return '';
  }
}

function ip(...args: readonly string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function reasonOf(error: unknown): string {
  const { stderr, message } = error as { readonly stderr?: Buffer | string; readonly message: string };
  return String(stderr ?? '').trim() || message;
}

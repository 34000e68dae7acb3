import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Host, thisMachine, tiedToThisProcess } from './host.ts';
import type { Network } from './network.ts';
import { freeze } from './os.ts';
import { freePorts } from './ports.ts';

/** What a test asks of its NATS servers. */
export interface NatsClusterOptions {
  readonly size: 1 | 3;
  /** Directory for stores, configuration and logs; the caller removes it. */
  readonly dir: string;
  /** More lines of server configuration. */
  readonly config?: string;
  /** Null for a server that has no such setting. @default always: an acknowledged write survives a power cut. */
  readonly syncInterval?: string | null;
  /** Server program. @default one from 2.10 on */
  readonly binary?: string;
  /** Where each server runs. @default all on this machine */
  readonly hosts?: readonly Host[];
  /** Leads from one of those hosts to a port of another. @default directly */
  readonly reach?: Network['reach'];
  /** Whether servers tell clients of each other; not, where clients have to go through proxies. @default true */
  readonly advertise?: boolean;
}

/** One server of a cluster, which keeps its ports and its store over restarts. */
export interface NatsServer {
  readonly host: Host;
  /** For clients. */
  readonly port: number;
  readonly url: string;
  /** HTTP address of its monitoring. */
  readonly monitor: string;
  /** Ends it at once, as a crash does. */
  kill(): Promise<void>;
  /** Ends it kindly. */
  stop(): Promise<void>;
  /** Freezes it and waits until it stands still; its connections stay open. */
  pause(): Promise<void>;
  resume(): void;
  /** Starts it again and waits until it is ready, which in a cluster needs most of the others. */
  start(): Promise<void>;
  /** Starts it again without waiting. */
  launch(): void;
  /** Has the next start run another program, as an upgrade does. */
  replace(binary: string): void;
}

/** NATS servers under test. */
export interface NatsCluster extends AsyncDisposable {
  readonly urls: readonly string[];
  readonly servers: readonly NatsServer[];
  /** Ends all of them. */
  close(): Promise<void>;
}

/** A server that has not started JetStream after this long never will. */
const READY_MILLIS = 60_000;

/** A cluster forms once it has a leader: an election takes four to nine seconds, and on a busy machine several are needed. */
const FORMING_MILLIS = 90_000;

/**
 * A server that was killed under load now and then calls its node of a stream's group unhealthy for minutes, though the others
 * are well; started again it catches up. After this long it is, and so often it is started at most.
 */
const STUCK_MILLIS = 40_000;
const STARTS = 3;

/** A server that has not answered after this long is asked again. */
const ANSWER_MILLIS = 5000;

/** A cluster that has formed by itself has done so after this long. */
const FORMED_MILLIS = 3000;

/**
 * Waits until the leader of JetStream's own cluster counts every server among its members, and each is well: before, nothing
 * can be kept three times. In one of thirty new clusters, nats-server 2.10 elects a leader that never takes in the server that
 * was a candidate at the same moment; it is no member for ever, whether it calls itself healthy or not. Starting that one
 * again helps.
 */
async function formed(servers: readonly Server[]): Promise<void> {
  const started = performance.now();
  for (let restarts = 1; ; ) {
    const outside = await outsiders(servers);
    if (outside.length === 0) return;
    const waited = performance.now() - started;
    if (waited > FORMING_MILLIS) assert.fail(`the NATS cluster did not form: ${await reports(outside)}`);
    if (outside.length < servers.length && waited > restarts * FORMED_MILLIS) {
      restarts += 1;
      for (const server of outside) {
        await server.stop();
        await server.enter();
      }
    }
    await sleep(100);
  }
}

/** The servers that the leader does not count among its members, or that are not well; all while none leads. */
async function outsiders(servers: readonly Server[]): Promise<readonly Server[]> {
  const views = await Promise.all(servers.map((server) => server.members()));
  const leader = views.find((view, index) => view?.leader === servers[index]?.name);
  if (servers.length > 1 && !leader) return servers;
  const members = new Set([leader?.leader, ...(leader?.replicas ?? []).map(({ name }) => name)]);
  const problems = await Promise.all(servers.map((server) => server.problem()));
  return servers.filter(({ name }, index) => problems[index] !== null || (servers.length > 1 && !members.has(name)));
}

async function reports(servers: readonly Server[]): Promise<string> {
  const of = async (server: Server) =>
    `${server.name}: ${(await server.problem()) ?? 'no member'}\n${server.logTail()}`;
  return (await Promise.all(servers.map(of))).join('\n');
}

/** JetStream's own cluster as one of its servers sees it. */
interface Members {
  readonly leader?: string;
  /** The others, as the leader knows them. */
  readonly replicas?: readonly { readonly name: string }[];
}

/** Starts one NATS server, or three that form a cluster, with JetStream on free ports of this machine. */
export async function startNatsCluster(options: NatsClusterOptions): Promise<NatsCluster> {
  const binary = options.binary ?? natsServerBinary();
  const ports = await freePorts(options.size * 3);
  const routes = ports.slice(0, options.size);
  const hosts = routes.map((_, index) => options.hosts?.[index] ?? thisMachine);
  const reach = options.reach ?? (async (_from: Host, to: Host, port: number) => `${to.address}:${port}`);
  const peersOf = (host: Host, index: number) => {
    const others = routes.map((route, other) => ({ route, other })).filter(({ other }) => other !== index);
    return Promise.all(others.map(({ route, other }) => reach(host, hosts[other] ?? thisMachine, route)));
  };
  const making = routes.map(async (route, index) => {
    const [client, monitor] = ports.slice(options.size + 2 * index) as [number, number];
    const host = hosts[index] ?? thisMachine;
    // The address under which the others tell each other of it.
    const advertised = await reach(host, host, route);
    const peers = await peersOf(host, index);
    return new Server(binary, options, `n${index + 1}`, host, { client, monitor, route, advertised, peers });
  });
  const servers = await Promise.all(making);
  const close = async () => {
    await Promise.all(servers.map((server) => server.kill()));
  };
  try {
    await Promise.all(servers.map((server) => server.enter()));
    await formed(servers);
  } catch (error) {
    await close();
    throw error;
  }
  return { servers, urls: servers.map(({ url }) => url), close, [Symbol.asyncDispose]: close };
}

interface Ports {
  readonly client: number;
  readonly monitor: number;
  /** For the other servers of the cluster. */
  readonly route: number;
  /** `host:port` under which the others reach that. */
  readonly advertised: string;
  /** `host:port` of each of the others. */
  readonly peers: readonly string[];
}

class Server implements NatsServer {
  readonly host: Host;
  readonly port: number;
  readonly url: string;
  readonly monitor: string;
  readonly name: string;
  #binary: string;
  readonly #configPath: string;
  readonly #logPath: string;
  #child: ChildProcess | undefined;

  constructor(binary: string, options: NatsClusterOptions, name: string, host: Host, ports: Ports) {
    this.name = name;
    this.host = host;
    this.port = ports.client;
    this.url = `nats://${host.address}:${ports.client}`;
    this.monitor = `http://${host.address}:${ports.monitor}`;
    this.#binary = binary;
    mkdirSync(options.dir, { recursive: true });
    this.#configPath = join(options.dir, `${name}.conf`);
    this.#logPath = join(options.dir, `${name}.log`);
    writeFileSync(this.#configPath, configText(options, name, host.address, ports));
  }

  launch(): void {
    const log = openSync(this.#logPath, 'a');
    const argv = tiedToThisProcess([this.#binary, '-c', this.#configPath]);
    const [file = '', ...args] = this.host.command(argv);
    this.#child = spawn(file, args, { stdio: ['ignore', log, log] });
    closeSync(log);
  }

  replace(binary: string): void {
    this.#binary = binary;
  }

  async start(): Promise<void> {
    for (let start = 1; ; start += 1) {
      await this.enter();
      const problem = await this.#problemAfter('', STUCK_MILLIS);
      if (problem === null) return;
      if (start === STARTS) this.#fail(problem);
      await this.stop();
    }
  }

  /** Starts it and waits until it takes part, but not for what the others do. */
  async enter(): Promise<void> {
    this.launch();
    const problem = await this.#problemAfter('?js-enabled-only=true', READY_MILLIS);
    if (problem !== null) this.#fail(problem);
  }

  /** What the server's own health check still says after so long, null as soon as it is content; `query` leaves parts out. */
  async #problemAfter(query: string, millis: number): Promise<string | null> {
    const deadline = performance.now() + millis;
    for (;;) {
      const problem = await this.problem(query);
      if (problem === null || performance.now() > deadline) return problem;
      if (this.#child?.exitCode !== null || this.#child.signalCode !== null) this.#fail(problem);
      await sleep(20);
    }
  }

  #fail(problem: string): never {
    assert.fail(`the NATS server did not become ready (${problem}):\n${this.logTail()}`);
  }

  /** Its last words. */
  logTail(): string {
    return readFileSync(this.#logPath, 'utf8').split('\n').slice(-15).join('\n');
  }

  /** JetStream's own cluster as this server sees it, if it says. */
  async members(): Promise<Members | undefined> {
    try {
      const answer = await fetch(`${this.monitor}/jsz`, { signal: AbortSignal.timeout(ANSWER_MILLIS) });
      return ((await answer.json()) as { readonly meta_cluster?: Members }).meta_cluster;
    } catch {
      // It does not listen yet, or was interrupted in the middle of its answer.
      return undefined;
    }
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  async pause(): Promise<void> {
    if (this.#child?.pid !== undefined) await freeze(this.#child.pid);
  }

  resume(): void {
    this.#child?.kill('SIGCONT');
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  }

  /** What keeps the server, or the cluster as it sees it, from taking JetStream requests; null when nothing does. */
  async problem(query = ''): Promise<string | null> {
    try {
      const answer = await fetch(`${this.monitor}/healthz${query}`, { signal: AbortSignal.timeout(ANSWER_MILLIS) });
      return answer.ok ? null : await answer.text();
    } catch (error) {
      return `no answer from its monitoring: ${String(error)}`;
    }
  }
}

function configText(options: NatsClusterOptions, name: string, address: string, ports: Ports): string {
  const lines = [
    `server_name: ${name}`,
    `listen: "${address}:${ports.client}"`,
    `http: "${address}:${ports.monitor}"`,
    `jetstream { store_dir: ${JSON.stringify(join(options.dir, name))}, max_file_store: 4GB, max_memory_store: 256MB`,
    options.syncInterval === null ? '}' : `sync_interval: ${options.syncInterval ?? 'always'} }`,
    options.config ?? '',
  ];
  if (ports.peers.length > 0) {
    const routes = ports.peers.map((peer) => `"nats://${peer}"`);
    const quiet = options.advertise === false ? ', no_advertise: true' : '';
    const listen = `"${address}:${ports.route}"`;
    const advertise = `advertise: "${ports.advertised}"`;
    lines.push(`cluster { name: test, listen: ${listen}, ${advertise}, routes: [${routes.join(', ')}]${quiet} }`);
  }
  return `${lines.join('\n')}\n`;
}

/** The server program: the one that CLIPFARM_NATS_SERVER names, else the one that {@link usualNatsServer} gives. */
export function natsServerBinary(): string {
  const named = process.env.CLIPFARM_NATS_SERVER;
  return named === undefined || named === '' ? usualNatsServer() : firstNewEnough([named]);
}

/** Of the server programs on PATH and from set-up the first from 2.10 on. */
export function usualNatsServer(): string {
  const unpacked = fileURLToPath(new URL('../../.clipfarm/tools/nats-server', import.meta.url));
  return firstNewEnough(['nats-server', unpacked]);
}

function firstNewEnough(candidates: readonly string[]): string {
  const seen = candidates.map((path) => ({ path, version: versionOf(path) }));
  const found = seen.find(({ version }) => {
    const [major = 0, minor = 0] = version.split('.').map(Number);
    return major > 2 || (major === 2 && minor >= 10);
  });
  const list = seen.map(({ path, version }) => `${path}: ${version}`).join('; ');
  return found?.path ?? assert.fail(`no NATS server 2.10 or newer (${list}); run: sh deploy/setup-nats.sh`);
}

/** What a server program says its version is, such as `2.12.15`. */
export function versionOf(binary: string): string {
  try {
    const text = execFileSync(binary, ['-v'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return /\d+\.\d+\.\d+/.exec(text)?.[0] ?? text.trim();
  } catch {
    return 'not there';
  }
}

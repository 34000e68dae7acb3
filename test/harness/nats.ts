import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Host, thisMachine, tiedToThisProcess } from './host.ts';
import { freePorts } from './ports.ts';

/** What a test asks of its NATS servers. */
export interface NatsClusterOptions {
  readonly size: 1 | 3;
  /** Directory for stores, configuration and logs; the caller removes it. */
  readonly dir: string;
  /** More lines of server configuration. */
  readonly config?: string;
  /** @default always: an acknowledged write survives a power cut. */
  readonly syncInterval?: string;
  /** Where each server runs. @default all on this machine */
  readonly hosts?: readonly Host[];
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
  /** Freezes it; its connections stay open. */
  pause(): void;
  resume(): void;
  /** Starts it again and waits until it is ready, which in a cluster needs most of the others. */
  start(): Promise<void>;
  /** Starts it again without waiting. */
  launch(): void;
}

/** NATS servers under test. */
export interface NatsCluster extends AsyncDisposable {
  readonly urls: readonly string[];
  readonly servers: readonly NatsServer[];
  /** Ends all of them. */
  close(): Promise<void>;
}

/** A server that has not become ready after this long never will. */
const READY_MILLIS = 20_000;

/** Waits until a server sees every other one in JetStream's own cluster: before, nothing can be kept three times. */
async function formed(monitor: string, size: number): Promise<void> {
  if (size === 1) return;
  const deadline = Date.now() + READY_MILLIS;
  for (;;) {
    const answer = await fetch(`${monitor}/jsz`).then((response) => response.json() as Promise<JetStreamStatus>);
    const { leader, cluster_size: seen } = answer.meta_cluster ?? {};
    if (leader && seen === size) return;
    if (Date.now() > deadline) throw new Error(`the NATS cluster did not form: ${JSON.stringify(answer.meta_cluster)}`);
    await sleep(100);
  }
}

interface JetStreamStatus {
  readonly meta_cluster?: { readonly leader?: string; readonly cluster_size?: number };
}

/** Starts one NATS server, or three that form a cluster, with JetStream on free ports of this machine. */
export async function startNatsCluster(options: NatsClusterOptions): Promise<NatsCluster> {
  const binary = natsServerBinary();
  const ports = await freePorts(options.size * 3);
  const routes = ports.slice(0, options.size);
  const hosts = routes.map((_, index) => options.hosts?.[index] ?? thisMachine);
  const peers = routes.map((route, index) => `${hosts[index]?.address}:${route}`);
  const servers = routes.map((route, index) => {
    const [client, monitor] = ports.slice(options.size + 2 * index) as [number, number];
    return new Server(binary, options, `n${index + 1}`, hosts[index] ?? thisMachine, { client, monitor, route, peers });
  });
  const close = async () => {
    await Promise.all(servers.map((server) => server.kill()));
  };
  try {
    await Promise.all(servers.map((server) => server.start()));
    await Promise.all(servers.map((server) => formed(server.monitor, options.size)));
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
  /** `host:port` for each other of every server. */
  readonly peers: readonly string[];
}

class Server implements NatsServer {
  readonly host: Host;
  readonly port: number;
  readonly url: string;
  readonly monitor: string;
  readonly #binary: string;
  readonly #configPath: string;
  readonly #logPath: string;
  #child: ChildProcess | undefined;

  constructor(binary: string, options: NatsClusterOptions, name: string, host: Host, ports: Ports) {
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

  async start(): Promise<void> {
    this.launch();
    const deadline = performance.now() + READY_MILLIS;
    while (!(await this.#ready())) {
      const late = performance.now() > deadline;
      if (late || this.#child?.exitCode !== null || this.#child.signalCode !== null) {
        const tail = readFileSync(this.#logPath, 'utf8').split('\n').slice(-15).join('\n');
        assert.fail(`the NATS server did not become ready:\n${tail}`);
      }
      await sleep(20);
    }
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  pause(): void {
    this.#child?.kill('SIGSTOP');
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

  /** Whether the server, and the cluster as it sees it, can take JetStream requests. */
  async #ready(): Promise<boolean> {
    try {
      const signal = AbortSignal.timeout(1000);
      return (await fetch(`${this.monitor}/healthz`, { signal })).ok;
    } catch {
      return false;
    }
  }
}

function configText(options: NatsClusterOptions, name: string, address: string, ports: Ports): string {
  const lines = [
    `server_name: ${name}`,
    `listen: "${address}:${ports.client}"`,
    `http: "${address}:${ports.monitor}"`,
    `jetstream { store_dir: ${JSON.stringify(join(options.dir, name))}, max_file_store: 4GB, max_memory_store: 256MB,`,
    `  sync_interval: ${options.syncInterval ?? 'always'} }`,
    options.config ?? '',
  ];
  if (ports.peers.length > 1) {
    const routes = ports.peers.map((peer) => `"nats://${peer}"`);
    const quiet = options.advertise === false ? ', no_advertise: true' : '';
    const listen = `"${address}:${ports.route}"`;
    lines.push(`cluster { name: test, listen: ${listen}, routes: [${routes.join(', ')}]${quiet} }`);
  }
  return `${lines.join('\n')}\n`;
}

/** The server program: the one that CLIPFARM_NATS_SERVER names, else of those on PATH and from set-up the first from 2.10 on. */
function natsServerBinary(): string {
  const named = process.env.CLIPFARM_NATS_SERVER;
  const unpacked = fileURLToPath(new URL('../../.clipfarm/tools/nats-server', import.meta.url));
  const candidates = named === undefined || named === '' ? ['nats-server', unpacked] : [named];
  const seen = candidates.map((path) => ({ path, version: versionOf(path) }));
  const found = seen.find(({ version }) => {
    const [major = 0, minor = 0] = version.split('.').map(Number);
    return major > 2 || (major === 2 && minor >= 10);
  });
  const list = seen.map(({ path, version }) => `${path}: ${version}`).join('; ');
  return found?.path ?? assert.fail(`no NATS server 2.10 or newer (${list}); run: sh deploy/setup-nats.sh`);
}

function versionOf(binary: string): string {
  try {
    const text = execFileSync(binary, ['-v'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return /\d+\.\d+\.\d+/.exec(text)?.[0] ?? text.trim();
  } catch {
    return 'not there';
  }
}

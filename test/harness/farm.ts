import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { FarmError } from '@clipfarm/shared/errors';
import { FarmServiceClient, type InputKind } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import { type Job, JobSpec, type RenderSettings } from '@clipfarm/shared/gen/clipfarm/v1/job';
import type { Node } from '@clipfarm/shared/gen/clipfarm/v1/node';
import { callUnary, callUpload, responsesOf, type UnaryMethod } from '@clipfarm/shared/rpc/client-call';
import { clientChannel } from '@clipfarm/shared/rpc/credentials';
import { pipeFileToCall } from '@clipfarm/shared/rpc/stream';
import { type Host, thisMachine } from './host.ts';
import type { Network } from './network.ts';
import { alive, descendants } from './os.ts';
import { OwnDirectory } from './owner.ts';
import { freePorts } from './ports.ts';
import { TestProcess } from './process.ts';
import { sweep } from './small-disk.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** The portrait and the talk that the repository carries. */
export const SAMPLE = {
  image: join(root, 'test/samples/portrait.png'),
  audio: join(root, 'test/samples/talk.mp3'),
} as const;

/** Flags of a coordinator that does not take a busy agent for a dead one. */
export const PATIENT = ['--lease-millis', '30000'] as const;

/** One agent of a farm under test. */
export interface AgentOptions {
  readonly name: string;
  /** Seconds per clip of its synthetic slots. */
  readonly pace?: number;
  readonly slots?: number;
  /** Further flags. */
  readonly args?: readonly string[];
}

/** Fields of a job's specification that a test may set. */
export interface SpecFields {
  readonly priority?: number;
  readonly owner?: string;
  readonly prompt?: string;
  readonly settings?: Partial<RenderSettings>;
}

/** How a farm under test is made up. */
export interface FarmOptions {
  /** Coordinators; several need a shared journal. */
  readonly coordinators?: number;
  /** Further flags of every coordinator; a function gives each its own, by its host. */
  readonly args?: readonly string[] | ((host: Host) => Promise<readonly string[]>);
  /** Gives every coordinator and agent a host of its own. @default all on this machine, nothing between them */
  readonly network?: Network;
}

/** One coordinator of a farm under test, which keeps its address and data over restarts. */
interface Coordinator {
  readonly host: Host;
  readonly process: TestProcess;
  readonly address: string;
  readonly admin: string;
  readonly client: FarmServiceClient;
}

/** A real farm: coordinators and agents, each its own process, on free ports, in a temporary directory. */
export class Farm implements AsyncDisposable {
  readonly #dir: OwnDirectory;
  readonly agents = new Map<string, TestProcess>();
  readonly coordinators: Coordinator[] = [];
  readonly #options: FarmOptions;
  readonly #agentHosts = new Map<string, Host>();
  readonly #clients: FarmServiceClient[] = [];
  #current = 0;

  private constructor(options: FarmOptions) {
    sweep();
    this.#dir = new OwnDirectory();
    this.#options = options;
  }

  /** Directory of everything that its processes keep, and of what tests put there. */
  get dir(): string {
    return this.#dir.path;
  }

  /** Starts coordinators and agents, and waits until every slot is online. */
  static async start(agents: readonly AgentOptions[], options: FarmOptions | readonly string[] = {}): Promise<Farm> {
    const given: FarmOptions = 'length' in options ? { args: options } : options;
    const farm = new Farm(given);
    try {
      const { coordinators = 1 } = given;
      await Promise.all(Array.from({ length: coordinators }, (_, index) => farm.startCoordinator(index)));
      for (const agent of agents) await farm.startAgent(agent);
      await farm.waitForNodes(agents.length);
    } catch (error) {
      await farm[Symbol.asyncDispose]();
      throw error;
    }
    return farm;
  }

  /** Starts a coordinator, after the first time on the same host, address and data, and waits until it is ready. */
  async startCoordinator(index = 0, seconds = 180): Promise<void> {
    const { network } = this.#options;
    const known = this.coordinators[index];
    const name = index === 0 ? 'coordinator' : `coordinator-${index}`;
    const host = known?.host ?? (await network?.host(name, 'coordinator')) ?? thisMachine;
    const ready = join(this.dir, `${name}-ready.json`);
    rmSync(ready, { force: true });
    const listen = known?.address ?? `${host.address}:${(await network?.freePort(host)) ?? (await freePorts(1))[0]}`;
    const args = ['--listen', listen, '--admin', `${host.address}:0`, '--ready-file', ready, ...this.#accessArgs];
    const data = ['--data-dir', join(this.dir, name), '--log-level', 'debug', ...(await this.#argsOf(host, listen))];
    const main = join(root, 'coordinator/src/main.ts');
    const child = TestProcess.start(main, [...args, ...data], join(this.dir, `${name}.log`), host);
    await until(() => existsSync(ready) || !child.running, `${name} is ready`, seconds);
    assert.ok(child.running, `${name} ended:\n${child.output().slice(-2000)}`);
    const bound = JSON.parse(readFileSync(ready, 'utf8')) as { listen: string; admin: string };
    const { address, credentials, options } = clientChannel({ address: bound.listen, insecure: true });
    // A new one: an old one may not have noticed yet that its connection is to a coordinator that is gone.
    const client = new FarmServiceClient(address, credentials, options);
    this.#clients.push(client);
    this.coordinators[index] = { host, process: child, address: bound.listen, admin: bound.admin, client };
  }

  /** Hosts in a test's network are other machines, and it is nobody else's. */
  get #accessArgs(): readonly string[] {
    return this.#options.network === undefined ? [] : ['--insecure'];
  }

  async #argsOf(host: Host, listen: string): Promise<readonly string[]> {
    const { network, args = [] } = this.#options;
    const own = typeof args === 'function' ? await args(host) : args;
    return network === undefined ? own : [...own, '--advertise', await network.advertised(host, portOf(listen))];
  }

  /** The coordinator that is asked. */
  get coordinator(): TestProcess {
    return this.#asked.process;
  }

  /** Its client. */
  get client(): FarmServiceClient {
    return this.#asked.client;
  }

  /** Bound `host:port` of its admin listener. */
  get admin(): string {
    return this.#asked.admin;
  }

  get #asked(): Coordinator {
    return this.coordinators[this.#current] ?? assert.fail('no coordinator was started');
  }

  /** Waits until a coordinator leads, asks that one from now on, and returns its index. */
  async findLeader(seconds = 60): Promise<number> {
    let leader: number | null = null;
    // Each by itself: one that is frozen does not answer, and must not keep the news of the others waiting.
    const ask = async ({ client }: Coordinator, index: number) => {
      for (const deadline = performance.now() + seconds * 1000; performance.now() < deadline; await sleep(50)) {
        const leads = await callUnary(
          client,
          client.listNodes,
          { knowsLeft: true, pageToken: '' },
          { timeoutMs: 5000 },
        ).then(Boolean, () => false);
        if (leads) leader ??= index;
        if (leader !== null) return;
      }
      throw new Error(`${index} does not lead`);
    };
    await Promise.any(this.coordinators.map(ask)).catch(() => undefined);
    this.#current = leader ?? assert.fail(`waited ${seconds} s until a coordinator leads`);
    return this.#current;
  }

  /** Starts (or starts again, with the same state) an agent. */
  async startAgent(agent: AgentOptions): Promise<TestProcess> {
    const { name, pace = 0.2, slots = 1, args = [] } = agent;
    const host = await this.#agentHost(name);
    const addresses = await Promise.all(this.coordinators.map((coordinator) => this.#reach(host, coordinator)));
    const flags = ['--coordinator', addresses.join(','), '--name', name, ...this.#accessArgs];
    const state = ['--state-dir', join(this.dir, `agent-${name}`), '--log-level', 'debug'];
    const profile = ['--profile', 'synthetic', '--slots', String(slots), '--seconds-per-clip', String(pace)];
    const main = join(root, 'node-agent/src/main.ts');
    const all = [...flags, ...state, ...profile, ...args];
    const child = TestProcess.start(main, all, join(this.dir, `agent-${name}.log`), host);
    this.agents.set(name, child);
    return child;
  }

  /** The host that an agent runs on. */
  agentHost(name: string): Host {
    return this.#agentHosts.get(name) ?? assert.fail(`no agent ${name}`);
  }

  async #agentHost(name: string): Promise<Host> {
    const host = this.#agentHosts.get(name) ?? (await this.#options.network?.host(name, 'agent')) ?? thisMachine;
    this.#agentHosts.set(name, host);
    return host;
  }

  async #reach(from: Host, { host, address }: Coordinator): Promise<string> {
    return (await this.#options.network?.reach(from, host, portOf(address))) ?? address;
  }

  /** The agent's process. */
  agent(name: string): TestProcess {
    const found = this.agents.get(name);
    assert.ok(found, `no agent ${name}`);
    return found;
  }

  /** Waits until that many nodes are online. */
  async waitForNodes(count: number): Promise<Node[]> {
    let nodes: Node[] = [];
    await until(async () => {
      await this.findLeader();
      nodes = await this.nodes();
      return nodes.filter((node) => node.state === 'NODE_STATE_ONLINE').length >= count;
    }, `${count} nodes are online`);
    return nodes;
  }

  /** Asks the coordinator, and again for as long as it is unavailable, as clients do: for what may be done twice. */
  call<Req, Res>(method: UnaryMethod<Req, Res>, request: Req): Promise<Res> {
    return this.#insist(() => callUnary(this.client, method, request, { timeoutMs: 60_000 }));
  }

  /** Repeats what failed because nobody answers; of several coordinators another one may lead by then. */
  #insist<T>(call: () => Promise<T>): Promise<T> {
    return patiently(async () => {
      try {
        return await call();
      } catch (error) {
        if (this.coordinators.length > 1 && FarmError.from(error).code === 'unavailable') {
          await this.findLeader().catch(() => undefined);
        }
        throw error;
      }
    });
  }

  async nodes(): Promise<Node[]> {
    return (await this.call(this.client.listNodes, { knowsLeft: true, pageToken: '' })).nodes;
  }

  /** Uploads a file as an input. @returns its SHA-256 */
  async upload(path: string, kind: InputKind): Promise<string> {
    const content = await readFile(path);
    const sha256 = createHash('sha256').update(content).digest('hex');
    await callUpload(this.client, this.client.uploadInput, async (sink) => {
      await sink.send({ part: { $case: 'header', value: { kind, sha256, bytes: content.length } } });
      await pipeFileToCall({ path, sink, toMessage: (data) => ({ part: { $case: 'data' as const, value: data } }) });
    });
    return sha256;
  }

  /** Uploads and submits a job, and again for as long as the coordinator is unavailable. */
  submit(audio: string, fields: SpecFields = {}, image?: string, key: string = randomUUID()): Promise<Job> {
    return this.#insist(() => this.submitOnce(audio, fields, image, key));
  }

  /** Uploads and submits a job, unless the coordinator is unavailable. */
  async submitOnce(audio: string, fields: SpecFields, image: string = SAMPLE.image, key = ''): Promise<Job> {
    const imageSha256 = await this.upload(image, 'INPUT_KIND_IMAGE');
    const audioSha256 = await this.upload(audio, 'INPUT_KIND_AUDIO');
    const settings = { preset: 'delivery', size: '384*256', ...fields.settings };
    const spec = JobSpec.fromPartial({ prompt: 'a person talks', ...fields, imageSha256, audioSha256, settings });
    const request = { spec, idempotencyKey: key };
    const { job } = await callUnary(this.client, this.client.submitJob, request, { timeoutMs: 60_000 });
    assert.ok(job);
    return job;
  }

  async job(jobId: string): Promise<Job> {
    return patiently(async () => {
      try {
        const { job } = await callUnary(this.client, this.client.getJob, { jobId });
        assert.ok(job);
        return job;
      } catch (error) {
        // Any coordinator can tell.
        this.#current = (this.#current + 1) % this.coordinators.length;
        throw error;
      }
    });
  }

  /** Waits until the job is over, through restarts of the coordinator. */
  async finished(jobId: string, seconds = 300): Promise<Job> {
    let job: Job | null = null;
    await until(
      async () => {
        job = await this.job(jobId).catch(() => job);
        return job !== null && ['JOB_STATE_COMPLETED', 'JOB_STATE_FAILED', 'JOB_STATE_CANCELLED'].includes(job.state);
      },
      () => `job ${jobId} is over; it is ${job?.state} with ${job?.clipsCommitted} clips`,
      seconds,
    );
    assert.ok(job);
    return job;
  }

  /** Waits until the job has that many committed clips. */
  async committed(jobId: string, clips: number, seconds = 300): Promise<Job> {
    let job: Job | null = null;
    await until(
      async () => {
        job = await this.job(jobId).catch(() => job);
        return job !== null && job.clipsCommitted >= clips;
      },
      () => `${clips} clips are committed; there are ${job?.clipsCommitted}`,
      seconds,
    );
    assert.ok(job);
    return job;
  }

  /** Waits for completion and downloads the video. */
  async video(jobId: string, seconds = 300): Promise<{ readonly job: Job; readonly path: string }> {
    const job = await this.finished(jobId, seconds);
    assert.equal(job.state, 'JOB_STATE_COMPLETED', `${job.stateReason}\n${JSON.stringify(job.failures)}`);
    const path = join(this.dir, `${jobId}.mp4`);
    const content = await patiently(async () => {
      const pieces: Buffer[] = [];
      for await (const { data } of responsesOf(this.client.downloadResult({ jobId, offset: 0 }))) pieces.push(data);
      return Buffer.concat(pieces);
    });
    assert.equal(createHash('sha256').update(content).digest('hex'), job.result?.sha256);
    await writeFile(path, content);
    return { job, path };
  }

  /** Ends every process. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.close();
    const runners = [...this.agents.values()].flatMap(({ child }) => descendants(child.pid));
    await Promise.all([...this.agents.values()].map((agent) => agent.kill()));
    await Promise.all(this.coordinators.map(({ process: child }) => child.stop()));
    // They write into the directory as long as they live.
    await until(() => alive(runners).length === 0, 'no runner outlives its agent');
    this.#dir[Symbol.dispose]();
  }
}

function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(':') + 1));
}

/** Repeats a call while it fails because nobody answers, as on a busy machine or when the lead changes, for two minutes at most. */
export async function patiently<T>(call: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + 120_000;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      const { code } = FarmError.from(error);
      if ((code !== 'unavailable' && code !== 'timeout') || performance.now() > deadline) throw error;
      await sleep(50);
    }
  }
}

/** Polls until the condition holds. Fails with what was waited for. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string | (() => string),
  seconds = 120,
): Promise<void> {
  const deadline = Date.now() + seconds * 1000;
  while (!(await condition())) {
    const text = typeof what === 'string' ? what : what();
    assert.ok(Date.now() < deadline, `waited ${seconds} s until ${text}`);
    await sleep(50);
  }
}

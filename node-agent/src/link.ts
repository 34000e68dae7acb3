import { type Backoff, backoffMillis } from '@clipfarm/shared/backoff';
import type { Clock, Timer } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type { AgentServiceClient, Heartbeat, Hello, Welcome } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import type { Logger } from '@clipfarm/shared/log';
import { type FromCoordinator, LinkSession, reasonOf, type SessionEnd, type ToCoordinator } from './link-session.ts';
import type { AgentMetrics } from './metrics.ts';

/** What a {@link Link} works with. */
export interface LinkOptions {
  /** `host:port` of every coordinator; tried in turn until one welcomes the agent. */
  readonly addresses: readonly string[];
  /** Makes a client; may throw for an address that a coordinator named. */
  readonly dial: (address: string) => AgentServiceClient;
  /** The first message of every connection, less farm and term, which the link knows. */
  readonly hello: () => Omit<Hello, 'term' | 'farmId'>;
  readonly heartbeat: () => Promise<Heartbeat>;
  readonly onWelcome: (welcome: Welcome) => void;
  /** A message of the coordinator that is not void. */
  readonly onMessage: (message: Exclude<FromCoordinator, { $case: 'welcome' }>) => void;
  /** A welcomed connection is over. */
  readonly onDisconnected: (reason: string) => void;
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  /** Waits between attempts. @default 0.2 s at first, 3 s at most */
  readonly reconnect?: Backoff;
  readonly log: Logger;
  readonly metrics: Pick<AgentMetrics, 'linksRefused' | 'voidMessages' | 'farmChanges'>;
}

const RECONNECT: Backoff = { firstMillis: 200, maxMillis: 3000 };

/** Milliseconds for the last messages when the link is closed. */
const CLOSE_MILLIS = 2000;

/**
 * The link to the coordinator: one connection at a time, dialled anew after a backoff when it ends for whatever reason.
 * Messages below the highest term seen are void. Terms are a farm's own: a coordinator whose journal was begun anew is
 * another farm, which counts from the beginning. One of a version that does not tell its farm is held to the terms that
 * are known: it may be a deposed leader.
 */
export class Link {
  readonly #options: LinkOptions;
  readonly #clients = new Map<string, AgentServiceClient>();
  /** The connection, welcomed or not. */
  #session: LinkSession | null = null;
  #connected = false;
  #term = 0;
  #farmId = '';
  #closing = false;
  #cutBackoffShort: (() => void) | null = null;
  #running: Promise<void> = Promise.resolve();

  constructor(options: LinkOptions) {
    this.#options = options;
  }

  /** Starts to dial; returns at once. */
  start(): void {
    this.#running = this.#run();
  }

  /** True between a Welcome and the end of its connection. */
  get connected(): boolean {
    return this.#connected;
  }

  /** Farm that the agent was welcomed to last; empty before the first time, and where the farm does not tell. */
  get farmId(): string {
    return this.#farmId;
  }

  /**
   * Client of the coordinator that welcomed this agent.
   *
   * @throws FarmError `unavailable` without a link.
   */
  client(): AgentServiceClient {
    if (this.#connected && this.#session !== null) return this.#session.client;
    throw new FarmError('unavailable', 'there is no link to a coordinator');
  }

  /** Sends a message in order; false without a link, and then the message is lost. */
  send(message: ToCoordinator): boolean {
    return this.#connected && (this.#session?.post(message) ?? false);
  }

  /** Sends what the next message of its kind replaces; left out without a link or when it is slow. */
  sendReplaceable(message: ToCoordinator): void {
    if (this.#connected) this.#session?.postReplaceable(message);
  }

  /** Lets the last messages through and closes the connection for good. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#cutBackoffShort?.();
    this.#session?.finish();
    const timer = this.#options.clock.setTimeout(() => this.#session?.end('the agent leaves'), CLOSE_MILLIS);
    await this.#running;
    timer.cancel();
    for (const client of this.#clients.values()) client.close();
  }

  async #run(): Promise<void> {
    const { addresses, random, log, reconnect = RECONNECT } = this.#options;
    let failures = 0;
    let turn = 0;
    let told = '';
    let leader: string | undefined;
    while (!this.#closing) {
      const address = leader ?? addresses[turn % addresses.length] ?? '';
      const { welcomed, reason, ...end } = await this.#connect(address);
      if (this.#closing) return;
      const redirected = end.leader !== undefined && leader === undefined;
      leader = redirected ? end.leader : undefined;
      // Asked for by name, the leader is dialled at once; one that is not there after all is not asked for twice.
      if (redirected) continue;
      failures = welcomed ? 1 : failures + 1;
      // A coordinator that was there is tried again before the others: as a rule it only restarted.
      if (!welcomed) turn += 1;
      const millis = Math.round(backoffMillis(failures, random(), reconnect));
      // Not a line for every attempt: one when an outage begins or its reason changes, then about one a minute.
      const news = failures === 1 || reason !== told || failures % 20 === 0;
      told = reason;
      log[news ? 'warn' : 'debug'](
        { coordinator: address, reason, retry_millis: millis },
        'no link to the coordinator',
      );
      await this.#pause(millis);
    }
  }

  async #connect(address: string): Promise<SessionEnd> {
    const { hello, heartbeat, onMessage, onDisconnected, clock } = this.#options;
    let client: AgentServiceClient;
    try {
      client = this.#clientOf(address);
    } catch (error) {
      return { welcomed: false, reason: reasonOf(FarmError.from(error)), leader: undefined, refused: null };
    }
    this.#session = new LinkSession({
      client,
      hello: { ...hello(), term: this.#term, farmId: this.#farmId },
      heartbeat,
      clock,
      onWelcome: (welcome) => this.#welcome(welcome, address),
      onMessage: (message) => {
        if (this.#inTerm(message)) onMessage(message);
      },
    });
    const end = await this.#session.run();
    this.#session = null;
    this.#connected = false;
    if (end.refused !== null) this.#options.metrics.linksRefused.inc({ reason: end.refused });
    if (end.welcomed) onDisconnected(end.reason);
    return end;
  }

  #clientOf(address: string): AgentServiceClient {
    const client = this.#clients.get(address) ?? this.#options.dial(address);
    this.#clients.set(address, client);
    return client;
  }

  #welcome(welcome: Welcome, address: string): boolean {
    const { log, metrics, onWelcome } = this.#options;
    const { term, farmId } = welcome;
    const isOther = farmId !== '' && this.#farmId !== '' && farmId !== this.#farmId;
    if (isOther) {
      log.warn({ farm_id: farmId, farm_id_before: this.#farmId }, 'the coordinator has another journal');
      metrics.farmChanges.inc();
    } else if (term < this.#term) return false;
    this.#farmId = farmId || this.#farmId;
    this.#term = term;
    this.#connected = true;
    log.info({ coordinator: address, farm_id: this.#farmId, term }, 'linked to the coordinator');
    onWelcome(welcome);
    return true;
  }

  #inTerm(message: FromCoordinator): boolean {
    const term = 'term' in message.value ? message.value.term : this.#term;
    if (term < this.#term) {
      this.#options.log.warn({ kind: message.$case, term, highest_term: this.#term }, 'ignored a void message');
      this.#options.metrics.voidMessages.inc();
      return false;
    }
    this.#term = term;
    return true;
  }

  async #pause(millis: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    using _timer: Timer = this.#options.clock.setTimeout(resolve, millis);
    this.#cutBackoffShort = resolve;
    await promise;
    this.#cutBackoffShort = null;
  }
}

import type { Clock, Timer } from '@clipfarm/shared/clock';
import { FarmError } from '@clipfarm/shared/errors';
import type {
  AgentServiceClient,
  AttachRequest,
  AttachResponse,
  Heartbeat,
  Hello,
  Welcome,
} from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { responsesOf } from '@clipfarm/shared/rpc/client-call';
import { connectionFault } from '@clipfarm/shared/rpc/client-error';
import { createSink, type MessageSink } from '@clipfarm/shared/rpc/sink';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import type { LinkRefusal } from './metrics.ts';

/** A message to the coordinator, without its wrapping. */
export type ToCoordinator = NonNullable<AttachRequest['message']>;

/** A message of the coordinator, without its wrapping. */
export type FromCoordinator = NonNullable<AttachResponse['message']>;

/** What a {@link LinkSession} works with. */
export interface LinkSessionOptions {
  readonly client: AgentServiceClient;
  readonly hello: Hello;
  readonly heartbeat: () => Promise<Heartbeat>;
  /** Answer to Hello; false when it comes from a coordinator that is no leader any more. */
  readonly onWelcome: (welcome: Welcome) => boolean;
  /** A message after the Welcome. */
  readonly onMessage: (message: Exclude<FromCoordinator, { $case: 'welcome' }>) => void;
  readonly clock: Clock;
}

/** How a session ended. */
export interface SessionEnd {
  readonly welcomed: boolean;
  readonly reason: string;
  /** `host:port` of the leader, when a coordinator that follows named it. */
  readonly leader: string | undefined;
  /** Why one side refused the other; null when neither did. */
  readonly refused: LinkRefusal | null;
}

/** Milliseconds that a coordinator may take from the connect to its Welcome. */
const WELCOME_MILLIS = 10_000;

/** Messages that may wait before those that the next one replaces are left out. */
const BUSY_BACKLOG = 32;

/** Heartbeat intervals that are accepted, in milliseconds. */
const HEARTBEAT_MIN = 50;
const HEARTBEAT_MAX = 60_000;

/** An error as the reason why there is no link, with what can be done about it. */
export function reasonOf({ message, hint }: FarmError): string {
  const fault = connectionFault(message);
  return hint === undefined ? fault : `${fault} (${hint})`;
}

/** What a coordinator had against this agent, as far as its error tells. */
function refusalIn({ code, field }: FarmError): LinkRefusal | null {
  if (field === 'hello.term') return 'agent_term';
  return code === 'invalid_argument' || code === 'failed_precondition' ? 'hello' : null;
}

/** One connection: greeted with Hello, kept alive by heartbeats from the Welcome on, ended once. */
export class LinkSession {
  readonly client: AgentServiceClient;
  readonly #options: LinkSessionOptions;
  readonly #call: ClientDuplexStream<AttachRequest, AttachResponse>;
  readonly #sink: MessageSink<AttachRequest>;
  #welcomed = false;
  #ownReason: string | null = null;
  #refused: LinkRefusal | null = null;
  #timer: Timer;

  constructor(options: LinkSessionOptions) {
    this.#options = options;
    this.client = options.client;
    this.#call = options.client.attach();
    this.#sink = createSink<AttachRequest>(this.#call, (error) => this.end(error.message));
    this.#timer = options.clock.setTimeout(() => this.end('no Welcome came in time'), WELCOME_MILLIS);
  }

  /** Reads messages until the connection is over, whoever ended it. Never rejects. */
  async run(): Promise<SessionEnd> {
    let reason = 'the coordinator closed the link';
    let leader: string | undefined;
    try {
      // Made before the first message is sent, so that no error of the call goes unheard.
      const responses = responsesOf(this.#call);
      this.post({ $case: 'hello', value: this.#options.hello });
      for await (const { message } of responses) if (message !== undefined) this.#take(message);
    } catch (error) {
      const failure = FarmError.from(error);
      leader = failure.leader;
      if (!this.#welcomed) this.#refused ??= refusalIn(failure);
      reason = reasonOf(failure);
    }
    this.#timer.cancel();
    return { welcomed: this.#welcomed, reason: this.#ownReason ?? reason, leader, refused: this.#refused };
  }

  /** Sends a message in order; false when the connection is over, and then the message is lost. */
  post(message: ToCoordinator): boolean {
    return this.#sink.post({ message });
  }

  /** Sends what the next message of its kind replaces; left out when the connection is slow. */
  postReplaceable(message: ToCoordinator): void {
    if (this.#call.writableLength < BUSY_BACKLOG) this.post(message);
  }

  /** Sends nothing more; the coordinator ends the connection when it has read what was sent. */
  finish(): void {
    this.#timer.cancel();
    this.#call.end();
  }

  /** Breaks the connection off. The first reason counts. */
  end(reason: string): void {
    this.#ownReason ??= reason;
    this.#call.cancel();
  }

  #take(message: FromCoordinator): void {
    const { onWelcome, onMessage } = this.#options;
    if (message.$case !== 'welcome') {
      if (this.#welcomed) onMessage(message);
      return;
    }
    this.#timer.cancel();
    if (!onWelcome(message.value)) {
      this.#refused = 'coordinator_term';
      const known = `its term ${message.value.term} is below one that this agent knows`;
      // No wait ends this one when an old copy of the journal was restored, or when it is another farm but too old to say.
      const restart =
        'if its journal is a restored copy, or it is an older version of another farm, restart this agent';
      this.end(`${known}: another coordinator leads; ${restart}`);
      return;
    }
    this.#welcomed = true;
    const { heartbeatMillis } = message.value;
    this.#beat(Math.min(HEARTBEAT_MAX, Math.max(HEARTBEAT_MIN, heartbeatMillis)));
  }

  #beat(millis: number): void {
    this.#timer = this.#options.clock.setTimeout(() => {
      this.#beat(millis);
      this.#options.heartbeat().then(
        (value) => this.postReplaceable({ $case: 'heartbeat', value }),
        (error: unknown) => this.end(`no heartbeat could be made: ${FarmError.from(error).message}`),
      );
    }, millis);
  }
}

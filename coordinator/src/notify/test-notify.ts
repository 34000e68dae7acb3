import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import type { Clock } from '@clipfarm/shared/clock';
import { Secret } from '@clipfarm/shared/secret';
import type { JobCommand } from '../core/decide.ts';
import { contentRef, jobDefinition } from '../core/test-jobs.ts';
import { quietSnapshots } from '../farm/farm-fixture.ts';
import { Jobs } from '../farm/jobs.ts';
import { Office } from '../farm/office.ts';
import type { Journal } from '../journal/journal.ts';
import type { JobNotice } from './job-notices.ts';
import type { WebhookEndpoint } from './webhook-endpoint.ts';

/** Jobs, endpoints and receivers for tests; nothing of the product uses this file. */

/** What signs in tests. */
export const SECRET = 'a-secret-that-is-long-enough';

/** The jobs of a journal, with ways to move them along. */
export interface TestFarm {
  readonly jobs: Jobs;
  readonly submit: (jobId: string, clips?: number) => Promise<void>;
  /** Leases the job to one node, if it isn't yet, and commits so many more of its clips. */
  readonly render: (jobId: string, clips: number) => Promise<void>;
  readonly command: (jobId: string, command: JobCommand) => Promise<void>;
  /** From submission to the finished video. */
  readonly runToEnd: (jobId: string, clips?: number) => Promise<void>;
}

/** The jobs of a journal, led in the given term. */
export async function testFarm(journal: Journal, clock: Clock, term = 1): Promise<TestFarm> {
  const office = new Office(() => null);
  const jobs = await Jobs.load({ journal, clock, office, snapshots: quietSnapshots() });
  office.enter(term);
  const command = async (jobId: string, asked: JobCommand) => void (await jobs.execute(jobId, asked));
  const submit = async (jobId: string, clips = 4) =>
    void (await jobs.submit(jobDefinition({ jobId, clips, prompt: 'a canary in the prompt' }), 0));
  const render = async (jobId: string, clips: number) => {
    const { definition, committedSet, nextSpan, leases } = jobs.find(jobId);
    const start = committedSet[0]?.end ?? 0;
    const leaseId = [...leases.keys()][0] ?? `lease-${nextSpan}`;
    if (!leases.has(leaseId)) {
      const identity = { leaseId, nodeId: 'n', slotId: 's', profile: 'p', speculative: false };
      const lease = { ...identity, start, end: definition.clips, preRoll: start > 0 ? 1 : 0 };
      await command(jobId, { type: 'grant', lease, reason: 'test' });
    }
    for (let clip = start; clip < start + clips; clip++) {
      const chunk = { leaseId, clip, frames: 48, chunk: contentRef(`chunk-${clip}`), headerHash: 'h' };
      await command(jobId, { type: 'commit', chunk });
    }
  };
  const runToEnd = async (jobId: string, clips = 4) => {
    await submit(jobId, clips);
    await render(jobId, clips);
    await command(jobId, { type: 'complete', result: RESULT });
  };
  return { jobs, submit, render, command, runToEnd };
}

/** A finished video. */
export const RESULT = {
  video: contentRef('video'),
  frames: 192,
  videoSeconds: 7.68,
  audioSeconds: 7.68,
  finishMillis: 5,
  checks: [],
};

/** An endpoint on this machine, unless the test forbids it. */
export function testEndpoint(url: string, given: Partial<WebhookEndpoint> = {}): WebhookEndpoint {
  const secrets = [new Secret(SECRET)];
  return { id: 'endpoint-1', url: new Secret(url), origin: new URL(url).origin, secrets, allowPrivate: true, ...given };
}

/** What a receiver got. */
export interface Received {
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly notice: JobNotice;
}

/** A receiver of webhooks on this machine. */
export interface Receiver {
  readonly url: string;
  readonly got: Received[];
  /** Resolves when `enough` says so of what it got. */
  until(enough: (got: readonly Received[]) => boolean): Promise<void>;
}

/** Starts a receiver; without `answer` it says 204 to everything. */
export async function startReceiver(
  t: TestContext,
  answer: (received: Received, response: ServerResponse, index: number) => void = (_, response) =>
    response.writeHead(204).end(),
): Promise<Receiver> {
  const got: Received[] = [];
  const waiting = new Set<() => void>();
  const server = createServer(async (request, response) => {
    let body = '';
    try {
      for await (const part of request.setEncoding('utf8')) body += part;
    } catch {
      // Its sender was killed.
      return;
    }
    const notice = JSON.parse(body) as JobNotice;
    const received = { url: request.url ?? '', headers: request.headers, body, notice };
    got.push(received);
    answer(received, response, got.length - 1);
    for (const look of waiting) look();
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const until: Receiver['until'] = (enough) =>
    new Promise((resolve) => {
      const look = () => {
        if (!enough(got)) return;
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
      look();
    });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook?key=canary`, got, until };
}

/** What a receiver checks: whether one of the header's signatures is of this body. */
export function isSigned(header: string | undefined, body: string, secret: string): boolean {
  const [time, ...signatures] = (header ?? '').split(',');
  const t = time?.slice('t='.length);
  const expected = createHmac('sha256', secret).update(`${t}.${body}`).digest('hex');
  return signatures.includes(`v1=${expected}`);
}

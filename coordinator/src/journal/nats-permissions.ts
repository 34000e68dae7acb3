import { setTimeout as sleep } from 'node:timers/promises';
import { ErrorCode, Events, type NatsConnection, NatsError } from 'nats';
import { bucketStream, type JetStreamNames } from './jetstream-names.ts';
import { isOvertaken } from './nats-error.ts';
import type { NatsFinding } from './nats-inspect.ts';

/** No stream is ever that long, so a message that expects it is refused, and stored nowhere. */
const NEVER_REACHED = 2 ** 52;

/** The server reports a refused publication apart from the answer, soon. */
const REPORT_MILLIS = 200;

const REQUEST_MILLIS = 3000;

/**
 * Whether this user may do what a coordinator does: write to every subject, and hear answers. Nothing is stored: what would be
 * an event expects an end of the stream that it never has.
 */
export async function checkPermissions(
  connection: NatsConnection,
  prefix: string,
  names: JetStreamNames,
): Promise<NatsFinding[]> {
  const refused = new Set<string>();
  const watching = watch(connection, refused);
  const kept = [
    { subject: names.subjectOf('check'), stream: names.events },
    { subject: names.terms, stream: names.events },
    { subject: `$KV.${names.snapshots}.check`, stream: bucketStream(names.snapshots) },
    { subject: `$KV.${names.leader}.check`, stream: bucketStream(names.leader) },
  ];
  const problems: string[] = [];
  for (const { subject, stream } of kept) {
    const problem = await tryToWrite(connection, subject, stream);
    if (problem !== null) problems.push(problem);
  }
  connection.publish(`${prefix}.jobs.check.check.check`);
  await connection.flush();
  await sleep(REPORT_MILLIS);
  watching.stop();
  const check = 'NATS permissions';
  const all = [...new Set([...problems, ...refused])];
  if (all.length === 0) return [{ check, level: 'ok', detail: 'may write to everything that a coordinator writes to' }];
  const fix = `Allow this user to publish to ${prefix}.>, $KV.${names.snapshots}.>, $KV.${names.leader}.> and $JS.API.>, and to subscribe to _INBOX.>.`;
  return [{ check, level: 'error', detail: `refused: ${all.join('; ')}`, fix }];
}

async function tryToWrite(connection: NatsConnection, subject: string, streamName: string): Promise<string | null> {
  const expect = { streamName, lastSubjectSequence: NEVER_REACHED };
  try {
    await connection.jetstream({ timeout: REQUEST_MILLIS }).publish(subject, '', { expect });
    return `a message to ${subject} was stored, although it must not be: no stream of the farm takes it`;
  } catch (error) {
    if (isOvertaken(error)) return null;
    // Nobody listens yet: the streams are not made. Whether it may be sent is told apart, as for any publication.
    if (error instanceof NatsError && (error.code === ErrorCode.NoResponders || error.code === '503')) return null;
    if (error instanceof NatsError && error.isPermissionError()) return `publish to ${subject}`;
    return `publish to ${subject}: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** Collects what the server refuses, which it says on the connection and not as an answer. */
function watch(connection: NatsConnection, refused: Set<string>): { stop(): void } {
  const status = connection.status();
  const iterator = status[Symbol.asyncIterator]();
  let over = false;
  void (async () => {
    for (let next = await iterator.next(); !over && !next.done; next = await iterator.next()) {
      const { type, permissionContext } = next.value;
      if (type !== Events.Error || permissionContext === undefined) continue;
      refused.add(`${permissionContext.operation} to ${permissionContext.subject}`);
    }
  })();
  return {
    stop: () => {
      over = true;
    },
  };
}

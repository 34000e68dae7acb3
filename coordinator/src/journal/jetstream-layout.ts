import { nanos } from 'nats';
import { bucketStream, type JetStreamNames } from './jetstream-names.ts';
import { durableSettings, type WantedStream } from './jetstream-stream.ts';

/** Repeats of a message are recognised for this long; must exceed the time for which an append is tried. */
const DUPLICATE_WINDOW_MILLIS = 120_000;

/** The stream of events and terms. */
export function eventStream(names: JetStreamNames, replicas: number): WantedStream {
  return {
    name: names.events,
    settings: {
      ...durableSettings(replicas),
      subjects: [names.eventSubjects, names.terms],
      max_age: 0,
      max_msgs_per_subject: -1,
      duplicate_window: nanos(DUPLICATE_WINDOW_MILLIS),
    },
  };
}

/** The bucket of snapshots. */
export function snapshotStream(names: JetStreamNames, replicas: number): WantedStream {
  return {
    name: bucketStream(names.snapshots),
    settings: { ...bucketSettings(names.snapshots, replicas), max_age: 0 },
    initial: { allow_rollup_hdrs: true },
  };
}

/**
 * The bucket of the leader's lease.
 *
 * @param leaseMillis lifetime of a lease, for a bucket that is made.
 * @param firstTerm terms are sequences of this stream: should it have been deleted, they must not begin again.
 */
export function leaderStream(
  names: JetStreamNames,
  replicas: number,
  leaseMillis: number,
  firstTerm: number,
): WantedStream {
  return {
    name: bucketStream(names.leader),
    settings: bucketSettings(names.leader, replicas),
    initial: {
      allow_rollup_hdrs: true,
      max_age: nanos(leaseMillis),
      duplicate_window: nanos(Math.min(leaseMillis, DUPLICATE_WINDOW_MILLIS)),
      first_seq: firstTerm,
    },
  };
}

function bucketSettings(bucket: string, replicas: number) {
  return { ...durableSettings(replicas), subjects: [`$KV.${bucket}.>`], max_msgs_per_subject: 1 };
}

import { randomInt } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { startAdminServer } from '@clipfarm/shared/admin-server';
import { type Clock, systemClock } from '@clipfarm/shared/clock';
import { AgentServiceService } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { FarmServiceService } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import type { Logger } from '@clipfarm/shared/log';
import { findFfmpeg } from '@clipfarm/shared/media/ffmpeg';
import { NO_LIMITS_HINT, withLimits } from '@clipfarm/shared/media/limited';
import { MAX_BASE_SEED } from '@clipfarm/shared/model/clip';
import { isOpenToOthers, makeOwnDirectory, OPEN_TO_OTHERS } from '@clipfarm/shared/own-directory';
import { serverCredentials } from '@clipfarm/shared/rpc/credentials';
import { rpcHandlers } from '@clipfarm/shared/rpc/handlers';
import { closeServer, createFarmServer, listen } from '@clipfarm/shared/rpc/server';
import { createMetrics } from './admin/metrics.ts';
import { agentService } from './api/agent-service.ts';
import { Changes } from './api/changes.ts';
import { type FarmServiceParts, farmService } from './api/farm-service.ts';
import { Views } from './api/views.ts';
import { openArtifactStore } from './artifacts/open-store.ts';
import { artifactStoreFromUrl } from './artifacts/store-url.ts';
import type { CoordinatorConfig } from './config.ts';
import { DEFAULT_POLICY } from './core/schedule-model.ts';
import { AnchorKeeper } from './farm/anchor-keeper.ts';
import { AudioLibrary } from './farm/audio-library.ts';
import { ChunkCommitter } from './farm/chunk-committer.ts';
import type { FarmTimings } from './farm/dispatcher.ts';
import { Fleet } from './farm/fleet.ts';
import { collectFarmGauges, collectOfficeGauges } from './farm/gauges.ts';
import { InputKeeper } from './farm/input-keeper.ts';
import { HistoryReader } from './farm/job-history.ts';
import { Jobs } from './farm/jobs.ts';
import { Links } from './farm/links.ts';
import { Nodes } from './farm/nodes.ts';
import { Office } from './farm/office.ts';
import { SnapshotKeeper } from './farm/snapshot-keeper.ts';
import { Speedometer } from './farm/speedometer.ts';
import { StorageHealth } from './farm/storage-health.ts';
import { Submissions } from './farm/submissions.ts';
import { UploadRoom } from './farm/upload-room.ts';
import { mediaPlaces, WorkQueue } from './farm/work-queue.ts';
import { govern } from './govern.ts';
import { lockDataDirectory } from './journal/directory-lock.ts';
import { wordsOf } from './journal/journal-trouble.ts';
import { LeaderDuties } from './leader-duties.ts';
import { logLeaders } from './leader-log.ts';
import { JobNotifier } from './notify/job-notifier.ts';
import { NatsEvents, type NatsOutcome } from './notify/nats-events.ts';
import { webhookEndpoints } from './notify/webhook-endpoint.ts';
import { postNotice } from './notify/webhook-post.ts';
import { Webhooks } from './notify/webhooks.ts';
import { openJournal } from './open-journal.ts';
import { ownIdentity } from './own-identity.ts';

/** A coordinator that is up. */
export interface RunningCoordinator {
  /** Bound `host:port` of the gRPC listener. */
  readonly listen: string;
  /** Bound `host:port` of the admin listener. */
  readonly admin: string;
  /** Stops taking calls, lets what is in hand end, and releases the data directory. */
  close(): Promise<void>;
}

/** Local copies of artifacts that lie elsewhere. */
const CACHE_BYTES = 8 * 1024 ** 3;

/** Calls in hand get this long to end. */
const CLOSE_GRACE_MILLIS = 3000;

/**
 * Builds a coordinator from its parts and starts it: everything that was accepted before goes on.
 *
 * @throws FarmError when FFmpeg is missing, an address is in use, or another coordinator uses the data directory
 */
export async function startCoordinator(
  config: CoordinatorConfig,
  log: Logger,
  clock: Clock = systemClock,
): Promise<RunningCoordinator> {
  const access = serverCredentials(accessOf(config));
  const found = await findFfmpeg({
    ...(config.ffmpeg === undefined ? {} : { ffmpegPath: config.ffmpeg }),
    ...(config.ffprobe === undefined ? {} : { ffprobePath: config.ffprobe }),
  });
  const ffmpeg = await withLimits(found);
  if (ffmpeg.prlimit === undefined) log.warn({ hint: NO_LIMITS_HINT }, 'FFmpeg reads uploads without limits');
  const dataDir = config['data-dir'];
  await makeOwnDirectory(dataDir, '--data-dir');
  if (await isOpenToOthers(dataDir)) log.warn({ dir: dataDir, hint: `chmod -R o= ${dataDir}` }, OPEN_TO_OTHERS);
  const metrics = createMetrics();
  await using undo = new AsyncDisposableStack();
  // Also with a journal elsewhere: identity, decoded audio and work files are one process's.
  const lock = lockDataDirectory(dataDir);
  undo.defer(() => lock.release());
  const endpoints = webhookEndpoints({
    urls: config['webhook-url'],
    secretFiles: config['webhook-secret-file'],
    allowPrivate: config['webhook-allow-private'],
  });
  const { journal, election, connection, troubles } = await openJournal(config, metrics, clock, log);
  undo.defer(() => journal.close());
  undo.defer(() => election.close());
  const id = await ownIdentity(dataDir);
  undo.defer(logLeaders(election, id, clock, log));
  const store = await openArtifactStore(artifactStoreFromUrl(config.artifacts ?? join(dataDir, 'artifacts')), {
    cacheDir: join(dataDir, 'artifact-cache'),
    cacheMaxBytes: CACHE_BYTES,
    owner: id,
    clock,
  });
  if (config.artifacts === undefined && config.journal !== 'sqlite') {
    const hint = 'Let all coordinators of the farm have the same --artifacts; without others nothing has to be done.';
    log.warn({ dir: join(dataDir, 'artifacts'), hint }, 'the artifacts are where no other coordinator finds them');
  }
  const timings: FarmTimings = {
    heartbeatMillis: config['heartbeat-millis'],
    leaseMillis: config['lease-millis'],
    graceMillis: config['grace-millis'],
    hangFloorSeconds: config['hang-seconds'],
  };

  const retention = {
    jobMillis: millisOf(config['retain-hours']),
    inputMillis: millisOf(config['retain-inputs-hours']),
  };
  const problem = () => wordsOf(troubles());
  // Until it has taken office, or once it has left it, this one is nobody to send others to.
  const otherLeader = () => {
    const leader = election.current();
    return leader?.id === id ? null : leader;
  };
  const office = new Office(otherLeader, problem);
  const snapshots = new SnapshotKeeper(log);
  const kept = { journal, clock, office, snapshots };
  const jobs = await Jobs.load(kept);
  const nodes = await Nodes.load(kept);
  const fleet = new Fleet(jobs, nodes, clock, DEFAULT_POLICY);
  const links = new Links();
  const storage = new StorageHealth(log);
  const anchors = new AnchorKeeper({ jobs, store, ffmpeg, office, clock, log });
  const committer = new ChunkCommitter({ jobs, nodes, fleet, store, anchors, metrics, storage, log });
  const drawSeed = () => randomInt(Math.min(MAX_BASE_SEED, 2 ** 47));
  const inputs = new InputKeeper({ store, clock, keepMillis: retention.inputMillis });
  const room = new UploadRoom({ store, clock, metrics, log });
  const queue = new WorkQueue(mediaPlaces(availableParallelism()));
  const needed = () => new Set(jobs.live().map(({ definition }) => definition.audioSha256));
  const audio = new AudioLibrary({ dir: join(dataDir, 'decoded'), store, ffmpeg, room, queue, needed });
  const submissions = new Submissions({ jobs, fleet, store, inputs, audio, ffmpeg, room, queue, drawSeed });
  const speed = new Speedometer(() => clock.monotonic());
  const views = new Views(
    fleet,
    nodes,
    speed,
    storage,
    retention.jobMillis,
    () => office.leads,
    (jobId) => anchors.problemOf(jobId),
  );
  const changes = new Changes(clock);
  collectFarmGauges(metrics, jobs, nodes, fleet, storage);
  collectOfficeGauges(metrics, office, troubles);
  const base = { jobs, nodes, fleet, links, office, timings, store, inputs, storage, metrics, clock, log };
  const webhooks = new Webhooks(
    {
      journal,
      jobs,
      clock,
      random: Math.random,
      post: postNotice,
      count: (outcome) => metrics.webhookDeliveries.inc({ outcome }),
      log,
    },
    endpoints,
  );
  metrics.onCollect(() => {
    metrics.webhookJobsPending.set(webhooks.pending);
    metrics.webhookEndpointsFailing.set(webhooks.failing);
  });
  const count = (outcome: NatsOutcome) => metrics.natsNotices.inc({ outcome });
  const subjects = connection && new NatsEvents({ connection, prefix: config['nats-prefix'], count, log });
  const notifier = new JobNotifier(webhooks, subjects);
  const duties = new LeaderDuties({
    ...base,
    anchors,
    notifier,
    audio,
    retention,
    ffmpeg,
    queue,
    workDir: join(dataDir, 'work'),
    speed,
    changes,
  });

  const rpc = rpcHandlers(log);
  const server = createFarmServer({ token: access.token });
  const wake = () => duties.wake();
  const history = new HistoryReader({ journal, jobs });
  const prefix: FarmServiceParts['prefix'] = (job, signal) => duties.prefix(job, signal);
  server.addService(AgentServiceService, agentService(rpc, { ...base, committer, anchors, wake }));
  server.addService(
    FarmServiceService,
    farmService(rpc, { ...base, room, submissions, views, changes, wake, prefix, history }),
  );

  let ready = false;
  const admin = await startAdminServer({
    listen: config.admin,
    metrics,
    readiness: () => (ready ? [problem()].filter((why) => why !== null) : ['the coordinator is starting or stopping']),
  });
  undo.defer(() => admin.close());
  const port = await listen(server, access);
  undo.defer(() => closeServer(server, CLOSE_GRACE_MILLIS, clock));
  const address = `${access.address.slice(0, access.address.lastIndexOf(':'))}:${port}`;
  const stopping = new AbortController();
  const candidate = { id, address: config.advertise ?? address };
  const governing = govern({ election, candidate, duties, signal: stopping.signal, trouble: problem, metrics, log });
  ready = true;
  log.info({ listen: address, admin: admin.address, ffmpeg: ffmpeg.version }, 'coordinator ready');

  const parts = undo.move();
  return {
    listen: address,
    admin: admin.address,
    close: async () => {
      ready = false;
      stopping.abort();
      await governing;
      await parts.disposeAsync();
    },
  };
}

function millisOf(hours: number | null): number | null {
  return hours === null ? null : hours * 3_600_000;
}

function accessOf(config: CoordinatorConfig) {
  return {
    listen: config.listen,
    insecure: config.insecure,
    ...(config['tls-cert'] === undefined ? {} : { certPath: config['tls-cert'] }),
    ...(config['tls-key'] === undefined ? {} : { keyPath: config['tls-key'] }),
    ...(config['tls-client-ca'] === undefined ? {} : { clientCaPath: config['tls-client-ca'] }),
    ...(config['token-file'] === undefined ? {} : { tokenPath: config['token-file'] }),
  };
}

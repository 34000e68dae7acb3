import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { AgentServiceClient, type ArtifactHeader, ArtifactKind } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import type { Job } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { callUnary } from '@clipfarm/shared/rpc/client-call';
import { clientChannel } from '@clipfarm/shared/rpc/credentials';
import { type AgentOptions, Farm, until } from '../harness/farm.ts';
import type { ProxiedRequest } from '../harness/fault-proxy.ts';
import { cutAudio, prove } from '../harness/media.ts';
import { S3Server } from '../harness/s3.ts';

let server: S3Server;
before(async () => {
  server = await S3Server.start();
  // The coordinators under test inherit them, as they would from a service manager.
  process.env.AWS_ACCESS_KEY_ID = server.accessKeyId;
  process.env.AWS_SECRET_ACCESS_KEY = server.secretAccessKey;
});
after(() => server[Symbol.asyncDispose]());

const agents = [
  { name: 'one', pace: 0.3 },
  { name: 'two', pace: 0.3 },
];

const signed = ({ method, query }: ProxiedRequest) => method === 'PUT' && query.has('X-Amz-Signature');
const ofCoordinator = ({ method, query, path }: ProxiedRequest) =>
  method === 'PUT' && !query.has('X-Amz-Signature') && path.includes('/chunks/');

/** A farm whose files are in a new bucket. */
function startFarm(given: readonly AgentOptions[] = agents, args: readonly string[] = []): Promise<Farm> {
  server.proxy.reset();
  const bucket = server.createBucket();
  return Farm.start(given, ['--artifacts', `s3://${bucket}/farm?endpoint=${server.endpoint}`, ...args]);
}

/** Everything that the farm wrote. */
function logsOf(farm: Farm): string {
  return [farm.coordinator, ...farm.agents.values()].map((process) => process.output()).join('\n');
}

it('with files on S3 the agents send chunks straight there, and no log holds a secret or a signature', async () => {
  await using farm = await startFarm();
  const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 20 });
  const { jobId } = await farm.submit(audio);
  await prove(farm, jobId);
  const job = await farm.job(jobId);
  const chunks = server.proxy.requests.filter((request) => signed(request) && request.path.includes('/chunks/'));
  assert.ok(chunks.length >= job.clipsCommitted, `${chunks.length} signed uploads of ${job.clipsCommitted} clips`);
  assert.deepEqual(server.proxy.requests.filter(ofCoordinator), []);
  const logs = logsOf(farm);
  for (const secret of [server.secretAccessKey, server.accessKeyId, 'X-Amz-Signature']) {
    const at = logs.indexOf(secret);
    assert.equal(at, -1, logs.slice(at - 200, at + 100));
  }
});

it('an upload is signed for a lease of the job, within bounds, and for nothing else', async () => {
  // The lease is in force as long as the test lasts: its first clip takes longer, and so does it to miss its agent.
  await using farm = await startFarm(
    [{ name: 'slow', pace: 600 }],
    ['--lease-millis', '600000', '--hang-seconds', '6000'],
  );
  const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 40 });
  const { jobId } = await farm.submit(audio);
  let leases: Job['leases'] = [];
  await until(
    async () => {
      leases = (await farm.job(jobId).catch(() => null))?.leases ?? [];
      return leases.length > 0;
    },
    'the job has a lease',
    60,
  );
  const { address, credentials, options } = clientChannel({ address: farm.coordinators[0]?.address ?? '' });
  const client = new AgentServiceClient(address, credentials, options);
  const leaseId = leases[0]?.leaseId ?? assert.fail('no lease');
  const good = {
    kind: ArtifactKind.ARTIFACT_KIND_CHUNK,
    jobId,
    leaseId,
    clip: 0,
    sha256: 'ab'.repeat(32),
    bytes: 1000,
  };
  const ask = (change: Partial<ArtifactHeader>) =>
    callUnary(client, client.prepareUpload, { header: { ...good, ...change } });
  const { way } = await ask({});
  assert.ok(way?.$case === 'presigned');
  assert.match(way.value.url, new RegExp(`/farm/jobs/${jobId}/chunks/000000-${good.sha256}.mp4`));
  for (const [change, code] of [
    [{ jobId: 'other' }, 'not_found'],
    [{ leaseId: 'other' }, 'permission_denied'],
    [{ clip: 10_000 }, 'invalid_argument'],
    [{ sha256: '../../x' }, 'invalid_argument'],
    [{ bytes: 0 }, 'invalid_argument'],
    [{ bytes: 2 ** 40 }, 'resource_exhausted'],
    [{ kind: ArtifactKind.ARTIFACT_KIND_UNSPECIFIED }, 'invalid_argument'],
  ] as const) {
    await assert.rejects(ask(change), { code }, JSON.stringify(change));
  }
  await assert.rejects(callUnary(client, client.prepareUpload, {}), { code: 'invalid_argument', field: 'header' });
  client.close();
});

it('agents that S3 turns away send their chunks through the coordinator', async () => {
  await using farm = await startFarm();
  server.proxy.fault = (request) => (signed(request) ? { kind: 'answer', status: 403 } : null);
  const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 9 });
  const { jobId } = await farm.submit(audio);
  await prove(farm, jobId);
  assert.ok(server.proxy.requests.some(ofCoordinator));
  assert.match(logsOf(farm), /the file goes through the coordinator/);
});

it('while S3 is down the chunks wait, and a new coordinator finds everything there again', async () => {
  await using farm = await startFarm();
  const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 40 });
  const { jobId } = await farm.submit(audio);
  await farm.committed(jobId, 3);
  server.proxy.fault = () => ({ kind: 'drop' });
  const before = server.proxy.requests.length;
  await until(() => server.proxy.requests.length > before + 20, 'S3 was asked in vain', 60);
  await farm.coordinator.kill();
  server.proxy.fault = () => null;
  await farm.startCoordinator();
  await prove(farm, jobId);
});

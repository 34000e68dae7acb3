import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { FarmError } from '@clipfarm/shared/errors';
import { Farm, PATIENT, until } from '../harness/farm.ts';
import { cutAudio, prove } from '../harness/media.ts';
import { startNatsCluster } from '../harness/nats.ts';
import { clipsRendered } from '../harness/rendered.ts';

/** Warnings and errors in a log. */
function complaints(output: string): string[] {
  return output.split('\n').filter((line) => /"level":[45]0/.test(line));
}

test('while NATS is down nothing is accepted, renders go on, it is said once; then everything is taken up', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'clipfarm-nats-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  await using nats = await startNatsCluster({ size: 1, dir });
  const args = ['--journal', nats.urls.join(','), '--election-millis', '2000', ...PATIENT];
  await using farm = await Farm.start([{ name: 'one', pace: 0.3 }], { args });
  const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: 40 });
  const { jobId } = await farm.submit(audio);
  await farm.committed(jobId, 3);
  const ready = async () => (await fetch(`http://${farm.admin}/readyz`)).text();
  await until(async () => (await ready()) === 'ready\n', 'it is ready');
  const before = complaints(farm.coordinator.output()).length;
  await nats.servers[0]?.kill();
  const killed = performance.now();
  const refusal = async () =>
    farm.submitOnce(audio, {}, undefined, 'later').catch((error: unknown) => FarmError.from(error));
  const first = await refusal();
  assert.ok(first instanceof FarmError && first.code === 'unavailable', JSON.stringify(first));
  assert.ok(performance.now() - killed < 60_000, 'an answer comes soon');
  await until(async () => (await ready()).includes('no connection to NATS since'), 'readiness says why');
  await until(
    async () => /no coordinator leads.*no connection to NATS/.test(String(await refusal())),
    'so do submissions',
  );
  const { staleReason } = await farm.call(farm.client.getJob, { jobId });
  assert.match(
    staleReason,
    /no coordinator leads.*no connection to NATS/,
    'so do reads, which are answered all the same',
  );
  assert.match(farm.coordinator.output(), /"reason":"the lead is lost: no connection to NATS since/);
  await until(() => clipsRendered(farm).get(jobId) === 21, 'every clip is rendered meanwhile');
  const said = complaints(farm.coordinator.output()).slice(before);
  assert.ok(said.length <= 12, `${said.length} lines in the log:\n${said.join('\n')}`);
  assert.equal(said.filter((line) => line.includes('connection to NATS lost')).length, 1);
  await nats.servers[0]?.start();
  await until(async () => (await farm.call(farm.client.getJob, { jobId })).staleReason === '', 'reads are up to date');
  assert.equal(await prove(farm, jobId), 0, 'what was rendered meanwhile is handed in, not rendered again');
  await until(async () => (await ready()) === 'ready\n', 'it is ready again');
});

/**
 * The whole product on a GPU host: coordinator, agent, the `live-avatar` runner, a real talk. The runner is killed in
 * the middle; the video must be finished all the same, with the promised frames, size and sound.
 *
 *   node test/gpu/product.ts --checkout DIR --ckpt-dir DIR --results FILE [--python FILE] [--profile single-80g]
 *     [--size 384*256] [--seconds 30] [--kill-after 4] [-- further flags of the agent]
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { Farm } from '../harness/farm.ts';
import { cutAudio, lagAt, pcmOf, promisedFrames } from '../harness/media.ts';
import { descendants } from '../harness/os.ts';
import { TestProcess } from '../harness/process.ts';

const run = promisify(execFile);
const AGENT = fileURLToPath(new URL('../../node-agent/src/main.ts', import.meta.url));

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    checkout: { type: 'string' },
    'ckpt-dir': { type: 'string' },
    lora: { type: 'string' },
    python: { type: 'string', default: 'python3' },
    profile: { type: 'string', default: 'single-80g' },
    size: { type: 'string', default: '384*256' },
    seconds: { type: 'string', default: '30' },
    'kill-after': { type: 'string', default: '4' },
    results: { type: 'string' },
  },
});
const { checkout, 'ckpt-dir': checkpoint, results } = values;
if (checkout === undefined || checkpoint === undefined || results === undefined) {
  throw new Error('--checkout, --ckpt-dir and --results are needed');
}

/** Processes of this machine whose command line has `-m live_avatar`, below the agent. */
function runners(agentPid: number | undefined): number[] {
  return descendants(agentPid).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('live_avatar');
    } catch {
      return false;
    }
  });
}

/** What ffprobe counts and reads of a video. */
async function probe(path: string): Promise<Record<string, unknown>> {
  const entries = 'stream=codec_type,codec_name,width,height,nb_read_frames,duration,r_frame_rate';
  const args = ['-v', 'error', '-count_frames', '-show_entries', entries, '-of', 'json', path];
  const { stdout } = await run('ffprobe', args);
  return JSON.parse(stdout) as Record<string, unknown>;
}

const began = performance.now();
const seconds = (): number => (performance.now() - began) / 1000;
const report: Record<string, unknown> = { size: values.size, profile: values.profile, audioSeconds: values.seconds };
const marks: Record<string, number> = {};

await using farm = await Farm.start([]);
const lora = values.lora ?? join(checkpoint, 'lora', 'liveavatar.safetensors');
const agent = TestProcess.start(
  AGENT,
  [
    ...['--coordinator', farm.coordinators[0]?.address ?? '', '--name', 'gpu', '--profile', values.profile],
    ...['--checkout', checkout, '--ckpt-dir', checkpoint, '--lora', lora, '--python', values.python],
    ...['--state-dir', join(farm.dir, 'agent-gpu'), '--log-level', 'debug', ...positionals],
  ],
  join(farm.dir, 'agent-gpu.log'),
);
farm.agents.set('gpu', agent);
try {
  await farm.waitForNodes(1);
  const audio = await cutAudio(join(farm.dir, 'talk.wav'), { seconds: Number(values.seconds) });
  const { jobId } = await farm.submit(audio, { settings: { size: values.size } });
  marks.submitted = seconds();
  await farm.committed(jobId, 1, 400);
  marks.firstClip = seconds();
  await farm.committed(jobId, Number(values['kill-after']), 200);
  const victims = runners(agent.child.pid);
  assert.ok(victims.length > 0, 'the agent has a runner');
  for (const pid of victims) process.kill(pid, 'SIGKILL');
  marks.killed = seconds();
  const { job, path } = await farm.video(jobId, 500);
  marks.finished = seconds();
  const samples = await pcmOf(audio);
  const sound = await pcmOf(path);
  const frames = promisedFrames(samples.length);
  const media = await probe(path);
  report.result = { state: job.state, clips: job.clipsCommitted, rerendered: job.result?.clipsRerendered };
  report.failures = job.failures;
  report.media = media;
  report.promisedFrames = frames;
  report.planned = job.plan;
  const middle = Math.floor(samples.length / 2);
  report.soundLagSamples = [0, middle, samples.length - 48_000].map((at) => lagAt(samples, sound, at));
  const video = (media.streams as Record<string, string | number>[]).find((each) => each.codec_type === 'video');
  assert.equal(Number(video?.nb_read_frames), frames, 'the promised frames');
  assert.deepEqual([video?.width, video?.height], [job.plan?.width, job.plan?.height], 'the promised size');
  report.passed = true;
} catch (error) {
  report.passed = false;
  report.error = error instanceof Error ? (error.stack ?? error.message) : String(error);
  for (const name of readdirSync(farm.dir).filter((each) => each.endsWith('.log'))) {
    report[name] = readFileSync(join(farm.dir, name), 'utf8').slice(-20_000);
  }
} finally {
  report.marks = marks;
  const told = agent.output().split('\n');
  report.runner = told.filter((line) => line.includes('runner')).slice(0, 60);
  writeFileSync(results, JSON.stringify(report, null, 2));
}

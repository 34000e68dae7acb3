/**
 * Stands in for the Python that runs upstream's script: prints what upstream prints, counts clips and drops frames as it
 * does, and writes its video by the same two runs of FFmpeg (imageio's writer, upstream's muxing). What goes wrong is
 * the STAND_IN of its environment. Every frame shows its number on the job's timeline, for a job with base seed 0.
 */
import { spawn, spawnSync } from 'node:child_process';
import { appendFileSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

const { STAND_IN: fault = '', STAND_IN_LOG: log, RANK = '0', WORLD_SIZE = '1', MASTER_PORT = '' } = process.env;
const rank = Number(RANK);
const tpp = Number(WORLD_SIZE) > 1;
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const info = (text: string): void => {
  if (rank === 0) say(`[2026-01-01 00:00:00,000] INFO: ${text}`);
};

/** Ends like a Python program with an uncaught exception. */
function raise(exception: string, status = 1): never {
  process.stderr.write(`Traceback (most recent call last):\n  File "s2v.py", line 607, in <module>\n${exception}\n`);
  process.exit(status);
}

/** Waits for ever, like a rank whose neighbour is gone. */
function hang(): Promise<never> {
  setInterval(() => {}, 1000);
  return new Promise(() => {});
}

/** tqdm into a pipe: redraws end with a carriage return, and the full bar comes twice. */
async function bar(total: number): Promise<void> {
  const draw = (done: number): void => {
    process.stderr.write(
      `\r ${Math.round((100 * done) / total)}%|${'█'.repeat(done)}| ${done}/${total} [00:01<00:00,  1.00s/it]`,
    );
  };
  for (let done = 0; done <= total; done += 1) {
    draw(done);
    await sleep(1);
  }
  draw(total);
  process.stderr.write('\n');
}

/** 16 bright or dark fields: the number's bits; below them a strip of one colour. */
function picture(width: number, height: number, number: number): Buffer {
  const rgb = Buffer.alloc(width * height * 3);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const at = (y * width + x) * 3;
      const bit = Math.floor((x * 16) / width);
      const value = (number >> bit) & 1 ? 230 : 20;
      if (y < height / 2) rgb.fill(value, at, at + 3);
      else rgb.set([200, 60, 40], at);
    }
  }
  return rgb;
}

/** Runs FFmpeg, for as many seconds as it takes. */
function ffmpeg(args: readonly string[], input?: Buffer): void {
  const { status, stderr } = spawnSync('ffmpeg', args, { input, maxBuffer: 2 ** 26 });
  if (status !== 0) raise(`RuntimeError: FFmpeg execute failed: ${stderr}`);
}

async function main(): Promise<void> {
  const [first = '', ...args] = process.argv.slice(2);
  if (first === '-c') {
    say('{"python": "3.10.0", "torch": "2.8.0"}');
    return;
  }
  if (log !== undefined)
    appendFileSync(log, `${JSON.stringify({ rank, args, cwd: process.cwd(), pid: process.pid, env: process.env })}\n`);
  if (fault === 'mute') await hang();
  if (fault === 'argparse') {
    process.stderr.write('usage: s2v.py [-h]\ns2v.py: error: unrecognized arguments: --fp8\n');
    process.exit(2);
  }
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    args,
    strict: false,
    options: {
      prompt: text,
      image: text,
      audio: text,
      save_file: text,
      num_clip: text,
      base_seed: text,
      sample_steps: text,
    },
  });
  const value = (name: string): string => String(values[name]);
  say('COMPILE: False');
  say(`world_size: ${WORLD_SIZE}`);
  if (fault === 'port' && log !== undefined && !existsSync(`${log}.port`)) {
    writeFileSync(`${log}.port`, MASTER_PORT);
    raise(
      'torch.distributed.DistNetworkError: The server socket has failed to listen, EADDRINUSE: address already in use',
    );
  }
  info(`Generation job args: Namespace(prompt=${JSON.stringify(value('prompt'))})`);
  info(`Input prompt: ${value('prompt')}`);
  info('Creating WanS2V pipeline.');
  if (fault === 'weights') raise("FileNotFoundError: [Errno 2] No such file or directory: '/ckpt/Wan2.1_VAE.pth'");
  process.stderr.write('\rLoading checkpoint shards: 100%|██████████| 4/4 [00:01<00:00,  3.2it/s]\n');
  info('Generating video ...');
  if (fault === 'rank' && rank === 2)
    raise('[rank2]: RuntimeError: NCCL error in: ProcessGroupNCCL.cpp:1, unhandled system error');
  if (fault === 'rank') await hang();

  const samples = (readFileSync(value('audio')).length - 44) / 2;
  const features = Math.trunc(((Math.floor((samples - 400) / 320) + 1) / 50) * 30);
  const clips = Math.min(Number(value('num_clip')), Math.trunc(features / 57.6) + 1);
  say('complete prepare conditional inputs');
  if (fault === 'hang') {
    // A child in the group, as an encoder is.
    const child = spawn('sleep', ['600'], { stdio: 'ignore' });
    if (log !== undefined) appendFileSync(log, `${JSON.stringify({ pid: child.pid })}\n`);
    await bar(Number(value('sample_steps')));
    await hang();
  }
  while (fault === 'held' && !existsSync(`${log}.go`)) await sleep(20);
  for (let block = 0; block < 4 * clips; block += 1) {
    await bar(Number(value('sample_steps')));
    if (fault === 'oom' && block === 5) {
      raise(
        'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.00 GiB is free.',
      );
    }
  }
  if (!tpp) say('complete full-sequence generation');
  say('denoising video done');
  say(`rank: ${rank}`);
  if (rank === (tpp ? 4 : 0))
    save(value('image'), value('audio'), value('save_file'), 48 * clips - 3, Number(value('base_seed')));
  info('Finished.');
}

function save(image: string, audio: string, output: string, frames: number, seed: number): void {
  info(`Saving generated video to ${output}`);
  if (fault === 'nofile') {
    info('save_video failed, error: [Errno 32] Broken pipe');
    raise(`FileNotFoundError: video file ${output} does not exist`);
  }
  if (fault === 'truncated') info('save_video failed, error: [Errno 32] Broken pipe');
  const png = readFileSync(image);
  const [width, height] = [png.readUInt32BE(16), png.readUInt32BE(20)];
  const count = fault === 'truncated' ? frames - 20 : frames;
  const numbers = Array.from({ length: count }, (_, i) => 48 * seed + 3 + i);
  const raw = Buffer.concat(numbers.map((number) => picture(width, height, number)));
  // The command line of imageio-ffmpeg for codec libx264 and quality 8.
  const input = [
    '-f',
    'rawvideo',
    '-vcodec',
    'rawvideo',
    '-s',
    `${width}x${height}`,
    '-pix_fmt',
    'rgb24',
    '-r',
    '25.00',
    '-i',
    '-',
  ];
  ffmpeg(
    ['-y', ...input, '-an', '-vcodec', 'libx264', '-pix_fmt', 'yuv420p', '-crf', '10', '-v', 'warning', output],
    raw,
  );
  if (fault === 'silent') {
    info('merge_video_audio failed with error: FFmpeg execute failed: Error writing trailer');
    return;
  }
  info('Start merging video and audio...');
  const merged = output.replace(/\.mp4$/, '_temp.mp4');
  const codecs = ['-c:v', 'copy', '-c:a', 'aac', '-b:a', '192k', '-map', '0:v:0', '-map', '1:a:0', '-shortest'];
  ffmpeg(['-y', '-i', output, '-i', audio, ...codecs, merged]);
  renameSync(merged, output);
  info(`Merge completed, saved to ${output}`);
}

await main();

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { outputLines } from '../../src/runner/output-lines.ts';
import { type CallProgress, denoisedShare, NOTHING_YET, PromptEcho, readLine } from './call-progress.ts';

const after = (lines: readonly string[], from: CallProgress = NOTHING_YET): CallProgress =>
  lines.reduce(readLine, from);
const log = (text: string): string => `[2026-01-01 00:00:00,000] INFO: ${text}`;
const denoising = after(['complete prepare conditional inputs']);

/** A tqdm bar as it goes into a pipe. */
function bar(total: number, until = total): string {
  const steps = Array.from(
    { length: until + 1 },
    (_, i) => `\r ${Math.round((100 * i) / total)}%|██▌  | ${i}/${total} [00:01<00:02,  1.31s/it]`,
  );
  // The full one is drawn again when it is closed.
  return until === total ? `${steps.join('')}${steps.at(-1)}\n` : steps.join('');
}

function linesOf(text: string): string[] {
  const lines: string[] = [];
  const splitter = outputLines((line) => lines.push(line));
  for (const byte of Buffer.from(text)) splitter.push(Uint8Array.of(byte));
  splitter.end();
  return lines;
}

test('phases follow the lines that upstream prints', () => {
  const lines = [
    ['COMPILE: True', 'starting'],
    ['world_size: 1', 'starting'],
    [log('Creating WanS2V pipeline.'), 'loading'],
    [log('loading /ckpt/models_t5_umt5-xxl-enc-bf16.pth'), 'loading'],
    ['Loading checkpoint shards: 100%|██████████| 4/4 [00:08<00:00,  2.1s/it]', 'loading'],
    ['LoRA merged successfully.', 'loading'],
    [log('Generating video ...'), 'preparing'],
    ['complete prepare conditional inputs', 'denoising'],
    ['complete full-sequence generation', 'decoding'],
    ['loading VAE to cuda for final decode of remaining clips', 'decoding'],
    ['denoising video done', 'saving'],
    ['rank: 0', 'saving'],
    [log('Creating WanS2V pipeline.'), 'saving'],
  ] as const;
  let progress = NOTHING_YET;
  for (const [line, phase] of lines) {
    progress = readLine(progress, line);
    assert.equal(progress.phase, phase, line);
  }
});

for (const total of [1, 3, 4]) {
  test(`blocks are counted by their bars of ${total} steps, once each`, () => {
    const clips = 2;
    let progress = denoising;
    const seen = linesOf(bar(total).repeat(4 * clips)).map((line) => {
      progress = readLine(progress, line);
      return progress;
    });
    const shares = seen.map((state) => denoisedShare(state, clips));
    assert.equal(shares.at(-1), 1);
    assert.ok(
      shares.every((share, i) => share >= (shares[i - 1] ?? 0)),
      'never less than before',
    );
    const half = after(linesOf(bar(4).repeat(3) + bar(4, 2)), denoising);
    assert.deepEqual([half.blocks, half.ofBlock], [3, 0.5]);
  });
}

test('bars of other things do not count', () => {
  const lines = [
    'Loading checkpoint shards:  50%|█████     | 2/4 [00:04<00:04,  2.1s/it]',
    '  50%|█████     | 2/4 [00:04<00:04,  2.1s/it]',
  ];
  assert.deepEqual(after(lines), NOTHING_YET);
  assert.deepEqual(after(lines.slice(0, 1), denoising), denoising);
});

test('the prompt that upstream prints is left out, however many lines it has', () => {
  const prompt = 'one\r\n\n  \ncomplete full-sequence generation\ntorch.OutOfMemoryError: CUDA out of memory';
  const printed = linesOf(`${log(`Input prompt: ${prompt}`)}\n${log('Creating WanS2V pipeline.')}\nTraceback\n`);
  const echo = new PromptEcho(prompt);
  assert.deepEqual(
    printed.filter((line) => !echo.covers(line)),
    [log('Creating WanS2V pipeline.'), 'Traceback'],
  );
});

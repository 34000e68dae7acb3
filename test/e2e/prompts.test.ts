import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runTool } from '@clipfarm/shared/process';
import { Farm, SAMPLE, until } from '../harness/farm.ts';
import { cutAudio } from '../harness/media.ts';

const CLI = fileURLToPath(new URL('../../cli/src/main.ts', import.meta.url));

const prompts: readonly (readonly [what: string, prompt: string])[] = [
  ['nothing', ''],
  ['blanks', '  a  '],
  ['lines and quotes', `first\nsecond\r\n\n\t"double" 'single' \`back\` \\ $HOME $(id) %s {} ;|&`],
  ['a leading dash', '-x'],
  ['what looks like a flag', '--prompt_file=/etc/passwd'],
  [
    'Chinese, emoji of several characters, marks that are not composed, right to left, and control characters',
    '一位女士在镜头前说话，光线柔和。 👩🏽‍🚀 🇩🇪 👨‍👩‍👧‍👦 e\u0301 o\u0308 ก็ امرأة تتحدث \u202eabc\u202c bell\u0007 escape\u001b[31m',
  ],
  ['the longest', '👩'.repeat(4000)],
];

describe('a prompt', () => {
  let farm: Farm;
  let audio: string;
  let log: string;

  before(async () => {
    farm = await Farm.start([]);
    log = join(farm.dir, 'requests.log');
    await farm.startAgent({ name: 'one', pace: 0, args: [`--runner-arg=--request-log=${log}`] });
    await farm.waitForNodes(1);
    audio = await cutAudio(join(farm.dir, 'a.wav'), { seconds: 0.5, rate: 16_000, channels: 1 });
  });
  after(() => farm[Symbol.asyncDispose]());

  async function submit(...flags: readonly string[]): Promise<string> {
    const address = farm.coordinators[0]?.address ?? '';
    const argv = [
      CLI,
      'submit',
      '--coordinator',
      address,
      '--image',
      SAMPLE.image,
      '--audio',
      audio,
      '--size',
      '384*256',
    ];
    const { stdout } = await runTool(process.execPath, [...argv, ...flags], { timeoutMs: 300_000 });
    return stdout.toString('utf8').trim();
  }

  /** The prompt that the runner got with a job. */
  async function received(jobId: string): Promise<string> {
    let prompt: string | undefined;
    await until(() => {
      const lines = existsSync(log) ? readFileSync(log, 'utf8').split('\n') : [];
      const requests = lines.flatMap((line) => (line.endsWith('}') ? [JSON.parse(line)] : []));
      prompt = requests.find((request) => request.jobId === jobId)?.prompt;
      return prompt !== undefined;
    }, `the runner has a span of job ${jobId}`);
    return prompt ?? '';
  }

  for (const [what, prompt] of prompts) {
    it(`reaches the runner as it was given: ${what}`, async () => {
      assert.equal(await received(await submit('--prompt', prompt)), prompt);
    });
  }

  it('reaches the runner from a file, less its mark at the beginning and the end of its last line', async () => {
    const path = join(farm.dir, 'prompt.txt');
    await writeFile(path, '\ufeff  一位女士\r\n👩🏽‍🚀\r\n');
    assert.equal(await received(await submit('--prompt_file', path)), '  一位女士\r\n👩🏽‍🚀');
  });

  it('is refused by the coordinator where it can not arrive as it is', async () => {
    const refuse = (prompt: string, message: RegExp) => assert.rejects(farm.submit(audio, { prompt }), { message });
    await refuse('a\0b', /prompt has a zero byte at character 2/);
    await refuse('👩'.repeat(4001), /prompt has 4001 characters; accepted: at most 4000/);
  });

  it('that the model may not read to its end is remarked on', async () => {
    const { plan } = await farm.submit(audio, { prompt: 'a person talks to the camera. '.repeat(100) });
    assert.ok(plan?.notes.some((note) => /prompt has 3000 characters: the model reads 512 tokens/.test(note)));
  });
});

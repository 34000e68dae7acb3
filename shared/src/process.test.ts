import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FarmError } from './errors.ts';
import { runTool } from './process.ts';

const node = process.execPath;
const timeoutMs = 60_000;
const script = (code: string): readonly string[] => ['-e', code];

test('returns what the program printed', async () => {
  const result = await runTool(node, script('process.stdout.write("out"); process.stderr.write("err")'), { timeoutMs });
  assert.equal(result.stdout.toString(), 'out');
  assert.equal(result.stderr, 'err');
});

test('hands over standard input', async () => {
  const stdin = Buffer.alloc(300_000, 7);
  const result = await runTool(node, script('process.stdin.pipe(process.stdout)'), { timeoutMs, stdin });
  assert.deepEqual(result.stdout, stdin);
});

test('a program that does not read its input is judged by its status alone', async () => {
  const stdin = Buffer.alloc(4_000_000);
  await runTool(node, script('process.exit(0)'), { timeoutMs, stdin });
});

test('a failure carries the last lines of standard error', async () => {
  const code = 'for (let i = 0; i < 9; i++) console.error("line " + i); process.exit(3)';
  await assert.rejects(runTool(node, script(code), { timeoutMs }), (error: unknown) => {
    assert.ok(error instanceof FarmError);
    assert.equal(error.code, 'internal');
    assert.match(error.message, /ended with status 3: line 4\nline 5\nline 6\nline 7\nline 8$/);
    return true;
  });
});

test('a program that is not there is a failed precondition that names it', async () => {
  await assert.rejects(runTool('/nonexistent/ffmpeg', [], { timeoutMs }), {
    code: 'failed_precondition',
    message: 'cannot run /nonexistent/ffmpeg: no such program or working directory',
  });
});

test('a program that takes too long is killed', async () => {
  await assert.rejects(runTool(node, script('setInterval(() => {}, 1000)'), { timeoutMs: 300 }), { code: 'timeout' });
});

test('a program that prints too much is killed', async () => {
  const code = 'setInterval(() => process.stdout.write("x".repeat(5000)), 1)';
  await assert.rejects(runTool(node, script(code), { timeoutMs, maxOutputBytes: 1000 }), {
    code: 'resource_exhausted',
  });
});

test('an abort kills the program', async () => {
  const controller = new AbortController();
  const running = runTool(node, script('setInterval(() => {}, 1000)'), { timeoutMs, signal: controller.signal });
  controller.abort(new Error('the job was cancelled'));
  await assert.rejects(running, { code: 'unavailable', message: /was stopped: the job was cancelled/ });
});

test('a signal that is aborted already starts nothing', async () => {
  const reason = new FarmError('unavailable', 'shutting down');
  await assert.rejects(runTool('/nonexistent', [], { timeoutMs, signal: AbortSignal.abort(reason) }), reason);
});

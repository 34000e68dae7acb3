import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect as connectSocket, createServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseAddress } from '@clipfarm/shared/address';
import { systemClock } from '@clipfarm/shared/clock';
import { temporaryDirectory } from '@clipfarm/shared/testing/temporary';
import { connect } from '../farm/connection.ts';
import { waitForNodes } from '../farm/wait-for-nodes.ts';
import { runCli } from '../program.ts';
import { testShell } from '../testing/test-shell.ts';

const launcher = fileURLToPath(new URL('../../bin/clipfarm', import.meta.url));

interface Up {
  readonly process: ChildProcess;
  readonly dataDir: string;
  readonly coordinator: string;
}

/** Starts `clipfarm up` on free ports and waits for its report. It is killed after the test. */
async function up(t: TestContext, ...more: string[]): Promise<Up> {
  const dataDir = temporaryDirectory(t);
  const argv = [
    'up',
    '-o',
    'json',
    '--data-dir',
    dataDir,
    '--listen',
    '127.0.0.1:0',
    '--admin',
    '127.0.0.1:0',
    ...more,
  ];
  const child = spawn(launcher, argv, { stdio: ['ignore', 'pipe', 'ignore'] });
  t.after(() => child.kill('SIGKILL'));
  let text = '';
  for await (const part of child.stdout) {
    text += String(part);
    if (text.includes('\n')) break;
  }
  const report: { coordinator: string } = JSON.parse(text);
  return { process: child, dataDir, ...report };
}

/** Processes whose command line names the directory: everything that `up` started. */
function processesOf(dataDir: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(dataDir);
      } catch {
        return false;
      }
    })
    .map(Number);
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(20);
}

const onLinux = { skip: !existsSync('/proc/self/cmdline') && 'needs /proc' };

test('up brings a coordinator and agents online, and SIGINT stops all of them', onLinux, async (t) => {
  const farm = await up(t, '--agents', '2', '--seconds-per-clip', '0.1');
  const none = { tokenPath: undefined, caPath: undefined, certPath: undefined, keyPath: undefined };
  const signal = new AbortController().signal;
  const connection = connect({ ...none, address: farm.coordinator, insecure: false, signal });
  t.after(() => connection.close());
  // The report gives up waiting for agents sooner.
  assert.equal(await waitForNodes(connection, 2, 60_000, systemClock), 2);
  // The program, the coordinator, both agents, and whatever those have started themselves.
  assert.ok(processesOf(farm.dataDir).length >= 4);
  farm.process.kill('SIGINT');
  const code = await new Promise((resolve) => farm.process.once('exit', resolve));
  assert.equal(code, 0);
  await until(() => processesOf(farm.dataDir).length === 0);
});

test('no process outlives an up that was killed', onLinux, async (t) => {
  const farm = await up(t, '--agents', '1');
  farm.process.kill('SIGKILL');
  await until(() => processesOf(farm.dataDir).length === 0);
});

test('a coordinator that dies comes back on the same port', onLinux, async (t) => {
  const farm = await up(t, '--agents', '0');
  const [coordinator] = processesOf(farm.dataDir).filter((pid) => pid !== farm.process.pid);
  assert.ok(coordinator);
  process.kill(coordinator, 'SIGKILL');
  await until(() => !processesOf(farm.dataDir).includes(coordinator));
  const { host, port } = parseAddress(farm.coordinator, 'coordinator');
  while (!(await answers(host, port))) await sleep(50);
  farm.process.kill('SIGTERM');
  assert.equal(await new Promise((resolve) => farm.process.once('exit', resolve)), 0);
});

function answers(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectSocket(port, host, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

test('a coordinator that cannot start ends up with its own words, not with those of an earlier start', async (t) => {
  const dataDir = temporaryDirectory(t);
  const failing = async (...more: string[]) => {
    const argv = ['up', '--data-dir', dataDir, '--admin', '127.0.0.1:0', ...more];
    const child = spawn(launcher, argv, { stdio: ['ignore', 'ignore', 'pipe'] });
    let text = '';
    child.stderr.on('data', (part) => (text += String(part)));
    const code = await new Promise((resolve) => child.once('close', resolve));
    return { code, text };
  };
  writeFileSync(join(dataDir, 'token'), 'secret token with blanks\n');
  const token = await failing('--listen', '127.0.0.1:0', '--token-file', join(dataDir, 'token'));
  assert.equal(token.code, 2);
  assert.match(token.text, /^error: --token-file: .*\ntry: clipfarm up --help\n$/);
  const hours = await failing('--listen', '127.0.0.1:0', '--retain-hours', '0.5', '--retain-inputs-hours', 'soon');
  assert.equal(hours.code, 2);
  assert.match(
    hours.text,
    /^error: --retain-inputs-hours is "soon"; accepted: a number of hours above 0, or "never"\ntry: clipfarm up --help\n$/,
  );
  assert.doesNotMatch(hours.text, /--retain-hours/, 'that one is taken');
  const negative = await failing('--listen', '127.0.0.1:0', '--retain-hours', '-1');
  assert.match(negative.text, /^error: --retain-hours is "-1"; accepted: a number of hours above 0, or "never"/);
  const admin = await failing('--listen', '127.0.0.1:0', '--admin', 'foo');
  assert.equal(admin.code, 2);
  assert.match(admin.text, /^error: --admin: "foo".*\ntry: clipfarm up --help\n$/);
  const [taken, close] = await takenPort();
  const busy = await failing('--listen', taken);
  close();
  assert.equal(busy.code, 7);
  assert.match(busy.text, /^error: coordinator ended with status \d+; it did not start: .*\ntry: .*he whole log is /);
});

/** An address that something listens on, and what ends that. */
async function takenPort(): Promise<[address: string, close: () => void]> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return [`127.0.0.1:${(server.address() as AddressInfo).port}`, () => server.close()];
}

test('up refuses what would be for other machines', async (t) => {
  const dataDir = join(temporaryDirectory(t), 'farm');
  const refused = async (...argv: string[]) => {
    const shell = testShell();
    assert.equal(await runCli(['up', '--data-dir', dataDir, ...argv], shell), 2);
    assert.ok(!existsSync(dataDir));
    return shell.stderr.text;
  };
  const open = await refused('--listen', '0.0.0.0:7400');
  assert.match(
    open,
    /^error: --listen: 0\.0\.0\.0:7400 can be reached from other machines; .*\ntry: .*clipfarm coordinator/,
  );
  assert.match(await refused('--listen', 'foo'), /^error: --listen: "foo" is not an address with a port/);
  assert.match(await refused('--tls-cert', 'cert.pem'), /^error: --tls-cert: has no effect with up\ntry: /);
  assert.match(await refused('--insecure'), /^error: --insecure: has no effect with up\n/);
});

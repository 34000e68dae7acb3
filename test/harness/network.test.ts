import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from './farm.ts';
import { type Host, tiedToThisProcess } from './host.ts';
import { NamespaceNetwork, namespaceObstacle } from './namespace-network.ts';
import type { Network } from './network.ts';
import { ProxyNetwork } from './proxy-network.ts';

/** A program on a host; every line that it prints is kept. */
class Program {
  readonly child: ChildProcess;
  readonly lines: string[] = [];

  constructor(t: TestContext, host: Host, text: string) {
    const [file = '', ...args] = host.command(tiedToThisProcess([process.execPath, '-e', text]));
    this.child = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.child.stdout?.on('data', (data: Buffer) => this.lines.push(...data.toString().trim().split('\n')));
    t.after(() => this.child.kill('SIGKILL'));
  }

  async printed(line: string): Promise<void> {
    await until(() => this.lines.includes(line), `${line} is printed`);
  }
}

/** An agent that says lines to a coordinator, which says them back. */
async function talk(t: TestContext, network: Network) {
  const agent = await network.host('agent', 'agent');
  const coordinator = await network.host('coordinator', 'coordinator');
  const port = await network.freePort(coordinator);
  const serve = `require('node:net').createServer((s) => s.on('data', (d) => { console.log(String(d).trim()); s.write(d); }))
    .listen(${port}, '${coordinator.address}', () => console.log('up'))`;
  const server = new Program(t, coordinator, serve);
  await server.printed('up');
  const [host, dialled] = (await network.reach(agent, coordinator, port)).split(':');
  const dial = `const s = require('node:net').connect(${dialled}, '${host}', () => console.log('connected'));
    s.on('data', (d) => console.log(String(d).trim())); process.stdin.pipe(s);`;
  const client = new Program(t, agent, dial);
  await client.printed('connected');
  const say = (line: string) => client.child.stdin?.write(`${line}\n`);
  return { agent, coordinator, client, server, say };
}

async function checkCuts(t: TestContext, network: Network): Promise<void> {
  const { agent, coordinator, client, server, say } = await talk(t, network);
  say('one');
  await client.printed('one');
  await network.disturb(agent, coordinator, { kind: 'cut' });
  say('two');
  await sleep(500);
  assert.deepEqual(server.lines, ['up', 'one'], 'nothing comes through');
  await network.disturb(agent, coordinator, null);
  await client.printed('two');
  await network.disturb(coordinator, agent, { kind: 'cut' });
  say('three');
  await server.printed('three');
  await sleep(300);
  assert.deepEqual(client.lines, ['connected', 'one', 'two'], 'the other direction is cut');
  await network.heal();
  await client.printed('three');
}

/** Each direction by itself, and then neither. */
async function checkDelay(network: Network, { agent, coordinator, client, say }: Awaited<ReturnType<typeof talk>>) {
  const ends = [
    [agent, coordinator],
    [coordinator, agent],
  ] as const;
  for (const [from, to] of ends) {
    assert.ok(network.supports('delay', from, to));
    await network.disturb(from, to, { kind: 'delay', millis: 400, jitterMillis: 50 });
    const since = performance.now();
    // What comes behind is not late twice: the lines are under way at the same time.
    for (let line = 0; line < 3; line++) say(`late-${line} from ${from.name}`);
    await client.printed(`late-2 from ${from.name}`);
    assert.ok(performance.now() - since >= 400);
    await network.heal();
  }
}

const obstacle = namespaceObstacle() ?? false;

test('in namespaces either direction of a link can be cut, and what was sent arrives afterwards', {
  skip: obstacle,
}, async (t) => {
  await using network = await NamespaceNetwork.open();
  await checkCuts(t, network);
});

test('through proxies either direction of a link can be cut, and what was sent arrives afterwards', async (t) => {
  await using network = new ProxyNetwork('the test says so');
  await checkCuts(t, network);
});

test('both delay, namespaces lose packets too; each says what it can do', { skip: obstacle }, async (t) => {
  await using namespaces = await NamespaceNetwork.open();
  await using proxies = new ProxyNetwork('the test says so');
  const lossy = await talk(t, namespaces);
  assert.ok(namespaces.supports('loss', lossy.agent, lossy.coordinator));
  await namespaces.disturb(lossy.agent, lossy.coordinator, { kind: 'loss', percent: 40 });
  for (let line = 0; line < 20; line++) lossy.say(`line-${line}`);
  await until(() => lossy.client.lines.some((line) => line.endsWith('line-19')), 'losses are made good by TCP');

  await namespaces.disturb(lossy.agent, lossy.coordinator, null);
  await checkDelay(namespaces, lossy);
  const slow = await talk(t, proxies);
  assert.ok(!proxies.supports('loss', slow.agent, slow.coordinator));
  await checkDelay(proxies, slow);
});

test('what a killed run left behind is removed by the next one', { skip: obstacle }, async (t) => {
  const module = JSON.stringify(new URL('namespace-network.ts', import.meta.url).href);
  const text = `import(${module}).then(async ({ NamespaceNetwork }) => {
    const network = await NamespaceNetwork.open();
    console.log((await network.host('left', 'agent')).namespace);
    setInterval(() => undefined, 1000);
  })`;
  const child = spawn(process.execPath, ['-e', text], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const [data] = (await once(child.stdout, 'data')) as [Buffer];
  const namespace = data.toString().trim();
  assert.ok(existsSync(`/run/netns/${namespace}`));
  child.kill('SIGKILL');
  await once(child, 'exit');
  await using _next = await NamespaceNetwork.open();
  // Another test run may have begun to remove it a moment before.
  await until(() => !existsSync(`/run/netns/${namespace}`), 'its namespace is gone');
  const tag = namespace.split('-')[1] ?? '';
  await until(() => !execFileSync('ip', ['link'], { encoding: 'utf8' }).includes(tag), 'its bridge is gone too');
});

/** `npm run demo`: a farm of three unlike nodes on this machine renders the sample talk. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { exitCode } from './exit-code.ts';
import { connect } from './farm/connection.ts';
import { waitForNodes } from './farm/wait-for-nodes.ts';
import { processShell } from './process-shell.ts';
import { runCli } from './program.ts';
import { reportError } from './render/report-error.ts';
import type { Shell } from './shell.ts';
import { type LocalAgent, type LocalFarm, logDirectory, startLocalFarm } from './supervise/local-farm.ts';

const agents: readonly LocalAgent[] = [
  { name: 'fast', slots: 1, secondsPerClip: 0.6, warmUpSeconds: undefined },
  { name: 'medium', slots: 1, secondsPerClip: 1, warmUpSeconds: undefined },
  { name: 'slow', slots: 1, secondsPerClip: 1.8, warmUpSeconds: undefined },
];

/** Milliseconds for the agents to find the coordinator. */
const AGENTS_MS = 20_000;

const prompt = 'A friendly drawn figure speaks to the camera, calm light, plain background.';

/** Milliseconds for everything; a demo that takes longer is stuck, and says so. */
const DEMO_MS = 10 * 60_000;

process.exitCode = await demo(ownShell(processShell(process.env)));

async function demo(shell: Shell): Promise<number> {
  const place = mkdtempSync(join(tmpdir(), 'clipfarm-demo-'));
  const dataDir = join(place, 'farm');
  const video = join(place, 'talk.mp4');
  const tell = (text: string) => void shell.stdout.write(`${text}\n`);
  tell(`Starting a coordinator and ${agents.length} agents that stand in for GPUs.`);
  tell(`Everything is in ${place}`);
  let farm: LocalFarm | undefined;
  try {
    farm = await startLocalFarm({
      dataDir,
      agents,
      listen: '127.0.0.1:0',
      admin: '127.0.0.1:0',
      tokenFile: undefined,
      // The farm is gone right after its only job; a day until which it kept the video would be none.
      retainHours: 'never',
      retainInputsHours: undefined,
      env: shell.serviceEnv,
      clock: shell.clock,
      signal: shell.interrupted,
      onRestart: (text) => void shell.stderr.write(`${text}\n`),
    });
    await agentsOnline(farm, shell);
    for (const { name, secondsPerClip } of agents) tell(`  ${name.padEnd(6)}  ${secondsPerClip} s per clip`);
    const code = shell.interrupted.aborted ? exitCode.interrupted : await submitSample(farm, video, shell);
    await farm.stop();
    if (code === exitCode.ok) rmSync(dataDir, { recursive: true, force: true });
    tell(code === exitCode.ok ? success(video) : trouble(dataDir, code));
    return code;
  } catch (error) {
    const code = shell.interrupted.aborted ? exitCode.interrupted : reportError(error, shell.stderr, false);
    await farm?.stop();
    tell(trouble(dataDir, code));
    return code;
  }
}

/** The demo talks to its own farm only, whatever the environment points to, and ends after a while. */
function ownShell(shell: Shell): Shell {
  const none = {
    coordinator: undefined,
    tokenFile: undefined,
    tlsCa: undefined,
    tlsCert: undefined,
    tlsKey: undefined,
  };
  const interrupted = AbortSignal.any([shell.interrupted, AbortSignal.timeout(DEMO_MS)]);
  return { ...shell, interrupted, environment: { ...shell.environment, ...none } };
}

/** Waits for all agents; with fewer the demo still runs, and its report shows it. */
async function agentsOnline(farm: LocalFarm, shell: Shell): Promise<void> {
  const plain = { tokenPath: undefined, caPath: undefined, certPath: undefined, keyPath: undefined, insecure: false };
  const connection = connect({ ...plain, address: farm.listen, signal: shell.interrupted });
  await waitForNodes(connection, agents.length, AGENTS_MS, shell.clock).finally(connection.close);
}

/** The same code path as on anybody's command line. */
function submitSample(farm: LocalFarm, video: string, shell: Shell): Promise<number> {
  const sample = (name: string) => fileURLToPath(new URL(`../../test/samples/${name}`, import.meta.url));
  return runCli(
    [
      ...['submit', '--coordinator', farm.listen, '--preset', 'social', '--prompt', prompt],
      ...['--image', sample('portrait.png'), '--audio', sample('talk.mp3'), '--watch', '--output', video],
    ],
    shell,
  );
}

function success(video: string): string {
  return `
The video:  ${video}
The demo's farm is stopped, and everything else that it left is deleted.

With your own files, in two terminals:
  npx clipfarm up
  npx clipfarm submit --image me.png --audio talk.mp3 --prompt "..." --output talk.mp4`;
}

function trouble(dataDir: string, code: number): string {
  const what = code === exitCode.interrupted ? 'Interrupted.' : 'The demo did not finish.';
  return `
${what} Logs:  ${logDirectory(dataDir)}
The farm is stopped, and what was rendered is kept.
Go on with:  npx clipfarm up --data-dir ${dataDir}
or delete it with:  rm -r ${dirname(dataDir)}`;
}

import { join, resolve } from 'node:path';
import { isLoopback, parseAddress } from '@clipfarm/shared/address';
import { FarmError } from '@clipfarm/shared/errors';
import type { Context, GlobalOptions } from '../context.ts';
import { exitCode } from '../exit-code.ts';
import { connect } from '../farm/connection.ts';
import { waitForNodes } from '../farm/wait-for-nodes.ts';
import { flagValue, type RawOptions } from '../job-options.ts';
import { fields } from '../render/table.ts';
import { count } from '../render/units.ts';
import { type LocalAgent, type LocalFarm, logDirectory, startLocalFarm } from '../supervise/local-farm.ts';
import { parseInteger, parseSeconds } from '../values.ts';
import { act, examples, type Register } from './register.ts';

/** Milliseconds to wait for the agents before saying that some are missing. */
const AGENTS_MS = 15_000;

/** `clipfarm up` */
export const registerUp: Register = (program, run) => {
  const command = program
    .command('up')
    .summary('Runs a whole farm on this machine, without a GPU.')
    .description(
      'Runs a whole farm on this machine, without a GPU: a coordinator and synthetic agents, each a process of its own ' +
        'that is started again when it ends. Ctrl-C stops them in order; jobs go on at the next start.',
    )
    .option('--agents <n>', 'number of agents, 0 to 64', '2')
    .option('--slots <n>', 'slots of each agent, 1 to 16', '1')
    .option('--seconds-per-clip <s>', 'seconds that a synthetic agent takes for a clip', '1')
    .option('--warm-up-seconds <s>', "seconds before a lease's first clip")
    .option('--retain-hours <n>', 'hours that finished jobs are kept, or "never" to keep them (default: 720)')
    .option('--retain-inputs-hours <n>', 'the same for uploads that no job needs (default: 24)')
    .option('--data-dir <dir>', 'journal, videos, state and logs (default: $CLIPFARM_HOME or ~/.clipfarm)')
    .option('--listen <host:port>', 'where the coordinator listens, on this machine', '127.0.0.1:7400')
    .option('--admin <host:port>', 'where metrics and health are', '127.0.0.1:7401')
    .addHelpText(
      'after',
      examples([
        'clipfarm up',
        'clipfarm up --agents 4 --seconds-per-clip 0.5',
        'clipfarm up --data-dir /var/lib/clipfarm',
      ]),
    );
  act(command, run, up);
};

/** Global options that say how to reach a coordinator; this farm's own is reached over loopback. */
const IDLE = {
  coordinator: '--coordinator',
  tlsCa: '--tls-ca',
  tlsCert: '--tls-cert',
  tlsKey: '--tls-key',
  insecure: '--insecure',
} as const satisfies Partial<Record<keyof GlobalOptions, string>>;

const OTHER_MACHINES =
  'For other machines start `clipfarm coordinator`, with TLS, and `clipfarm agent`; each has its own --help.';

async function up(context: Context, _operands: readonly string[], options: RawOptions): Promise<number> {
  const { shell } = context;
  refuseOtherMachines(context.globals, flagValue(options, 'listen') ?? '');
  const agents = readAgents(options);
  const dataDir = resolve(flagValue(options, 'dataDir') ?? shell.environment.home);
  const tokenFile = context.globals.tokenFile ?? shell.environment.tokenFile;
  const farm = await startLocalFarm({
    dataDir,
    agents,
    tokenFile: tokenFile === undefined ? undefined : resolve(tokenFile),
    listen: flagValue(options, 'listen') ?? '',
    admin: flagValue(options, 'admin') ?? '',
    retainHours: flagValue(options, 'retainHours'),
    retainInputsHours: flagValue(options, 'retainInputsHours'),
    env: shell.serviceEnv,
    clock: shell.clock,
    signal: shell.interrupted,
    onRestart: (text) => context.note(text),
  });
  try {
    await report(context, farm, agents, dataDir, tokenFile);
    const failure = await Promise.race([farm.failed, aborted(shell.interrupted)]);
    if (failure !== undefined) throw failure;
    context.note('stopping; Ctrl-C once more ends everything at once');
    return exitCode.ok;
  } finally {
    // A second signal ends this process, and with it the services; see exit-with-parent.ts.
    await farm.stop();
  }
}

/** Refuses what this farm can't do: its agents, and whoever submits, reach the coordinator without TLS. */
function refuseOtherMachines(globals: GlobalOptions, listen: string): void {
  const idle = Object.entries(IDLE).find(([key]) => globals[key as keyof typeof IDLE] !== undefined)?.[1];
  if (idle !== undefined) {
    const hint = `Leave it out. ${OTHER_MACHINES}`;
    throw new FarmError('invalid_argument', `${idle}: has no effect with up`, { field: idle, hint });
  }
  if (isLoopback(parseAddress(listen, '--listen').host)) return;
  const message = `--listen: ${listen} can be reached from other machines; accepted is this one: 127.0.0.1, ::1, localhost`;
  throw new FarmError('invalid_argument', message, { field: '--listen', hint: OTHER_MACHINES });
}

function readAgents(options: RawOptions): LocalAgent[] {
  const number = parseInteger('agents', flagValue(options, 'agents') ?? '', 0, 64);
  const slots = parseInteger('slots', flagValue(options, 'slots') ?? '', 1, 16);
  const secondsPerClip = parseSeconds('seconds-per-clip', flagValue(options, 'secondsPerClip') ?? '', 0.01, 3600);
  const warmUp = flagValue(options, 'warmUpSeconds');
  const warmUpSeconds = warmUp === undefined ? undefined : parseSeconds('warm-up-seconds', warmUp, 0, 3600);
  return Array.from({ length: number }, (_, index) => ({
    name: `agent-${index + 1}`,
    slots,
    secondsPerClip,
    warmUpSeconds,
  }));
}

async function report(
  context: Context,
  farm: LocalFarm,
  agents: readonly LocalAgent[],
  dataDir: string,
  tokenPath: string | undefined,
): Promise<void> {
  const { shell, style } = context;
  const none = { caPath: undefined, certPath: undefined, keyPath: undefined, insecure: false };
  const connection = connect({ ...none, address: farm.listen, tokenPath, signal: shell.interrupted });
  const online = await waitForNodes(connection, agents.length, AGENTS_MS, shell.clock).finally(connection.close);
  if (shell.interrupted.aborted) return;
  const logs = logDirectory(dataDir);
  if (context.json) {
    context.printJson({ coordinator: farm.listen, admin: farm.admin, agents: online, dataDir, logs }, 'line');
    return;
  }
  const first = agents[0];
  const kind = first === undefined ? '' : `, ${first.secondsPerClip} s per clip, ${count(first.slots, 'slot')} each`;
  context.print([
    style.bold('The farm is up.'),
    ...fields(
      [
        ['coordinator', farm.listen],
        ['metrics', `http://${farm.admin}/metrics`],
        ['agents', `${online} of ${agents.length} online${kind}`],
        ['data', dataDir],
        ['logs', logs],
      ],
      style,
    ),
    `Submit with: ${shell.environment.program} submit --image me.png --audio talk.mp3 --output talk.mp4${farm.listen === '127.0.0.1:7400' ? '' : ` --coordinator ${farm.listen}`}`,
    'Stop with Ctrl-C.',
  ]);
  if (online < agents.length) context.note(`some agents are not online yet; their logs: ${join(logs, 'agent-*.log')}`);
}

function aborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolvePromise) => {
    if (signal.aborted) resolvePromise(undefined);
    signal.addEventListener('abort', () => resolvePromise(undefined), { once: true });
  });
}

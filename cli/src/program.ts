import { Command, CommanderError, Option } from 'commander';
import { registerDoctor } from './commands/doctor.ts';
import { registerJob } from './commands/job.ts';
import { registerJobs } from './commands/jobs.ts';
import { registerNodes } from './commands/nodes.ts';
import { registerPlan } from './commands/plan.ts';
import { registerPresets } from './commands/presets.ts';
import type { Register, Run } from './commands/register.ts';
import { registerServices, runService } from './commands/service.ts';
import { registerSubmit } from './commands/submit.ts';
import { registerUp } from './commands/up.ts';
import { registerVersion, versionText } from './commands/version.ts';
import { createContext, DEFAULT_COORDINATOR } from './context.ts';
import { exitCode, exitCodeHelp } from './exit-code.ts';
import { asTyped } from './render/program-name.ts';
import { reportError } from './render/report-error.ts';
import { wantsColor } from './render/style.ts';
import type { Shell } from './shell.ts';
import { parseChoice } from './values.ts';

const registrations: readonly Register[] = [
  registerSubmit,
  registerPlan,
  registerJobs,
  registerJob,
  registerNodes,
  registerPresets,
  registerUp,
  registerServices,
  registerDoctor,
  registerVersion,
];

/**
 * Runs one command line. Nothing is thrown: whatever goes wrong is on stderr and in the exit code.
 *
 * @param argv arguments without interpreter and script.
 * @returns the exit code; see {@link exitCodeHelp}.
 */
export async function runCli(argv: readonly string[], shell: Shell): Promise<number> {
  let outcome: number = exitCode.ok;
  let color = wantsColor({ when: 'auto', isTTY: shell.stderr.isTTY === true, plain: shell.environment.plain });
  try {
    // Their options are their own, so nothing of them is parsed here.
    const service = await runService(argv, shell);
    if (service !== undefined) return service;
    const run: Run = (handler) => async (command, operands) => {
      const context = createContext(shell, command);
      const { color: when } = context.globals;
      color = wantsColor({ when, isTTY: shell.stderr.isTTY === true, plain: shell.environment.plain });
      outcome = await handler(context, operands, command.opts());
    };
    await buildProgram(shell, run).parseAsync([...argv], { from: 'user' });
    return outcome;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCode.ok : exitCode.usage;
    if (shell.interrupted.aborted) {
      shell.stderr.write('interrupted\n');
      return exitCode.interrupted;
    }
    return reportError(error, shell.stderr, color, shell.environment.program);
  }
}

function buildProgram(shell: Shell, run: Run): Command {
  const program = new Command('clipfarm')
    .description('A render farm for long avatar videos: one portrait, one talk, every GPU at once.')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void shell.stdout.write(asTyped(text, shell.environment.program)),
      writeErr: (text) => void shell.stderr.write(asTyped(text, shell.environment.program)),
      getOutHelpWidth: () => shell.stdout.columns ?? 100,
      getErrHelpWidth: () => shell.stderr.columns ?? 100,
    })
    .option(
      '--coordinator <host:port>',
      `where the coordinator is; several with commas (CLIPFARM_COORDINATOR, ${DEFAULT_COORDINATOR})`,
    )
    .option('--token-file <file>', 'file with the access token (CLIPFARM_TOKEN_FILE)')
    .option('--tls-ca <file>', 'certificate authority of the coordinator; turns TLS on (CLIPFARM_TLS_CA)')
    .option('--tls-cert <file>', 'own certificate for mutual TLS (CLIPFARM_TLS_CERT)')
    .option('--tls-key <file>', 'key of the own certificate (CLIPFARM_TLS_KEY)')
    .option('--insecure', 'allow plaintext to another machine')
    .addOption(oneOf('-o, --format <how>', 'output for people or programs', ['human', 'json']))
    .addOption(oneOf('--color <when>', 'colours', ['auto', 'always', 'never']))
    .version(versionText(), '--version', 'shows the version, as the command version does')
    .addHelpText('after', `\n${exitCodeHelp}\n\nEvery command has its own --help with examples.`);
  for (const register of registrations) register(program, run);
  pointToHelp(program, 'clipfarm');
  return program;
}

/** An option that takes one of several words, the first unless it is given; others are refused as all flags refuse them. */
function oneOf(flags: string, description: string, words: readonly [string, ...string[]]): Option {
  const name = flags.replace(/^.*--/, '').replace(/ .*$/, '');
  return new Option(flags, `${description}: ${words.join(', ')}`)
    .default(words[0])
    .argParser((text) => parseChoice(name, text, words));
}

/** After a usage error every command names its own help. */
function pointToHelp(command: Command, path: string): void {
  command.showHelpAfterError(`try: ${path} --help`);
  for (const child of command.commands) pointToHelp(child, `${path} ${child.name()}`);
}

import { processShell } from './process-shell.ts';
import { runCli } from './program.ts';

process.exitCode = await runCli(process.argv.slice(2), processShell(process.env));

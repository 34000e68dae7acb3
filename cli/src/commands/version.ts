import { readFileSync } from 'node:fs';
import { exitCode } from '../exit-code.ts';
import { act, examples, type Handler, type Register } from './register.ts';

/** `clipfarm version` */
export const registerVersion: Register = (program, run) => {
  const command = program
    .command('version')
    .description('Shows the version of this program and of its Node.')
    .addHelpText('after', examples(['clipfarm version', 'clipfarm version -o json']));
  act(command, run, showVersion);
};

const showVersion: Handler = async (context) => {
  const version = clientVersion();
  if (context.json) context.printJson({ clipfarm: version, node: process.versions.node });
  else context.print([versionText()]);
  return exitCode.ok;
};

/** The version of this program and of its Node in a line. */
export function versionText(): string {
  return `clipfarm ${clientVersion()} (node ${process.versions.node})`;
}

/** Version from the package that this file belongs to. */
function clientVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  const found =
    manifest !== null && typeof manifest === 'object' && 'version' in manifest ? manifest.version : undefined;
  return typeof found === 'string' ? found : 'unknown';
}

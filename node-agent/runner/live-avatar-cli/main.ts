/**
 * The runner of kind `live-avatar-cli`: renders each span by a run of upstream's own script in an unmodified checkout of
 * Live Avatar. It loads the model every time, and its frames come all at once at the end; the runner `live-avatar` does
 * neither. It is for whoever wants exactly what upstream makes.
 */
import { tmpdir } from 'node:os';
import { exitWith, serveAgent } from '../common/serve.ts';
import { parseOptions } from './options.ts';
import { versionsOf } from './preflight.ts';
import { CliRenderer } from './renderer.ts';

const NAME = 'live-avatar-cli';
const VERSION = '1.0.0';

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2), tmpdir());
  const own = Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined);
  await serveAgent({
    socket: options.socket,
    introduction: {
      runner: NAME,
      version: VERSION,
      capabilities: { setEnd: false, continues: false },
      versions: await versionsOf(options),
    },
    renderer: new CliRenderer(options, Object.fromEntries(own)),
  });
}

exitWith(NAME, main());

/**
 * The synthetic runner: a renderer without a GPU that speaks the runner protocol and obeys the model's rules. It draws
 * the portrait talking, and stamps every frame. For trying the farm, and for testing it.
 */
import { exitWith, serveAgent } from '../common/serve.ts';
import { parseOptions } from './options.ts';
import { SyntheticRenderer } from './renderer.ts';

const VERSION = '1.0.0';

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  const renderer = new SyntheticRenderer(options);
  await serveAgent({
    socket: options.socket,
    introduction: {
      runner: 'synthetic',
      version: VERSION,
      capabilities: { setEnd: true, continues: true },
      versions: { node: process.versions.node },
    },
    renderer,
    deaf: () => renderer.hung,
  });
}

exitWith('synthetic runner', main());

import { constants } from 'node:os';
import { join } from 'node:path';
import { systemReason } from '@clipfarm/shared/disk-error';
import { writeFileDurable } from '@clipfarm/shared/durable-file';
import { exitCodeOf, FarmError } from '@clipfarm/shared/errors';
import { createLogger } from '@clipfarm/shared/log';
import { storeUmask } from './artifacts/directory-store.ts';
import { artifactStoreFromUrl } from './artifacts/store-url.ts';
import { coordinatorConfig, USAGE } from './config.ts';
import { type RunningCoordinator, startCoordinator } from './coordinator.ts';
import { checkJournal } from './open-journal.ts';
import { whenAvailable } from './when-available.ts';

try {
  const config = coordinatorConfig(process.argv.slice(2), process.env);
  if (config === null) process.stdout.write(USAGE);
  else if (config['check-journal']) process.stdout.write(`${JSON.stringify(await checkJournal(config))}\n`);
  else await serve(config);
} catch (error) {
  const failure = FarmError.from(error);
  process.stderr.write(`error: ${failure.message}\n`);
  if (failure.hint) process.stderr.write(`try: ${failure.hint}\n`);
  // Where it came from helps only with what nobody expected.
  if (error instanceof Error && !(error instanceof FarmError)) process.stderr.write(`${error.stack}\n`);
  process.exit(exitCodeOf(failure.code));
}

async function serve(config: NonNullable<ReturnType<typeof coordinatorConfig>>): Promise<void> {
  const store = artifactStoreFromUrl(config.artifacts ?? join(config['data-dir'], 'artifacts'));
  process.umask(store.kind === 'directory' ? await storeUmask(store.path) : 0o077);
  const log = createLogger({ name: 'coordinator', level: config['log-level'], pretty: config['log-pretty'] });
  let running: RunningCoordinator | undefined;
  let stopping = false;
  const stop = (signal: NodeJS.Signals) => {
    // A second signal is from someone who does not want to wait, and a start has nothing that must end in order:
    // everything durable is on disk at any moment.
    if (stopping || running === undefined) {
      log.warn({ signal }, stopping ? 'ends at once' : 'ends before it was ready');
      process.exit(128 + constants.signals[signal]);
    }
    stopping = true;
    log.info({ signal }, 'stopping');
    running.close().then(
      () => process.exit(0),
      (error: unknown) => {
        log.error({ err: error }, 'the stop was not clean');
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  const started = await whenAvailable(() => startCoordinator(config, log), log);
  running = started;
  const { listen, admin } = started;
  const readyFile = config['ready-file'];
  if (readyFile !== undefined) {
    await writeFileDurable(readyFile, JSON.stringify({ listen, admin })).catch(async (error: unknown) => {
      await started.close();
      throw new FarmError('invalid_argument', `--ready-file: cannot write ${readyFile}: ${systemReason(error)}`, {
        field: '--ready-file',
        cause: error,
      });
    });
  }
}

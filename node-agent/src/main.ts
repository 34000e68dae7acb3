import { readFileSync } from 'node:fs';
import { homedir, hostname, tmpdir, totalmem, uptime } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { startAdminServer } from '@clipfarm/shared/admin-server';
import { systemClock } from '@clipfarm/shared/clock';
import { exitCodeOf, FarmError } from '@clipfarm/shared/errors';
import { AgentServiceClient } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';
import { createLogger } from '@clipfarm/shared/log';
import { findFfmpeg } from '@clipfarm/shared/media/ffmpeg';
import { isOpenToOthers, OPEN_TO_OTHERS } from '@clipfarm/shared/own-directory';
import { clientChannel } from '@clipfarm/shared/rpc/credentials';
import { Agent } from './agent.ts';
import { chooseProfile, slotProfiles } from './choose-profile.ts';
import { type AgentConfig, agentConfigFromArgs, USAGE } from './config.ts';
import { readInventory } from './gpu/inventory.ts';
import { openAgentState } from './identity.ts';
import { MAX_SOCKET_PATH_BYTES } from './runner/runner-socket.ts';
import { Spool } from './spool.ts';

try {
  const surroundings = { env: process.env, hostName: hostname(), homeDir: homedir() };
  const config = agentConfigFromArgs(process.argv.slice(2), surroundings);
  if (config === null) process.stdout.write(USAGE);
  else await serve(config);
} catch (error) {
  const failure = FarmError.from(error);
  process.stderr.write(`error: ${failure.message}\n`);
  if (failure.hint !== undefined) process.stderr.write(`try: ${failure.hint}\n`);
  // Where it came from helps only with what nobody expected.
  if (error instanceof Error && !(error instanceof FarmError)) process.stderr.write(`${error.stack}\n`);
  process.exit(exitCodeOf(failure.code));
}

/** Runs the agent until it has left. */
async function serve(config: AgentConfig): Promise<void> {
  // What it makes, and what its runners make, is for this user alone: faces, voices and the video of them.
  process.umask(0o077);
  const log = createLogger({ name: 'agent', level: config.logLevel, pretty: config.logPretty });
  const chosen = await chooseProfile(config, process.env);
  // Wrong addresses, tokens and certificates are refused now, not at the first connection.
  const channels = new Map(config.coordinators.map((at) => [at, clientChannel({ address: at, ...config.access })]));
  const { ffmpeg, ffprobe, version: ffmpegVersion } = await findFfmpeg(config.ffmpeg);
  const gpus = await readInventory(log, (millis) => setTimeout(millis));
  const programs = { node: process.execPath, ffmpeg, ffprobe, env: process.env };
  const profiles = slotProfiles(chosen, config, { gpus, memoryBytes: totalmem(), programs });
  const state = await openAgentState(config.stateDir);
  if (await isOpenToOthers(config.stateDir))
    log.warn({ dir: config.stateDir, hint: `chmod -R o= ${config.stateDir}` }, OPEN_TO_OTHERS);
  const spool = await Spool.open({ dir: join(config.stateDir, 'spool'), maxBytes: config.spoolMaxBytes, log });
  const agent = await Agent.start({
    nodeId: state.nodeId,
    name: config.name,
    pool: config.pool,
    version: ownVersion(),
    gpus,
    uptime: uptime(),
    profiles,
    coordinators: config.coordinators,
    dial: (address) => {
      const channel = channels.get(address) ?? clientChannel({ address, ...config.access });
      // The link has a backoff of its own; the channel's must not add to it.
      return new AgentServiceClient(channel.address, channel.credentials, {
        ...channel.options,
        'grpc.max_reconnect_backoff_ms': 1000,
      });
    },
    spool,
    cache: { dir: join(config.stateDir, 'inputs'), maxBytes: config.cacheMaxBytes },
    socketDir: socketDirOf(config.stateDir, state.nodeId),
    ffmpeg,
    clock: systemClock,
    random: Math.random,
    log,
  });
  // Before it says that it runs: whoever reads that may send one at once.
  const onSignal = (signal: NodeJS.Signals): void => {
    if (agent.leaving) {
      // A second signal is from someone who does not want to wait; what is spooled is on disk at any moment.
      log.warn({ signal }, 'leaving at once');
      agent.kill();
      process.exit(signal === 'SIGINT' ? 130 : 143);
    }
    agent.leave(`the agent got ${signal}`);
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  process.on('SIGUSR2', () => agent.unload('the agent got SIGUSR2'));

  const { metrics } = agent;
  const admin =
    config.admin === undefined
      ? null
      : await startAdminServer({ listen: config.admin, metrics, readiness: () => agent.obstacles });
  const fields = { node_id: state.nodeId, node: config.name, slots: profiles.length, ffmpeg: ffmpegVersion };
  log.info({ ...fields, spooled_chunks: spool.chunkCount, admin: admin?.address }, 'agent runs');

  await agent.left;
  await admin?.close();
  state.release();
  process.exit(0);
}

/** Runners' sockets lie below the state directory, unless its path is too long for the name of a socket. */
function socketDirOf(stateDir: string, nodeId: string): string {
  const near = join(stateDir, 'run');
  return Buffer.byteLength(near) + 16 <= MAX_SOCKET_PATH_BYTES ? near : join(tmpdir(), `clipfarm-${nodeId.slice(-12)}`);
}

function ownVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  return typeof manifest === 'object' && manifest !== null && 'version' in manifest ? String(manifest.version) : '';
}

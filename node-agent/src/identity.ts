import { randomUUID } from 'node:crypto';
import { chmod, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { diskError, isDiskFull, isSystemError } from '@clipfarm/shared/disk-error';
import { writeFileDurable } from '@clipfarm/shared/durable-file';
import { FarmError } from '@clipfarm/shared/errors';
import { type ExclusiveLock, lockExclusively } from '@clipfarm/shared/exclusive-lock';
import { makeOwnDirectory } from '@clipfarm/shared/own-directory';

/** The agent's hold on its state directory. */
export interface AgentState {
  /** Identity that the node keeps across restarts. */
  readonly nodeId: string;
  /** Lets another agent use the directory. The kernel does the same when the process dies, however it dies. */
  release(): void;
}

/**
 * Makes the state directory, locks it against other agents and reads the node's identity, which is made on first use.
 *
 * @throws FarmError `failed_precondition` when another agent holds the directory or the identity can't be read,
 *   `invalid_argument` when the directory can't be used, `internal` or `resource_exhausted` when the disk refuses.
 */
export async function openAgentState(stateDir: string): Promise<AgentState> {
  await makeOwnDirectory(stateDir, '--state-dir');
  // Inputs are somebody's face and voice, also in a directory that was there before.
  await chmod(stateDir, 0o700).catch((error: unknown) => {
    throw diskError(error, `close the state directory ${stateDir} to other users`);
  });
  const lock = await lockState(stateDir);
  try {
    return { nodeId: await readNodeId(join(stateDir, 'node-id')), release: () => lock.release() };
  } catch (error) {
    lock.release();
    throw error;
  }
}

async function lockState(stateDir: string): Promise<ExclusiveLock> {
  // Only for the message: the lock is what counts.
  const pidPath = join(stateDir, 'agent.pid');
  let lock: ExclusiveLock | null;
  try {
    lock = lockExclusively(join(stateDir, 'lock'));
  } catch (error) {
    throw diskError(error, `lock the state directory ${stateDir}`);
  }
  if (lock === null) {
    const pid = (await readFile(pidPath, 'utf8').catch(() => 'unknown')).trim();
    throw new FarmError('failed_precondition', `--state-dir: ${stateDir} is in use by another agent (process ${pid})`, {
      field: '--state-dir',
      hint: 'Stop that agent, or give this one a directory of its own. One agent serves all slots of a host.',
    });
  }
  try {
    await writeFileDurable(pidPath, `${process.pid}\n`).catch(async (error: unknown) => {
      if (!isDiskFull(error)) throw error;
      // What is handed in from the spool may be what gives the room back. An earlier agent's number would be wrong.
      await rm(pidPath, { force: true });
    });
  } catch (error) {
    lock.release();
    throw diskError(error, `write ${pidPath}`);
  }
  return lock;
}

async function readNodeId(path: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (!isSystemError(error, 'ENOENT')) throw diskError(error, `read ${path}`);
    const made = `node-${randomUUID()}`;
    await writeFileDurable(path, `${made}\n`).catch((cause: unknown) => {
      throw diskError(cause, `write ${path}`);
    });
    return made;
  }
  const nodeId = text.trim();
  if (/^node-[0-9a-f-]{36}$/.test(nodeId)) return nodeId;
  throw new FarmError(
    'failed_precondition',
    `--state-dir: ${path} holds "${nodeId.slice(0, 80)}", which is no node id`,
    {
      field: '--state-dir',
      hint: 'Delete the file to give this host a new identity.',
    },
  );
}

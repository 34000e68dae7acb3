import type { UploadInputRequest } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import { callUpload } from '@clipfarm/shared/rpc/client-call';
import { pipeFileToCall } from '@clipfarm/shared/rpc/stream';
import type { InputFile } from '../inputs/input-file.ts';
import type { Connection } from './connection.ts';

/**
 * Brings an input to the coordinator unless it is there already. May be repeated.
 *
 * @returns true when it was sent.
 * @throws FarmError `invalid_argument` when the file changed since it was checked, otherwise as the coordinator says.
 */
export async function uploadInput(farm: Connection, input: InputFile): Promise<boolean> {
  const { client, signal } = farm;
  const { stored } = await farm.call(client.statInput, { sha256: input.sha256 });
  if (stored) return false;
  const header = { kind: input.kind, sha256: input.sha256, bytes: input.bytes };
  try {
    await callUpload(
      client,
      client.uploadInput,
      async (sink) => {
        await sink.send({ part: { $case: 'header', value: header } });
        await pipeFileToCall<UploadInputRequest>({
          path: input.path,
          sink,
          signal,
          toMessage: (data) => ({ part: { $case: 'data', value: data } }),
        });
      },
      { signal },
    );
  } catch (error) {
    throw farm.explain(error);
  }
  return true;
}

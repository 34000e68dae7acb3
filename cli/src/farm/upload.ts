import type { FarmServiceClient, UploadInputRequest } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
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
  const { stored } = await farm.call(farm.client.statInput, { sha256: input.sha256 });
  if (stored) return false;
  await farm.ask((client) => send(client, input, farm.signal));
  return true;
}

async function send(client: FarmServiceClient, input: InputFile, signal: AbortSignal): Promise<void> {
  const header = { kind: input.kind, sha256: input.sha256, bytes: input.bytes };
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
}

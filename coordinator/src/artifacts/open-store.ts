import type { Clock } from '@clipfarm/shared/clock';
import type { ArtifactStore } from './artifact-store.ts';
import { openDirectoryStore } from './directory-store.ts';
import type { S3Credentials } from './s3-client.ts';
import type { ArtifactStoreOptions } from './store-url.ts';

/** What a store needs of this host. */
export interface LocalParts {
  /** Directory of this process alone; used when the store lies elsewhere. */
  readonly cacheDir: string;
  /** Bytes of local copies. */
  readonly cacheMaxBytes: number;
  /** Tells processes that share a directory apart; part of a key. */
  readonly owner: string;
  readonly clock: Clock;
  /** For S3. @default the standard chain of credentials */
  readonly credentials?: S3Credentials;
}

/** Opens the store that the options name. @throws FarmError as `openDirectoryStore` and `openS3Store` do */
export async function openArtifactStore(options: ArtifactStoreOptions, local: LocalParts): Promise<ArtifactStore> {
  if (options.kind === 'directory') return openDirectoryStore(options.path, local.owner);
  // Loaded only where it is used: S3's client is the largest package of the coordinator.
  const { openS3Store } = await import('./s3-store.ts');
  return openS3Store({ ...options, ...local });
}

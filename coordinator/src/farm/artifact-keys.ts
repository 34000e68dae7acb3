/** Where artifacts lie in the store. Every key is made here, from parts that the coordinator has validated. */
export const artifactKeys = {
  /** An upload of a submitter, or a prepared input, by content. */
  input: (sha256: string): string => `inputs/${sha256}`,
  /** One encoded clip. The content is part of the name, so that two attempts never share a file. */
  chunk: (jobId: string, clip: number, sha256: string): string =>
    `jobs/${jobId}/chunks/${String(clip).padStart(6, '0')}-${sha256}.mp4`,
  /** The job's anchor frame. */
  anchor: (jobId: string, sha256: string): string => `jobs/${jobId}/anchor-${sha256}.png`,
  /** The finished video. */
  video: (jobId: string, sha256: string): string => `jobs/${jobId}/video-${sha256}.mp4`,
} as const;

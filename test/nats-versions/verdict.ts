/** What became of the tests on one NATS server. */
export interface Verdict {
  /** As it was asked for: a version, or the server's file. */
  readonly server: string;
  /** Why no test ran; null when they did. */
  readonly missing: string | null;
  readonly passed: number;
  readonly skipped: number;
  /** Names of the tests that failed. */
  readonly failed: readonly string[];
  readonly seconds: number;
}

/** Whether everything ran and nothing failed. */
export function holds({ missing, passed, failed }: Verdict): boolean {
  return missing === null && failed.length === 0 && passed > 0;
}

/** The verdicts as a table, and beneath it what failed or is missing. */
export function tableOf(verdicts: readonly Verdict[]): string {
  const rows = verdicts.map(({ server, missing, passed, failed, skipped, seconds }) =>
    missing === null
      ? `| ${server} | ${passed} | ${failed.length} | ${skipped} | ${(seconds / 60).toFixed(1)} |`
      : `| ${server} | not run | | | |`,
  );
  const notes = verdicts.flatMap(({ server, missing, failed }) => [
    ...(missing === null ? [] : [`${server}: not run: ${missing}`]),
    ...failed.map((name) => `${server}: failed: ${name}`),
  ]);
  const table = ['| nats-server | passed | failed | skipped | minutes |', '| --- | --- | --- | --- | --- |', ...rows];
  return [...table, ...(notes.length === 0 ? [] : ['', ...notes])].join('\n');
}

/** Exit codes that no {@link FarmError} stands for; the others come from `exitCodeOf` in shared/src/errors.ts. */
export const exitCode = {
  ok: 0,
  failure: 1,
  usage: 2,
  /** The job ended without a video, or no slot fits. */
  noVideo: 6,
  interrupted: 130,
} as const;

/** What every exit code means, as `--help` shows it. */
export const exitCodeHelp = `Exit codes:
  0    done
  1    failed
  2    wrong usage or bad input; nothing was rendered
  3    coordinator not reachable, or it took too long
  4    token or certificate refused
  5    no such job or node
  6    the job ended without a video, or no slot fits the plan
  7    it is in a state that does not allow this
  130  interrupted`;

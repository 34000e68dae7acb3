/** An agent as the bound sees it. */
export interface BoundAgent {
  readonly secondsPerClip: number;
}

/**
 * The shortest time in which agents can render so many clips at all: clips are whole, the fastest begins at once and
 * every other one renders its pre-roll first. No start, no network, no end: what no scheduler can beat.
 *
 * @param preRoll clips of pre-roll of all agents but one.
 */
export function shortestSeconds(clips: number, agents: readonly BoundAgent[], preRoll: number): number {
  const fastest = Math.min(...agents.map((agent) => agent.secondsPerClip));
  const starter = agents.findIndex((agent) => agent.secondsPerClip === fastest);
  const readyIn = agents.map(({ secondsPerClip }, i) => (i === starter ? 0 : preRoll * secondsPerClip));
  const done = agents.map(() => 0);
  let last = 0;
  // The next clip goes to whoever has it done first; that is best, because every agent's clips take equally long.
  for (let clip = 0; clip < clips; clip++) {
    const ends = agents.map(({ secondsPerClip }, i) => (readyIn[i] ?? 0) + ((done[i] ?? 0) + 1) * secondsPerClip);
    last = Math.min(...ends);
    const next = ends.indexOf(last);
    done[next] = (done[next] ?? 0) + 1;
  }
  return last;
}

import { cpus } from 'node:os';
import { benchFleet } from './fleet.ts';
import { benchScale } from './scale.ts';
import { benchStitch } from './stitch.ts';

/** Prints rows as a table, columns named as the keys. */
function table(title: string, rows: readonly Record<string, string | number>[]): void {
  console.log(`\n${title}`);
  const columns = Object.keys(rows[0] ?? {});
  const lines = [columns, ...rows.map((row) => columns.map((column) => String(row[column])))];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
  for (const line of lines) console.log(`  ${line.map((cell, i) => cell.padStart(widths[i] ?? 0)).join('  ')}`);
}

console.log(`Clipfarm benchmark: ${cpus().length} cores (${cpus()[0]?.model.trim()}), Node ${process.version}`);
console.log('Agents render synthetically: a clip takes the time that its agent declares. The picture is 384x256.');

const fleets = [await benchFleet(1, 60, 1), await benchFleet(3, 180, 1), await benchFleet(8, 300, 1.5)];
table(
  'Fleet: one job on agents whose speeds differ by a factor of five. Ideal = all work / all speed.',
  fleets.map((row) => ({
    agents: row.agents,
    clips: row.clips,
    'ideal s': row.idealSeconds.toFixed(1),
    'took s': row.seconds.toFixed(1),
    efficiency: `${((100 * row.idealSeconds) / row.seconds).toFixed(1)} %`,
    joins: row.joins,
    'rendered twice': row.rerendered,
    'last commit to file ms': Math.round(row.finishMillis),
    'coordinator RSS MB': Math.round(row.rssMegabytes),
    'coordinator CPU ms/clip': row.cpuMillisPerClip.toFixed(1),
  })),
);

const scale = await benchScale();
table(
  'Coordinator in memory: 1000 slots, 200 jobs of 2000 clips',
  scale.map(({ what, millis }) => ({ what, ms: millis.toFixed(2) })),
);

const clips = 400;
const stitched = await benchStitch({ clips, width: 384, height: 256 });
table(
  `Stitching ${clips} clips (${((clips * 1.92) / 60).toFixed(1)} min), against cp of the finished file`,
  stitched.map((row) => ({ what: row.name, seconds: row.seconds.toFixed(2), 'times cp': row.timesCp.toFixed(1) })),
);

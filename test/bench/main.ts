import { cpus, loadavg } from 'node:os';
import { quantile } from '../harness/quantile.ts';
import { benchAppends, STREAMS } from './appends.ts';
import { benchFleet } from './fleet.ts';
import { benchRecovery } from './recovery.ts';
import { benchScale } from './scale.ts';
import { benchStitch } from './stitch.ts';
import { benchStreamElections } from './stream-election.ts';

/** Prints rows as a table, columns named as the keys. */
function table(title: string, rows: readonly Record<string, string | number>[]): void {
  console.log(`\n${title}`);
  const columns = Object.keys(rows[0] ?? {});
  const lines = [columns, ...rows.map((row) => columns.map((column) => String(row[column])))];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
  for (const line of lines) console.log(`  ${line.map((cell, i) => cell.padStart(widths[i] ?? 0)).join('  ')}`);
}

/** Kills of the server that leads the events' stream. */
const KILLS = 22;

/** What is measured, by the name under which it can be asked for alone. */
const benchmarks: Readonly<Record<string, () => Promise<void>>> = {
  async fleet() {
    const fleets = [
      await benchFleet(1, 60, 1),
      await benchFleet(3, 61, 1),
      await benchFleet(3, 300, 1),
      await benchFleet(8, 600, 1.5),
    ];
    table(
      'Fleet: one job on agents whose speeds differ by a factor of five. Ideal = all work / all speed; bound = the shortest ' +
        'time for whole clips and a clip of pre-roll per agent but one, which no scheduler can beat.',
      fleets.map((row) => ({
        agents: row.agents,
        clips: row.clips,
        'ideal s': row.idealSeconds.toFixed(1),
        'bound s': row.boundSeconds.toFixed(1),
        'took s': row.seconds.toFixed(1),
        'ideal/took': `${((100 * row.idealSeconds) / row.seconds).toFixed(1)} %`,
        'bound/took': `${((100 * row.boundSeconds) / row.seconds).toFixed(1)} %`,
        joins: row.joins,
        'rendered twice': row.rerendered,
        'last commit to file ms': Math.round(row.finishMillis),
        'coordinator RSS MB': Math.round(row.rssMegabytes),
        'coordinator CPU ms/clip': row.cpuMillisPerClip.toFixed(1),
      })),
    );
  },
  async scale() {
    const scale = await benchScale();
    table(
      'Coordinator in memory: 1000 slots, 200 jobs of 2000 clips',
      scale.map(({ what, millis }) => ({ what, ms: millis.toFixed(2) })),
    );
  },
  async appends() {
    const appends = await benchAppends();
    table(
      `Durable appends: one after the other, and to ${STREAMS} jobs at a time. NATS with sync_interval: always, on this one disk`,
      appends.map((row) => ({
        journal: row.journal,
        'median ms': row.median.toFixed(2),
        'p99 ms': row.p99.toFixed(2),
        'appends/s': Math.round(row.perSecond),
      })),
    );
  },
  async recovery() {
    const recovery = await benchRecovery();
    const found = recovery[0];
    table(
      `Restart of a coordinator: ${found?.jobs} live jobs of 2000 clips, ${found?.clips} clips committed, ${found?.leases} leases`,
      recovery.map((row) => ({
        journal: row.journal,
        snapshots: row.snapshots ? 'yes' : 'no',
        'load s': (row.loadMillis / 1000).toFixed(2),
        'take over s': (row.takeOverMillis / 1000).toFixed(2),
        'process start to leading s': (row.allMillis / 1000).toFixed(2),
        'RSS MB': Math.round(row.rssMegabytes),
      })),
    );
  },
  async stitch() {
    const clips = 400;
    const stitched = await benchStitch({ clips, width: 384, height: 256 });
    table(
      `Stitching ${clips} clips (${((clips * 1.92) / 60).toFixed(1)} min), against cp of the finished file`,
      stitched.map((row) => ({ what: row.name, seconds: row.seconds.toFixed(2), 'times cp': row.timesCp.toFixed(1) })),
    );
  },
  async elections() {
    const times = await benchStreamElections(KILLS);
    const seconds = (share: number) => (quantile(times, share) / 1000).toFixed(1);
    table("JetStream's own election: the server that leads the stream is killed; time until appends succeed again", [
      {
        kills: times.length,
        'p50 s': seconds(0.5),
        'p99 s': seconds(0.99),
        'shortest s': (Math.min(...times) / 1000).toFixed(1),
        'longest s': seconds(1),
      },
    ]);
  },
};

const asked = process.argv.slice(2);
const unknown = asked.find((name) => !(name in benchmarks));
if (unknown !== undefined) {
  console.error(`error: no benchmark "${unknown}"; there are: ${Object.keys(benchmarks).join(', ')}`);
  process.exit(2);
}
const load = loadavg()[0] ?? 0;
const machine = `${cpus().length} cores (${cpus()[0]?.model.trim()})`;
console.log(`Clipfarm benchmark: ${machine}, load ${load.toFixed(1)} at the start, Node ${process.version}`);
console.log('Agents render synthetically: a clip takes the time that its agent declares. The picture is 384x256.');
for (const [name, measure] of Object.entries(benchmarks))
  if (asked.length === 0 || asked.includes(name)) await measure();

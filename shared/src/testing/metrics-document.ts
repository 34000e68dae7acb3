import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const DOCS = fileURLToPath(new URL('../../../docs', import.meta.url));

/** What can be said of a metric without its values. */
interface Metric {
  readonly type: string;
  /** Values by label; none where they are open, such as names of profiles. */
  readonly labels: Readonly<Record<string, readonly string[]>>;
}

/** Units that a name ends with, as Prometheus' naming has them. */
const UNIT = /_(seconds|bytes|celsius)(?:_total)?$/;

/**
 * Compares the product's metrics with what `docs/metrics.md` says of them: names, types, labels and their values, units.
 * Of the other documents it checks that no metric is named that does not exist.
 *
 * @param section heading in that document.
 * @param prefix of the section's metrics; every name in any document that begins with it must exist.
 * @param others prefix of metrics that are documented elsewhere, though they begin with `prefix`.
 * @param text all metrics in Prometheus' text format, with a series for every label.
 */
export function assertDocumented(section: string, prefix: string, text: string, others?: string): void {
  const isOwn = (name: string) => name.startsWith(prefix) && (others === undefined || !name.startsWith(others));
  const documented = documentedMetrics(section);
  const registered = registeredMetrics(text, isOwn);
  assert.deepEqual([...documented.keys()].sort(), [...registered.keys()].sort(), 'docs/metrics.md has these metrics');
  for (const [name, { type, labels }] of registered) {
    const told = documented.get(name) ?? assert.fail(name);
    const closed = Object.entries(labels).map(([label, values]) => [label, told.labels[label]?.length ? values : []]);
    assert.deepEqual({ type: told.type, labels: told.labels }, { type, labels: Object.fromEntries(closed) }, name);
    const unit = UNIT.exec(name)?.[1];
    if (unit !== undefined) assert.equal(told.unit, unit, name);
    assert.ok(told.meaning.length > 5, `${name} has a meaning`);
  }
  for (const file of readdirSync(DOCS).filter((entry) => entry.endsWith('.md'))) {
    for (const [name] of readFileSync(join(DOCS, file), 'utf8').matchAll(/\bclipfarm_[a-z0-9_]+/g)) {
      const family = name.replace(/_(bucket|sum|count)$/, '');
      assert.ok(!isOwn(family) || registered.has(family), `docs/${file} names ${name}, which does not exist`);
    }
  }
}

/** Rows of the table below a heading: metric, type, labels, unit, meaning, when to alert. */
function documentedMetrics(section: string): Map<string, Metric & { readonly unit: string; readonly meaning: string }> {
  const [, ...sections] = readFileSync(join(DOCS, 'metrics.md'), 'utf8').split(/^## /m);
  const found = sections.find((candidate) => candidate.startsWith(`${section}\n`)) ?? assert.fail(section);
  const rows = found.split('\n').filter((line) => line.startsWith('| `'));
  return new Map(
    rows.map((row) => {
      const [name = '', type = '', labels = '', unit = '', meaning = ''] = row
        .split('|')
        .slice(1)
        .map((cell) => cell.trim());
      return [name.replaceAll('`', ''), { type, labels: documentedLabels(labels), unit, meaning }];
    }),
  );
}

/** "`state`: queued, rendering" or "`profile`", which is open. */
function documentedLabels(cell: string): Record<string, readonly string[]> {
  const [, label, values = ''] = /^`(\w+)`(?:: (.*))?$/.exec(cell) ?? [];
  if (label === undefined) return {};
  return { [label]: values.split(', ').filter(Boolean).sort() };
}

function registeredMetrics(text: string, isOwn: (name: string) => boolean): Map<string, Metric> {
  const types = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type = '']) => [name, type]));
  const labels = new Map<string, Map<string, Set<string>>>();
  for (const [, series = '', pairs = ''] of text.matchAll(/^(\w+)\{(.*)\} \S+$/gm)) {
    const name = types.has(series) ? series : series.replace(/_(bucket|sum|count)$/, '');
    const known = labels.get(name) ?? new Map<string, Set<string>>();
    labels.set(name, known);
    for (const [, label = '', value = ''] of pairs.matchAll(/(\w+)="([^"]*)"/g)) {
      if (label !== 'le') known.set(label, (known.get(label) ?? new Set()).add(value));
    }
  }
  const own = [...types].filter(([name]) => isOwn(name));
  return new Map(
    own.map(([name, type]) => {
      const values = [...(labels.get(name) ?? [])].map(([label, set]) => [label, [...set].sort()] as const);
      return [name, { type, labels: Object.fromEntries(values) }];
    }),
  );
}

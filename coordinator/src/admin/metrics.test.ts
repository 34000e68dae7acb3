import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertDocumented } from '@clipfarm/shared/testing/metrics-document';
import { createMetrics } from './metrics.ts';

interface Family {
  readonly help: string;
  readonly type: string;
}

/** Families of Prometheus' text format. */
function familiesOf(text: string): Map<string, Family> {
  const help = new Map<string, string>();
  const families = new Map<string, Family>();
  for (const line of text.split('\n')) {
    const [, keyword, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (keyword === 'HELP') help.set(name, rest);
    if (keyword === 'TYPE') families.set(name, { help: help.get(name) ?? '', type: rest });
  }
  return families;
}

test('every metric follows the naming rules: help, prefix, unit, and _total for counters only', async () => {
  const families = familiesOf(await createMetrics().render());
  assert.ok(families.size > 30);
  for (const [name, { help, type }] of families) {
    assert.match(name, /^(clipfarm|process|nodejs)_[a-z0-9_]+$/);
    assert.ok(help.length > 5, `${name} has a help text`);
    assert.equal(name.endsWith('_total'), type === 'counter', `${name} is a ${type}`);
    if (type === 'histogram') assert.match(name, /_(seconds|bytes)$/);
    assert.doesNotMatch(name, /_(millis|ms|percent|count|sum|bucket)$/);
  }
});

test('docs/metrics.md says what the farm’s metrics are, and nothing else', async () => {
  const metrics = createMetrics();
  metrics.clipsCommitted.inc({ profile: 'synthetic' });
  metrics.clipRenderSeconds.observe({ profile: 'synthetic' }, 1.5);
  assertDocumented('Coordinator', 'clipfarm_', await metrics.render(), 'clipfarm_agent_');
});

test('series with known labels exist from the start', async () => {
  const text = await createMetrics().render();
  for (const series of ['jobs{state="queued"}', 'nodes{state="lost"}', 'leases_total{outcome="failed"}']) {
    assert.ok(text.includes(`\nclipfarm_${series} 0\n`), series);
  }
  assert.match(text, /^clipfarm_attempt_failures_total\{class="out_of_memory"\} 0$/m);
});

test('gauges by state count what there is at each scrape, and go back to 0', async () => {
  const metrics = createMetrics();
  let states = ['online', 'online', 'lost', 'odd'];
  metrics.onCollect(() => metrics.setByState(metrics.nodes, states));
  let text = await metrics.render();
  assert.match(text, /^clipfarm_nodes\{state="online"\} 2$/m);
  assert.match(text, /^clipfarm_nodes\{state="odd"\} 1$/m);
  states = ['lost'];
  text = await metrics.render();
  assert.match(text, /^clipfarm_nodes\{state="online"\} 0$/m);
  assert.match(text, /^clipfarm_nodes\{state="odd"\} 0$/m);
  assert.match(text, /^clipfarm_nodes\{state="lost"\} 1$/m);
});

test('two sets of metrics do not share their values', async () => {
  const [one, two] = [createMetrics(), createMetrics()];
  one.clipsCommitted.inc({ profile: 'synthetic' });
  one.clipRenderSeconds.observe({ profile: 'synthetic' }, 1.5);
  assert.match(await one.render(), /^clipfarm_clips_committed_total\{profile="synthetic"\} 1$/m);
  assert.doesNotMatch(await two.render(), /profile="synthetic"/);
});

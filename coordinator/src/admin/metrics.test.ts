import assert from 'node:assert/strict';
import { test } from 'node:test';
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

test('the farm’s metrics are exactly these', async () => {
  const families = familiesOf(await createMetrics().render());
  const own = [...families.keys()].filter((name) => name.startsWith('clipfarm_'));
  assert.deepEqual(own.sort(), [
    'clipfarm_agents_refused_total',
    'clipfarm_attempt_failures_total',
    'clipfarm_chunk_commit_seconds',
    'clipfarm_chunk_refusals_total',
    'clipfarm_clip_render_seconds',
    'clipfarm_clips_committed_total',
    'clipfarm_clips_lost_total',
    'clipfarm_clips_pending',
    'clipfarm_clips_rerendered_total',
    'clipfarm_finish_seconds',
    'clipfarm_inputs_expired_total',
    'clipfarm_jobs',
    'clipfarm_jobs_expired_total',
    'clipfarm_journal_append_seconds',
    'clipfarm_journal_appends_refused_total',
    'clipfarm_journal_trouble',
    'clipfarm_journal_troubles_total',
    'clipfarm_leaderships_total',
    'clipfarm_leading',
    'clipfarm_leases_active',
    'clipfarm_leases_total',
    'clipfarm_nats_events_total',
    'clipfarm_nodes',
    'clipfarm_nodes_forgotten_total',
    'clipfarm_schedule_seconds',
    'clipfarm_slots',
    'clipfarm_stale_commits_total',
    'clipfarm_stitched_bytes_total',
    'clipfarm_storage_full',
    'clipfarm_uploads_refused_total',
    'clipfarm_webhook_deliveries_total',
    'clipfarm_webhook_endpoints_failing',
    'clipfarm_webhook_jobs_pending',
  ]);
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

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMetrics } from '../admin/metrics.ts';
import type { JournalTrouble } from '../journal/journal-trouble.ts';
import { collectOfficeGauges } from './gauges.ts';
import { Office } from './office.ts';

test('a scrape says whether this coordinator leads and what keeps its journal from working at that moment', async () => {
  const metrics = createMetrics();
  const office = new Office(() => null);
  let troubles: readonly JournalTrouble[] = [];
  collectOfficeGauges(metrics, office, () => troubles);
  const shown = async () => (await metrics.render()).match(/^clipfarm_(leading|journal_trouble\{.*\}) \d$/gm);
  const quiet = ['connection', 'permission', 'room', 'streams'].map(
    (kind) => `clipfarm_journal_trouble{kind="${kind}"} 0`,
  );
  assert.deepEqual(await shown(), [...quiet, 'clipfarm_leading 0']);
  office.enter(1);
  troubles = [{ kind: 'room', words: 'no room' }];
  const full = quiet.map((line) => line.replace(/room"\} 0/, 'room"} 1'));
  assert.deepEqual(await shown(), [...full, 'clipfarm_leading 1']);
  office.leave();
  troubles = [];
  assert.deepEqual(await shown(), [...quiet, 'clipfarm_leading 0']);
});

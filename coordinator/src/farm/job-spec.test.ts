import assert from 'node:assert/strict';
import { test } from 'node:test';
import { JobSpec } from '@clipfarm/shared/gen/clipfarm/v1/job';
import { checkSpec } from './job-spec.ts';

const spec = (given: Parameters<typeof JobSpec.fromPartial>[0]) =>
  JobSpec.fromPartial({ imageSha256: 'a'.repeat(64), audioSha256: 'b'.repeat(64), ...given });

test('a deadline is a time in the years 1970 to 9999', () => {
  const deadline = (seconds: number) => checkSpec(spec({ deadline: { seconds, nanos: 0 } })).deadline;
  assert.equal(checkSpec(spec({})).deadline, undefined);
  assert.equal(deadline(0), 0);
  assert.equal(new Date(deadline(253_402_300_799) ?? 0).toISOString(), '9999-12-31T23:59:59.000Z');
  for (const seconds of [253_402_300_800, 9e15, -1, -9e15]) {
    assert.throws(() => deadline(seconds), {
      code: 'invalid_argument',
      field: 'deadline',
      message: `deadline: ${seconds} s; accepted is a time in the years 1970 to 9999, 0 to 253402300799 s`,
    });
  }
});

test('names of jobs and owners are one line that can be shown and logged', () => {
  for (const field of ['name', 'owner']) {
    checkSpec(spec({ [field]: 'Vortrag – ‏הרצאה' }));
    for (const bad of ['two\nlines', 'csi\u009b31m', 'turned \u202eround', '\u2067isolated', 'split\u2029']) {
      assert.throws(() => checkSpec(spec({ [field]: bad })), { code: 'invalid_argument', field });
    }
  }
});

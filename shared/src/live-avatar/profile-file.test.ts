import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory } from '../testing/temporary.ts';
import { builtInModelProfile } from './model-profile.ts';
import { parseProfiles, readProfileFile } from './profile-file.ts';

const FULL = `
profiles:
  - name: our-h100            # a comment
    runner: live-avatar
    checkout: /opt/LiveAvatar
    ckpt_dir: /data/Wan2.2-S2V-14B
    lora: /data/liveavatar.safetensors
    python: /opt/venv/bin/python3
    dtype: fp8
    compile: true
    memory_gib_per_gpu: 78
    host_memory_gib: 64.5
    max_units: 66
    unload_idle_minutes: 30
    flags: { trim: 19, verbose: true, note: "a b" }
    env:
      pass: [NCCL_IB_DISABLE]
      set: { TORCHINDUCTOR_CACHE_DIR: /var/cache/inductor }
`;

const least = '{"profiles":[{"name":"a","runner":"live-avatar","checkout":"/c","ckpt_dir":"/w"}]}';

test('a profile of an operator is read with everything in it, and the rest filled in', () => {
  const [profile] = parseProfiles(FULL, 'p.yaml');
  assert.partialDeepStrictEqual(profile, {
    ...{
      name: 'our-h100',
      runner: 'live-avatar',
      checkout: '/opt/LiveAvatar',
      dtype: 'fp8',
      compile: true,
      tpp: false,
    },
    unload_idle_minutes: 30,
    ...{ gpus_per_slot: 1, module: 'live_avatar', warm_up_seconds: 150, load_silence_seconds: 900 },
    flags: { trim: 19, verbose: true, note: 'a b' },
    env: { pass: ['NCCL_IB_DISABLE'], set: { TORCHINDUCTOR_CACHE_DIR: '/var/cache/inductor' } },
  });
});

test('JSON is accepted, and what a profile leaves open comes from the host', () => {
  assert.equal(parseProfiles(least, 'p.json')[0]?.python, 'python3');
  const host = { checkout: '/c', ckpt_dir: '/w', lora: '/l.safetensors', python: '/venv/python' };
  const [own] = parseProfiles('profiles: [{ name: b, runner: live-avatar-cli }]', 'p', host);
  assert.partialDeepStrictEqual(own, { ...host, warm_up_seconds: 200 });
  const [tpp] = parseProfiles('profiles: [{ name: b, runner: live-avatar, tpp: true }]', 'p', host);
  assert.equal(tpp?.gpus_per_slot, 5);
});

for (const [change, message] of [
  ['name: Bad', /profiles\[0\]\.name is "Bad"; accepted: 1 to 60 of a-z/],
  ['name: single-80g', /profiles\[0\]\.name is "single-80g"; accepted: others; this is a built-in profile/],
  ['runner: bash', /profiles\[0\]\.runner is "bash"; accepted: live-avatar, live-avatar-cli, synthetic/],
  ['checkout: opt/x', /profiles\[0\]\.checkout is "opt\/x"; accepted: an absolute path/],
  ['dtype: fp4', /profiles\[0\]\.dtype is "fp4"; accepted: bf16, fp8/],
  ['compile: "yes"', /profiles\[0\]\.compile is "yes"; accepted: a value of type boolean/],
  ['max_units: 99', /profiles\[0\]\.max_units is 99; accepted: at most /],
  [
    'gpus_per_slot: 4',
    /profiles\[0\]\.gpus_per_slot is 4; accepted: 1 without tpp, because nothing .* splits the model/,
  ],
  ['unload_idle_minutes: 0', /profiles\[0\]\.unload_idle_minutes is 0; accepted: at least 0\.1/],
  ['colour: red', /profiles\[0\]\.colour is not known/],
  ['module: "os; rm"', /profiles\[0\]\.module is "os; rm"; accepted: the name of a Python module/],
  [
    'flags: { socket: /tmp/x }',
    /profiles\[0\]\.flags\.socket is "\/tmp\/x"; accepted: others; this one is set by the agent/,
  ],
  ['flags: { "--x": 1 }', /profiles\[0\]\.flags\.--x is 1; accepted: the name of an argument/],
  ['flags: { x: [1] }', /profiles\[0\]\.flags\.x has 1 entry; accepted: true, false, a number/],
  [
    'env: { set: { CUDA_VISIBLE_DEVICES: "0" } }',
    /profiles\[0\]\.env\.set\.CUDA_VISIBLE_DEVICES is "0"; accepted: others; this one is set by the agent/,
  ],
  [
    'env: { pass: [CLIPFARM_TOKEN] }',
    /profiles\[0\]\.env\.pass\[0\] is "CLIPFARM_TOKEN"; accepted: others; this one is not passed to runners/,
  ],
] as const) {
  test(`refuses ${change}, naming the place and what is accepted`, () => {
    const [key = ''] = change.split(':');
    const base: Record<string, string> = { name: 'a', runner: 'live-avatar', checkout: '/c', ckpt_dir: '/w' };
    delete base[key];
    const lines = [...Object.entries(base).map(([name, value]) => `${name}: ${value}`), change];
    const text = `profiles:\n  - ${lines.join('\n    ')}\n`;
    assert.throws(() => parseProfiles(text, 'p.yaml'), { code: 'invalid_argument', message });
  });
}

test('a file that is no list of profiles is refused with the place', async (t) => {
  for (const [text, message] of [
    ['profiles: [', /p\.yaml: is no YAML \(line 1, column \d+\)/],
    ['[]', /accepted: a list "profiles"/],
    ['profiles: {}', /accepted: a list "profiles"/],
    ['profiles: []', /0 profiles; accepted: 1 to 32/],
    ['{profiles: [], more: 1}', /nothing beside it/],
    ['a: &a [1]\nprofiles: [*a]', /is no YAML/],
    [`profiles:\n${`  - ${least.slice(13, -2)}\n`.repeat(2)}`, /profile "a" is there twice/],
    ['profiles: [{ name: a, runner: live-avatar }]', /profiles\[0\]\.checkout: is missing/],
    [
      'profiles: [{ name: a, runner: live-avatar-cli, unload_idle_minutes: 5 }]',
      /profiles\[0\]\.unload_idle_minutes is 5; accepted: nothing; it has no effect with runner live-avatar-cli/,
    ],
    ['profiles: [{ name: a, runner: live-avatar-cli, checkout: /c, ckpt_dir: /w }]', /profiles\[0\]\.lora: is missing/],
  ] as const) {
    assert.throws(() => parseProfiles(text, 'p.yaml'), { code: 'invalid_argument', message }, text);
  }
  const dir = temporaryDirectory(t);
  await assert.rejects(readProfileFile(join(dir, 'none')), { code: 'not_found' });
  writeFileSync(join(dir, 'large'), 'x'.repeat(300_000));
  await assert.rejects(readProfileFile(join(dir, 'large')), { message: /300000 bytes; accepted: at most 262144/ });
  writeFileSync(join(dir, 'p.yaml'), FULL);
  assert.equal((await readProfileFile(join(dir, 'p.yaml'))).length, 1);
});

test('the built-in profiles are what an operator could have written, save the one without a runner', () => {
  const host = { checkout: '/c', ckpt_dir: '/w' };
  assert.partialDeepStrictEqual(builtInModelProfile('single-48g-fp8', host), { name: 'single-48g-fp8', dtype: 'fp8' });
  assert.partialDeepStrictEqual(builtInModelProfile('tpp-5x80g', host), { tpp: true, gpus_per_slot: 5, dtype: 'bf16' });
  const fast = builtInModelProfile('single-80g', host, { dtype: 'bf16', compile: true });
  assert.partialDeepStrictEqual(fast, { dtype: 'bf16', compile: true });
  assert.throws(() => builtInModelProfile('single-80g', {}), { message: /^--checkout: is missing/ });
  assert.throws(() => builtInModelProfile('pipe-4x24g', host), {
    code: 'failed_precondition',
    message: /"pipe-4x24g": has no runner in this version: .*24 GB cards can't render; there is: single-80g, /,
  });
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CLIP_FRAMES, MAX_BASE_SEED } from './clip.ts';
import { parseSettings, type ResolvedSettings, resolveClips, resolveSettings, type SettingsInput } from './settings.ts';

const invalid = (field: string, message: RegExp) => ({ name: 'FarmError', code: 'invalid_argument', field, message });

/** {@link resolveClips} for audio that fills its clips. */
const clipsOf = (settings: ResolvedSettings, audioClips: number, asked: number | undefined) =>
  resolveClips(settings, audioClips * CLIP_FRAMES, asked);

const settingsOf = (input: SettingsInput) => resolveSettings(input).settings;

test('nothing given is the delivery preset with every field decided', () => {
  const expected = {
    settings: {
      preset: 'delivery',
      size: '704*384',
      numClip: undefined,
      sampleSteps: 4,
      inferFrames: 48,
      baseSeed: undefined,
      sampleGuideScale: 0,
      enableOnlineDecode: true,
      sampleSolver: 'euler',
      anchor: 'first_frame',
    },
    notes: [],
  };
  assert.deepEqual(resolveSettings({}), expected);
  assert.deepEqual(resolveSettings({ preset: '', size: undefined }), expected);
});

test('what is given goes before the preset', () => {
  const settings = settingsOf({ preset: 'preview', size: '688x368', sampleSteps: 2, numClip: 7, anchor: 'image' });
  assert.equal(settings.size, '688*368');
  assert.equal(settings.sampleSteps, 2);
  assert.equal(settings.numClip, 7);
  assert.equal(settings.anchor, 'image');
});

test("upstream's own command line is accepted", () => {
  const { settings, notes } = resolveSettings({
    size: '720*400',
    baseSeed: 420,
    inferFrames: 48,
    sampleSteps: 4,
    sampleGuideScale: 0,
    sampleSolver: 'euler',
    enableOnlineDecode: true,
  });
  assert.equal(settings.baseSeed, 420);
  assert.deepEqual(notes, []);
});

test('frames per clip other than 48 are refused with the reason', () => {
  for (const inferFrames of [32, 80, 0, -48, 47, 48.5, Number.NaN]) {
    assert.throws(() => resolveSettings({ inferFrames }), invalid('infer_frames', /accepted: 48, .*32 .*80/));
  }
  for (const inferFrames of [12, 24, 36, 60, 96]) {
    assert.throws(() => resolveSettings({ inferFrames }), invalid('infer_frames', /accepted: 48, .*window/));
  }
});

test('denoising steps outside 1 to 4 are refused with the reason', () => {
  for (const sampleSteps of [1, 2, 3, 4]) assert.equal(settingsOf({ sampleSteps }).sampleSteps, sampleSteps);
  for (const sampleSteps of [0, 5, 40, -1, 3.5, Number.NaN]) {
    assert.throws(() => resolveSettings({ sampleSteps }), invalid('sample_steps', /1, 2, 3 and 4.*KeyError '5'/));
  }
});

test('samplers that upstream lists and does not have are refused', () => {
  for (const sampleSolver of ['unipc', 'dpm++', '', 'Euler']) {
    assert.throws(() => resolveSettings({ sampleSolver }), invalid('sample_solver', /accepted: euler/));
  }
});

test('guidance is refused because it changes nothing', () => {
  assert.throws(
    () => resolveSettings({ sampleGuideScale: 4.5 }),
    invalid('sample_guide_scale', /4\.5; accepted: 0.*changes nothing/),
  );
});

test('an unknown preset or size is refused with the accepted ones', () => {
  assert.throws(() => resolveSettings({ preset: 'ultra' }), invalid('preset', /preview, social, delivery, longform/));
  assert.throws(() => resolveSettings({ size: '640*360' }), invalid('size', /384\*256/));
});

test('a seed is kept when it can be counted up from, drawn when negative, refused otherwise', () => {
  assert.equal(settingsOf({ baseSeed: 0 }).baseSeed, 0);
  assert.equal(settingsOf({ baseSeed: MAX_BASE_SEED }).baseSeed, MAX_BASE_SEED);
  const drawn = resolveSettings({ baseSeed: -1 });
  assert.equal(drawn.settings.baseSeed, undefined);
  assert.match(drawn.notes.join(), /base_seed -1/);
  for (const baseSeed of [MAX_BASE_SEED + 1, 1.5, Number.NaN]) {
    assert.throws(() => resolveSettings({ baseSeed }), invalid('base_seed', /accepted/));
  }
});

test('online decode cannot be turned off above 200 clips and has no effect below', () => {
  assert.match(resolveSettings({ enableOnlineDecode: false }).notes.join(), /no effect/);
  assert.throws(
    () => resolveSettings({ enableOnlineDecode: false, numClip: 201 }),
    invalid('enable_online_decode', /201 clips; accepted: true above 200/),
  );
  const off = settingsOf({ enableOnlineDecode: false });
  assert.equal(clipsOf(off, 200, undefined).clips, 200);
  assert.equal(clipsOf(off, 500, 200).clips, 200);
  assert.throws(() => clipsOf(off, 201, undefined), invalid('enable_online_decode', /201 clips/));
});

test('a preset stops early with a remark that gives the numbers', () => {
  const preview = settingsOf({ preset: 'preview' });
  assert.deepEqual(resolveClips(preview, 1529, undefined), {
    clips: 20,
    notes: ['Renders the first 20 of 32 clips (38.4 s of 61.16 s): preset preview stops there.'],
  });
  assert.deepEqual(clipsOf(preview, 20, undefined), { clips: 20, notes: [] });
  assert.deepEqual(clipsOf(preview, 3, undefined), { clips: 3, notes: [] });
});

test('a number of clips that was asked for goes before the cap of the preset', () => {
  assert.equal(clipsOf(settingsOf({ preset: 'preview', numClip: 30 }), 32, 30).clips, 30);
});

test('more clips than the audio has are refused, naming both numbers', () => {
  const settings = settingsOf({ numClip: 10_000 });
  assert.throws(() => resolveClips(settings, 1529, 10_000), {
    ...invalid('num_clip', /10000, but the audio has 32 clips \(61\.16 s\); accepted: 1 to 32/),
    hint: /Leave num_clip out/,
  });
});

test('no clips, or a part of one, are refused', () => {
  for (const numClip of [0, -1, 1.5, Number.NaN]) {
    assert.throws(() => resolveSettings({ numClip }), invalid('num_clip', /1 or more/));
    assert.throws(() => clipsOf(settingsOf({}), 32, numClip), invalid('num_clip', /1 or more/));
  }
  assert.throws(() => clipsOf(settingsOf({}), 0, undefined), invalid('audio', /0/));
});

test('the clips of a job are never more than the audio has nor fewer than one', () => {
  const audio = fc.integer({ min: 1, max: 5000 });
  const preset = fc.constantFrom('preview', 'social', 'delivery', 'longform');
  fc.assert(
    fc.property(audio, preset, fc.option(fc.integer({ min: 1, max: 5000 }), { nil: undefined }), (has, name, asked) => {
      const settings = settingsOf({ preset: name, numClip: asked });
      if (asked !== undefined && asked > has) {
        assert.throws(() => clipsOf(settings, has, asked), { field: 'num_clip' });
        return;
      }
      const { clips, notes } = clipsOf(settings, has, asked);
      assert.equal(clips, asked ?? Math.min(has, settings.numClip ?? has));
      assert.equal(notes.length, clips < has ? 1 : 0);
    }),
  );
});

test('untyped settings are checked for names and types', () => {
  assert.deepEqual(parseSettings({ preset: 'social', numClip: 3 }), { preset: 'social', numClip: 3 });
  assert.throws(() => parseSettings({ num_clip: 3 }), invalid('num_clip', /not a render setting; accepted: .*numClip/));
  assert.throws(() => parseSettings({ sampleSteps: '4' }), invalid('sample_steps', /expected number/));
  assert.throws(() => parseSettings({ anchor: 'last' }), invalid('anchor', /first_frame/));
  assert.throws(() => parseSettings(null), invalid('settings', /expected object/));
});

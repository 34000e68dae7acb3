import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ARTICLE_RULES, DEFAULT_PRESET, PRESET_NAMES, PRESETS, presetOf } from './presets.ts';
import { resolveSettings } from './settings.ts';
import { USABLE_SIZES } from './size.ts';

test('every preset renders on its own, at a size that fits every image', () => {
  assert.deepEqual(
    PRESETS.map((preset) => preset.name),
    [...PRESET_NAMES],
  );
  const usable: readonly string[] = USABLE_SIZES;
  for (const preset of PRESETS) {
    const { settings, notes } = resolveSettings({ preset: preset.name });
    assert.equal(settings.size, preset.settings.size);
    assert.ok(usable.includes(settings.size));
    assert.equal(settings.sampleSteps, preset.settings.sampleSteps);
    assert.equal(settings.numClip, preset.settings.numClip);
    assert.deepEqual(notes, []);
  }
});

test('every value of the articles that the farm does not take as it is carries a reason', () => {
  for (const preset of PRESETS) {
    const { settings } = resolveSettings({ preset: preset.name });
    const farm: Readonly<Record<string, unknown>> = {
      size: settings.size,
      num_clip: settings.numClip,
      sample_steps: settings.sampleSteps,
      sample_guide_scale: settings.sampleGuideScale,
      infer_frames: settings.inferFrames,
      enable_online_decode: settings.enableOnlineDecode,
    };
    for (const [field, value] of Object.entries(preset.article)) {
      const explained = preset.corrections.some((correction) => correction.field === field);
      assert.ok(farm[field] === value || explained, `${preset.name} ${field}`);
    }
    for (const { field } of preset.corrections) assert.ok(field in preset.article, `${preset.name} ${field}`);
  }
});

test('corrections and rules say what, what instead and why', () => {
  const all = [...PRESETS.flatMap((preset) => preset.corrections), ...ARTICLE_RULES];
  for (const { field, article, farm, why } of all) {
    for (const text of [field, article, farm, why]) assert.ok(text.length > 0);
  }
  assert.match(JSON.stringify(PRESETS[0]?.corrections), /32.*48.*crashes in its second clip/);
  assert.match(JSON.stringify(ARTICLE_RULES), /KeyError '5'/);
});

test('only the preview stops early', () => {
  assert.deepEqual(
    PRESETS.filter((preset) => preset.settings.numClip !== undefined).map((preset) => preset.name),
    ['preview'],
  );
});

test('a preset is found by name, an unknown one refused with the names', () => {
  assert.equal(presetOf(DEFAULT_PRESET).name, 'delivery');
  assert.throws(() => presetOf('fast'), {
    name: 'FarmError',
    code: 'invalid_argument',
    field: 'preset',
    message: 'preset is "fast"; accepted: preview, social, delivery, longform',
  });
  assert.throws(() => presetOf('toString'), { field: 'preset' });
});

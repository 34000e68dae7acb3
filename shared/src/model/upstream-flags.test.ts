import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settingsInput } from './settings.ts';
import { UPSTREAM_FLAGS } from './upstream-flags.ts';

/** Every flag of upstream's s2v_streaming_interact.py. */
const EXPECTED = `
  task size frame_num ckpt_dir offload_model ulysses_size t5_fsdp t5_cpu dit_fsdp save_file save_dir prompt
  use_prompt_extend prompt_extend_method prompt_extend_model prompt_extend_target_lang base_seed image sample_solver
  sample_steps sample_shift sample_guide_scale convert_model_dtype num_clip audio enable_tts tts_prompt_audio
  tts_prompt_text tts_text pose_video start_from_ref infer_frames load_lora lora_path lora_path_dmd training_config
  use_dataset dataset_sample_idx drop_motion_noisy single_gpu using_merged_ckpt num_gpus_dit enable_vae_parallel
  offload_kv_cache enable_online_decode fp8`;

test('every flag of the upstream script has one verdict and a reason', () => {
  const expected = EXPECTED.trim()
    .split(/\s+/)
    .map((name) => `--${name}`);
  assert.deepEqual(UPSTREAM_FLAGS.map((entry) => entry.flag).sort(), expected.sort());
  for (const { flag, why } of UPSTREAM_FLAGS) assert.ok(why.length > 0, flag);
});

test('every render setting that is an upstream flag is marked as used', () => {
  const ours = new Set(['preset', 'anchor']);
  for (const key of Object.keys(settingsInput.shape).filter((name) => !ours.has(name))) {
    const flag = `--${key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`;
    assert.equal(UPSTREAM_FLAGS.find((entry) => entry.flag === flag)?.verdict, 'used', flag);
  }
});

test('what the farm cannot do is refused, what belongs to a host is ignored', () => {
  const flags = (verdict: string) => UPSTREAM_FLAGS.filter((row) => row.verdict === verdict).map((row) => row.flag);
  for (const flag of ['--enable_tts', '--pose_video', '--use_prompt_extend']) {
    assert.ok(flags('refused').some((name) => name === flag));
  }
  for (const flag of ['--fp8', '--ckpt_dir', '--offload_model', '--num_gpus_dit']) {
    assert.ok(flags('ignored').some((name) => name === flag));
  }
});

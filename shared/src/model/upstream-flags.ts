/** What becomes of each flag of upstream's own scripts when somebody pastes their command line. */

/** `used`: the farm acts on it. `ignored`: it has no part in a job. `refused`: the farm cannot do what it asks. */
export type FlagVerdict = 'used' | 'ignored' | 'refused';

/** A flag of upstream's s2v_streaming_interact.py. */
export interface UpstreamFlag {
  readonly flag: `--${string}`;
  /** False for a switch that stands alone. */
  readonly takesValue: boolean;
  readonly verdict: FlagVerdict;
  readonly why: string;
}

const profile = "belongs to the node's profile";
const dead = 'upstream accepts it and never acts on it';
const tts = 'the farm takes finished audio; make the speech first and give it with --audio';
const extend = 'the farm renders the prompt as written';

type Row = readonly [name: string, takesValue: boolean, verdict: FlagVerdict, why: string];

const rows: readonly Row[] = [
  ['task', true, 'ignored', 'every job is s2v-14B, the only task that this model does'],
  ['size', true, 'used', "budget of pixels; the picture takes the image's aspect"],
  ['frame_num', true, 'ignored', dead],
  ['ckpt_dir', true, 'ignored', profile],
  ['offload_model', true, 'ignored', profile],
  ['ulysses_size', true, 'ignored', profile],
  ['t5_fsdp', false, 'ignored', profile],
  ['t5_cpu', false, 'ignored', profile],
  ['dit_fsdp', false, 'ignored', profile],
  ['save_file', true, 'ignored', 'the coordinator keeps the video; it is downloaded from there'],
  ['save_dir', true, 'ignored', 'the coordinator keeps the video; it is downloaded from there'],
  ['prompt', true, 'used', 'text given to the model'],
  ['use_prompt_extend', false, 'refused', `${extend}; extend it before you submit`],
  ['prompt_extend_method', true, 'ignored', extend],
  ['prompt_extend_model', true, 'ignored', extend],
  ['prompt_extend_target_lang', true, 'ignored', extend],
  ['base_seed', true, 'used', 'seed of the first clip; clip r uses base_seed + r'],
  ['image', true, 'used', 'the portrait'],
  ['sample_solver', true, 'used', 'euler only'],
  ['sample_steps', true, 'used', '1 to 4'],
  ['sample_shift', true, 'ignored', 'upstream always uses 3'],
  ['sample_guide_scale', true, 'used', '0 only; upstream never reads it'],
  ['convert_model_dtype', false, 'ignored', profile],
  ['num_clip', true, 'used', 'number of clips, at most what the audio has; leave it out for all'],
  ['audio', true, 'used', 'the speech'],
  ['enable_tts', false, 'refused', tts],
  ['tts_prompt_audio', true, 'refused', tts],
  ['tts_prompt_text', true, 'refused', tts],
  ['tts_text', true, 'refused', tts],
  ['pose_video', true, 'refused', 'the farm renders from image and audio only'],
  ['start_from_ref', false, 'ignored', dead],
  ['infer_frames', true, 'used', '48 only'],
  ['load_lora', false, 'ignored', profile],
  ['lora_path', true, 'ignored', dead],
  ['lora_path_dmd', true, 'ignored', profile],
  ['training_config', true, 'ignored', profile],
  ['use_dataset', false, 'ignored', dead],
  ['dataset_sample_idx', true, 'ignored', dead],
  ['drop_motion_noisy', false, 'ignored', dead],
  ['single_gpu', false, 'ignored', profile],
  ['using_merged_ckpt', false, 'ignored', dead],
  ['num_gpus_dit', true, 'ignored', profile],
  ['enable_vae_parallel', false, 'ignored', profile],
  ['offload_kv_cache', false, 'ignored', profile],
  ['enable_online_decode', false, 'used', 'always on in the farm'],
  ['fp8', false, 'ignored', profile],
];

/** Every flag of upstream's script, in its order. */
export const UPSTREAM_FLAGS: readonly UpstreamFlag[] = rows.map(([name, takesValue, verdict, why]) => ({
  flag: `--${name}`,
  takesValue,
  verdict,
  why,
}));

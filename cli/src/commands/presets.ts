import { ARTICLE_RULES, type Correction, PRESETS, type Preset } from '@clipfarm/shared/model/presets';
import { exitCode } from '../exit-code.ts';
import type { Style } from '../render/style.ts';
import { fields } from '../render/table.ts';
import { act, examples, type Handler, type Register } from './register.ts';

/** `clipfarm presets` */
export const registerPresets: Register = (program, run) => {
  const command = program
    .command('presets')
    .description(
      'Shows the presets: what each sets, and where and why it departs from what popular articles recommend.',
    )
    .addHelpText('after', examples(['clipfarm presets', 'clipfarm presets -o json']));
  act(command, run, showPresets);
};

const INTRODUCTION = [
  'Popular articles on Live Avatar recommend groups of flags for such purposes. The presets follow them, save where that',
  'crashes the model, changes nothing, or cuts the video short; what is done instead, and why, stands below each.',
  '',
];

const showPresets: Handler = async (context) => {
  if (context.json) context.printJson({ presets: PRESETS, rules: ARTICLE_RULES });
  else
    context.print([
      ...INTRODUCTION,
      ...PRESETS.flatMap((preset) => presetLines(preset, context.style)),
      ...ruleLines(context.style),
    ]);
  return exitCode.ok;
};

function presetLines(preset: Preset, style: Style): string[] {
  const { size, sampleSteps, numClip } = preset.settings;
  const pairs: [string, string][] = [
    ['size', size],
    ['sample_steps', String(sampleSteps)],
    ['num_clip', numClip === undefined ? 'as many as the audio has' : `at most ${numClip}`],
  ];
  return [
    `${style.bold(preset.name)}  ${preset.summary}`,
    ...fields(pairs, style),
    ...correctionLines(preset.corrections, style),
    '',
  ];
}

function ruleLines(style: Style): string[] {
  return [style.bold('What those articles say of every preset'), ...correctionLines(ARTICLE_RULES, style)];
}

function correctionLines(corrections: readonly Correction[], style: Style): string[] {
  return corrections.flatMap(({ field, article, farm, why }) => [
    `  ${style.warn(field)}: articles recommend ${article}; the farm: ${farm}`,
    `    ${style.dim(why)}`,
  ]);
}

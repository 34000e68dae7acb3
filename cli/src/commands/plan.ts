import { FarmError } from '@clipfarm/shared/errors';
import { PlanJobResponse } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import type { Context } from '../context.ts';
import { exitCode } from '../exit-code.ts';
import { addJobOptions, type RawOptions } from '../job-options.ts';
import { readJobRequest } from '../job-request.ts';
import { isFeasible, planAdvice, planReport } from '../render/plan-report.ts';
import { asTyped } from '../render/program-name.ts';
import { nodesOf } from './finished-job.ts';
import { persistence } from './persist.ts';
import { namingFiles, PREPARE_MS, sendInputs } from './prepare-job.ts';
import { act, examples, type Register } from './register.ts';

/** `clipfarm plan` */
export const registerPlan: Register = (program, run) => {
  const command = program
    .command('plan')
    .summary('Says what a job would be and take, without rendering it.')
    .description(
      'Says what a job would be and take, without rendering it: picture, clips, length, corrected settings, which slots ' +
        'fit and why others do not, time and GPU-hours. Sends image and audio, so that a later submit need not.',
    );
  addJobOptions(command).addHelpText(
    'after',
    examples([
      'clipfarm plan --image me.png --audio talk.mp3 --preset longform',
      'clipfarm plan --image me.png --audio talk.mp3 --size "720*400" || echo "no slot fits"',
    ]),
  );
  act(command, run, planJob);
};

async function planJob(context: Context, _operands: readonly string[], options: RawOptions): Promise<number> {
  const request = await readJobRequest(options, context.shell.clock.now());
  return context.withFarm(async (farm) => {
    const patience = persistence(context, farm);
    await sendInputs(context, farm, patience, request);
    const response = await patience.run(() =>
      namingFiles(request, () => farm.call(farm.client.planJob, { spec: request.spec }, PREPARE_MS)),
    );
    const { plan } = response;
    if (plan === undefined) throw new FarmError('internal', 'the coordinator answered without a plan');
    if (context.json) {
      context.printJson(PlanJobResponse.toJSON(response));
    } else {
      const notes = [...new Set([...request.notes, ...plan.notes])];
      const { coordinator, style } = context;
      const nodes = await nodesOf(farm);
      const advice = planAdvice(plan, nodes, coordinator, style);
      const report = [...planReport({ ...plan, notes }, request.spec.deadline, nodes, style), ...advice];
      context.print(report.map((line) => asTyped(line, context.shell.environment.program)));
    }
    return isFeasible(plan) ? exitCode.ok : exitCode.noVideo;
  });
}

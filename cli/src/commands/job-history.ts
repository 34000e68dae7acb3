import { ListJobEventsResponse } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import { exitCode } from '../exit-code.ts';
import type { Connection } from '../farm/connection.ts';
import { flagValue } from '../job-options.ts';
import { historyLines } from '../render/job-history.ts';
import { noteStale } from '../render/stale.ts';
import { parseInteger } from '../values.ts';
import { nodesOf } from './finished-job.ts';
import type { Handler } from './register.ts';

/** Events a page; the coordinator's limit. */
const MAX_PAGE = 500;

/** Events that are shown where nothing else is said. */
export const DEFAULT_EVENTS = 500;

/** `clipfarm job history` */
export const showHistory: Handler = async (context, [jobId = ''], options) => {
  const limit = parseInteger('limit', flagValue(options, 'limit') ?? `${DEFAULT_EVENTS}`, 1, 1_000_000);
  return context.withFarm(async (farm) => {
    const response = await collect(farm, jobId, limit);
    noteStale(context, response);
    if (context.json) {
      context.printJson(ListJobEventsResponse.toJSON(response));
      return exitCode.ok;
    }
    if (response.nextPageToken !== '') {
      context.note(`the newest ${response.events.length} events; for earlier ones add --limit ${limit * 2}`);
    }
    context.print(historyLines(response.events.toReversed(), await nodesOf(farm), context.style));
    return exitCode.ok;
  });
};

async function collect(farm: Connection, idOrPrefix: string, limit: number): Promise<ListJobEventsResponse> {
  const request = { jobId: idOrPrefix, pageToken: '' };
  for (const events: ListJobEventsResponse['events'] = []; ; ) {
    const pageSize = Math.min(MAX_PAGE, limit - events.length);
    const page = await farm.call(farm.client.listJobEvents, { ...request, pageSize });
    events.push(...page.events);
    if (page.nextPageToken === '' || events.length >= limit) return { ...page, events };
    // The beginning of its identity may fit another job by now.
    request.jobId = page.jobId;
    request.pageToken = page.nextPageToken;
  }
}

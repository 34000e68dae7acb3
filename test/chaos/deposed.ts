/** A coordinator began to lead; milliseconds since 1970. */
export interface Lead {
  readonly at: number;
  readonly coordinator: number;
  readonly term: number;
}

/** How long the news that a leader ended its links takes to be logged; milliseconds. */
const NEWS_MILLIS = 3000;

/**
 * Leaders that went on to believe so when another led already, and the agents that were linked to them then.
 *
 * @param ended when coordinators laid their work down because another may lead; milliseconds since 1970
 * @param broken when agents heard from a coordinator that it ended their link because of that
 */
export function deposedLeaders(
  leads: readonly Lead[],
  ended: readonly Omit<Lead, 'term'>[],
  broken: readonly number[],
): { readonly deposed: number; readonly deposedLinks: number } {
  const deposed = ended.filter(({ at, coordinator }) => {
    const own = Math.max(...leads.filter((lead) => lead.coordinator === coordinator && lead.at <= at).map(termOf));
    return leads.some((lead) => lead.term > own && lead.at < at);
  });
  const links = broken.filter((heard) =>
    deposed.some(({ at }) => heard >= at - NEWS_MILLIS && heard < at + NEWS_MILLIS),
  );
  return { deposed: deposed.length, deposedLinks: links.length };
}

function termOf({ term }: Lead): number {
  return term;
}

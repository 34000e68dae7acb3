import type { ListNodesRequest, ListNodesResponse } from '@clipfarm/shared/gen/clipfarm/v1/farm_service';
import type { Node } from '@clipfarm/shared/gen/clipfarm/v1/node';

/**
 * All nodes, page after page.
 *
 * @param ask asks a coordinator for one page
 * @throws what `ask` throws
 */
export async function allNodes(ask: (request: ListNodesRequest) => Promise<ListNodesResponse>): Promise<Node[]> {
  const nodes: Node[] = [];
  for (let pageToken = ''; ; ) {
    const page = await ask({ knowsLeft: true, pageToken });
    nodes.push(...page.nodes);
    if (page.nextPageToken === '') return nodes;
    pageToken = page.nextPageToken;
  }
}

import type { AttachResponse } from '@clipfarm/shared/gen/clipfarm/v1/agent_service';

/** The open end of an agent's stream. */
export interface Link {
  /** Queues a message; the link closes itself when too many wait. */
  send(message: NonNullable<AttachResponse['message']>): void;
  /** Ends the stream. */
  close(reason: string): void;
}

/** Which agent is reachable through which stream. A node has at most one; the latest wins. */
export class Links {
  readonly #links = new Map<string, Link>();

  /** Makes `link` the node's, and closes the one before. */
  open(nodeId: string, link: Link): void {
    const before = this.#links.get(nodeId);
    this.#links.set(nodeId, link);
    before?.close('the node attached again');
  }

  /** Forgets `link`; false when the node has another one by now. */
  closed(nodeId: string, link: Link): boolean {
    return this.#links.get(nodeId) === link && this.#links.delete(nodeId);
  }

  /** Sends to a node if it is attached; what is missed is made good when it attaches again. */
  send(nodeId: string, message: NonNullable<AttachResponse['message']>): void {
    this.#links.get(nodeId)?.send(message);
  }

  /** Ends every stream. */
  closeAll(reason: string): void {
    for (const link of this.#links.values()) link.close(reason);
    this.#links.clear();
  }
}

// The contexts on the screen Now: those in flight and the latest that have ended, as lists and events report them.
import { getContexts } from "./api.js";
import { hasEnded } from "./statuses.js";

const PAGE_SIZE = 200;
const MAX_ENDED = 500;
/** Statuses listed separately, so that no context in flight is missed. */
const LISTED_STATUSES = ["queued", "executing", "input_required"];

export class ContextFeed {
  /** @type {Map<string, Context>} */
  #contexts = new Map();
  /** Statuses of which there are more contexts than were listed. @type {Set<string>} */
  #cappedStatuses = new Set();

  /**
   * Loads the lists.
   * @returns {Promise<void>}
   */
  async load() {
    const startedAt = new Date().toISOString();
    const limit = String(PAGE_SIZE);
    const [latest, ...lists] = await Promise.all([
      getContexts({ limit }),
      ...LISTED_STATUSES.map((status) => getContexts({ limit, status })),
    ]);
    const contexts = [latest, ...lists].flatMap(({ data }) => data);
    this.#cappedStatuses = new Set(LISTED_STATUSES.filter((_, at) => lists[at]?.next_cursor));
    this.#takeListed(contexts);
    this.#dropUnlisted(new Set(contexts.map(({ id }) => id)), startedAt);
  }

  /**
   * @param {Context[]} listed
   * @returns {void}
   */
  #takeListed(listed) {
    for (const context of listed) {
      const known = this.#contexts.get(context.id);
      const isNewer = known && known.updated_at > context.updated_at;
      // Events are newer than the lists.
      if (!isNewer) this.#contexts.set(context.id, context);
    }
  }

  /**
   * Drops contexts in flight that a complete list no longer has: they have ended, and no event reported it.
   * @param {Set<string>} listedIds
   * @param {string} startedAt
   * @returns {void}
   */
  #dropUnlisted(listedIds, startedAt) {
    for (const [id, context] of this.#contexts) {
      const isOnCompleteList = !hasEnded(context) && !this.#cappedStatuses.has(context.status);
      if (isOnCompleteList && !listedIds.has(id) && context.updated_at < startedAt) this.#contexts.delete(id);
    }
  }

  /**
   * @param {StreamEvent} event
   * @returns {boolean} whether it changed a context
   */
  takeEvent({ type, subject, time, data }) {
    if (!type.startsWith("context.") || !data.status) return false;
    this.#contexts.set(subject, {
      execution_time_ms: null,
      // Events do not contain `run_at`.
      run_at: this.#contexts.get(subject)?.run_at,
      ...data,
      progress: data.progress && { data: data.progress },
      id: subject,
      updated_at: time,
    });
    return true;
  }

  /**
   * All contexts, most recently changed first.
   * @returns {Context[]}
   */
  all() {
    const sorted = [...this.#contexts.values()].sort((one, other) => (one.updated_at < other.updated_at ? 1 : -1));
    for (const { id } of sorted.filter(hasEnded).slice(MAX_ENDED)) this.#contexts.delete(id);
    return sorted;
  }

  /**
   * The current state of a context. One that has dropped out has ended, and no event reported how.
   * @param {Context} context
   * @returns {Context}
   */
  current(context) {
    const known = this.#contexts.get(context.id);
    if (known) return known;
    return hasEnded(context) ? context : { ...context, status: "ended", progress: null };
  }

  /**
   * Whether there may be more contexts with these statuses than are known here.
   * @param {string[]} statuses
   * @returns {boolean}
   */
  isCapped(statuses) {
    return statuses.some((status) => this.#cappedStatuses.has(status));
  }
}

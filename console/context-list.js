// The contexts that match a filter: pages of each status, merged by time and kept up to date by events.
import { getContexts } from "./api.js";
import { STATUS_GROUPS } from "./statuses.js";

export const PAGE_SIZE = 50;
/** How many rows may accumulate, besides those that the user asked for. */
export const MAX_GATHERED = 500;

/**
 * The list of one status, or of all.
 * @typedef {object} Stream
 * @property {string | undefined} status
 * @property {string | null} nextCursor where the next page begins
 * @property {string} oldest how far back contexts are known; empty before the first page
 * @property {string} newest the time of the newest context on the first page
 */

/** After all times: nothing is known without a gap. */
const NOTHING_KNOWN = "~";

/** Called with a context that left the list without an event. @typedef {(context: Context) => void} OnGone */

export class ContextList {
  /** @type {Record<string, string>} */
  #filters;
  /** @type {Stream[]} */
  #streams;
  /** @type {Map<string, Context>} */
  #contexts = new Map();
  /** How many the user asked for, beyond the first page. */
  #requestedCount = 0;

  /** @param {URLSearchParams} query */
  constructor(query) {
    const { status, ...filters } = Object.fromEntries(query);
    const statuses = status ? (STATUS_GROUPS[status] ?? [status]) : [undefined];
    this.#filters = filters;
    this.#streams = statuses.map((one) => ({ status: one, nextCursor: null, oldest: "", newest: "" }));
  }

  /** @returns {number} */
  get size() {
    return this.#contexts.size;
  }

  /** @returns {Map<string, Context>} by id */
  byId() {
    return new Map(this.#contexts);
  }

  /** @returns {boolean} */
  hasOlder() {
    return this.#streams.some(({ nextCursor }) => nextCursor);
  }

  /**
   * The contexts that are known without a gap, newest first.
   * @returns {Context[]}
   */
  items() {
    const horizon = this.#horizon();
    const known = [...this.#contexts.values()];
    const listed = known.filter((context) => this.#fits(context) && context.created_at >= horizon);
    return listed.sort((one, other) => (one.created_at < other.created_at ? 1 : -1));
  }

  /**
   * Applies a context as an event reports it.
   * @param {Context} context
   * @returns {void}
   */
  take(context) {
    if (!this.#fits(context)) this.#contexts.delete(context.id);
    else if (this.#contexts.has(context.id) || context.created_at >= this.#horizon()) {
      this.#contexts.set(context.id, context);
    }
  }

  /**
   * Reloads the first page of each stream.
   * @param {number} limit
   * @param {OnGone} onGone
   * @returns {Promise<void>}
   */
  async refresh(limit, onGone) {
    await Promise.all(this.#streams.map((stream) => this.#readFirstPage(stream, limit, onGone)));
  }

  /**
   * Loads the next page of the streams that reach back least.
   * @returns {Promise<void>}
   */
  async loadOlder() {
    const horizon = this.#horizon();
    const shortest = this.#streams.filter(({ nextCursor, oldest }) => nextCursor && oldest === horizon);
    await Promise.all(shortest.map((stream) => this.#readNextPage(stream)));
  }

  /**
   * The time back to which all streams are loaded.
   * @returns {string}
   */
  #horizon() {
    const unfinished = this.#streams.filter(({ nextCursor }) => nextCursor);
    return unfinished.reduce((latest, { oldest }) => (oldest > latest ? oldest : latest), "");
  }

  /**
   * @param {Context} context
   * @returns {boolean}
   */
  #fits({ status }) {
    return this.#streams.some((stream) => stream.status === undefined || stream.status === status);
  }

  /**
   * @param {Stream} stream
   * @param {Record<string, string>} paging
   * @returns {Promise<Page<Context>>}
   */
  #read({ status }, paging) {
    return getContexts({ ...paging, ...this.#filters, ...(status && { status }) });
  }

  /**
   * @param {Stream} stream
   * @param {number} limit
   * @param {OnGone} onGone
   * @returns {Promise<void>}
   */
  async #readFirstPage(stream, limit, onGone) {
    const before = this.byId();
    const page = await this.#read(stream, { limit: String(limit) });
    const isFirst = stream.oldest === "";
    const startsOver = !isFirst && this.#leavesGap(stream, page);
    if (startsOver) this.#forget(stream);
    // After newer contexts have left the list, its first page may reach back further than all pages before.
    if (isFirst || startsOver || oldestOf(page) < stream.oldest) setReach(stream, page);
    stream.newest = page.data[0]?.created_at ?? "";
    this.#dropUnlisted(stream, page, before, onGone);
    this.#takeListed(page.data);
  }

  /**
   * @param {Stream} stream
   * @returns {Promise<void>}
   */
  async #readNextPage(stream) {
    const cursor = stream.nextCursor ?? "";
    const page = await this.#read(stream, { limit: String(PAGE_SIZE), cursor });
    // If the stream has started over in between, this page does not follow what is known.
    if (cursor !== stream.nextCursor) return;
    this.#requestedCount += page.data.length;
    setReach(stream, page);
    this.#takeListed(page.data);
  }

  /**
   * Whether a stream has to start over with a first page: the page does not reach back to what is known, or more is
   * known than a screen needs. Older contexts are read again when the user asks for them.
   * @param {Stream} stream
   * @param {Page<Context>} page
   * @returns {boolean}
   */
  #leavesGap(stream, { data, next_cursor }) {
    if (!next_cursor) return false;
    const isTooMuch = this.#contexts.size > MAX_GATHERED + this.#requestedCount;
    const oldest = data.at(-1)?.created_at;
    return isTooMuch || (oldest !== undefined && oldest > stream.newest);
  }

  /**
   * @param {Stream} stream
   * @returns {void}
   */
  #forget(stream) {
    for (const [id, { status }] of this.#contexts) {
      if (!stream.status || status === stream.status) this.#contexts.delete(id);
    }
    this.#requestedCount = 0;
  }

  /**
   * Drops what a first page should contain and does not, unless it changed while the page was read.
   * @param {Stream} stream
   * @param {Page<Context>} page
   * @param {Map<string, Context>} before
   * @param {OnGone} onGone
   * @returns {void}
   */
  #dropUnlisted(stream, { data, next_cursor }, before, onGone) {
    const reach = next_cursor ? data.at(-1)?.created_at : "";
    if (reach === undefined) return;
    const listedIds = new Set(data.map(({ id }) => id));
    for (const [id, context] of this.#contexts) {
      const isOfStream = !stream.status || context.status === stream.status;
      const isUnchanged = before.get(id) === context;
      if (!isOfStream || listedIds.has(id) || !isUnchanged || context.created_at <= reach) continue;
      this.#contexts.delete(id);
      onGone({ ...context, status: stream.status ? `no_longer_${stream.status}` : "gone" });
    }
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
}

/**
 * @param {Stream} stream
 * @param {Page<Context>} page the last one that was read
 * @returns {void}
 */
function setReach(stream, page) {
  stream.nextCursor = page.next_cursor;
  // An empty page with a cursor has only searched: nothing more is known.
  if (page.data.length > 0 || !page.next_cursor) stream.oldest = oldestOf(page);
  else if (stream.oldest === "") stream.oldest = NOTHING_KNOWN;
}

/**
 * @param {Page<Context>} page
 * @returns {string} how far back it reaches; before all times if nothing is listed
 */
const oldestOf = ({ data }) => data.at(-1)?.created_at ?? "-";

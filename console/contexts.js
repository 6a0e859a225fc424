// The screen Contexts: a search, newest first.
import { badge, button, time } from "./components.js";
import { ContextList, MAX_GATHERED, PAGE_SIZE } from "./context-list.js";
import { fill, h } from "./dom.js";
import { fieldsFor } from "./fields.js";
import { buildForm } from "./form.js";
import { dateAndTime, duration } from "./format.js";
import { follow } from "./live.js";
import { currentIdentity } from "./session.js";
import { ENDED_STATUSES, ERROR_CODES, isScheduled, LIVE_STATUSES, shownStatus, STATUS_GROUPS } from "./statuses.js";
import { SteadyList } from "./steady-list.js";

const MAX_PAGE_SIZE = 200;
const RELOAD_MS = 500;

const SEARCH = {
  properties: {
    id: { title: "Context ID", type: "string", examples: ["ctx_…"] },
    status: {
      title: "Status",
      enum: [...Object.keys(STATUS_GROUPS), ...LIVE_STATUSES, ...ENDED_STATUSES],
      titles: ["any waiting", "any ended", ...LIVE_STATUSES, ...ENDED_STATUSES],
      noneLabel: "any",
    },
    capability: { title: "Capability", type: "string" },
    service: { title: "Service", type: "string" },
    error_code: { title: "Error code", enum: Object.keys(ERROR_CODES), noneLabel: "any" },
    created_after: { title: "Created after", type: "string", format: "local-time" },
    created_before: { title: "Created before", type: "string", format: "local-time" },
  },
};

/**
 * The list as the user left it, for returning to it; another identity must not see it.
 * @type {{ search: string, list: ContextList, identity: unknown } | undefined}
 */
let lastList;

/**
 * @param {Visit} visit
 * @returns {Promise<void>}
 */
export async function contexts({ view, query, signal, isReturn }) {
  const search = query.toString();
  const identity = currentIdentity();
  const isKnown = isReturn && lastList?.search === search && lastList.identity === identity;
  const list = isKnown && lastList ? lastList.list : new ContextList(query);
  lastList = { search, list, identity };

  const screen = new ContextsScreen(list, { isFiltered: query.size > 0, isReturn, signal });
  const load = () => screen.load();
  follow({ signal, everyMs: RELOAD_MS, load, onEvent: (event) => screen.takeEvent(event) });
  if (list.size > 0) screen.draw();
  else await load();
  fill(view, h("h1", "Contexts"), h("search", buildSearch(query)), screen.elements);
  if (isReturn) void load().catch(() => {});
}

/**
 * @param {URLSearchParams} query
 * @returns {HTMLFormElement}
 */
function buildSearch(query) {
  /** @param {Record<string, string>} values */
  function search({ id, ...filters }) {
    location.hash = id ? `#/contexts/${encodeURIComponent(id)}` : `#/contexts?${new URLSearchParams(filters)}`;
  }
  const fields = fieldsFor(SEARCH, "", Object.fromEntries(query));
  return buildForm({ fields, submitLabel: "Search", send: search });
}

class ContextsScreen {
  #list;
  #isFiltered;
  /** Each context as it was last seen, also after the filter no longer fits it. @type {Map<string, Context>} */
  #lastSeen;
  /** How many were created since the last load, so that the next page includes them all. */
  #createdCount;
  /** Whether an event has arrived since the last load. */
  #hasHeard = false;
  #rowList = h("ul.rows.plain");
  #more = h("div");
  #rows;
  elements;

  /**
   * @param {ContextList} list
   * @param {{ isFiltered: boolean, isReturn: boolean, signal: AbortSignal }} options
   */
  constructor(list, { isFiltered, isReturn, signal }) {
    this.#list = list;
    this.#isFiltered = isFiltered;
    this.#lastSeen = list.byId();
    this.#createdCount = isReturn ? MAX_PAGE_SIZE : 0;
    this.#rows = new SteadyList({
      element: this.#rowList,
      name: "Contexts",
      signal,
      buildRow,
      current: (context) => this.#lastSeen.get(context.id) ?? context,
    });
    this.elements = [h("div", h("div.floating", this.#rows.news), this.#rowList), this.#more];
  }

  /** @returns {Promise<void>} */
  async load() {
    // Without events, any known context may have changed: load as many as are known.
    const known = this.#hasHeard ? 0 : this.#list.size;
    const limit = Math.min(MAX_PAGE_SIZE, Math.max(PAGE_SIZE + this.#createdCount, known));
    this.#createdCount = 0;
    this.#hasHeard = false;
    await this.#list.refresh(limit, (gone) => this.#lastSeen.set(gone.id, gone));
    this.draw();
  }

  /** @returns {void} */
  draw() {
    const items = this.#list.items();
    this.#trimLastSeen(items.length);
    for (const context of items) this.#lastSeen.set(context.id, context);
    this.#rows.show(items, { after: items.length === 0 ? [this.#buildEmptyRow()] : [] });
    fill(this.#more, this.#list.hasOlder() && button("Load more", () => this.#loadOlder()));
  }

  /** @returns {Promise<void>} */
  async #loadOlder() {
    await this.#list.loadOlder();
    this.draw();
  }

  /** @returns {HTMLElement} */
  #buildEmptyRow() {
    const text = this.#isFiltered
      ? "No matching contexts. Remove a filter."
      : "No contexts yet. Try a capability on its service's page.";
    return h("li.card.soft", { "data-key": "empty" }, text);
  }

  /**
   * Forgets contexts that are neither listed nor shown, once there are many.
   * @param {number} listedCount
   * @returns {void}
   */
  #trimLastSeen(listedCount) {
    if (this.#lastSeen.size <= 4 * listedCount + MAX_GATHERED) return;
    const kept = this.#list.byId();
    for (const row of this.#rowList.children) {
      const id = /** @type {HTMLElement} */ (row).dataset.key ?? "";
      // Rows that hold still may no longer be in the list.
      const context = this.#lastSeen.get(id);
      if (context && !kept.has(id)) kept.set(id, context);
    }
    this.#lastSeen = kept;
  }

  /**
   * @param {StreamEvent} event
   * @returns {boolean} whether it is about a context
   */
  takeEvent({ type, subject, time: at, data }) {
    if (!type.startsWith("context.")) return false;
    this.#hasHeard = true;
    if (type === "context.created") this.#createdCount += 1;
    const seen = this.#lastSeen.get(subject);
    if (seen && data.status) {
      const { status, execution_time_ms = null } = data;
      const changed = { ...seen, status, execution_time_ms, updated_at: at };
      this.#lastSeen.set(subject, changed);
      this.#list.take(changed);
    }
    return true;
  }
}

/**
 * @param {Context} context
 * @returns {HTMLElement}
 */
function buildRow(context) {
  const { id, capability, service, model, execution_time_ms, run_at, created_at } = context;
  const card = h(
    "a.card",
    { href: `#/contexts/${id}` },
    h("strong", capability),
    h("span.soft", model ? `${service} · ${model}` : service),
    badge(shownStatus(context)),
    h("span", duration(execution_time_ms)),
    isScheduled(context) ? h("span.soft", `Scheduled for ${dateAndTime(run_at ?? "")}`) : time(created_at),
    h("code", id),
  );
  return h("li", { "data-key": id }, card);
}

// Contexts as cards: a column for each stage, and scheduled contexts below.
import { badge, link, time } from "./components.js";
import { fill, h } from "./dom.js";
import { dateAndTime, duration, number, oneLine } from "./format.js";
import { ENDED_STATUSES, hasEnded, isScheduled, shownStatus } from "./statuses.js";
import { SteadyList } from "./steady-list.js";

/** @import { ContextFeed } from "./context-feed.js" */
/** `filter` lists a column's contexts. @typedef {{ name: string, statuses: string[], filter: string }} ColumnOptions */
/** @typedef {ColumnOptions & { element: HTMLElement, count: HTMLElement, rows: SteadyList }} Column */

const MAX_CARDS = 6;

/** @type {ColumnOptions[]} */
const COLUMNS = [
  { name: "Waiting", statuses: ["created", "validated", "queued"], filter: "waiting" },
  { name: "Executing", statuses: ["executing"], filter: "executing" },
  { name: "Input required", statuses: ["input_required"], filter: "input_required" },
  { name: "Ended", statuses: ENDED_STATUSES, filter: "ended" },
];

/**
 * @param {Context} context
 * @returns {HTMLElement}
 */
function buildCard(context) {
  const work = h("span.row", h("strong", context.capability), h("span.soft", context.service));
  const state = h("span.row", badge(shownStatus(context)), h("span.soft", progressOf(context)));
  return h("li", { "data-key": context.id }, h("a.card", { href: `#/contexts/${context.id}` }, work, state));
}

/**
 * How long the context took, when it will run, or how far it has come.
 * @param {Context} context
 * @returns {Child}
 */
function progressOf(context) {
  if (hasEnded(context)) return duration(context.execution_time_ms);
  if (isScheduled(context)) return `for ${dateAndTime(context.run_at ?? "")}`;
  return context.progress ? oneLine(context.progress.data) : time(context.updated_at);
}

/**
 * The row below the cards.
 * @param {Child} content
 * @returns {HTMLElement}
 */
const lastRow = (content) => h("li.soft", { "data-key": "more" }, content);

/**
 * @param {string} filter
 * @returns {HTMLElement}
 */
const viewAll = (filter) => lastRow(link("View all", `#/contexts?status=${filter}`));

export class Board {
  #feed;
  #signal;
  #columns;
  #scheduled;

  /**
   * @param {ContextFeed} feed
   * @param {AbortSignal} signal
   */
  constructor(feed, signal) {
    this.#feed = feed;
    this.#signal = signal;
    this.#columns = COLUMNS.map((options) => this.#column(options));
    this.#scheduled = this.#scheduledList();
    /** The elements to show, in order. */
    this.elements = [
      h(
        "div.board",
        this.#columns.map(({ element }) => element),
      ),
      this.#scheduled.element,
    ];
  }

  /**
   * @param {HTMLElement} element
   * @param {string} name
   * @returns {SteadyList}
   */
  #steadyList(element, name) {
    const current = (/** @type {Context} */ context) => this.#feed.current(context);
    return new SteadyList({ element, name, signal: this.#signal, buildRow: buildCard, current });
  }

  /**
   * @param {ColumnOptions} options
   * @returns {Column}
   */
  #column(options) {
    const { name } = options;
    const count = h("span.soft");
    const list = h("ul.plain");
    const rows = this.#steadyList(list, name);
    const heading = h("div.title", h("h3", name, " ", count), rows.news);
    return { ...options, count, rows, element: h("section", { "aria-label": name }, heading, list) };
  }

  /** @returns {{ element: HTMLElement, rows: SteadyList }} */
  #scheduledList() {
    const list = h("ul.plain.grid");
    const rows = this.#steadyList(list, "Scheduled");
    const heading = h("div.title", h("h3", "Scheduled"), rows.news);
    return { rows, element: h("section", { "aria-label": "Scheduled", hidden: true }, heading, list) };
  }

  /**
   * @param {Context[]} contexts
   * @param {number} [endedCount] how many have ended in the period, if that was counted
   * @returns {void}
   */
  draw(contexts, endedCount) {
    const unscheduled = contexts.filter((context) => !isScheduled(context));
    for (const column of this.#columns) {
      const own = unscheduled.filter(({ status }) => column.statuses.includes(status));
      this.#drawColumn(column, own, column.filter === "ended" ? endedCount : undefined);
    }
    this.#drawScheduled(contexts.filter(isScheduled));
  }

  /**
   * @param {Column} column
   * @param {Context[]} contexts
   * @param {number} [counted]
   * @returns {void}
   */
  #drawColumn({ statuses, filter, count, rows }, contexts, counted) {
    const isCapped = this.#feed.isCapped(statuses);
    const known = `${number(contexts.length)}${isCapped ? "+" : ""}`;
    fill(count, counted === undefined ? known : number(counted));
    const hasMore = isCapped || Math.max(contexts.length, counted ?? 0) > MAX_CARDS;
    /** @type {Child[]} */
    let after = [];
    if (contexts.length === 0) after = [lastRow("None")];
    else if (hasMore) after = [viewAll(filter)];
    rows.show(contexts, { limit: MAX_CARDS, after });
  }

  /**
   * @param {Context[]} contexts
   * @returns {void}
   */
  #drawScheduled(contexts) {
    const { element, rows } = this.#scheduled;
    const sorted = contexts.toSorted((one, other) => ((one.run_at ?? "") > (other.run_at ?? "") ? 1 : -1));
    element.hidden = sorted.length === 0;
    rows.show(sorted, { limit: MAX_CARDS, after: sorted.length > MAX_CARDS ? [viewAll("queued")] : [] });
  }
}

// Contexts as cards in columns, by what becomes of them.
import { everybodys, get } from "./api.js";
import { badge, brief, duration, fill, h, link, moment, number, when } from "./dom.js";
import { ENDED, isOver, isScheduled, shownStatus } from "./states.js";
import { steady } from "./steady.js";

const SHOWN = 6;
const PAGE = 200;
/** How many that have ended are remembered for the cards. */
const MOST_ENDED = 500;
const LISTED = ["queued", "executing", "input_required"];

/** Columns: the statuses in each, and the filter that lists them. */
const COLUMNS = {
  Waiting: [["created", "validated", "queued"], "waiting"],
  Executing: [["executing"], "executing"],
  "Input required": [["input_required"], "input_required"],
  Ended: [ENDED, "ended"],
};

/** Contexts that are seen: those that live, and the latest that have ended. */
export function watch() {
  /** @type {Map<string, any>} */
  const seen = new Map();
  let capped = /** @type {Record<string, boolean>} */ ({});

  async function read() {
    const began = new Date().toISOString();
    const filters = ["", ...LISTED.map((status) => `&status=${status}`)];
    const lists = await Promise.all(filters.map((filter) => get(`/v1/contexts?limit=${PAGE}${everybodys()}${filter}`)));
    const listed = new Map(lists.flatMap(({ data }) => data.map((one) => [one.id, one])));
    capped = Object.fromEntries(LISTED.map((status, at) => [status, Boolean(lists[at + 1].next_cursor)]));
    for (const [id, one] of listed) {
      // Events are newer than the lists.
      if (!(seen.get(id)?.updated_at > one.updated_at)) seen.set(id, one);
    }
    for (const [id, one] of seen) {
      // What is on no whole list has ended unheard.
      if (!isOver(one) && !capped[one.status] && !listed.has(id) && one.updated_at < began) seen.delete(id);
    }
  }

  function hear({ type, subject, time, data }) {
    if (!type.startsWith("context.") || !data.status) return false;
    // Events do not say when a context is to run.
    const { run_at } = seen.get(subject) ?? {};
    const progress = data.progress && { data: data.progress };
    seen.set(subject, { execution_time_ms: null, run_at, ...data, progress, id: subject, updated_at: time });
    return true;
  }

  /** All, the latest change first. */
  function all() {
    const sorted = [...seen.values()].sort((one, other) => (one.updated_at < other.updated_at ? 1 : -1));
    for (const { id } of sorted.filter(isOver).slice(MOST_ENDED)) seen.delete(id);
    return sorted;
  }

  /** How one that is no longer seen stands: it has ended unheard, unless it had ended before. */
  const left = (one) => (isOver(one) ? one : { ...one, status: "ended", progress: undefined });

  return {
    read,
    hear,
    all,
    fresh: (one) => seen.get(one.id) ?? left(one),
    isCapped: (statuses) => statuses.some((status) => capped[status]),
  };
}

function state(one) {
  if (isOver(one)) return duration(one.execution_time_ms);
  if (isScheduled(one)) return `for ${moment(one.run_at)}`;
  return one.progress ? brief(one.progress.data) : when(one.updated_at);
}

const card = (one) =>
  h(
    "li",
    { "data-key": one.id },
    h(
      "a.card",
      { href: `#/contexts/${one.id}` },
      h("span.row", h("strong", one.capability), h("span.soft", one.service)),
      h("span.row", badge(shownStatus(one)), h("span.soft", state(one))),
    ),
  );

const more = (what) => (what ? [h("li.soft", { "data-key": "more" }, what)] : []);

/** The columns, each a list that holds still while it is read. */
export function boardOf(contexts, signal) {
  const columns = Object.entries(COLUMNS).map(([name, [statuses, filter]]) => {
    const [count, list] = [h("span.soft"), h("ul.plain")];
    const rows = steady({ list, name, signal, build: card, fresh: contexts.fresh });
    const element = h("section", { "aria-label": name }, h("div.title", h("h3", name, " ", count), rows.news), list);
    return { statuses, filter, count, rows, element };
  });
  const list = h("ul.plain.grid");
  const scheduled = steady({ list, name: "Scheduled", signal, build: card, fresh: contexts.fresh });
  const later = h(
    "section",
    { "aria-label": "Scheduled", hidden: true },
    h("div.title", h("h3", "Scheduled"), scheduled.news),
    list,
  );

  /** `ended`: how many have ended in the period, where that is counted. */
  function draw(all, ended) {
    for (const { statuses, filter, count, rows } of columns) {
      const here = all.filter((one) => statuses.includes(one.status) && !isScheduled(one));
      const isCapped = contexts.isCapped(statuses);
      fill(
        count,
        filter === "ended" && ended !== undefined ? number(ended) : `${number(here.length)}${isCapped ? "+" : ""}`,
      );
      const isLong = here.length > SHOWN || isCapped || (filter === "ended" && ended > SHOWN);
      const after = more(here.length === 0 ? "None" : isLong && link("See more", `#/contexts?status=${filter}`));
      rows.show(here, { limit: SHOWN, after });
    }
    const waiting = all.filter(isScheduled).sort((one, other) => (one.run_at > other.run_at ? 1 : -1));
    later.hidden = waiting.length === 0;
    scheduled.show(waiting, {
      limit: SHOWN,
      after: more(waiting.length > SHOWN && link("See more", "#/contexts?status=queued")),
    });
  }
  return {
    elements: [
      h(
        "div.board",
        columns.map(({ element }) => element),
      ),
      later,
    ],
    draw,
  };
}

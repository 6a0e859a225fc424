// Contexts: search, the newest first.
import { everybodys, get, session } from "./api.js";
import { badge, button, duration, fill, h, moment, when } from "./dom.js";
import { fieldsFor, formOf } from "./fields.js";
import { follow } from "./live.js";
import { ENDED, GROUPS, isScheduled, LIVE, shownStatus } from "./states.js";
import { steady } from "./steady.js";

const PAGE = 50;
const MOST_PAGE = 200;
/** How many rows gather by themselves, beside those that were asked for. */
const MOST_GATHERED = 500;
const RELOAD_MS = 500;

const none = "any";
const SEARCH = {
  properties: {
    id: { title: "Context id", type: "string", examples: ["ctx_…"] },
    status: {
      title: "Status",
      enum: [...Object.keys(GROUPS), ...LIVE, ...ENDED],
      titles: ["any waiting", "any ended", ...LIVE, ...ENDED],
      none,
    },
    capability: { title: "Capability", type: "string" },
    service: { title: "Service", type: "string" },
  },
};

/** The list as it was left, for coming back to it; not for another sign-in. */
let kept = /** @type {any} */ ({});

/** What is read of the list so far: pages of each status that the filter stands for, merged by time. */
function listOf(query) {
  const { status, ...filters } = Object.fromEntries(query);
  /** @type {any[]} */
  const statuses = status ? (GROUPS[status] ?? [status]) : [undefined];
  /** Of each status, where the next page begins, and how far back it is known. */
  const streams = statuses.map((one) => ({ one, next: undefined, oldest: "", newest: "" }));
  /** @type {Map<string, any>} */
  const known = new Map();
  let askedFor = 0;

  async function read(stream, cursor, limit, hasLeft) {
    const before = new Map(known);
    const asked = new URLSearchParams({
      limit: String(limit),
      ...filters,
      ...(stream.one && { status: stream.one }),
      ...(cursor && { cursor }),
    });
    const { data, next_cursor } = await get(`/v1/contexts?${asked}${everybodys()}`);
    // The list has begun anew meanwhile: what comes after that cursor no longer joins on.
    if (cursor && cursor !== stream.next) return;
    const isFirst = stream.oldest === "";
    // More came than a page holds, or than a screen needs: what is older is read again when it is asked for.
    const isTooMuch = known.size > MOST_GATHERED + askedFor;
    const isApart = !isFirst && !cursor && next_cursor && (isTooMuch || data.at(-1)?.created_at > stream.newest);
    if (cursor) askedFor += data.length;
    if (isApart) {
      for (const [id, { status }] of known) if (!stream.one || status === stream.one) known.delete(id);
      askedFor = 0;
    }
    if (isFirst || isApart || cursor)
      Object.assign(stream, { next: next_cursor, oldest: data.at(-1)?.created_at ?? "-" });
    if (!cursor) stream.newest = data[0]?.created_at ?? "";
    if (!cursor)
      drop(stream, before, new Set(data.map(({ id }) => id)), next_cursor ? data.at(-1)?.created_at : "", hasLeft);
    // Events are newer than the lists.
    for (const one of data) if (!(known.get(one.id)?.updated_at > one.updated_at)) known.set(one.id, one);
  }

  /** What a first page that reaches back so far ought to have and does not has left unheard, unless it changed meanwhile. */
  function drop({ one: status }, before, listed, reach, hasLeft) {
    for (const [id, one] of known) {
      if ((status && one.status !== status) || listed.has(id) || before.get(id) !== one || !(one.created_at > reach))
        continue;
      known.delete(id);
      hasLeft({ ...one, status: status ? `no_longer_${status}` : "gone" });
    }
  }

  const fits = (one) => statuses[0] === undefined || statuses.includes(one.status);
  /** How far back all streams are known. */
  const horizon = () =>
    streams.filter(({ next }) => next).reduce((latest, { oldest }) => (oldest > latest ? oldest : latest), "");

  return {
    known,
    /** `hasLeft` hears of what is listed no longer, though no event said so. */
    refresh: (limit, hasLeft) => Promise.all(streams.map((stream) => read(stream, "", limit, hasLeft))),
    older: () =>
      Promise.all(
        streams
          .filter(({ next, oldest }) => next && oldest === horizon())
          .map((stream) => read(stream, stream.next, PAGE)),
      ),
    /** A context as an event tells it. */
    took(one) {
      if (!fits(one)) known.delete(one.id);
      else if (known.has(one.id) || one.created_at >= horizon()) known.set(one.id, one);
    },
    hasOlder: () => streams.some(({ next }) => next),
    /** What is known without a gap. */
    items: () =>
      [...known.values()]
        .filter((one) => fits(one) && one.created_at >= horizon())
        .sort((one, other) => (one.created_at < other.created_at ? 1 : -1)),
  };
}

const row = (one) =>
  h(
    "li",
    { "data-key": one.id },
    h(
      "a.card",
      { href: `#/contexts/${one.id}` },
      h("strong", one.capability),
      h("span.soft", one.service),
      badge(shownStatus(one)),
      h("span", duration(one.execution_time_ms)),
      isScheduled(one) ? h("span.soft", `Scheduled for ${moment(one.run_at)}`) : when(one.created_at),
      h("code", one.id),
    ),
  );

export async function contexts({ view, query, signal, isReturn }) {
  const search = query.toString();
  const list = isReturn && kept.search === search && kept.who === session.who ? kept.list : listOf(query);
  kept = { search, list, who: session.who };
  /** The latest that each context was seen as, also when the filter no longer fits it. */
  let fresh = new Map(list.known);
  const [element, more] = [h("ul.rows.plain"), h("div")];
  const rows = steady({
    list: element,
    name: "Contexts",
    signal,
    build: row,
    fresh: (one) => fresh.get(one.id) ?? one,
  });
  // How many have come since the last look, so that one page has them all; where no event says it, as many as are known.
  let [created, isHeard] = [isReturn ? MOST_PAGE : 0, false];

  function draw() {
    const items = list.items();
    if (fresh.size > 4 * items.length + MOST_GATHERED) {
      // Rows that hold still may be in the list no longer.
      const shown = [...element.children].map(({ dataset: { key } }) => [key, fresh.get(key)]);
      fresh = new Map([...shown.filter(([, one]) => one), ...list.known]);
    }
    for (const one of items) fresh.set(one.id, one);
    const empty = query.size
      ? "No context fits. Take a filter away."
      : "No context yet. Try a capability of a service.";
    rows.show(items, { after: items.length === 0 ? [h("li.card.soft", { "data-key": "empty" }, empty)] : [] });
    fill(
      more,
      list.hasOlder() &&
        button("Older ones", async () => {
          await list.older();
          draw();
        }),
    );
  }
  async function load() {
    const limit = Math.min(MOST_PAGE, Math.max(PAGE + created, isHeard ? 0 : list.known.size));
    [created, isHeard] = [0, false];
    await list.refresh(limit, (one) => fresh.set(one.id, one));
    draw();
  }
  function hear({ type, subject, time, data }) {
    const isContext = type.startsWith("context.");
    isHeard ||= isContext;
    if (type === "context.created") created += 1;
    const one = fresh.get(subject);
    if (one && data.status) {
      const { status, execution_time_ms = null } = data;
      const changed = { ...one, status, execution_time_ms, updated_at: time };
      fresh.set(subject, changed);
      list.took(changed);
    }
    return isContext;
  }

  follow(signal, RELOAD_MS, load, hear);
  if (list.known.size > 0) draw();
  else await load();
  const find = ({ id, ...filters }) => {
    location.hash = id ? `#/contexts/${encodeURIComponent(id)}` : `#/contexts?${new URLSearchParams(filters)}`;
  };
  const form = formOf({ fields: fieldsFor(SEARCH, "", Object.fromEntries(query)), submit: "Search", send: find });
  fill(view, h("h1", "Contexts"), h("search", form), h("div", h("div.floating", rows.news), element), more);
  if (isReturn) void load().catch(() => {});
}

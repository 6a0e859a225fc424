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
const SEARCH = { properties: {
  id: { title: "Context id", type: "string", examples: ["ctx_…"] },
  status: { title: "Status", enum: [...Object.keys(GROUPS), ...LIVE, ...ENDED], titles: ["any waiting", "any ended", ...LIVE, ...ENDED], none },
  capability: { title: "Capability", type: "string" },
  service: { title: "Service", type: "string" },
} };

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

  async function read(stream, cursor, limit) {
    const asked = new URLSearchParams({ limit: String(limit), ...filters, ...(stream.one && { status: stream.one }), ...(cursor && { cursor }) });
    const { data, next_cursor } = await get(`/v1/contexts?${asked}${everybodys()}`);
    const isFirst = stream.oldest === "";
    // More came than a page holds, or than a screen needs: what is older is read again when it is asked for.
    const isTooMuch = known.size > MOST_GATHERED + askedFor;
    const isApart = !isFirst && !cursor && next_cursor && (isTooMuch || data.at(-1).created_at > stream.newest);
    if (cursor) askedFor += data.length;
    if (isApart) {
      for (const [id, { status }] of known) if (!stream.one || status === stream.one) known.delete(id);
      askedFor = 0;
    }
    if (isFirst || isApart || cursor) Object.assign(stream, { next: next_cursor, oldest: data.at(-1)?.created_at ?? "-" });
    if (!cursor) stream.newest = data[0]?.created_at ?? "";
    for (const one of data) known.set(one.id, one);
  }

  const fits = (one) => statuses[0] === undefined || statuses.includes(one.status);
  /** How far back all streams are known. */
  const horizon = () => streams.filter(({ next }) => next).reduce((latest, { oldest }) => (oldest > latest ? oldest : latest), "");

  return {
    known,
    refresh: (limit) => Promise.all(streams.map((stream) => read(stream, "", limit))),
    older: () => Promise.all(streams.filter(({ next, oldest }) => next && oldest === horizon()).map((stream) => read(stream, stream.next, PAGE))),
    hasOlder: () => streams.some(({ next }) => next),
    /** What is known without a gap. */
    items: () => [...known.values()]
      .filter((one) => fits(one) && one.created_at >= horizon())
      .sort((one, other) => (one.created_at < other.created_at ? 1 : -1)),
  };
}

const row = (one) => h("li", { "data-key": one.id }, h("a.card", { href: `#/contexts/${one.id}` },
  h("strong", one.capability), h("span.soft", one.service), badge(shownStatus(one)),
  h("span", duration(one.execution_time_ms)),
  isScheduled(one) ? h("span.soft", `Scheduled for ${moment(one.run_at)}`) : when(one.created_at), h("code", one.id)));

export async function contexts({ view, query, signal, isReturn }) {
  const search = query.toString();
  const list = isReturn && kept.search === search && kept.who === session.who ? kept.list : listOf(query);
  kept = { search, list, who: session.who };
  /** The latest that each context was seen as, also when the filter no longer fits it. */
  let fresh = new Map(list.known);
  const [element, more] = [h("ul.rows.plain"), h("div")];
  const rows = steady({ list: element, name: "Contexts", signal, build: row, fresh: (one) => fresh.get(one.id) ?? one });
  // How many have come since the last look, so that one page has them all.
  let created = isReturn ? MOST_PAGE : 0;

  function draw() {
    const items = list.items();
    if (fresh.size > 4 * items.length + MOST_GATHERED) fresh = new Map(list.known);
    for (const one of items) fresh.set(one.id, one);
    const empty = query.size ? "No context fits. Take a filter away." : "No context yet. Try a capability of a service.";
    rows.show(items, { after: items.length === 0 ? [h("li.card.soft", { "data-key": "empty" }, empty)] : [] });
    fill(more, list.hasOlder() && button("Older ones", async () => { await list.older(); draw(); }));
  }
  async function load() {
    const limit = Math.min(MOST_PAGE, PAGE + created);
    created = 0;
    await list.refresh(limit);
    draw();
  }
  function hear({ type, subject, time, data }) {
    if (type === "context.created") created += 1;
    const one = fresh.get(subject);
    if (one && data.status) {
      const { status, execution_time_ms = null } = data;
      fresh.set(subject, { ...one, status, execution_time_ms, updated_at: time });
      if (list.known.has(subject)) list.known.set(subject, fresh.get(subject));
    }
    return type.startsWith("context.");
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

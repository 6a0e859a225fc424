// Contexts as they move: how many, how fast, what fails, by service.
import { everybodys, get, maybe } from "./api.js";
import { ENDED } from "./contexts.js";
import { badge, bars, brief, duration, fill, h, keep, link, section, when } from "./dom.js";
import { follow } from "./live.js";
import { welcome } from "./services.js";

const WINDOW_MS = 300_000;
const BAR_MS = 10_000;
const MOST = 4000;
const SHOWN = 6;
const COLUMNS = { Waiting: ["created", "validated", "queued"], Executing: ["executing"], "Input required": ["input_required"], Ended: ENDED };
const isOver = ({ status }) => ENDED.includes(status);

export async function now({ view, signal }) {
  /** @type {Map<string, any>} */
  const seen = new Map();
  let services;

  async function look() {
    const filters = ["", "&status=queued", "&status=executing", "&status=input_required"];
    const [known, ...lists] = await Promise.all([maybe("/v1/services"), ...filters.map((filter) => get(`/v1/contexts?limit=200${everybodys()}${filter}`))]);
    services = known?.data ?? [];
    for (const one of lists.flatMap(({ data }) => data)) {
      // Events are newer than the list.
      if (!(seen.get(one.id)?.updated_at > one.updated_at)) seen.set(one.id, one);
    }
    draw();
  }

  const [tiles, board, rows, failures] = [h("div.tiles"), h("div.board"), h("tbody"), h("ul.plain")];
  const columns = Object.entries(COLUMNS).map(([name, statuses]) => {
    const [count, list] = [h("span.soft"), h("ul.plain")];
    board.append(h("section", { "aria-label": name }, h("h3", name, " ", count), list));
    return { statuses, count, list };
  });
  const heads = ["Service", "Status", "In flight", "Ended", "Failed", "Median", "95%"];
  const table = h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Services" }, h("table", h("thead", h("tr", heads.map((name) => h("th", name)))), rows));

  function draw() {
    if (!services) return;
    const all = [...seen.values()].sort((a, b) => (a.updated_at < b.updated_at ? 1 : -1));
    for (const one of all.slice(MOST)) seen.delete(one.id);
    if (services.length + all.length === 0) return fill(view, h("h1", "Now"), welcome());
    if (!tiles.isConnected) fill(view, h("h1", "Now"), tiles, section("Contexts", board), section("What fails", failures), section("Services", table));
    const since = new Date(Date.now() - WINDOW_MS).toISOString();
    const [ended, flying] = [all.filter((one) => isOver(one) && one.updated_at > since), all.filter((one) => !isOver(one))];
    fill(tiles, tile("Ended in 5 minutes", ended.length, rate(ended)), tile("In flight", flying.length),
      tile("Completed", share(ended, "completed")), tile("Median, 95% within", latency(ended).join(", ")));
    for (const { statuses, count, list } of columns) {
      const here = all.filter(({ status }) => statuses.includes(status));
      fill(count, here.length);
      const rest = here.length === 0 ? "None" : here.length > SHOWN && link("See more", "#/contexts");
      keep(list, here.slice(0, SHOWN), ({ status, progress }) => status + brief(progress), card, rest && h("li.soft", rest));
    }
    fill(rows, services.map((one) => {
      const [own, theirs] = [ended, flying].map((some) => some.filter(({ service }) => service === one.id));
      const cells = [badge(one.status), theirs.length, own.length, share(own, "failed", "timed_out"), ...latency(own)];
      return h("tr", h("th", { scope: "row" }, link(one.name, `#/services/${one.id}`)), cells.map((cell) => h("td", cell)));
    }));
    /** @type {any[]} */
    const groups = Object.values(Object.groupBy(ended.filter(({ error, status }) => error && status !== "cancelled"), ({ error, service }) => error.code + service));
    fill(failures, groups.length === 0 && h("li.soft", "Nothing lately."), groups.sort((a, b) => b.length - a.length).slice(0, 8).map((group) => {
      const [{ id, error, service }] = group;
      return h("li", h("strong", `${group.length} × ${error.code}`), ` at ${service}: ${error.message} `, link("See the latest", `#/contexts/${id}`));
    }));
  }

  // Listening first misses nothing.
  const looked = look();
  const later = follow(signal, 250, draw, ({ type, subject, time, data }) => {
    if (!type.startsWith("context.") || type === "context.attempt") return false;
    return seen.set(subject, { execution_time_ms: null, ...data, progress: data.progress && { data: data.progress }, id: subject, updated_at: time });
  });
  follow(signal, 250, look, ({ type }) => type.startsWith("service."));
  const ticking = setInterval(later, BAR_MS);
  signal.addEventListener("abort", () => clearInterval(ticking));
  await looked;
}

function latency(ended) {
  const sorted = ended.map((one) => one.execution_time_ms).filter((ms) => ms !== null).sort((a, b) => a - b);
  return [0.5, 0.95].map((part) => duration(sorted[Math.floor(sorted.length * part)]));
}

const share = (ended, ...statuses) => (ended.length ? `${Math.round((ended.filter(({ status }) => statuses.includes(status)).length / ended.length) * 100)}%` : "–");
const tile = (name, value, more) => h("div.card", h("p.soft", name), h("p.figure", value), more);

/** How many ended, in tens of seconds. */
function rate(ended) {
  const counts = new Array(WINDOW_MS / BAR_MS).fill(0);
  for (const { updated_at } of ended) counts[Math.max(0, counts.length - 1 - Math.floor((Date.now() - Date.parse(updated_at)) / BAR_MS))] += 1;
  const most = Math.max(1, ...counts);
  return bars("rate", counts.length * 4, "Rate", counts.map((count, at) => ({ x: at * 4, width: 3, y: 19 - (count / most) * 19, height: 1 + (count / most) * 19 })));
}

const card = (one) => h("li", h("a.card", { href: `#/contexts/${one.id}` }, h("strong", one.capability), h("span.soft", ` ${one.service ?? ""}`),
  h("span.row", badge(one.status), h("span.soft", isOver(one) ? duration(one.execution_time_ms) : one.progress ? brief(one.progress.data) : when(one.updated_at)))));

// What happens now: contexts as they move, how many, how fast, what fails, by service.
import { everybodys, get, maybe } from "./api.js";
import { badge, bars, fill, h, keep, link } from "./dom.js";
import { brief, duration, percentile, when } from "./format.js";
import { listen, soon } from "./live.js";
import { welcome } from "./welcome.js";

const WINDOW_MS = 300_000;
const BAR_MS = 10_000;
const MOST = 4000;
const SHOWN = 6;
/** @type {Record<string, string[]>} */
const COLUMNS = { Waiting: ["created", "validated", "queued"], Executing: ["executing"], "Input required": ["input_required"], Ended: ["completed", "failed", "timed_out", "cancelled"] };
const isOver = ({ status }) => COLUMNS.Ended?.includes(status);

/** @param {Place} place */
export async function now({ view, signal }) {
  /** @type {Map<string, any>} */
  const seen = new Map();
  let services = [];

  async function look() {
    const filters = ["", ...["queued", "executing", "input_required"].map((status) => `&status=${status}`)];
    const [known, ...lists] = await Promise.all([maybe("/v1/services", signal), ...filters.map((filter) => get(`/v1/contexts?limit=200${everybodys()}${filter}`, signal))]);
    services = known?.data ?? [];
    for (const one of lists.flatMap(({ data }) => data)) {
      // An event that came meanwhile is newer than the list.
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
  const heads = ["Service", "Status", "Breaker", "In flight", "Ended", "Failed", "Median", "95%"].map((name) => h("th", { scope: "col" }, name));
  const parts = [h("h1", "Now"), tiles, h("section", h("h2", "Contexts"), board), h("section", h("h2", "What fails"), failures),
    h("section", h("h2", "Services"), h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Services" }, h("table", h("thead", h("tr", heads)), rows)))];

  function draw() {
    const all = [...seen.values()].sort((a, b) => (a.updated_at < b.updated_at ? 1 : -1));
    for (const one of all.slice(MOST)) seen.delete(one.id);
    if (services.length + all.length === 0) return fill(view, h("h1", "Now"), welcome(signal));
    if (!tiles.isConnected) fill(view, parts);
    const since = new Date(Date.now() - WINDOW_MS).toISOString();
    const ended = all.filter((one) => isOver(one) && one.updated_at > since);
    const flying = all.filter((one) => !isOver(one));
    fill(tiles, tile("Ended in 5 minutes", ended.length, rate(ended)), tile("In flight", flying.length), tile("Completed", share(ended, "completed")), tile("Median, 95% within", latency(ended).join(", ")));
    for (const { statuses, count, list } of columns) {
      const here = all.filter(({ status }) => statuses.includes(status));
      fill(count, here.length);
      keep(list, here.slice(0, SHOWN), ({ id }) => id, ({ status, progress }) => status + brief(progress), card);
      if (here.length > SHOWN) list.append(h("li.soft", link(`and ${here.length - SHOWN} more`, "#/contexts")));
      if (here.length === 0) list.append(h("li.soft", "None"));
    }
    fill(rows, services.map((one) => {
      const own = ended.filter(({ service }) => service === one.id);
      const cells = [flying.filter(({ service }) => service === one.id).length, own.length, share(own, "failed", "timed_out"), ...latency(own)];
      return h("tr", h("th", { scope: "row" }, link(one.name, `#/services/${one.id}`)), h("td", badge(one.status)), h("td", badge(one.breaker.state)), cells.map((cell) => h("td", cell)));
    }));
    const groups = Object.values(/** @type {Record<string, any[]>} */ (Object.groupBy(ended.filter(({ error, status }) => error && status !== "cancelled"), ({ error, service }) => `${error.code} ${service}`)));
    fill(failures, groups.sort((a, b) => b.length - a.length).slice(0, 8).map(([one, ...more]) => h("li", h("strong", `${more.length + 1} × ${one.error.code}`), ` at ${one.service}: ${one.error.message} `, link("See the latest", `#/contexts/${one.id}`))));
    if (groups.length === 0) fill(failures, h("li.soft", "Nothing in the last 5 minutes."));
  }

  await look();
  const [later, again] = [soon(signal, 250, () => void draw()), soon(signal, 250, look)];
  listen(signal, {
    event({ type, subject, time, data }) {
      if (type.startsWith("service.")) again();
      if (!type.startsWith("context.") || type === "context.attempt") return;
      seen.set(subject, { execution_time_ms: null, ...data, progress: data.progress && { data: data.progress }, id: subject, updated_at: time });
      later();
    },
    again,
  });
  const ticking = setInterval(later, BAR_MS);
  signal.addEventListener("abort", () => clearInterval(ticking));
}

function latency(ended) {
  const sorted = ended.map((one) => one.execution_time_ms).filter((ms) => ms !== null).sort((a, b) => a - b);
  return [0.5, 0.95].map((part) => duration(percentile(sorted, part)));
}

const share = (ended, ...statuses) => (ended.length ? `${Math.round((ended.filter(({ status }) => statuses.includes(status)).length / ended.length) * 100)}%` : "–");
const tile = (name, value, more) => h("div.card", h("p.soft", name), h("p.figure", value), more);

/** How many ended, in tens of seconds. */
function rate(ended) {
  const counts = new Array(WINDOW_MS / BAR_MS).fill(0);
  for (const one of ended) counts[Math.max(0, counts.length - 1 - Math.floor((Date.now() - Date.parse(one.updated_at)) / BAR_MS))] += 1;
  const size = (count) => Math.max(1, (count / Math.max(...counts)) * 20 || 0);
  return bars("rate", counts.length * 4, `${ended.length} in the last 5 minutes`, counts.map((count, at) => ({ x: at * 4, width: 3, y: 20 - size(count), height: size(count) })));
}

const card = (one) => h("li", h("a.card", { href: `#/contexts/${one.id}` }, h("span", h("strong", one.capability), h("span.soft", ` ${one.service ?? ""}`)),
  h("span.row", badge(one.status), h("span.soft", isOver(one) ? duration(one.execution_time_ms) : one.progress ? brief(one.progress.data) : when(one.updated_at)))));

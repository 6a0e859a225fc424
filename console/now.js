// Now: what the gateway has counted (how many, how fast, what fails, by service), and contexts as they move.
import { get, may, maybe } from "./api.js";
import { boardOf, watch } from "./board.js";
import { badge, clock, duration, fault, fill, h, link, number, percent, section } from "./dom.js";
import { follow } from "./live.js";
import { patch } from "./patch.js";
import { welcome } from "./services.js";
import { isOver, isScheduled } from "./states.js";
import { steady } from "./steady.js";
import { begin, byHour, ended, figures, readsUsage, tally } from "./usage.js";

const DRAW_MS = 250;
const COUNT_MS = 2000;
const LISTS_MS = 5000;
const TICK_MS = 10_000;
const MOST_FAILURES = 8;
const HEADS = ["Service", "Status", "In flight", "Ended", "Failed", "p50", "p95"];

/** What the reader has chosen, for as long as the page is open. */
let period = "recent";

const spread = ({ latency_ms: { p50, p95 } }) => [duration(p50), duration(p95)];

const sinceRecent = () => `Since ${clock(begin("recent"))}`;

/** The gateway's figures, and the choice of their period; `draw` shows them, which are of the period they were asked for. */
function counting(draw) {
  const wrong = h("div", { hidden: true });
  async function count() {
    const asked = period;
    if (readsUsage()) {
      const [counted, strip] = await Promise.all([figures(asked), byHour()]);
      // Another period was chosen meanwhile.
      if (asked !== period) return;
      Object.assign(figuring, { counted: { ...counted, period: asked }, strip });
    }
    draw();
  }
  async function onchange({ currentTarget: select }) {
    const asked = (period = select.value);
    wrong.hidden = true;
    try {
      await count();
    } catch (error) {
      if (asked !== period) return;
      period = select.value = figuring.counted.period;
      fill(wrong, fault(error)).hidden = false;
    }
  }
  const names = { recent: sinceRecent(), day: "Last 24 hours", week: "Last 7 days" };
  const options = Object.entries(names).map(([value, text]) =>
    h("option", { value, selected: value === period }, text),
  );
  const choice = h(
    "div.row",
    h("label", { for: "period" }, "Figures"),
    h("select.short", { id: "period", onchange }, options),
    wrong,
  );
  const figuring = /** @type {any} */ ({ count, choice });
  return figuring;
}

/** Whose the figures are, of when, and what is not in them. */
function about(counted, listed) {
  const cards = may("contexts:read:*") ? "" : " The cards show your own contexts only.";
  if (counted) return `Counted by the gateway for the whole tenant since ${clock(counted.from)}.${cards}`;
  return (
    `Only the latest ${number(listed)} contexts that have ended and that you may see: the gateway's own count needs the permission` +
    " usage:read, which the built-in roles operator and viewer have."
  );
}

const tile = (name, value, more) => h("div.card", { "data-key": name }, h("p.soft", name), h("p.figure", value), more);

/** What ended with an error, most often first, with the latest of each that is known. */
function failing(counted, known) {
  const groups = counted.services.flatMap(({ service, errors }) =>
    Object.entries(errors).map(([code, count]) => ({ id: `${service} ${code}`, service, code, count })),
  );
  return groups
    .filter(({ code }) => code !== "cancelled")
    .sort((one, other) => other.count - one.count)
    .slice(0, MOST_FAILURES)
    .map((group) => ({
      ...group,
      latest: known.find(({ service, error }) => service === group.service && error?.code === group.code),
    }));
}

const failure = ({ id, service, code, count, latest, isGone }) =>
  h(
    "li",
    { "data-key": id, class: isGone && "gone" },
    h("strong", `${number(count)} × ${code}`),
    ` at ${service}${latest ? `: ${latest.error.message}` : ""} `,
    latest && link("See the latest", `#/contexts/${latest.id}`),
    latest && " ",
    link("See all", `#/contexts?status=${latest?.status ?? "ended"}&service=${encodeURIComponent(service)}`),
  );

/** Why a screen's contexts are not there. */
const refusal = () =>
  get("/v1/contexts?limit=1").then(
    () => "",
    (error) => error.message,
  );

export async function now({ view, signal }) {
  const lists = may("contexts:read");
  const contexts = watch();
  const board = lists ? boardOf(contexts, signal) : { elements: [h("p.note", await refusal())], draw() {} };
  let [services, empty] = /** @type {any[]} */ ([]);
  const figuring = counting(draw);
  const { count, choice } = figuring;

  async function look() {
    const [known] = await Promise.all([maybe("/v1/services"), lists && contexts.read()]);
    services = known?.data ?? [];
    draw();
  }

  const [note, tiles, rows, failures] = [h("p.soft"), h("div.tiles"), h("tbody"), h("ul.plain")];
  const failingRows = steady({ list: failures, name: "What fails", signal, build: failure });
  const heads = h(
    "thead",
    h(
      "tr",
      HEADS.map((name) => h("th", { scope: "col" }, name)),
    ),
  );
  const table = h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Services" }, h("table", heads, rows));

  function draw() {
    const { counted, strip } = figuring;
    if (!services || (readsUsage() && !counted)) return;
    const all = contexts.all();
    const [over, flying] = [all.filter(isOver), all.filter((one) => !isOver(one) && !isScheduled(one))];
    const shown = counted ?? tally(over);
    if (services.length + all.length + shown.all.created === 0) {
      empty ??= welcome();
      if (!empty.isConnected) fill(view, h("h1", "Now"), empty);
      return;
    }
    if (!tiles.isConnected) {
      fill(
        view,
        h("div.title", h("h1", "Now"), readsUsage() && choice),
        note,
        tiles,
        section("Contexts", board.elements),
        section("What fails", failingRows.news, failures),
        section("Services", table),
      );
    }
    choice.querySelector("option").textContent = sinceRecent();
    patch(note, about(counted, over.length));
    const isCapped = contexts.isCapped(["queued", "executing", "input_required"]);
    const total = ended(shown.all);
    patch(
      tiles,
      tile(counted ? `Ended since ${clock(counted.from)}` : "Ended", number(total), strip?.cloneNode(true)),
      lists && tile("In flight", `${number(flying.length)}${isCapped ? "+" : ""}`),
      tile(
        "Completed",
        percent(shown.all.completed, total),
        h("p.soft", `${number(shown.all.completed)} of ${number(total)}`),
      ),
      tile("p50 / p95", spread(shown.all).join(" / ")),
    );
    board.draw(all, counted && total);
    patch(
      rows,
      services.map((one) => {
        const own = shown.of(one.id);
        const inFlight = flying.filter(({ service }) => service === one.id).length;
        const cells = [
          badge(one.status),
          inFlight,
          number(ended(own)),
          percent(own.failed + own.timed_out, ended(own)),
          ...spread(own),
        ];
        return h(
          "tr",
          { "data-key": one.id },
          h("th", { scope: "row" }, link(one.name, `#/services/${one.id}`)),
          cells.map((cell) => h("td", cell)),
        );
      }),
    );
    const groups = failing(shown, over);
    failingRows.show(groups, {
      limit: MOST_FAILURES,
      after: groups.length === 0 ? [h("li.soft", { "data-key": "none" }, "Nothing lately.")] : [],
    });
  }

  // Listening first misses nothing.
  const first = Promise.all([look(), count()]);
  const redraw = follow(signal, DRAW_MS, draw, (event) => lists && contexts.hear(event));
  const recount = follow(signal, COUNT_MS, count, ({ type }) => type.startsWith("context."));
  follow(signal, LISTS_MS, look, ({ type }) => type.startsWith("context.") || type.startsWith("service."));
  // The period and what is scheduled move on by themselves.
  const ticking = [setInterval(redraw, TICK_MS), setInterval(recount, 3 * TICK_MS)];
  signal.addEventListener("abort", () => ticking.forEach(clearInterval));
  await first;
}

// The screen Now: what the gateway has counted (how many, how fast, what fails, by service), and contexts as they move.
import { get, getIfAllowed } from "./api.js";
import { Board } from "./board.js";
import { badge, link, messageOf, section } from "./components.js";
import { ContextFeed } from "./context-feed.js";
import { fill, h } from "./dom.js";
import { buildFailure, failuresOf, MAX_FAILURES } from "./failures.js";
import { clockTime, duration, number, percent } from "./format.js";
import { follow } from "./live.js";
import { patch } from "./patch.js";
import { PeriodFigures } from "./period-figures.js";
import { may } from "./session.js";
import { hasEnded, isScheduled } from "./statuses.js";
import { buildSpend, spendText } from "./spend.js";
import { SteadyList } from "./steady-list.js";
import { countContexts, endedCount, mayReadUsage, ofService } from "./usage.js";
import { welcome } from "./welcome.js";

const REDRAW_MS = 250;
const COUNT_MS = 2000;
const LISTS_MS = 5000;
/** How often the screen is redrawn and recounted without events, as time passes. */
const IDLE_REDRAW_MS = 10_000;
const IDLE_COUNT_MS = 30_000;
/** The services in the table; the screen Services has all. */
const MAX_SERVICES = 100;
const TABLE_HEADS = ["Service", "Status", "In flight", "Ended", "Failed", "p50", "p95"];

/**
 * @param {Visit} visit
 * @returns {Promise<void>}
 */
export async function now({ view, signal }) {
  const reason = may("contexts:read") ? undefined : await contextsRefusal();
  await new NowScreen(view, signal, reason).open();
}

/**
 * Why the key may not read contexts, in the gateway's words.
 * @returns {Promise<string>}
 */
async function contextsRefusal() {
  try {
    await get("/v1/contexts?limit=1");
    return "";
  } catch (error) {
    return messageOf(error);
  }
}

class NowScreen {
  #view;
  #signal;
  #mayReadContexts;
  #feed = new ContextFeed();
  /** @type {Board | undefined} */
  #board;
  #period = new PeriodFigures(() => this.#draw());
  /** Undefined until they have been read. @type {Service[] | undefined} */
  #services;
  #hasMoreServices = false;
  #failures;

  /** @type {HTMLElement | undefined} */
  #welcome;
  #note = h("p.soft");
  #tiles = h("div.tiles");
  #tableRows = h("tbody");
  #spend = h("div");
  #content;

  /**
   * @param {HTMLElement} view
   * @param {AbortSignal} signal
   * @param {string | undefined} contextsRefused why contexts are not shown, if they are not
   */
  constructor(view, signal, contextsRefused) {
    this.#view = view;
    this.#signal = signal;
    this.#mayReadContexts = contextsRefused === undefined;
    if (this.#mayReadContexts) this.#board = new Board(this.#feed, signal);
    const failureList = h("ul.plain");
    this.#failures = new SteadyList({ element: failureList, name: "Failures", signal, buildRow: buildFailure });
    this.#content = [
      h("div.title", h("h1", "Now"), mayReadUsage() && this.#period.element),
      this.#note,
      this.#tiles,
      section("Contexts", this.#board?.elements ?? h("p.note", contextsRefused)),
      section("Failures", this.#failures.news, failureList),
      section("Services", this.#table()),
      this.#spend,
    ];
  }

  /**
   * Shows the screen and keeps it up to date.
   * @returns {Promise<void>}
   */
  async open() {
    const signal = this.#signal;
    // Events are followed before the first load has ended, so that none is missed.
    const loaded = Promise.all([this.#loadLists(), this.#period.load()]);
    const redraw = follow({
      signal,
      everyMs: REDRAW_MS,
      load: () => this.#draw(),
      onEvent: (event) => this.#mayReadContexts && this.#feed.takeEvent(event),
    });
    const recount = follow({
      signal,
      everyMs: COUNT_MS,
      load: () => this.#period.load(),
      onEvent: ({ type }) => type.startsWith("context."),
    });
    follow({
      signal,
      everyMs: LISTS_MS,
      load: () => this.#loadLists(),
      onEvent: ({ type }) => type.startsWith("context.") || type.startsWith("service."),
    });
    const timers = [setInterval(redraw, IDLE_REDRAW_MS), setInterval(recount, IDLE_COUNT_MS)];
    signal.addEventListener("abort", () => timers.forEach(clearInterval));
    await loaded;
  }

  /** @returns {Promise<void>} */
  async #loadLists() {
    const [services] = await Promise.all([
      getIfAllowed(`/v1/services?limit=${MAX_SERVICES}`),
      this.#mayReadContexts ? this.#feed.load() : undefined,
    ]);
    this.#services = services?.data ?? [];
    this.#hasMoreServices = Boolean(services?.next_cursor);
    this.#draw();
  }

  /** @returns {HTMLElement} */
  #table() {
    const heads = TABLE_HEADS.map((name) => h("th", { scope: "col" }, name));
    const table = h("table", h("thead", h("tr", heads)), this.#tableRows);
    return h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Services" }, table);
  }

  /** @returns {void} */
  #draw() {
    const services = this.#services;
    const counted = this.#period.figures;
    const isLoaded = services && (counted || !mayReadUsage());
    if (!isLoaded) return;

    const contexts = this.#feed.all();
    const ended = contexts.filter(hasEnded);
    const inFlight = contexts.filter((context) => !hasEnded(context) && !isScheduled(context));
    const figures = counted ?? countContexts(ended);
    if (services.length + contexts.length + figures.total.created === 0) {
      this.#drawWelcome();
      return;
    }
    if (!this.#tiles.isConnected) fill(this.#view, this.#content);
    this.#period.updateLabel();
    patch(this.#note, this.#aboutFigures(ended.length));
    patch(this.#tiles, this.#buildTiles(figures, inFlight.length));
    this.#board?.draw(contexts, counted && endedCount(counted.total));
    patch(this.#tableRows, [
      ...services.map((service) => buildServiceRow(service, figures, inFlight)),
      ...(this.#hasMoreServices ? [buildMoreRow()] : []),
    ]);
    patch(this.#spend, buildSpend(figures));
    this.#drawFailures(figures, ended);
  }

  /** @returns {void} */
  #drawWelcome() {
    this.#welcome ??= welcome();
    if (!this.#welcome.isConnected) fill(this.#view, h("h1", "Now"), this.#welcome);
  }

  /**
   * What the figures cover, and what they leave out.
   * @param {number} knownCount
   * @returns {string}
   */
  #aboutFigures(knownCount) {
    const counted = this.#period.figures;
    if (!counted) {
      return (
        `Based on the latest ${number(knownCount)} ended contexts that your key can read. The gateway's own count ` +
        "requires the permission usage:read, which the built-in roles operator and viewer have."
      );
    }
    const aboutCards = may("contexts:read:*") ? "" : " The cards show your own contexts only.";
    return `Counted by the gateway for the whole tenant since ${clockTime(counted.from)}.${aboutCards}`;
  }

  /**
   * @param {Figures} figures
   * @param {number} inFlightCount
   * @returns {Child[]}
   */
  #buildTiles({ total }, inFlightCount) {
    const counted = this.#period.figures;
    const ended = endedCount(total);
    const isCapped = this.#feed.isCapped(["queued", "executing", "input_required"]);
    const share = h("p.soft", `${number(total.completed)} of ${number(ended)}`);
    return [
      tile(
        counted ? `Ended since ${clockTime(counted.from)}` : "Ended",
        number(ended),
        this.#period.chart?.cloneNode(true),
      ),
      this.#mayReadContexts && tile("In flight", `${number(inFlightCount)}${isCapped ? "+" : ""}`),
      tile("Completed", percent(total.completed, ended), share),
      tile("p50 / p95", latencies(total).join(" / ")),
      Boolean(total.spend?.length) && tile("Spend", spendText(total)),
    ];
  }

  /**
   * @param {Figures} figures
   * @param {Context[]} ended
   * @returns {void}
   */
  #drawFailures(figures, ended) {
    const failures = failuresOf(figures, ended);
    const after = failures.length === 0 ? [h("li.soft", { "data-key": "none" }, "No failures.")] : [];
    this.#failures.show(failures, { limit: MAX_FAILURES, after });
  }
}

/**
 * @param {string} name
 * @param {string} figure
 * @param {Child} [more]
 * @returns {HTMLElement}
 */
const tile = (name, figure, more) =>
  h("div.card", { "data-key": name }, h("p.soft", name), h("p.figure", figure), more);

/**
 * @param {UsageGroup} group
 * @returns {string[]}
 */
const latencies = ({ latency_ms: { p50, p95 } }) => [duration(p50), duration(p95)];

/** @returns {HTMLElement} */
const buildMoreRow = () =>
  h("tr", { "data-key": "" }, h("td", { colspan: TABLE_HEADS.length }, link("More services", "#/services")));

/**
 * @param {Service} service
 * @param {Figures} figures
 * @param {Context[]} inFlight
 * @returns {HTMLElement}
 */
function buildServiceRow({ id, name, status }, figures, inFlight) {
  const own = ofService(figures, id);
  const ended = endedCount(own);
  const cells = [
    badge(status),
    inFlight.filter(({ service }) => service === id).length,
    number(ended),
    percent(own.failed + own.timed_out, ended),
    ...latencies(own),
  ];
  return h(
    "tr",
    { "data-key": id },
    h("th", { scope: "row" }, link(name, `#/services/${id}`)),
    cells.map((cell) => h("td", cell)),
  );
}

// The screen Services: all services with their health, or first steps if there are none.
import { getServices } from "./api.js";
import { badge, button, link, screenTitle } from "./components.js";
import { fill, h } from "./dom.js";
import { duration, words } from "./format.js";
import { healthChart, watchHealth } from "./health.js";
import { may } from "./session.js";
import { SteadyList } from "./steady-list.js";
import { readLatencies } from "./usage.js";
import { welcome } from "./welcome.js";

/** How many services are shown at first, and with each click on "Load more". */
const PAGE_SIZE = 100;

/** @typedef {Map<string | undefined, Latency>} Latencies by service */

/**
 * @param {Visit} visit
 * @returns {Promise<void>}
 */
export async function services({ view, signal }) {
  const history = watchHealth(signal, load);
  const list = h("ul.grid.plain");
  const more = h("div");
  let wanted = PAGE_SIZE;
  /** @type {Latencies} */
  let latencies = new Map();
  /** @type {HTMLElement | undefined} */
  let firstSteps;
  const rows = new SteadyList({
    element: list,
    name: "Services",
    signal,
    buildRow: (/** @type {Service} */ service) => buildCard(service, latencies.get(service.id), history),
  });

  async function load() {
    /** @type {[Page<Service>, Latencies]} */
    const [page, read] = await Promise.all([getServices(wanted), readLatencies().catch(() => latencies)]);
    latencies = read;
    if (page.data.length === 0) {
      firstSteps ??= welcome();
      if (!firstSteps.isConnected) fill(view, heading(), firstSteps);
      return;
    }
    if (!list.isConnected) fill(view, heading(), h("div", h("div.floating", rows.news), list), more);
    rows.show(page.data);
    fill(more, page.next_cursor && button("Load more", loadMore));
  }

  async function loadMore() {
    wanted += PAGE_SIZE;
    await load();
  }

  await load();
}

/** @returns {HTMLElement} */
function heading() {
  const register = may("services:write") && link("Register a service", "#/services/new", "button primary");
  return screenTitle("Services", register);
}

/**
 * @param {Service} service
 * @param {Latency | undefined} latency over the last 24 hours
 * @param {StreamEvent[]} history
 * @returns {HTMLElement}
 */
function buildCard(service, latency, history) {
  const { id, name, status, capabilities, breaker, isGone } = service;
  const names = capabilities.map((capability) => capability.name).join(", ");
  const card = h(
    "a.card.stack",
    { href: `#/services/${id}` },
    h("span.title", h("strong", name), badge(isGone ? "gone" : status)),
    h("span.soft", `${id} · ${names}`),
    healthChart(history, service),
    h("span.soft", `Breaker ${words(breaker.state)} · ${medianOf(service, latency)}`),
  );
  return h("li", { "data-key": id, class: isGone && "gone" }, card);
}

/**
 * The median latency: over the last 24 hours if the key may read usage, otherwise of the latest calls.
 * @param {Service} service
 * @param {Latency | undefined} latency
 * @returns {string}
 */
const medianOf = ({ latency_ms }, latency) =>
  typeof latency?.p50 === "number" ? `p50 ${duration(latency.p50)} (24 hours)` : `median ${duration(latency_ms)}`;

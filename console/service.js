// The screen of one service: its health, its settings, and its capabilities to try.
import { get, request } from "./api.js";
import { badge, button, confirmed, link, screenTitle, section, time, toast } from "./components.js";
import { fill, h } from "./dom.js";
import { duration, words } from "./format.js";
import { healthChart, watchHealth } from "./health.js";
import { leadBack } from "./navigation.js";
import { patch } from "./patch.js";
import { buildCapability, buildCatalogue, buildFacts, buildModels } from "./service-parts.js";
import { may } from "./session.js";
import { readLatencies } from "./usage.js";

const MAX_HEALTH_CHANGES = 4;
const ANY_VERSION = { "if-match": "*" };

/**
 * @param {Visit} visit
 * @returns {Promise<void>}
 */
export async function service({ view, id = "", signal }) {
  const screen = new ServiceScreen(id, signal);
  const shown = await screen.load();
  const tries = shown.capabilities.map((capability) => buildCapability(shown, capability));
  fill(
    view,
    leadBack(link("← Services", "#/services")),
    screen.element,
    buildModels(shown),
    section("Capabilities", tries.length > 0 ? tries : h("p.soft", "None")),
  );
}

class ServiceScreen {
  #id;
  #path;
  #history;
  element = h("div.stack");

  /**
   * @param {string} id
   * @param {AbortSignal} signal
   */
  constructor(id, signal) {
    this.#id = id;
    this.#path = `/v1/services/${id}`;
    this.#history = watchHealth(signal, () => this.load());
  }

  /**
   * Loads the service and shows it.
   * @returns {Promise<Service>}
   */
  async load() {
    /** @type {[Service, Map<string | undefined, Latency>]} */
    const [service, latencies] = await Promise.all([get(this.#path), readLatencies().catch(() => new Map())]);
    const changes = this.#history.filter(({ subject }) => subject === this.#id).slice(-MAX_HEALTH_CHANGES);
    patch(
      this.element,
      screenTitle(service.name, badge(service.status)),
      service.description && h("p", service.description),
      may("services:write") && this.#buildActions(service),
      section("Health", healthChart(this.#history, service), h("ol.steps.plain", changes.map(buildHealthChange))),
      buildFacts(service, latencies.get(this.#id)),
      service.catalogue && buildCatalogue(service.catalogue),
    );
    return service;
  }

  /**
   * @param {Service} service
   * @returns {HTMLElement}
   */
  #buildActions({ name, status }) {
    const isDraining = status === "draining";
    const deleteIfConfirmed = () => confirmed(`Delete ${name}? Calls in progress will finish.`, () => this.#delete());
    return h(
      "div.row",
      { "data-key": "actions" },
      button("Check now", () => this.#check()),
      // One button under either name, so that it keeps the focus when it is pressed.
      button(isDraining ? "Resume" : "Drain", () => this.#setStatus(isDraining ? "unknown" : "draining"), {
        key: "drain",
      }),
      link("Edit", `#/services/new?from=${this.#id}`, "button"),
      button("Delete", deleteIfConfirmed, { kind: "danger" }),
    );
  }

  /** @returns {Promise<void>} */
  async #check() {
    const { json } = await request("POST", `${this.#path}/check`);
    const { healthy, error, status_code, latency_ms } = json;
    toast(
      healthy
        ? `Healthy: responded in ${duration(latency_ms)}.`
        : `Health check failed: ${error ?? `HTTP ${status_code}`}.`,
    );
    await this.load();
  }

  /**
   * @param {"unknown" | "draining"} status
   * @returns {Promise<void>}
   */
  async #setStatus(status) {
    await request("PATCH", this.#path, { body: { status }, headers: ANY_VERSION });
    await this.load();
  }

  /** @returns {Promise<void>} */
  async #delete() {
    await request("DELETE", this.#path, { headers: ANY_VERSION });
    location.hash = "#/services";
  }
}

/**
 * @param {StreamEvent} event
 * @returns {HTMLElement}
 */
const buildHealthChange = ({ time: at, data }) =>
  h("li", badge(data.status), time(at), h("span.soft", `breaker ${words(data.breaker)}`));

// Services: who there is, and how they are.
import { get, may } from "./api.js";
import { badge, bars, fill, h, link } from "./dom.js";
import { duration } from "./format.js";
import { listen, past, soon } from "./live.js";
import { welcome } from "./welcome.js";

const DAY_MS = 86_400_000;

/** What the log has of services' health, and calls back when there is more. @param {AbortSignal} signal @param {() => Promise<unknown>} load */
export async function watch(signal, load) {
  const history = may("events:read") ? await past("service.status", signal) : [];
  const again = soon(signal, 200, load);
  listen(signal, {
    event(event) {
      if (event.type === "service.status") history.push(event);
      if (event.type.startsWith("service.")) again();
    },
    again,
  });
  return history;
}

/** @param {Place} place */
export async function services({ view, signal }) {
  const history = await watch(signal, load);
  async function load() {
    const { data } = await get("/v1/services", signal);
    fill(view, h("div.title", h("h1", { tabindex: -1 }, "Services"), may("services:write") && link("Register a service", "#/services/new", "button primary")),
      data.length === 0 ? welcome(signal) : h("ul.grid.plain", data.map((one) => h("li", h("a.card.stack", { href: `#/services/${one.id}` },
        h("span.title", h("strong", one.name), badge(one.status)), h("span.soft", `${one.id} · ${one.capabilities.map(({ name }) => name).join(", ")}`),
        health(history, one), h("span.soft", `Breaker ${one.breaker.state.replace("_", " ")} · median ${duration(one.latency_ms)}`))))));
  }
  await load();
}

/** Its status over the last day, as a strip. @param {StreamEvent[]} history @param {any} service */
export function health(history, service) {
  const events = history.filter(({ subject }) => subject === service.id);
  const [from, until] = [Math.max(Date.now() - DAY_MS, Date.parse(service.created_at)), Date.now()];
  const steps = [{ status: events[0]?.data.previous ?? service.status, at: from }, ...events.map(({ data, time }) => ({ status: data.status, at: Date.parse(time) }))];
  const parts = steps.map(({ status, at }, place) => ({ status, x: Math.max(0, at - from), width: (steps[place + 1]?.at ?? until) - Math.max(from, at) })).filter(({ width }) => width > 0);
  const told = parts.map(({ status, width }) => `${status} for ${duration(width)}`).slice(-5).join(", then ");
  return bars("health", until - from, `Health: ${told}`, parts.map(({ status, x, width }) => ({ class: `is-${status}`, x, width, height: 20 })));
}

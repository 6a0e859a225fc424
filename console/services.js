// Services: the list, one to try, and first steps where there is none.
import { ask, get, may, maybe } from "./api.js";
import { badge, bars, button, copyable, duration, facts, fill, h, json, link, say, section, sure, title, when } from "./dom.js";
import { fieldsFor, formOf } from "./fields.js";
import { follow, past } from "./live.js";

const DAY_MS = 86_400_000;
const writes = () => may("services:write");

/** The history of services' health, logged and live; `load`s again when it grows. */
function watch(signal, load) {
  const history = [];
  const again = follow(signal, 200, load, (event) => {
    if (event.type === "service.status") history.push(event);
    return event.type.startsWith("service.");
  });
  if (may("events:read")) past("service.status", signal).then((events) => { history.unshift(...events); again(); }, () => {});
  return history;
}

export async function services({ view, signal }) {
  const history = watch(signal, load);
  async function load() {
    const { data } = await get("/v1/services");
    fill(view, title("Services", writes() && link("Register a service", "#/services/new", "button primary")),
      data.length === 0 ? welcome() : h("ul.grid.plain", data.map((one) => h("li", h("a.card.stack", { href: `#/services/${one.id}` },
        h("span.title", h("strong", one.name), badge(one.status)), h("span.soft", `${one.id} · ${one.capabilities.map(({ name }) => name).join(", ")}`),
        health(history, one), h("span.soft", `Breaker ${one.breaker.state.replace("_", " ")} · median ${duration(one.latency_ms)}`))))));
  }
  await load();
}

/** Its status over the last day, as a strip. */
function health(history, { id, status, created_at }) {
  const events = history.filter(({ subject }) => subject === id);
  const now = Date.now();
  const from = Math.max(now - DAY_MS, Date.parse(created_at));
  const steps = [[events[0]?.data.previous ?? status, from], ...events.map(({ data, time }) => [data.status, Date.parse(time)])];
  const told = steps.slice(-5).map(([status, at]) => `${status} from ${new Date(at).toLocaleTimeString("en")}`);
  // Each is drawn up to now: the next one covers it.
  return bars("health", now - from, `Health: ${told.join(", ")}`, steps.map(([status, at]) => ({ class: `is-${status}`, x: Math.max(0, at - from), width: now - Math.max(at, from), height: 20 })));
}

export async function service({ view, id, signal }) {
  const path = `/v1/services/${id}`;
  const top = h("div.stack");
  const headers = { "if-match": "*" };
  const history = watch(signal, load);

  async function load() {
    const one = await get(path);
    const drains = one.status === "draining";
    fill(top, title(one.name, badge(one.status)), one.description && h("p", one.description),
      writes() && h("div.row",
        button("Check now", check),
        button(drains ? "Take work again" : "Drain", () => ask("PATCH", path, { body: { status: drains ? "unknown" : "draining" }, headers }).then(load)),
        link("Edit", `#/services/new?from=${id}`, "button"),
        button("Delete", () => sure(`Delete ${one.name}? What runs is finished.`, () => ask("DELETE", path, { headers }).then(() => { location.hash = "#/services"; })), "danger")),
      section("Health", health(history, one), h("ol.steps.plain", history.filter(({ subject }) => subject === id).slice(-4).map(({ time, data }) =>
        h("li", badge(data.status), when(time), h("span.soft", `breaker ${data.breaker.replace("_", " ")}`))))),
      facts({ Id: copyable(id, "service id"), Address: one.transport.url && h("code", one.transport.url), "Status since": one.status_at && when(one.status_at),
        Breaker: one.breaker.state.replace("_", " "), "Open until": one.breaker.until && when(one.breaker.until),
        Median: duration(one.latency_ms), Tags: one.tags.join(", "), "At once": one.limits.max_concurrency ?? "no limit" }));
    return one;
  }

  async function check() {
    const { healthy, error, status_code, latency_ms } = (await ask("POST", `${path}/check`)).json;
    say(healthy ? `It answers, in ${duration(latency_ms)}.` : `It is not well: ${error ?? `HTTP ${status_code}`}. See whether it runs.`);
    await load();
  }

  const { capabilities } = await load();
  fill(view, link("← Services", "#/services"), top, section("Capabilities", capabilities.map(capability)));

  function capability({ name, version, description, input_schema, idempotent, durable, timeout_seconds }) {
    async function send(parameters) {
      const body = { capability: name, version: `=${version}`, service: id, parameters };
      location.hash = `#/contexts/${(await ask("POST", "/v1/contexts", { body, headers: { prefer: "respond-async" } })).json.id}`;
    }
    return h("section.card", h("h3", name, h("span.soft", ` ${version}`)),
      h("p.soft", description, idempotent && " Idempotent.", !durable && " Not durable.", ` At most ${duration(timeout_seconds * 1000)}.`),
      h("details", h("summary.button", `Try ${name}`), formOf({ fields: fieldsFor(input_schema, "Parameters"), submit: "Run", pointer: "parameters", send })),
      input_schema && h("details", h("summary", "Input schema"), json(`Input schema of ${name}`, input_schema)));
  }
}

async function startDemo(body) {
  await ask("PUT", "/v1/services/demo", { body, headers: { "if-none-match": "*" } });
  location.hash = "#/services/demo";
}

/** What to do first. */
export function welcome() {
  const demo = h("div.stack");
  // A deployment may have switched it off.
  if (writes()) void maybe("/demo.json").then((document) => document && fill(demo,
    h("p", "Nothing at hand? A demonstration is built in, and can be deleted again."),
    button("Start the demonstration", () => startDemo(document))), () => {});
  return h("div.card.stack.narrow", h("h2", "Nothing here yet"),
    h("ol", h("li", h("strong", "Register a service"), ": its address, and what it can do."),
      h("li", h("strong", "Try it"), " on its page. You see it here, live."), h("li", link("Connect", "#/connect"), " your programs, each with a key of its own.")),
    writes() ? h("p", link("Register a service", "#/services/new", "button primary")) : h("p.note", "Your key may not register services. One with the role operator may."), demo);
}

// One service: how it is, what it offers, and trying that.
import { ask, get, may } from "./api.js";
import { badge, button, confirm, copyable, facts, fill, h, json, link, say } from "./dom.js";
import { fieldsFor, formOf } from "./fields.js";
import { duration, when } from "./format.js";
import { health, watch } from "./services.js";

/** @param {Place} place */
export async function service({ view, id, signal }) {
  const path = `/v1/services/${encodeURIComponent(id)}`;
  const top = h("div.stack");
  const headers = { "if-match": "*" };
  const history = await watch(signal, load);

  async function load() {
    const one = await get(path, signal);
    const drains = one.status === "draining";
    fill(top, h("div.title", h("h1", { tabindex: -1 }, one.name), h("span", { role: "status" }, badge(one.status))), one.description && h("p", one.description),
      may("services:write") && h("div.row",
        button("Check now", async () => {
          const { healthy, error, status_code, latency_ms } = (await ask("POST", `${path}/check`, { body: {} })).json;
          say(healthy ? `It answers, in ${duration(latency_ms)}.` : `It is not well: ${error ?? `HTTP ${status_code}`}. See whether it runs.`);
          await load();
        }),
        button(drains ? "Take work again" : "Drain", () => ask("PATCH", path, { body: { status: drains ? "unknown" : "draining" }, headers }).then(load)),
        link("Edit", `#/services/new?from=${id}`, "button"),
        button("Delete", () => confirm(`Delete ${one.name}?`, "What runs is finished; nobody can ask it for more.", "Delete it", async () => { await ask("DELETE", path, { headers }); location.hash = "#/services"; }), "danger")),
      h("section", h("h2", "Health"), health(history, one), h("ol.steps.plain", history.filter(({ subject }) => subject === id).slice(-4).reverse().map(({ time, data }) =>
        h("li", badge(data.status), when(time), h("span.soft", `breaker ${data.breaker.replace("_", " ")}`))))),
      facts({ Id: copyable(id, "service id"), Address: one.transport.url && h("code", one.transport.url), "Status since": one.status_at && when(one.status_at), Breaker: one.breaker.state.replace("_", " "), "Open until": one.breaker.until && when(one.breaker.until),
        Median: duration(one.latency_ms), Tags: one.tags.join(", "), Tier: one.tier, Weight: one.weight, "At the same time": one.limits.max_concurrency ?? "no limit", Registered: when(one.created_at) }));
    return one;
  }

  const { capabilities } = await load();
  fill(view, link("← Services", "#/services"), top, h("section", h("h2", "Capabilities"), capabilities.map(capability)));

  function capability({ name, version, description, input_schema, idempotent, durable, timeout_seconds }) {
    const place = h("div");
    const open = h("button", { type: "button", "aria-expanded": "false", onclick }, `Try ${name}`);
    function onclick() {
      const isOpen = place.hasChildNodes();
      open.ariaExpanded = String(!isOpen);
      fill(place, !isOpen && formOf({ fields: fieldsFor(input_schema, "Parameters"), submit: "Run", pointer: "parameters", send }));
      place.querySelector("input, textarea, select")?.focus();
    }
    async function send(parameters) {
      const body = { capability: name, version: `=${version}`, service: id, parameters };
      location.hash = `#/contexts/${(await ask("POST", "/v1/contexts", { body, headers: { prefer: "respond-async" } })).json.id}`;
    }
    return h("section.card", h("div.title", h("h3", name, h("span.soft", ` ${version}`)), open),
      h("p.soft", [description, idempotent && "Idempotent.", !durable && "Not durable.", `At most ${duration(timeout_seconds * 1000)}.`].filter(Boolean).join(" ")), place,
      input_schema && h("details", h("summary", "Input schema"), json(`Input schema of ${name}`, input_schema)));
  }
}

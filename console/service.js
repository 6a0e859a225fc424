// One service: its health, what it is allowed, and its capabilities to try.
import { ask, get, may } from "./api.js";
import {
  badge,
  button,
  copyable,
  duration,
  facts,
  fill,
  h,
  json,
  link,
  say,
  section,
  sure,
  title,
  when,
} from "./dom.js";
import { fieldsFor, formOf } from "./fields.js";
import { healthStrip, watchHealth } from "./health.js";
import { patch } from "./patch.js";
import { markReturn } from "./places.js";
import { spreads } from "./usage.js";

const MOST_STEPS = 4;

const healthStep = ({ time, data }) =>
  h("li", badge(data.status), when(time), h("span.soft", `breaker ${data.breaker.replace("_", " ")}`));

/** How long its calls took: counted over the last 24 hours where that may be read, else the latest ones. */
function speed({ latency_ms }, spread) {
  if (typeof spread?.p50 !== "number") return { Median: duration(latency_ms) };
  return { "p50 / p95 in 24 hours": `${duration(spread.p50)} / ${duration(spread.p95)}` };
}

const factsOf = (one, spread) =>
  facts({
    Id: copyable(one.id, "service id"),
    Address: one.transport.url && h("code", one.transport.url),
    "Status since": one.status_at && when(one.status_at),
    Breaker: one.breaker.state.replace("_", " "),
    "Open until": one.breaker.until && when(one.breaker.until),
    ...speed(one, spread),
    Tags: one.tags.join(", "),
    "Max concurrency": one.limits.max_concurrency ?? "no limit",
    Tier: one.tier,
    Weight: one.weight,
    Retry: `${one.retry.max_attempts} attempts`,
  });

/** What was read of an MCP server, and what of it was not taken. */
function catalogueOf({ error, server, instructions, protocol_version, held = [], left_out: leftOut = [] }) {
  const names = (tools, line) => h("ul.plain.stack", tools.map(line));
  return section(
    "MCP server",
    error && h("p.note", `Its tools could not be read: ${error}`),
    facts({
      Server: server && [server.title ?? server.name, server.version].filter(Boolean).join(" "),
      Protocol: protocol_version,
    }),
    instructions &&
      h("details", { "data-key": "instructions" }, h("summary", "Instructions"), h("p.text", instructions)),
    held.length > 0 &&
      h(
        "div",
        h("h3", "Tools that wait to be accepted"),
        names(held, ({ capability }) => h("li", h("code", capability.name))),
      ),
    leftOut.length > 0 &&
      h(
        "div",
        h("h3", "Tools that were left out"),
        names(leftOut, ({ name, reason }) => h("li", h("code", name || "?"), ` ${reason}`)),
      ),
  );
}

function capabilityOf(service, { name, version, description, input_schema, idempotent, durable, timeout_seconds }) {
  async function send(parameters) {
    const body = { capability: name, version: `=${version}`, service, parameters };
    location.hash = `#/contexts/${(await ask("POST", "/v1/contexts", { body, headers: { prefer: "respond-async" } })).json.id}`;
  }
  const form = () =>
    formOf({ fields: fieldsFor(input_schema, "Parameters"), submit: "Run", pointer: "parameters", send });
  return h(
    "section.card",
    h("h3", name, h("span.soft", ` ${version}`)),
    h(
      "p.soft",
      description,
      idempotent && " Idempotent.",
      !durable && " Not durable.",
      ` At most ${duration(timeout_seconds * 1000)}.`,
    ),
    h("details", h("summary.button", `Try ${name}`), form()),
    input_schema && h("details", h("summary", "Input schema"), json(`Input schema of ${name}`, input_schema)),
  );
}

export async function service({ view, id, signal }) {
  const path = `/v1/services/${id}`;
  const top = h("div.stack");
  const headers = { "if-match": "*" };
  const history = watchHealth(signal, load);

  async function drain(isDraining) {
    await ask("PATCH", path, { body: { status: isDraining ? "unknown" : "draining" }, headers });
    await load();
  }
  async function end() {
    await ask("DELETE", path, { headers });
    location.hash = "#/services";
  }
  async function check() {
    const { healthy, error, status_code, latency_ms } = (await ask("POST", `${path}/check`)).json;
    say(
      healthy ? `It answers, in ${duration(latency_ms)}.` : `Health check failed: ${error ?? `HTTP ${status_code}`}.`,
    );
    await load();
  }
  const actions = ({ name, status }) =>
    h(
      "div.row",
      { "data-key": "actions" },
      button("Check now", check),
      // One button, by whichever name: pressing it keeps the focus.
      button(status === "draining" ? "Resume" : "Drain", () => drain(status === "draining"), "", "drain"),
      link("Edit", `#/services/new?from=${id}`, "button"),
      button("Delete", () => sure(`Delete ${name}? What runs is finished.`, end), "danger"),
    );

  async function load() {
    const [one, medians] = await Promise.all([get(path), spreads().catch(() => new Map())]);
    const steps = history.filter(({ subject }) => subject === id).slice(-MOST_STEPS);
    patch(
      top,
      title(one.name, badge(one.status)),
      one.description && h("p", one.description),
      may("services:write") && actions(one),
      section("Health", healthStrip(history, one), h("ol.steps.plain", steps.map(healthStep))),
      factsOf(one, medians.get(id)),
      one.catalogue && catalogueOf(one.catalogue),
    );
    return one;
  }

  const { capabilities } = await load();
  const tries = capabilities.map((one) => capabilityOf(id, one));
  fill(
    view,
    markReturn(link("← Services", "#/services")),
    top,
    section("Capabilities", tries.length > 0 ? tries : h("p.soft", "None.")),
  );
}

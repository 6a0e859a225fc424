// Parts of a service's screen: its facts, its MCP server's catalog, and a capability with a form to try it.
import { postAsync } from "./api.js";
import { copyable, facts, jsonBlock, section, time } from "./components.js";
import { h } from "./dom.js";
import { fieldsFor } from "./fields.js";
import { buildForm } from "./form.js";
import { duration, words } from "./format.js";
import { modelHash, takesAnyName } from "./model-catalogue.js";
import { buildNameForm, buildOffer } from "./model-parts.js";
import { mayUseModels } from "./session.js";

/**
 * @param {Service} service
 * @param {Latency | undefined} latency over the last 24 hours
 * @returns {HTMLElement}
 */
export function buildFacts(service, latency) {
  const { id, transport, status_at, breaker, tags, limits, tier, weight, retry } = service;
  return facts({
    ID: copyable(id, "service ID"),
    URL: transport.url && h("code", transport.url),
    "Status since": status_at && time(status_at),
    Breaker: words(breaker.state),
    "Open until": breaker.until && time(breaker.until),
    ...latencyFact(service, latency),
    Tags: tags.join(", "),
    "Max concurrency": limits.max_concurrency ?? "no limit",
    Tier: tier,
    Weight: weight,
    "Max attempts": retry.max_attempts,
  });
}

/**
 * The latency: over the last 24 hours if the key may read usage, otherwise of the latest calls.
 * @param {Service} service
 * @param {Latency | undefined} latency
 * @returns {Record<string, string>}
 */
function latencyFact({ latency_ms }, latency) {
  if (typeof latency?.p50 !== "number") return { Median: duration(latency_ms) };
  return { "p50 / p95 (24 hours)": `${duration(latency.p50)} / ${duration(latency.p95)}` };
}

/**
 * What the gateway read from an MCP server, and which tools it did not accept.
 * @param {Catalogue} catalogue
 * @returns {HTMLElement}
 */
export function buildCatalogue({ error, server, instructions, protocol_version, held = [], left_out = [] }) {
  const name = server && [server.title ?? server.name, server.version].filter(Boolean).join(" ");
  const heldTools = held.map(({ capability }) => h("li", h("code", capability.name)));
  const skippedTools = left_out.map((tool) => h("li", h("code", tool.name || "?"), ` ${tool.reason}`));
  return section(
    "MCP server",
    error && h("p.note", `Could not read its tools: ${error}`),
    facts({ Server: name, Protocol: protocol_version }),
    instructions && buildInstructions(instructions),
    heldTools.length > 0 && buildTools("Tools to be accepted", heldTools),
    skippedTools.length > 0 && buildTools("Tools left out", skippedTools),
  );
}

/**
 * @param {string} text
 * @returns {HTMLElement}
 */
const buildInstructions = (text) =>
  h("details", { "data-key": "instructions" }, h("summary", "Instructions"), h("p.text", text));

/**
 * @param {string} title
 * @param {HTMLElement[]} rows
 * @returns {HTMLElement}
 */
const buildTools = (title, rows) => h("div", h("h3", title), h("ul.plain.stack", rows));

/**
 * The models that a service offers, each with a link to try it, and a form for those that it does not list.
 * @param {Service} service
 * @returns {Child}
 */
export function buildModels(service) {
  const listed = (service.models ?? []).filter(({ id }) => id !== "*");
  const takesOthers = takesAnyName(service);
  if (listed.length === 0 && !takesOthers) return undefined;
  const rows = listed.map((offer) => {
    const href = modelHash(`${service.id}/${offer.id}`);
    return buildOffer({ title: offer.id, href, offer });
  });
  return section(
    "Models",
    rows.length > 0 && h("ul.rows.plain", rows),
    takesOthers && mayUseModels() && buildNameForm([service]),
  );
}

/**
 * @param {string} service
 * @param {Capability} capability
 * @returns {HTMLElement}
 */
export function buildCapability(service, capability) {
  const { name, version, description, input_schema, idempotent, durable, timeout_seconds, price } = capability;
  /** @param {unknown} parameters */
  async function run(parameters) {
    const body = { capability: name, version: `=${version}`, service, parameters };
    const { id } = await postAsync("/v1/contexts", body);
    location.hash = `#/contexts/${id}`;
  }
  const form = buildForm({
    fields: fieldsFor(input_schema, "Parameters"),
    submitLabel: "Run",
    pointer: "parameters",
    send: run,
  });
  const schema = input_schema && jsonBlock(`Input schema of ${name}`, input_schema);
  return h(
    "section.card",
    h("h3", name, h("span.soft", ` ${version}`)),
    h(
      "p.soft",
      description,
      idempotent && " Idempotent.",
      !durable && " Not durable.",
      ` Timeout ${duration(timeout_seconds * 1000)}.`,
      price && ` ${price.per_call} ${price.currency} per call.`,
    ),
    h("details", h("summary.button", `Try ${name}`), form),
    schema && h("details", h("summary", "Input schema"), schema),
  );
}

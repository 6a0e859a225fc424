// Parts of a service's screen: its facts, its MCP server's catalog, and a capability with a form to try it.
import { postAsync, request } from "./api.js";
import { copyable, facts, jsonBlock, section, time } from "./components.js";
import { fill, h } from "./dom.js";
import { fieldsFor } from "./fields.js";
import { buildForm } from "./form.js";
import { duration, words } from "./format.js";
import { keepsCalls, keepsChats } from "./kept-content.js";
import { modelHash, takesAnyName } from "./model-catalogue.js";
import { buildNameForm, buildOffer } from "./model-parts.js";
import { buildOutcome } from "./outcome.js";
import { mayUseModels } from "./session.js";

/** How much longer than its timeout a call may take until its response is here. */
const GRACE_MS = 30_000;
const NOT_KEPT_HERE =
  "The content of this call is not kept, so it cannot run in the background. Stay on this page until its result appears.";

/** @param {Child} text */
const soft = (text) => h("p.soft", text);

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
    Content: contentText(service),
  });
}

/**
 * What is kept, if it is not the default.
 * @param {Service} service
 * @returns {string}
 */
function contentText(service) {
  const { content, transport } = service;
  if (content === "full") return transport.content === "none" ? "kept, except for model calls" : "kept";
  return [content && "not kept", keepsChats(service) && "kept for model calls"].filter(Boolean).join(", ");
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
 * A capability with a form to try it.
 * @param {Service} service
 * @param {Capability} capability
 * @returns {HTMLElement}
 */
export function buildCapability(service, capability) {
  const { name, version, description, input_schema, idempotent, durable, timeout_seconds, price } = capability;
  const schema = input_schema && jsonBlock(`Input schema of ${name}`, input_schema);
  return h(
    "section.card",
    h("h3", name, h("span.soft", ` ${version}`)),
    h(
      "p.soft",
      description,
      idempotent && " Idempotent.",
      !durable && " Not durable.",
      keepingText(service, capability),
      ` Timeout ${duration(timeout_seconds * 1000)}.`,
      price && ` ${price.per_call} ${price.currency} per call.`,
    ),
    h("details", h("summary.button", `Try ${name}`), buildTrial(service, capability)),
    schema && h("details", h("summary", "Input schema"), schema),
  );
}

/**
 * What is kept of a capability's calls, if it is not the default.
 * @param {Service} service
 * @param {Capability} capability
 * @returns {string | false}
 */
function keepingText(service, capability) {
  if (!keepsCalls(service, capability)) return " Content not kept.";
  return service.content === "none" && " Content kept.";
}

/**
 * A form that runs a capability. If the content is kept, it opens the context; otherwise it shows the response.
 * @param {Service} service
 * @param {Capability} capability
 * @returns {HTMLElement}
 */
function buildTrial(service, capability) {
  const { name, version, input_schema, timeout_seconds } = capability;
  const isKept = keepsCalls(service, capability);
  const outcome = h("div", { role: "status" });

  /** @param {object} body */
  async function runHere(body) {
    fill(outcome, soft("Waiting for the response…"));
    try {
      const timeoutMs = timeout_seconds * 1000 + GRACE_MS;
      const { json } = await request("POST", "/v1/contexts", { body, timeoutMs });
      fill(outcome, buildOutcome(json));
    } catch (error) {
      fill(outcome);
      throw error;
    }
  }

  /** @param {unknown} parameters */
  async function run(parameters) {
    const body = { capability: name, version: `=${version}`, service: service.id, parameters };
    if (!isKept) return runHere(body);
    const { id } = await postAsync("/v1/contexts", body);
    location.hash = `#/contexts/${id}`;
  }

  const form = buildForm({
    fields: fieldsFor(input_schema, "Parameters"),
    submitLabel: "Run",
    pointer: "parameters",
    send: run,
  });
  return isKept ? form : h("div.stack", soft(NOT_KEPT_HERE), form, outcome);
}

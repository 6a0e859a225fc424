// What is kept of the content of calls, their parameters and results: the rules, and fields that set it.

/** @import { ModelCatalogue, Model } from "./model-catalogue.js" */

/** Transports whose services serve the endpoints of models. */
const MODEL_KINDS = ["openai", "anthropic", "demo"];
const TITLE = "What is kept";
const EVERYTHING = "Everything";
const NOTHING = "Nothing";
const MEANING =
  "Whether the gateway stores parameters and results. If it keeps nothing, a call ends with its response: there is no " +
  "respond-async, idempotency key, run_at, schedule or replay, and the service must not respond with 202.";

/** For a new service. @type {JsonSchema} */
export const NEW_SERVICE_FIELD = {
  title: TITLE,
  enum: ["none"],
  titles: [NOTHING],
  noneLabel: EVERYTHING,
  description: MEANING,
};

/** For a new provider of models, which says it in its transport. @type {JsonSchema} */
export const PROVIDER_FIELD = {
  title: TITLE,
  enum: ["full"],
  titles: [EVERYTHING],
  noneLabel: NOTHING,
  description: "Whether the gateway stores requests and responses until retention ends. A route may override this.",
};

/** For a route. @type {JsonSchema} */
export const ROUTE_FIELD = {
  title: TITLE,
  enum: ["none", "full"],
  titles: [NOTHING, EVERYTHING],
  noneLabel: "What the targets keep",
  description:
    "Whether the gateway stores requests and responses until retention ends. By default, targets keep nothing.",
};

/**
 * For a service that is edited.
 * @param {Service} service
 * @returns {JsonSchema}
 */
export function serviceField({ content, transport }) {
  if (!MODEL_KINDS.includes(transport.kind)) {
    // `full` is the default here; a document that has it keeps it.
    return content === "full"
      ? { ...NEW_SERVICE_FIELD, enum: ["full", "none"], titles: [EVERYTHING, NOTHING], noneLabel: "not set" }
      : NEW_SERVICE_FIELD;
  }
  return {
    title: TITLE,
    enum: ["full", "none"],
    titles: [EVERYTHING, NOTHING],
    noneLabel: "Everything but model calls",
    description: `${MEANING} For model calls, a route or the transport may override this.`,
  };
}

/**
 * Whether the parameters and the results of a capability's calls are kept.
 * @param {Service} service
 * @param {Capability} capability
 * @returns {boolean}
 */
export const keepsCalls = (service, capability) => (capability.content ?? service.content) !== "none";

/**
 * Whether a service keeps chats at the endpoints of models, where no route says otherwise.
 * @param {Service} service
 * @returns {boolean}
 */
export function keepsChats({ transport, capabilities, content }) {
  if (!MODEL_KINDS.includes(transport.kind)) return false;
  const name = transport.kind === "anthropic" ? "messages" : "chat";
  const capability = capabilities.find((one) => one.name === name);
  return (transport.content ?? capability?.content ?? content) === "full";
}

/**
 * Whether chats with a model are kept; undefined if the key may not read what decides it.
 * @param {ModelCatalogue} catalogue
 * @param {Model} model
 * @returns {boolean | undefined}
 */
export function keepsModel({ services }, { route, targets }) {
  if (route?.content) return route.content === "full";
  if (!services || targets.length === 0) return undefined;
  // Targets that do not exist are skipped.
  const serving = services.filter(({ id }) => targets.some(({ service }) => service === id));
  return serving.length > 0 && serving.every(keepsChats);
}

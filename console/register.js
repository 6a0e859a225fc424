// The screen that registers a service with a form or a document, or edits a service's document.
import { request } from "./api.js";
import { link, secretShownOnce, toast } from "./components.js";
import { fill, h } from "./dom.js";
import { fieldsFor } from "./fields.js";
import { buildForm } from "./form.js";
import { NEW_SERVICE_FIELD, serviceField } from "./kept-content.js";
import { buildProviderForm } from "./register-provider.js";

/** Providers of models, which do not verify what the gateway sends. */
const PROVIDERS = ["openai", "anthropic"];

/** @typedef {{ json: Service, headers: Headers }} Registered a service as it stands, and its headers */

const FORM = {
  required: ["name", "id", "url", "capability"],
  properties: {
    name: { title: "Name", type: "string", examples: ["Word counter"] },
    id: { title: "ID", type: "string", description: "Lowercase letters, digits, - and _.", examples: ["words"] },
    url: {
      title: "URL",
      type: "string",
      description: "Where the gateway sends calls, by POST.",
      examples: ["https://words.example.com/run"],
    },
    type: {
      title: "Type",
      enum: ["tool", "llm", "database", "external_api", "file_storage", "custom"],
      default: "tool",
    },
    capability: {
      title: "Capability",
      type: "string",
      description: "The name of what it does.",
      examples: ["word_count"],
    },
    input_schema: {
      title: "Input schema",
      description: "JSON Schema of its parameters. Without one, any parameters are accepted.",
      examples: [{ type: "object", properties: { text: { type: "string" } } }],
    },
    idempotent: { title: "Idempotent", type: "boolean", default: false, description: "It is safe to retry." },
    path: { title: "Health path", type: "string", description: "Checked every 30 s.", examples: ["/health"] },
    content: NEW_SERVICE_FIELD,
  },
};

/**
 * @param {Visit} visit
 * @returns {Promise<void>}
 */
export async function register({ view, query }) {
  const editedId = query.get("from");
  if (editedId) {
    const edited = await request("GET", `/v1/services/${encodeURIComponent(editedId)}`);
    showEditor(view, editedId, edited);
  } else {
    showRegistration(view, query.get("for") === "models");
  }
}

/**
 * @param {HTMLElement} view
 * @param {string} id
 * @param {Registered} edited
 * @returns {void}
 */
function showEditor(view, id, edited) {
  // Everything but what is kept, which has a field of its own.
  const { content, ...document } = edited.json;
  const properties = { document: { title: "Service document" }, content: serviceField(edited.json) };
  const form = buildForm({
    fields: fieldsFor({ required: ["document"], properties }, "", { document, content }),
    submitLabel: "Save",
    fieldPath: (path) => (path[0] === "content" ? path : ["document", ...path]),
    send: (values) =>
      update(view, id, { ...values.document, ...(values.content && { content: values.content }) }, edited),
  });
  fill(view, backLink(), h("h1", `Edit ${edited.json.name}`), h("div.card", form));
}

/**
 * @param {HTMLElement} view
 * @param {boolean} isProvider whether it is to be a provider of models
 * @returns {void}
 */
function showRegistration(view, isProvider) {
  const documentForm = buildForm({
    fields: fieldsFor({}, "Service document"),
    submitLabel: "Register document",
    send: (document) => create(view, document.id, document),
  });
  const form = isProvider ? buildProviderForm((id, document) => create(view, id, document)) : buildServiceForm(view);
  fill(
    view,
    backLink(),
    h("h1", isProvider ? "Register a provider of models" : "Register a service"),
    isProvider
      ? link("Or register a service of another kind", "#/services/new")
      : link("Or register a provider of models", "#/services/new?for=models"),
    h("div.card", form),
    h("details.card", h("summary", "Or paste a service document"), documentForm),
  );
}

/**
 * @param {HTMLElement} view
 * @returns {HTMLFormElement}
 */
const buildServiceForm = (view) =>
  buildForm({
    fields: fieldsFor(FORM, ""),
    submitLabel: "Register",
    fieldPath,
    send: ({ id, ...values }) => create(view, id, documentOf(values)),
  });

/** @returns {HTMLElement} */
const backLink = () => link("← Services", "#/services");

/**
 * The form field behind a path in the document.
 * @param {string[]} path
 * @returns {string[]}
 */
function fieldPath([member = "", _index, capabilityMember = "name"]) {
  if (member === "transport") return ["url"];
  if (member === "health") return ["path"];
  if (member !== "capabilities") return [member];
  return [capabilityMember === "name" ? "capability" : capabilityMember];
}

/**
 * The document for the form's values.
 * @param {Record<string, any>} values
 * @returns {object}
 */
const documentOf = ({ name, type, url, capability, path, content, ...capabilityMembers }) => ({
  name,
  type,
  transport: { kind: "http", url },
  capabilities: [{ name: capability, ...capabilityMembers }],
  ...(path && { health: { path } }),
  ...(content && { content }),
});

/**
 * @param {HTMLElement} view
 * @param {string} id
 * @param {object} document
 * @returns {Promise<void>}
 */
async function create(view, id, document) {
  const { json } = await request("PUT", pathOf(id), { body: document, headers: { "if-none-match": "*" } });
  showSaved(view, json);
}

/**
 * @param {HTMLElement} view
 * @param {string} id
 * @param {object} document
 * @param {Registered} edited as it was read before
 * @returns {Promise<void>}
 */
async function update(view, id, document, edited) {
  // A PATCH keeps the credentials, which are never shown; members that the document lacks are removed.
  const removed = Object.fromEntries(Object.keys(edited.json).map((name) => [name, null]));
  const headers = { "if-match": edited.headers.get("etag") ?? "" };
  const { json } = await request("PATCH", pathOf(id), { body: { ...removed, ...document }, headers });
  showSaved(view, json);
}

/**
 * @param {string} id
 * @returns {string}
 */
const pathOf = (id) => `/v1/services/${encodeURIComponent(id)}`;

/**
 * Opens the service, after showing its signing secret if there is one that it can use.
 * @param {HTMLElement} view
 * @param {Service & { signing_secret?: string }} service
 * @returns {void}
 */
function showSaved(view, { id, name, transport, signing_secret }) {
  toast("Saved.");
  const hash = `#/services/${id}`;
  if (!signing_secret || PROVIDERS.includes(transport.kind)) {
    location.hash = hash;
    return;
  }
  fill(
    view,
    h("h1", `${name} is registered`),
    h("p", "With this secret, the service can verify that calls come from the gateway:"),
    secretShownOnce("Signing secret", signing_secret),
    h("p", link(`Open ${name}`, hash, "button primary")),
  );
}

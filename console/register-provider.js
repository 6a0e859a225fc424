// A form that registers a provider of models: its address, its key, and the models that it offers.
import { jsonBlock } from "./components.js";
import { h } from "./dom.js";
import { fieldsFor } from "./fields.js";
import { buildForm } from "./form.js";
import { PROVIDER_FIELD } from "./kept-content.js";

/** How each provider expects its key. @type {Record<string, (key: string) => Record<string, string>>} */
const KEY_HEADERS = {
  openai: (key) => ({ Authorization: `Bearer ${key}` }),
  anthropic: (key) => ({ "x-api-key": key }),
};

const FIELDS = {
  required: ["kind", "name", "id", "url"],
  properties: {
    kind: {
      title: "Format",
      enum: ["openai", "anthropic"],
      titles: ["OpenAI's, as most providers and local servers", "Anthropic's"],
      default: "openai",
    },
    name: { title: "Name", type: "string", examples: ["OpenAI"] },
    id: { title: "ID", type: "string", description: "Lowercase letters, digits, - and _.", examples: ["openai"] },
    url: {
      title: "URL",
      type: "string",
      description: "The base of the provider's paths, for OpenAI's format with the version.",
      examples: ["https://api.openai.com/v1"],
    },
    key: {
      title: "API key",
      type: "string",
      format: "password",
      description: "Yours at the provider. It is encrypted, and never shown again.",
    },
    header: {
      title: "Header",
      type: "string",
      description: "Which one takes the key, if it is not the usual one.",
      examples: ["api-key"],
    },
    models: {
      title: "Models",
      type: "array",
      items: { type: "string" },
      description: "The names that clients ask for; * stands for all others. Without any, every name after the ID.",
      examples: ["gpt-5-mini\n*"],
    },
    content: PROVIDER_FIELD,
  },
};

/** What the form has no fields for. */
const EXAMPLE = {
  id: "openai",
  name: "OpenAI",
  type: "llm",
  transport: { kind: "openai", url: "https://api.openai.com/v1", responses: true },
  credentials: { headers: { Authorization: "Bearer sk-…" } },
  models: [
    {
      id: "gpt-5-mini",
      upstream: "gpt-5-mini-2026-08-07",
      context_window: 400_000,
      max_output_tokens: 128_000,
      prices: { currency: "USD", input: "0.25", cached_input: "0.025", output: "2.00" },
    },
    { id: "*" },
  ],
};

/**
 * @typedef {object} Values
 * @property {string} kind
 * @property {string} name
 * @property {string} url
 * @property {string} [key]
 * @property {string} [header]
 * @property {string[]} [models]
 * @property {string} [content]
 */

/**
 * The document for the form's values.
 * @param {Values} values
 * @returns {object}
 */
function documentOf({ kind, name, url, key, header, models = [], content }) {
  const headers = key && (header ? { [header]: key } : KEY_HEADERS[kind]?.(key));
  return {
    name,
    type: "llm",
    transport: { kind, url, ...(content && { content }) },
    ...(headers && { credentials: { headers } }),
    ...(models.length > 0 && { models: models.map((id) => ({ id })) }),
  };
}

/**
 * The form field behind a path in the document.
 * @param {string[]} path
 * @returns {string[]}
 */
function fieldPath([member = "", ...rest]) {
  if (member === "transport") return ["kind", "content"].includes(rest[0] ?? "") ? rest : ["url"];
  if (member === "credentials") return ["key"];
  return [member, ...rest];
}

/**
 * @param {(id: string, document: object) => Promise<void>} create
 * @returns {HTMLElement[]} the form, and an example of what it has no fields for
 */
export function buildProviderForm(create) {
  const form = buildForm({
    fields: fieldsFor(FIELDS, ""),
    submitLabel: "Register provider",
    fieldPath,
    send: ({ id, ...values }) => create(id, documentOf(values)),
  });
  const about = "Context windows, prices, other names upstream and more belong in a service document such as this:";
  const example = h("details", h("summary", "More members"), h("p", about), jsonBlock("A provider", EXAMPLE));
  return [form, example];
}

// Registers or changes a service, by a form or its whole document.
import { ask } from "./api.js";
import { fill, h, link, say, secretOnce } from "./dom.js";
import { fieldsFor, formOf } from "./fields.js";

const text = { type: "string" };
const FORM = {
  required: ["name", "id", "url", "capability"],
  properties: {
    name: { ...text, title: "Name", examples: ["Word counter"] },
    id: { ...text, title: "Id", description: "Lower-case letters, digits, - and _.", examples: ["words"] },
    url: {
      ...text,
      title: "Address",
      description: "Where the gateway sends the work, by POST.",
      examples: ["https://words.example.com/run"],
    },
    type: {
      title: "Type",
      enum: ["tool", "llm", "database", "external_api", "file_storage", "custom"],
      default: "tool",
    },
    capability: { ...text, title: "Capability", description: "What it does, in one word.", examples: ["word_count"] },
    input_schema: {
      title: "Input schema",
      description: "JSON Schema of its parameters. Without one, anything goes.",
      examples: [{ type: "object", properties: { text: { type: "string" } } }],
    },
    idempotent: {
      type: "boolean",
      default: false,
      title: "Idempotent",
      description: "It may be tried again without harm.",
    },
    path: { ...text, title: "Health path", description: "Asked every 30 s.", examples: ["/health"] },
  },
};

/** The field of the form that a place in the document comes from. */
function fieldOf([first, ...rest]) {
  if (first === "transport") return ["url"];
  if (first === "health") return ["path"];
  if (first !== "capabilities") return [first];
  const [, member = "name"] = rest;
  return [member === "name" ? "capability" : member];
}

/** @param {any} values */
const documentOf = ({ name, type, url, capability, path, ...offer }) => ({
  name,
  type,
  transport: { kind: "http", url },
  capabilities: [{ name: capability, ...offer }],
  ...(path && { health: { path } }),
});

export async function register({ view, query }) {
  const from = query.get("from");
  const known = from && (await ask("GET", `/v1/services/${encodeURIComponent(from)}`));

  async function send(id, body) {
    const headers = known ? { "if-match": known.headers.get("etag") } : { "if-none-match": "*" };
    // A patch keeps the credentials, which are never shown, and removes what the document lacks.
    const gone = known && Object.fromEntries(Object.keys(known.json).map((name) => [name, null]));
    const { json } = await ask(known ? "PATCH" : "PUT", `/v1/services/${encodeURIComponent(id)}`, {
      body: { ...gone, ...body },
      headers,
    });
    const open = link(`Open ${json.name}`, `#/services/${json.id}`, "button primary");
    say("Saved.");
    if (!json.signing_secret) return void (location.hash = open.hash);
    fill(
      view,
      h("h1", `${json.name} is registered`),
      h("p", "With this secret it can verify that calls come from the gateway:"),
      secretOnce("Signing secret", json.signing_secret),
      h("p", open),
    );
  }

  const byForm = formOf({
    fields: fieldsFor(FORM, ""),
    submit: "Register",
    place: fieldOf,
    send: ({ id, ...rest }) => send(id, documentOf(rest)),
  });
  const byDocument = formOf({
    fields: fieldsFor({}, "Service document", known?.json),
    submit: known ? "Save" : "Register the document",
    send: (document) => send(from ?? document.id, document),
  });
  fill(
    view,
    link("← Services", "#/services"),
    h("h1", known ? `Edit ${known.json.name}` : "Register a service"),
    h("div.card", known ? byDocument : byForm),
    !known && h("details.card", h("summary", "Or paste a whole document"), byDocument),
  );
}

// Registers a service, or changes one: by a form, or by its whole document.
import { ask } from "./api.js";
import { button, fill, h, link, say, secretOnce } from "./dom.js";
import { fieldsFor, formOf } from "./fields.js";

const text = { type: "string" };
const FORM = {
  required: ["name", "id", "url", "capability"],
  properties: {
    name: { ...text, title: "Name", examples: ["Word counter"] },
    id: { ...text, title: "Id", description: "Lower-case letters, digits, - and _.", examples: ["words"] },
    url: { ...text, title: "Address", description: "Where the gateway sends the work, by POST.", examples: ["https://words.example.com/run"] },
    type: { title: "Type", enum: ["tool", "llm", "database", "external_api", "file_storage", "custom"], default: "tool" },
    capability: { ...text, title: "Capability", description: "What it does, in one word.", examples: ["word_count"] },
    input_schema: { title: "Input schema", description: "JSON Schema of its parameters: a form is made from it." },
    idempotent: { type: "boolean", title: "Idempotent", description: "It may be tried again without harm." },
    path: { ...text, title: "Health path", description: "Asked every 30 s.", examples: ["/health"] },
  },
};
const EXAMPLE = { id: "words", name: "Word counter", type: "tool", transport: { kind: "http", url: "https://words.example.com/run" }, capabilities: [{ name: "word_count" }] };

/** @param {Place} place */
export async function register({ view, query, signal }) {
  const from = query.get("from");
  const known = from && (await ask("GET", `/v1/services/${encodeURIComponent(from)}`, { signal }));
  const place = h("div.card");

  async function send(id, body) {
    const headers = known ? { "if-match": known.headers.get("etag") ?? "*" } : { "if-none-match": "*" };
    const { json } = await ask("PUT", `/v1/services/${encodeURIComponent(id)}`, { body, headers });
    const open = link(`Open ${json.name}`, `#/services/${id}`, "button primary");
    say("Saved.");
    if (!json.signing_secret) location.hash = open.hash;
    else fill(view, h("h1", `${json.name} is registered`), h("p", "Its calls are signed. By this secret the service can see that they are the gateway's:"), secretOnce("Signing secret", json.signing_secret), h("p", open));
  }

  const byForm = () => fill(place, formOf({
    fields: fieldsFor(FORM, "Service"), submit: "Register", more: [button("Paste a document instead", byPaste)],
    send: ({ id, name, type, url, capability, path, ...offer }) =>
      send(id, { name, type, transport: { kind: "http", url }, capabilities: [{ name: capability, ...offer }], ...(path && { health: { path } }) }),
  }));
  const byPaste = () => fill(place, formOf({
    fields: fieldsFor({}, "Service document", known ? known.json : EXAMPLE), submit: known ? "Save" : "Register",
    more: known ? [] : [button("Use the form instead", byForm)], send: (document) => send(from ?? document.id, document),
  }));
  (known ? byPaste : byForm)();
  fill(view, link("← Services", "#/services"), h("h1", known ? `Edit ${known.json.name}` : "Register a service"), place);
}

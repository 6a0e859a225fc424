// The audit log: who changed what, from where, and which credentials were rejected.
import { get } from "./api.js";
import { badge, button, copyable, jsonBlock, time } from "./components.js";
import { fill, h } from "./dom.js";
import { fieldsFor } from "./fields.js";
import { buildForm, InputError } from "./form.js";
import { principalName } from "./principals.js";

/**
 * @typedef {object} AuditEntry
 * @property {string} id
 * @property {string} action
 * @property {string} object
 * @property {string} actor
 * @property {string | null} actor_name
 * @property {string} outcome
 * @property {string} at
 * @property {object | null} changes
 * @property {string | null} address
 * @property {string | null} request_id
 */

const SEARCH = {
  properties: {
    actor: { title: "Actor", type: "string", examples: ["key:admin"] },
    action: { title: "Action", type: "string", examples: ["key.*"] },
    object: { title: "Object", type: "string", examples: ["services/words"] },
    after: { title: "After", type: "string", examples: ["2026-12-01"] },
    before: { title: "Before", type: "string", examples: ["2026-12-31T18:00"] },
  },
};

/**
 * Shows the audit log in `body`.
 * @param {HTMLElement} body
 * @param {URLSearchParams} query
 * @returns {Promise<void>}
 */
export async function showAudit(body, query) {
  const list = h("ul.rows.plain");
  const more = h("div");
  async function load(cursor = "") {
    const filters = new URLSearchParams(query);
    if (cursor) filters.set("cursor", cursor);
    /** @type {Page<AuditEntry>} */
    const { data, next_cursor } = await get(`/v1/audit?${filters}`);
    list.append(...data.map(buildRow));
    if (list.children.length === 0) {
      const text = query.size > 0 ? "No matching entries. Remove a filter." : "No entries yet.";
      list.append(h("li.card.soft", text));
    }
    fill(more, next_cursor && button("Load more", () => load(next_cursor)));
  }
  const about = h("p.soft", "Who changed what, and which credentials were rejected.");
  fill(body, about, h("search", buildSearch(query)), list, more);
  await load();
}

/**
 * @param {URLSearchParams} query
 * @returns {HTMLFormElement}
 */
function buildSearch(query) {
  /** @param {Record<string, string>} values */
  function search({ after, before, ...filters }) {
    const period = { ...timeFilter("after", after), ...timeFilter("before", before) };
    location.hash = `#/access/audit?${new URLSearchParams({ ...filters, ...period })}`;
  }
  const fields = fieldsFor(SEARCH, "", Object.fromEntries(query));
  return buildForm({ fields, submitLabel: "Search", send: search });
}

/**
 * Converts a local time, as people type it, to the form that the gateway accepts.
 * @param {"after" | "before"} name
 * @param {string | undefined} text
 * @returns {Record<string, string>}
 */
function timeFilter(name, text) {
  if (text === undefined) return {};
  const isDate = /^\d{4}-\d{2}-\d{2}$/.test(text);
  const at = new Date(isDate ? `${text}T00:00` : text);
  if (Number.isNaN(at.getTime())) {
    const detail = "must be a date such as 2026-12-01, or a time such as 2026-12-01T18:00";
    throw new InputError("The search was not run.", [{ pointer: `#/${name}`, detail }]);
  }
  return { [name]: at.toISOString() };
}

/**
 * @param {AuditEntry} entry
 * @returns {HTMLElement}
 */
function buildRow({ id, action, object, actor, actor_name, outcome, at, changes, address, request_id }) {
  const hasChanges = Object.keys(changes ?? {}).length > 0;
  return h(
    "li.card",
    { "data-key": id },
    h("strong", action),
    h("code", object),
    principalName(actor, actor_name),
    badge(outcome),
    time(at),
    address && h("span.soft.pair", "from ", h("code", address)),
    request_id && h("span.soft.pair", "request ", copyable(request_id, "request ID")),
    hasChanges && h("details", h("summary", "Changes"), jsonBlock(`Changes to ${object}`, changes)),
  );
}

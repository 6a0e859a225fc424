// The audit log: who changed what, from where, and which credentials were refused.
import { get } from "./api.js";
import { badge, button, copyable, fill, h, json, when } from "./dom.js";
import { fieldsFor, formOf } from "./fields.js";
import { principal } from "./names.js";

const SEARCH = {
  properties: {
    actor: { title: "Who", type: "string", examples: ["key:admin"] },
    action: { title: "Action", type: "string", examples: ["key.*"] },
    object: { title: "Object", type: "string", examples: ["services/words"] },
    after: { title: "After", type: "string", examples: ["2026-12-01"] },
    before: { title: "Before", type: "string", examples: ["2026-12-31T18:00"] },
  },
};

/** A time as people write it, in their own time zone, as the gateway takes it. */
function time(name, text) {
  if (text === undefined) return {};
  const at = new Date(/^\d{4}-\d{2}-\d{2}$/.test(text) ? `${text}T00:00` : text);
  if (Number.isNaN(at.getTime())) {
    const detail = "must be a date such as 2026-12-01, or a time such as 2026-12-01T18:00";
    throw Object.assign(new Error("Not searched."), { errors: [{ pointer: `#/${name}`, detail }] });
  }
  return { [name]: at.toISOString() };
}

function row({ id, action, object, actor, actor_name, outcome, at, changes, address, request_id }) {
  return h(
    "li.card",
    { "data-key": id },
    h("strong", action),
    h("code", object),
    principal(actor, actor_name),
    badge(outcome),
    when(at),
    address && h("span.soft.pair", "from ", h("code", address)),
    request_id && h("span.soft.pair", "request ", copyable(request_id, "request id")),
    Object.keys(changes ?? {}).length > 0 &&
      h("details", h("summary", "Changes"), json(`Changes of ${object}`, changes)),
  );
}

export async function audit({ body, query }) {
  const [items, more] = [h("ul.rows.plain"), h("div")];
  async function load(cursor = "") {
    const filters = new URLSearchParams([...query, ...(cursor ? [["cursor", cursor]] : [])]);
    const { data, next_cursor } = await get(`/v1/audit?${filters}`);
    const none = query.size ? "No entry fits. Take a filter away." : "No entry yet.";
    items.append(...data.map(row));
    if (items.children.length === 0) items.append(h("li.card.soft", none));
    fill(more, next_cursor && button("Older ones", () => load(next_cursor)));
  }
  const find = ({ after, before, ...filters }) => {
    location.hash = `#/access/audit?${new URLSearchParams({ ...filters, ...time("after", after), ...time("before", before) })}`;
  };
  const form = formOf({ fields: fieldsFor(SEARCH, "", Object.fromEntries(query)), submit: "Search", send: find });
  fill(body, h("p.soft", "Who changed what, and which credentials were refused."), h("search", form), items, more);
  await load();
}

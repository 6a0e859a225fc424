// Who may do what: keys, roles, limits, issuers, clients, grants, and who changed what. Forms come from the contract.
import { ask, get, may, maybe } from "./api.js";
import { badge, brief, button, fill, h, json, say, secretOnce, section, sure, when } from "./dom.js";
import { fieldsFor, formOf } from "./fields.js";
import { follow } from "./live.js";

/** By path: name, schema (none: not written here), description, one in a line. */
const KINDS = /** @type {Record<string, any[]>} */ ({
  keys: ["key", "NewKey", "Each program and each person has their own.", ({ role, permissions, last_four }) => [role, ...permissions, `…${last_four}`].join(" · ")],
  roles: ["role", "NewRole", "Named sets of permissions.", ({ permissions }) => permissions.join(", ") || "nothing by itself"],
  limits: ["limit", "NewRateLimit", "How much is let in, of whom.", ({ kind, quota, window_seconds: w, binds }) => `${quota} ${kind}${w ? ` in ${w} s` : ""} · ${brief(binds)}`],
  issuers: ["issuer", "NewIssuer", "Identity providers whose tokens are taken.", ({ issuer }) => issuer],
  clients: ["client", "NewClient", "Programs and apps that get tokens here.", ({ client_id, scope, last_used_at: used }) => `${client_id} · ${scope}${used ? ` · used ${used.slice(0, 10)}` : ""}`],
  grants: ["grant", "", "What people have allowed apps.", ({ principal, scope, resource }) => [principal, scope, resource].join(" · ")],
});

/** A schema of the contract, references resolved. */
async function schemaOf(name) {
  const { schemas } = (await get("/openapi.json")).components;
  const whole = (schema) => JSON.parse(JSON.stringify(schema), (_, one) => (one?.$ref ? whole(schemas[one.$ref.split("/").pop()]) : one?.allOf?.length === 1 ? { ...one.allOf[0], ...one } : one));
  return whole(schemas[name]);
}

export async function access({ view, id, signal }) {
  // Own grants need no permission.
  const read = [...Object.keys(KINDS), "audit"].map(async (name) => [name, (name === "grants" || may(`${name}:read`)) && (await maybe(`/v1/${name}`))]);
  const there = Object.fromEntries((await Promise.all(read)).filter(([name, page]) => page && (page.data[0] || may(`${name}:read`))));
  const name = id in there ? id : Object.keys(there)[0];
  const body = h("div.stack");
  const tabs = Object.keys(there).map((one) => h("li", h("a", { href: `#/access/${one}`, "aria-current": one === name && "page" }, one)));
  const room = may("registry:read") && (await maybe("/v1/registry"));
  const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  const used = room && h(room.bytes > room.limit_bytes * 0.8 ? "p.note" : "p.soft", `Configuration: ${mib(room.bytes)} of ${mib(room.limit_bytes)}`);
  fill(view, h("h1", "Access"), used, h("nav", { "aria-label": "Access" }, h("ul.tabs.plain", tabs)), body);
  if (!name) fill(body, h("p.note", "Your key may see nothing of this. One with the role admin may."));
  else (name === "audit" ? audit : list)(body, there[name], name, signal);
}

function list(body, page, name, signal) {
  const [one, schemaName, about, line] = KINDS[name];
  const [place, items, isKey] = [h("div"), h("ul.rows.plain"), name === "keys"];
  const writes = !schemaName || may(`${name}:write`);
  const at = (item) => `/v1/${name}/${item.id ?? item.name}`;
  const load = async () => draw(await get(`/v1/${name}`));

  async function edit(item) {
    const { properties, required = [] } = await schemaOf(schemaName);
    for (const [key, part] of Object.entries(properties)) part.title = key.replaceAll("_", " ");
    if (isKey) properties.role = { title: "role", enum: (await get("/v1/roles")).data.map((role) => role.name), default: "caller" };
    const own = !isKey && !item && { its: { title: "name here", type: "string", description: "Lower-case letters, digits, - and _." } };
    async function send({ its, ...body }) {
      const headers = item ? { "if-match": "*" } : { "if-none-match": "*" };
      const { json } = isKey ? await ask("POST", "/v1/keys", { body }) : await ask("PUT", at(item ?? { id: encodeURIComponent(its) }), { body, headers });
      fill(place, json.secret && secretOnce(`Secret of ${json.name}`, json.secret));
      say("Saved.");
      await load();
    }
    const fields = fieldsFor({ properties: { ...own, ...properties }, required: ["its", ...required] }, "", item);
    fill(place, h("div.card", section(item ? `Change ${item.name}` : `New ${one}`, formOf({ fields, send, submit: item ? "Save" : `Make the ${one}` }))));
    place.querySelector("input, select, textarea").focus();
  }
  async function rotate(item) {
    const { json } = await ask("POST", `${at(item)}/rotate`, { body: { overlap_seconds: 3600 } });
    fill(place, secretOnce(`New secret of ${item.name}; the old one is good for an hour`, json.secret));
  }
  const ends = isKey || !schemaName ? "Revoke" : "Delete";
  const end = (item) => sure(`${ends} ${item.name ?? item.client_name}? It holds with the next request.`, () => ask("DELETE", at(item), { headers: { "if-match": "*" } }).then(load));

  function draw({ data, next_cursor }, before = []) {
    const all = [...before, ...data];
    fill(items, all.length === 0 && h("li.card.soft", `No ${one} yet.`), all.map((item) => h("li.card", h("strong", item.name ?? item.client_name), h("span.soft", line(item)),
      item.expires_at && h("span.soft", "ends ", when(item.expires_at), ", used ", item.last_used_at ? when(item.last_used_at) : "never"),
      item.shipped ? badge("shipped") : writes && h("span.row", isKey && button("Rotate", () => rotate(item)), schemaName && !isKey && button("Change", () => edit(item)), button(ends, () => end(item), "danger")))),
    next_cursor && h("li", button("Older ones", async () => draw(await get(`/v1/${name}?cursor=${next_cursor}`), all))));
  }
  fill(body, h("div.title", h("p.soft", about), writes && schemaName && button(`New ${one}`, () => edit(), "primary")), place, items);
  draw(page);
  follow(signal, 200, load, ({ type }) => isKey && type.startsWith("key."));
}

function audit(body, page) {
  const [items, more] = [h("ul.rows.plain"), h("div")];
  function add({ data, next_cursor }) {
    items.append(...data.map(({ action, object, actor, outcome, at, changes }) =>
      h("li.card", h("strong", action), h("code", object), h("span.soft", actor), badge(outcome), when(at), changes && h("details", h("summary", "Changes"), json(`Changes of ${object}`, changes)))));
    fill(more, next_cursor && button("Older ones", async () => add(await get(`/v1/audit?cursor=${next_cursor}`))));
  }
  fill(body, h("p.soft", "Who changed what, and which credentials were refused."), items, more);
  add(page);
}

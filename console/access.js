// Who may do what: keys, roles, limits, issuers, clients, grants, and the audit log. Forms come from the contract.
import { ask, deployment, get, may, maybe } from "./api.js";
import { audit } from "./audit.js";
import { badge, button, fill, h, lastUsed, moment, say, secretOnce, section, sure, when } from "./dom.js";
import { fieldsFor, formOf } from "./fields.js";
import { documentOf, fieldOf, KINDS, schemaFor, valueOf } from "./kinds.js";
import { follow } from "./live.js";
import { steady } from "./steady.js";

const RELOAD_MS = 200;
const NO_ACCESS =
  "Your key has no access to this page. The built-in role viewer reads all of it, and admin changes it; " +
  "operator changes limits and reads the audit log.";
const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

/** How much room the tenant's documents take. */
async function room() {
  const registry = may("registry:read") && (await maybe("/v1/registry"));
  if (!registry) return undefined;
  const isFilling = registry.bytes > registry.limit_bytes * 0.8;
  return h(isFilling ? "p.note" : "p.soft", `Configuration: ${mib(registry.bytes)} of ${mib(registry.limit_bytes)}`);
}

export async function access(place) {
  const { view, id } = place;
  // Own grants need no permission.
  const read = [...Object.keys(KINDS), "audit"].map(async (name) => [
    name,
    (name === "grants" || may(`${name}:read`)) && (await maybe(`/v1/${name}`)),
  ]);
  const there = Object.fromEntries(
    (await Promise.all(read)).filter(([name, page]) => page && (page.data[0] || may(`${name}:read`))),
  );
  const name = id in there ? id : Object.keys(there)[0];
  const body = h("div.stack");
  const tabs = Object.keys(there).map((one) =>
    h("li", h("a", { href: `#/access/${one}`, "aria-current": one === name && "page" }, one)),
  );
  fill(
    view,
    h("h1", "Access"),
    await room(),
    tabs.length > 0 && h("nav", { "aria-label": "Access" }, h("ul.tabs.plain", tabs)),
    body,
  );
  if (!name) fill(body, h("p.note", NO_ACCESS));
  else if (name === "audit") await audit({ ...place, body });
  else await list({ ...place, body, name, page: there[name] });
}

async function list({ body, page, name, query, signal }) {
  const kind = KINDS[name];
  const [place, items, isKey] = [h("div"), h("ul.rows.plain"), name === "keys"];
  const writes = !kind.schema || may(`${name}:write`);
  const idOf = (item) => item.id ?? item.name;
  const path = (item) => `/v1/${name}/${encodeURIComponent(idOf(item))}`;
  const called = (item) => item.name ?? item.client_name;
  let loaded = page.data;
  let cursor = page.next_cursor;
  /** The one that the address names, where it is on no page that is read. */
  let apart = /** @type {any[]} */ ([]);

  /** `now`: after an action of one's own, which is to be seen. */
  async function load(now = false) {
    let [fresh, next] = [/** @type {any[]} */ ([]), undefined];
    // As far as it was read before.
    do {
      const { data, next_cursor } = await pageAt(next);
      [fresh, next] = [[...fresh, ...data], next_cursor];
    } while (next && fresh.length < loaded.length);
    [loaded, cursor] = [fresh, next];
    await show();
    draw(now);
  }
  const pageAt = (at) => get(`/v1/${name}${at ? `?cursor=${encodeURIComponent(at)}` : ""}`);
  async function older() {
    const { data, next_cursor } = await pageAt(cursor);
    loaded = [...loaded, ...data.filter((one) => !loaded.some((other) => idOf(other) === idOf(one)))];
    cursor = next_cursor;
    draw(true);
  }

  async function edit(item) {
    const schema = await schemaFor(name, item);
    async function send({ its, ...given }) {
      const document = documentOf(name, given);
      const headers = item ? { "if-match": "*" } : { "if-none-match": "*" };
      const { json } = isKey
        ? await ask("POST", "/v1/keys", { body: document })
        : await ask("PUT", path(item ?? { id: its }), { body: document, headers });
      fill(place, json.secret && secretOnce(`Secret of ${json.name}`, json.secret));
      say("Saved.");
      await load(true);
    }
    const form = formOf({
      fields: fieldsFor(schema, "", item && valueOf(name, item)),
      place: fieldOf,
      send,
      submit: item ? "Save" : `Create ${kind.one}`,
    });
    fill(place, h("div.card", section(item ? `Change ${called(item)}` : `New ${kind.one}`, form)));
    place.querySelector("input, select, textarea").focus();
  }
  async function rotate(item) {
    const { json } = await ask("POST", `${path(item)}/rotate`, { body: { overlap_seconds: 3600 } });
    fill(place, secretOnce(`New secret of ${item.name}; the old one is good for an hour`, json.secret));
  }
  const ending = isKey || !kind.schema ? "Revoke" : "Delete";
  async function end(item) {
    await ask("DELETE", path(item), { headers: { "if-match": "*" } });
    await load(true);
  }
  const endAfterAsking = (item) =>
    sure(`${ending} ${called(item)}? It takes effect with the next request.`, () => end(item));

  const actions = (item) =>
    h(
      "span.row",
      isKey && button("Rotate", () => rotate(item)),
      kind.schema && !isKey && button("Change", () => edit(item)),
      button(ending, () => endAfterAsking(item), "danger"),
    );
  const ends = ({ expires_at }) => (Date.parse(expires_at) < Date.now() ? "expired " : "expires ");
  const row = (item) =>
    h(
      "li.card",
      { "data-key": idOf(item), class: item.isGone ? "card gone" : idOf(item) === query.get("show") && "card marked" },
      h("strong", called(item)),
      h("span.soft", kind.line(item)),
      item.expires_at && h("span.soft", { title: moment(item.expires_at) }, ends(item), when(item.expires_at)),
      "last_used_at" in item && h("span.soft", lastUsed(item.last_used_at)),
      item.isGone ? badge("gone") : item.shipped ? badge("built-in") : writes && actions(item),
    );
  // Past the pages that are read it may still be there.
  const rows = steady({
    list: items,
    name,
    signal,
    build: row,
    fresh: (item) => (cursor ? item : { ...item, isGone: true }),
  });
  function draw(now = false) {
    const shown = [...apart.filter((one) => !loaded.some((other) => idOf(other) === idOf(one))), ...loaded];
    const after = [
      shown.length === 0 && h("li.card.soft", { "data-key": "none" }, `No ${kind.one} yet.`),
      cursor && h("li", { "data-key": "more" }, button("Older ones", older)),
    ];
    rows.show(
      shown.map((one) => ({ ...one, id: idOf(one) })),
      { after, now },
    );
  }

  const isUnused = name === "clients" && !(await deployment().catch(() => ({ oauth: true }))).oauth;
  fill(
    body,
    h(
      "div.title",
      h("p.soft", kind.about),
      writes && kind.schema && button(`New ${kind.one}`, () => edit(), "primary"),
    ),
    isUnused &&
      h(
        "p.note",
        "OAuth is off in this deployment (the variable OAUTH), so clients are not used: they get no tokens until it is switched on.",
      ),
    place,
    h("div", h("div.floating", rows.news), items),
  );
  if (!(await show())) fill(place, h("p.note", `There is no ${kind.one} ${query.get("show")} any longer.`));
  draw();
  items.querySelector(".marked")?.scrollIntoView({ block: "center" });
  follow(
    signal,
    RELOAD_MS,
    () => load(),
    ({ type }) => isKey && type.startsWith("key."),
  );

  /** Looks for the one that the address names; says whether it is there. */
  async function show() {
    const wanted = query.get("show");
    if (!wanted || loaded.some((item) => idOf(item) === wanted)) return true;
    const one = await maybe(path({ id: wanted }));
    apart = one ? [one] : [];
    return apart.length > 0;
  }
}

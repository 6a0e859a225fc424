// Whose something is: principals by the names of their keys.
import { may, maybe } from "./api.js";
import { h, link } from "./dom.js";
import { patch } from "./patch.js";

/** @type {Map<string, Promise<string | undefined>>} */
const names = new Map();

/** Where a principal is listed: `key:…` among the keys, `client:{tenant}.{id}` among the clients. */
function listedAt(principal) {
  const [kind, id = ""] = principal.split(/:(.*)/s);
  if (kind === "key" && id !== "admin" && may("keys:read"))
    return { path: `/v1/keys/${id}`, hash: `#/access/keys?show=${id}` };
  const client = id.slice(id.indexOf(".") + 1);
  const named = encodeURIComponent(client);
  if (kind === "client" && may("clients:read"))
    return { path: `/v1/clients/${named}`, hash: `#/access/clients?show=${named}` };
  return undefined;
}

/** The name of a principal's key or client; undefined where it has none, or may not be read. */
export function nameOf(principal) {
  if (principal === "key:admin") return Promise.resolve("ADMIN_KEY");
  const at = listedAt(principal);
  if (!at) return Promise.resolve(undefined);
  if (!names.has(principal))
    names.set(
      principal,
      maybe(at.path).then(
        (one) => one?.name,
        () => undefined,
      ),
    );
  return /** @type {Promise<string | undefined>} */ (names.get(principal));
}

/** A principal by name, with a link to where it is listed. `given`: the name that the gateway has told already. */
export function principal(whose, given) {
  // Its own: what is learned later comes into the element that is shown.
  const element = h("span.principal", { title: whose, "data-key": whose, "data-own": true });
  const show = (name) => {
    const at = listedAt(whose);
    patch(element, at ? link(name ?? whose, at.hash) : (name ?? whose), name && h("span.soft", ` ${whose}`));
  };
  show(given);
  if (!given) void nameOf(whose).then((name) => name && show(name));
  return element;
}

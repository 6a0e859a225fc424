// Shows principals by the names of their keys and clients.
import { getIfAllowed } from "./api.js";
import { link } from "./components.js";
import { h } from "./dom.js";
import { patch } from "./patch.js";
import { may } from "./session.js";

/** By principal. @type {Map<string, Promise<string | undefined>>} */
const names = new Map();

/**
 * Where a principal is listed: `key:{id}` among the keys, `client:{tenant}.{id}` among the clients.
 * @param {string} principal
 * @returns {{ path: string, hash: string } | undefined} undefined if it is not listed, or may not be read
 */
function listingOf(principal) {
  const [kind, id = ""] = principal.split(/:(.*)/s);
  if (kind === "key" && id !== "admin" && may("keys:read")) {
    return { path: `/v1/keys/${id}`, hash: `#/access/keys?show=${id}` };
  }
  if (kind === "client" && may("clients:read")) {
    const client = encodeURIComponent(id.slice(id.indexOf(".") + 1));
    return { path: `/v1/clients/${client}`, hash: `#/access/clients?show=${client}` };
  }
  return undefined;
}

/**
 * The name of a principal's key or client.
 * @param {string} principal
 * @returns {Promise<string | undefined>} undefined if it has none, or may not be read
 */
export async function nameOf(principal) {
  if (principal === "key:admin") return "ADMIN_KEY";
  const listing = listingOf(principal);
  if (!listing) return undefined;
  const name = names.get(principal) ?? readName(listing.path);
  names.set(principal, name);
  return name;
}

/**
 * @param {string} path
 * @returns {Promise<string | undefined>}
 */
async function readName(path) {
  try {
    return (await getIfAllowed(path))?.name;
  } catch {
    return undefined;
  }
}

/**
 * A principal by name, with a link to where it is listed.
 * @param {string} principal
 * @param {string | null} [knownName] as the gateway has given it; otherwise it is read
 * @returns {HTMLElement}
 */
export function principalName(principal, knownName) {
  // `data-own`: a name that is loaded later must appear in the element that is already shown.
  const element = h("span.principal", { title: principal, "data-key": principal, "data-own": true });
  /** @param {string | null | undefined} name */
  function show(name) {
    const listing = listingOf(principal);
    const label = name ?? principal;
    patch(element, listing ? link(label, listing.hash) : label, name && h("span.soft", ` ${principal}`));
  }
  async function readAndShow() {
    const name = await nameOf(principal);
    if (name) show(name);
  }
  show(knownName);
  if (!knownName) void readAndShow();
  return element;
}

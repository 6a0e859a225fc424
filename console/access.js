// The screen Access: who may do what. A tab for each kind of document, and one for the audit log.
import { get, getIfAllowed } from "./api.js";
import { showAudit } from "./audit.js";
import { tabList } from "./components.js";
import { DocumentList } from "./document-list.js";
import { fill, h } from "./dom.js";
import { mebibytes } from "./format.js";
import { ACCESS_KINDS } from "./kinds.js";
import { may } from "./session.js";

/** @import { KindName } from "./kinds.js" */
/** @typedef {KindName | "audit"} Tab */

const TABS = /** @type {Tab[]} */ ([...ACCESS_KINDS, "audit"]);
/** Above this share of its limit, the size of the configuration is highlighted. */
const NEARLY_FULL = 0.8;
/** Documents of a later version that are named. */
const MAX_UNREADABLE = 10;
const NO_ACCESS =
  "Your key has no access to this page. The built-in role viewer can read all of it, admin can change it, " +
  "and operator can change limits and read the audit log.";

/**
 * @param {Visit} visit
 * @returns {Promise<void>}
 */
export async function access({ view, id, query, signal }) {
  const pages = await readPages();
  const tabs = [...pages.keys()];
  const current = tabs.find((tab) => tab === id) ?? tabs[0];
  const parts = tabs.map((tab) => ({ name: tab, href: `#/access/${tab}`, isCurrent: tab === current }));
  const body = h("div.stack");
  fill(view, h("h1", "Access"), await buildSize(), tabs.length > 0 && tabList("Access", parts), body);
  const page = current && pages.get(current);
  if (!page) {
    fill(body, h("p.note", NO_ACCESS));
  } else if (current === "audit") {
    await showAudit(body, query);
  } else {
    const list = new DocumentList(current, { page, shownId: query.get("show"), signal });
    await list.showIn(body);
  }
}

/**
 * The first page of everything that the key may read.
 * @returns {Promise<Map<Tab, Page>>} by tab
 */
async function readPages() {
  const pages = await Promise.all(TABS.map(readPage));
  /** @type {Map<Tab, Page>} */
  const readable = new Map();
  for (const [at, tab] of TABS.entries()) {
    const page = pages[at];
    if (page) readable.set(tab, page);
  }
  return readable;
}

/**
 * @param {Tab} tab
 * @returns {Promise<Page | undefined>}
 */
async function readPage(tab) {
  const mayRead = may(`${tab}:read`);
  // Your own grants need no permission: without it, the tab appears if you have any.
  const isOwn = tab === "grants" && !mayRead;
  if (!mayRead && !isOwn) return undefined;
  /** @type {Page | undefined} */
  const page = await getIfAllowed(`/v1/${tab}`);
  return isOwn && page?.data.length === 0 ? undefined : page;
}

/**
 * The size of the tenant's configuration, and what serves it.
 * @returns {Promise<HTMLElement | undefined>}
 */
async function buildSize() {
  const registry = may("registry:read") ? await getIfAllowed("/v1/registry") : undefined;
  if (!registry) return undefined;
  const { bytes, limit_bytes, index_bytes, index_limit_bytes, unreadable } = registry;
  const isNearlyFull = bytes > limit_bytes * NEARLY_FULL || index_bytes > index_limit_bytes * NEARLY_FULL;
  const { version, commit } = await get("/health");
  const size = `${mebibytes(bytes)} of ${mebibytes(limit_bytes)}`;
  const indexSize = `${mebibytes(index_bytes)} of ${mebibytes(index_limit_bytes)}`;
  return h(
    "div",
    h(isNearlyFull ? "p.note" : "p.soft", `Configuration: ${size}; its index: ${indexSize}`),
    unreadable.length > 0 && buildUnreadable(unreadable),
    h("p.soft", `Gateway: version ${version}${commit ? `, commit ${commit.slice(0, 12)}` : ""}`),
  );
}

/**
 * Documents that a later version has written.
 * @param {string[]} documents
 * @returns {HTMLElement}
 */
function buildUnreadable(documents) {
  const shown = documents.slice(0, MAX_UNREADABLE).join(", ");
  const more = documents.length - MAX_UNREADABLE;
  return h(
    "p.note",
    `A later version of the gateway has written ${shown}${more > 0 ? ` and ${more} more` : ""}, which this version ` +
      "cannot read. What they may refuse is refused. Deploy the later version again, or replace them.",
  );
}

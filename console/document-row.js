// A document's row on the screen Access or Models: its name, a summary, when it expires and when it was last used.
import { time } from "./components.js";
import { h } from "./dom.js";
import { dateAndTime, lastUsed } from "./format.js";

/** A document of any kind. @typedef {Record<string, any>} AccessDocument */

/**
 * @param {AccessDocument} document
 * @returns {string}
 */
export const idOf = (document) => document.id ?? document.name;

/**
 * @param {AccessDocument} document
 * @returns {string}
 */
export const nameOf = (document) => document.name ?? document.client_name;

/**
 * @param {AccessDocument} document
 * @param {string} summary
 * @param {boolean} isMarked whether it stands out
 * @param {Child} actions
 * @returns {HTMLElement}
 */
export function buildRow(document, summary, isMarked, actions) {
  const { isGone, expires_at, last_used_at } = document;
  return h(
    "li.card",
    { "data-key": idOf(document), class: classOf(isGone, isMarked) },
    h("strong", nameOf(document)),
    h("span.soft", summary),
    expires_at && buildExpiry(expires_at),
    last_used_at !== undefined && h("span.soft", lastUsed(last_used_at)),
    actions,
  );
}

/**
 * @param {boolean | undefined} isGone
 * @param {boolean} isMarked
 * @returns {string}
 */
function classOf(isGone, isMarked) {
  if (isGone) return "card gone";
  return isMarked ? "card marked" : "card";
}

/**
 * @param {string} expiresAt
 * @returns {HTMLElement}
 */
function buildExpiry(expiresAt) {
  const hasExpired = Date.parse(expiresAt) < Date.now();
  const verb = hasExpired ? "expired " : "expires ";
  return h("span.soft", { title: dateAndTime(expiresAt) }, verb, time(expiresAt));
}

// How a context ended: its error with help, and the response to a call whose content is not kept.
import { badge, jsonBlock, link } from "./components.js";
import { h } from "./dom.js";
import { helpFor } from "./statuses.js";

/**
 * Whether its parameters and its result are kept.
 * @param {Context} context
 * @returns {boolean}
 */
export const isKept = ({ content }) => content !== "none";

/**
 * @param {Context} context one that has an error
 * @returns {Child}
 */
export function buildError(context) {
  if (!context.error) return undefined;
  const { code, message, details } = context.error;
  const text = h("p", h("strong", code), `: ${message} ${helpFor(code, isKept(context))}`);
  return h("div.fault", { "data-key": "error" }, text, Boolean(details) && jsonBlock("Details", details));
}

/**
 * What only the response has.
 * @param {Context} context
 * @returns {HTMLElement}
 */
export const buildOutcome = (context) =>
  h(
    "div.stack",
    h("p.row", badge(context.status), link("View context", `#/contexts/${context.id}`)),
    buildError(context),
    context.status === "completed" && jsonBlock("Result", context.result),
    h("p.soft", "The response is not kept. It is gone when you leave this page."),
  );

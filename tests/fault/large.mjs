// @ts-check
// Some results are too large for one row of the store, so they are stored in pieces. The id decides which.
import { createHash } from "node:crypto";

/** A context has a large result if its id ends with this letter, one of 32. */
const ENDS = "0";
/** An id has 34 characters: 3.4 MB. */
const TIMES = 100_000;

/** The result of a context's service. @param {string} id @param {object} parameters */
export const resultOf = (id, parameters) =>
  id.endsWith(ENDS) ? { ...parameters, padding: id.repeat(TIMES) } : parameters;

/**
 * Replaces a context's padding with its size and digest: hundreds are kept, each several times.
 * @template {{ result?: any }} T @param {T} context @returns {T}
 */
export function shortened(context) {
  const padding = context?.result?.padding;
  if (typeof padding === "string") {
    context.result.padding = `${padding.length} ${createHash("sha256").update(padding).digest("hex")}`;
  }
  return context;
}

// @ts-check
// Some results are large: more than a row of the store takes, so that they lie in pieces. Which, follows from the id.
import { createHash } from "node:crypto";

/** Of so many contexts one has a large result, by the last of the 32 letters an id can end with. */
const ENDS = "0";
/** An id has 34 characters: 3.4 MB. */
const TIMES = 100_000;

/** What a context's service answers. @param {string} id @param {object} parameters */
export const resultOf = (id, parameters) =>
  id.endsWith(ENDS) ? { ...parameters, padding: id.repeat(TIMES) } : parameters;

/**
 * A context with its padding told by size and digest: hundreds are kept, each several times.
 * @template {{ result?: any }} T @param {T} context @returns {T}
 */
export function shortened(context) {
  const padding = context?.result?.padding;
  if (typeof padding === "string") {
    context.result.padding = `${padding.length} ${createHash("sha256").update(padding).digest("hex")}`;
  }
  return context;
}

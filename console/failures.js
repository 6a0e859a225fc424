// The most frequent failures of a period: which error at which service, how often, and the latest context of each.
import { link } from "./components.js";
import { h } from "./dom.js";
import { number } from "./format.js";

export const MAX_FAILURES = 8;

/** @typedef {Item & { service: string, code: string, count: number, latest: Context | undefined }} Failure */

/**
 * @param {Figures} figures
 * @param {Context[]} ended contexts that are known, the latest first
 * @returns {Failure[]} the most frequent first
 */
export function failuresOf({ services }, ended) {
  const groups = services.flatMap(({ service = "", errors }) =>
    Object.entries(errors).map(([code, count]) => ({ id: `${service} ${code}`, service, code, count })),
  );
  const failures = groups.filter(({ code }) => code !== "cancelled");
  const mostFrequent = failures.toSorted((one, other) => other.count - one.count).slice(0, MAX_FAILURES);
  return mostFrequent.map((failure) => ({ ...failure, latest: latestOf(failure, ended) }));
}

/**
 * @param {{ service: string, code: string }} failure
 * @param {Context[]} ended
 * @returns {Context | undefined}
 */
const latestOf = (failure, ended) =>
  ended.find(({ service, error }) => service === failure.service && error?.code === failure.code);

/**
 * @param {Failure} failure
 * @returns {HTMLElement}
 */
export function buildFailure({ id, service, code, count, latest, isGone }) {
  const message = latest ? `: ${latest.error?.message}` : "";
  const query = `status=${latest?.status ?? "ended"}&service=${encodeURIComponent(service)}`;
  return h(
    "li",
    { "data-key": id, class: isGone && "gone" },
    h("strong", `${number(count)} × ${code}`),
    ` at ${service}${message} `,
    latest && [link("View latest", `#/contexts/${latest.id}`), " "],
    link("View all", `#/contexts?${query}`),
  );
}

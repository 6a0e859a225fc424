// The statuses of a context, and what its error codes mean.

export const LIVE_STATUSES = ["created", "validated", "queued", "executing", "input_required"];
export const ENDED_STATUSES = ["completed", "failed", "timed_out", "cancelled"];

/** Filters that stand for several statuses. @type {Record<string, string[]>} */
export const STATUS_GROUPS = {
  waiting: ["created", "validated", "queued"],
  ended: ENDED_STATUSES,
};

/**
 * @param {Pick<Context, "status">} context
 * @returns {boolean}
 */
export const hasEnded = ({ status }) => ENDED_STATUSES.includes(status);

/**
 * Whether a context waits for its `run_at` rather than for a service.
 * @param {Pick<Context, "status" | "run_at">} context
 * @returns {boolean}
 */
export const isScheduled = ({ status, run_at }) =>
  status === "queued" && typeof run_at === "string" && Date.parse(run_at) > Date.now();

/**
 * @param {Pick<Context, "status" | "run_at">} context
 * @returns {string}
 */
export const shownStatus = (context) => (isScheduled(context) ? "scheduled" : context.status);

/**
 * `helpUnkept`: help for contexts that cannot be replayed, where it differs.
 * @typedef {{ meaning: string, help?: string, helpUnkept?: string }} ErrorCode
 */

/** @type {Record<string, ErrorCode>} */
export const ERROR_CODES = {
  service_unavailable: {
    meaning: "the service could not be reached",
    help: "Check that it is running and that its URL is correct, then replay.",
    helpUnkept: "Check that it is running and that its URL is correct, then send the request again.",
  },
  circuit_open: {
    meaning: "the circuit breaker was open after repeated failures, so the service was not called",
    help: "Replay later.",
    helpUnkept: "Send the request again later.",
  },
  upstream_error: { meaning: "the service returned an error" },
  upstream_invalid_response: {
    meaning: "the service returned an invalid response",
    help: "It must return JSON with a result or an error.",
  },
  upstream_timeout: { meaning: "the service did not respond in time" },
  deadline_exceeded: {
    meaning: "the context reached its deadline",
    help: "Raise timeout_seconds, or find out why the service is slow.",
  },
  outcome_unknown: {
    meaning: "the connection was lost during the call",
    help: "The work may have been done: check the service first.",
  },
  content_not_kept: {
    meaning: "the service wanted to continue after the response, but the content is not kept",
    help: "Let the service respond with the result, or keep the content of this capability.",
  },
  cancelled: { meaning: "the context was cancelled" },
  internal: { meaning: "an internal error occurred in the gateway" },
};

/**
 * @param {string | null | undefined} code
 * @returns {string}
 */
export const meaningOf = (code) => ERROR_CODES[code ?? ""]?.meaning ?? "";

/**
 * @param {string} code
 * @param {boolean} isKept whether the context can be replayed
 * @returns {string}
 */
export function helpFor(code, isKept) {
  const { help = "", helpUnkept = help } = ERROR_CODES[code] ?? {};
  return isKept ? help : helpUnkept;
}

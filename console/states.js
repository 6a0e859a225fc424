// The states of a context, and what its errors mean.

export const LIVE = ["created", "validated", "queued", "executing", "input_required"];
export const ENDED = ["completed", "failed", "timed_out", "cancelled"];

/** Filters that stand for several statuses. */
export const GROUPS = /** @type {Record<string, string[]>} */ ({
  waiting: ["created", "validated", "queued"],
  ended: ENDED,
});

export const isOver = ({ status }) => ENDED.includes(status);

/** Whether it waits for a time of its own choosing rather than for a service. */
export const isScheduled = ({ status, run_at }) => status === "queued" && Date.parse(run_at) > Date.now();

export const shownStatus = (one) => (isScheduled(one) ? "scheduled" : one.status);

/** By code: what it means, and what helps. */
const CODES = /** @type {Record<string, [string, string]>} */ ({
  service_unavailable: [
    "the service could not be reached",
    "Check that it runs and that its address is right, then replay.",
  ],
  circuit_open: ["the service was given a break after failures, so it was not called", "Replay in a while."],
  upstream_error: ["the service answered with an error", ""],
  upstream_invalid_response: [
    "the service's answer was not understood",
    "It has to answer JSON with a result or an error.",
  ],
  upstream_timeout: ["the service did not answer in time", ""],
  deadline_exceeded: ["the context's time was over", "Raise timeout_seconds, or find out why the service takes long."],
  outcome_unknown: ["the connection was lost after the call had begun", "The work may be done: look there first."],
  cancelled: ["it was cancelled", ""],
  internal: ["the gateway failed", ""],
});

export const meaning = (code) => CODES[code]?.[0] ?? "";
export const help = (code) => CODES[code]?.[1] ?? "";

// @ts-check
// Why a context ended as it did. Each context that does not complete must be explained: by the service, the proxy, a
// kill, its deadline, or a documented reason for the gateway to give up (retry budget, open circuit).

/**
 * @typedef {import("./load.mjs").Context} Context
 * @typedef {import("./load.mjs").Attempt} Attempt
 * @typedef {import("./invariants.mjs").Evidence} Evidence
 * @typedef {{ done: string, at: number, until: number | null, status: number | null, waitMs: number }} Seen
 *   a call, as the proxy or the service saw it
 */

/** Statuses that allow another attempt. */
const PASSING = [408, 425, 429, 500, 502, 503, 504];
/** Refusals promise that nothing was done, so even a call that is not idempotent may be repeated. */
export const REFUSALS = [425, 429, 503];
/** Faults of the proxy that leave an incomplete response, and those that leave a wrong one. */
const CUT = ["reset_before", "reset_inside", "too_long"];
const WRONG = ["too_short", "flood"];
/** The service's retry policy: attempts in all, and the longest backoff. */
export const RETRY = { max_attempts: 10, base_ms: 100, cap_ms: 1000 };
/** All processes share one clock; recorded times may still differ by this much. */
const NEAR_MS = 100;
/** How long after a change of the circuit a worker may still use the old state, or the event may be delayed. */
export const CIRCUIT_NEWS_MS = 2000;
const BUDGET = "Not retried: this service's retry budget is exhausted.";

/** @param {string} time */
const at = (time) => Date.parse(time);

/** The call of each attempt, as the proxy saw it or, without a proxy, the service. @param {Evidence} evidence */
export function callsSeen({ calls, passages }) {
  /** @type {Map<string, Seen>} */
  const seen = new Map();
  for (const call of passages ?? calls.map((call) => ({ ...call, done: "none", waitMs: 0 }))) {
    seen.set(`${call.context} ${call.attempt}`, call);
  }
  return seen;
}

/**
 * Whether the circuit was not closed at some time from `from` to `to`.
 * @param {Evidence} evidence @param {number} from @param {number} to
 */
export function wasOpen({ circuit }, from, to) {
  return circuit.some(({ state, at: since }, index) => {
    const next = circuit[index + 1]?.at ?? Infinity;
    return state !== "closed" && since - CIRCUIT_NEWS_MS < to && from < next + CIRCUIT_NEWS_MS;
  });
}

/**
 * Whether the gateway was killed at some time from `from` to `to`.
 * @param {Evidence} evidence @param {number} from @param {number} to
 */
const wasKilled = ({ kills }, from, to) => kills.some((kill) => from - NEAR_MS <= kill && kill <= to + NEAR_MS);

/**
 * The fault that explains how an attempt ended; null if nothing does.
 * @param {Context} context @param {Attempt} attempt @param {Seen | undefined} seen @param {Evidence} evidence
 * @returns {string | null}
 */
function attemptReason(context, attempt, seen, evidence) {
  const { outcome, code, status_code } = attempt;
  const [from, to] = [at(attempt.started_at), at(attempt.ended_at)];
  if (outcome === "lost") return wasKilled(evidence, from, to) ? "its worker was killed" : null;
  if (outcome === "timed_out") return to >= at(context.expires_at) - NEAR_MS ? "its deadline passed" : null;
  if (code === "circuit_open") return !seen && wasOpen(evidence, from, to) ? "its circuit was open" : null;
  if (!seen) {
    const closed = evidence.periods.some(
      (period) => period.storm === "refuse" && period.from <= to && from <= period.to + NEAR_MS,
    );
    return closed && code === "service_unavailable" && status_code === null ? "refuse" : null;
  }
  if (outcome === "succeeded")
    return seen.status === 200 && !CUT.includes(seen.done) && !WRONG.includes(seen.done) ? "served" : null;
  // A status other than 200 counts although its body is cut off.
  if (CUT.includes(seen.done) && (status_code === null || seen.status === 200))
    return code === "service_unavailable" && status_code === null ? seen.done : null;
  if (WRONG.includes(seen.done) && code === "upstream_invalid_response") return seen.done;
  const codes = seen.status === 425 ? "upstream_error" : "service_unavailable";
  return seen.status === status_code && REFUSALS.includes(status_code ?? 0) && code === codes
    ? `${seen.done} ${status_code}`
    : null;
}

/**
 * Why there was no attempt after the last failed one; null if there should have been one.
 * @param {Context} context @param {Attempt} last @param {Seen | undefined} seen
 */
function whyNoMore(context, last, seen) {
  const { error, attempts, expires_at } = context;
  const idempotent = context.capability === "again";
  const passes = last.status_code === null || PASSING.includes(last.status_code);
  if (!passes || last.code === "upstream_invalid_response") return "not retryable";
  const untouched = REFUSALS.includes(last.status_code ?? 0) || last.code === "circuit_open";
  if (!idempotent && !untouched) return "not idempotent";
  if (attempts.length >= RETRY.max_attempts) return "all attempts made";
  if (error.message.endsWith(BUDGET)) return "retry budget spent";
  const earliest = at(last.ended_at) + Math.max(seen?.waitMs ?? 0, RETRY.cap_ms);
  return earliest >= at(expires_at) - NEAR_MS ? "no time for another attempt" : null;
}

/** @param {Context} context @param {Evidence} evidence @param {Map<string, Seen>} seen @param {number} ended */
function timedOutReason(context, evidence, seen, ended) {
  const last = context.attempts.at(-1);
  const call = last && seen.get(`${context.id} ${last.number}`);
  if (ended < at(context.expires_at)) return null;
  if (wasKilled(evidence, at(context.created_at), ended)) return "its worker was killed";
  if (call && call.until === null) return `${call.done} until the deadline`;
  if (wasOpen(evidence, at(context.created_at), ended)) return "its circuit was open";
  // It had been refused, or its service was working on it, and no time was left.
  if (last && context.attempts.length > 1) return "its attempts took all its time";
  return call?.until && call.until > at(context.expires_at) - NEAR_MS ? `${call.done} until the deadline` : null;
}

/**
 * Why a context ended as it did, as text; null if nothing explains it.
 * @param {Context} context @param {Evidence} evidence @param {Map<string, Seen>} seen @param {number} ended
 * @returns {string | null}
 */
export function endReason(context, evidence, seen, ended) {
  const { id, status, error, attempts } = context;
  const reasons = attempts.map((attempt) =>
    attemptReason(context, attempt, seen.get(`${id} ${attempt.number}`), evidence),
  );
  if (reasons.includes(null)) return null;
  const last = attempts.at(-1);
  if (status === "completed") return last?.outcome === "succeeded" ? "served" : null;
  if (status === "timed_out")
    return error.code === "deadline_exceeded" ? timedOutReason(context, evidence, seen, ended) : null;
  if (status !== "failed") return null;
  if (error.code === "circuit_open" && wasOpen(evidence, ended, ended)) return "its circuit was open";
  if (!last) return null;
  if (last.outcome === "lost") {
    const ends =
      context.capability !== "again" ||
      attempts.length >= RETRY.max_attempts ||
      at(last.ended_at) + RETRY.cap_ms >= at(context.expires_at);
    return error.code === "outcome_unknown" && ends ? "its worker was killed" : null;
  }
  if (error.code !== last.code) return null;
  const final = whyNoMore(context, last, seen.get(`${id} ${last.number}`));
  return final && `${reasons.at(-1)}, ${final}`;
}

// @ts-check
// What makes an answer right, and the figures of many answers.

/**
 * @typedef {import("./client.mjs").Answer} Answer
 *
 * What a right answer is: `ok` any 2xx, `completed` a 200 with a context that completed, `result` a 200 with a tool's
 * result, `accepted` a 202.
 * @typedef {"ok" | "completed" | "result" | "accepted"} Expectation
 *
 * Latencies in ms; `answered` may exceed what `perSecond` counts by the few that were under way at the end.
 * @typedef {{ answered: number, perSecond: number, p50: number, p99: number, answerBytes: number,
 *   errors: number, firstError: string | null }} LoadFigures
 */

/** Why the answer is wrong, or null. @param {Answer} answer @param {Expectation} expect */
export function wrong(answer, expect) {
  const right =
    expect === "ok"
      ? answer.status >= 200 && answer.status < 300
      : answer.status === (expect === "accepted" ? 202 : 200);
  const says = { completed, result: (/** @type {Buffer} */ body) => body.includes('"isError":false') };
  if (right && (!(expect in says) || says[/** @type {keyof typeof says} */ (expect)](answer.body))) return null;
  return `${answer.status} ${answer.body.toString("utf8", 0, 400)}`;
}

/** @param {Buffer} body */
function completed(body) {
  // The cheap look is right unless the JSON is spaced out; a context that did not complete never holds this text.
  if (body.includes('"status":"completed"')) return true;
  try {
    return JSON.parse(body.toString()).status === "completed";
  } catch {
    return false;
  }
}

/** @param {number[]} latencies ascending @param {number} share */
export const percentile = (latencies, share) =>
  latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? 0;

/** Collects answers, right and wrong ones. */
export class Tally {
  /** @type {number[]} */
  latencies = [];
  answered = 0;
  bytes = 0;
  errors = 0;
  /** @type {string | null} */
  firstError = null;

  /** @param {Answer} answer @param {Expectation} expect */
  answer(answer, expect) {
    this.answered += 1;
    this.bytes += answer.bytes;
    const reason = wrong(answer, expect);
    if (reason !== null) this.error(reason);
  }

  /** @param {string} reason */
  error(reason) {
    this.errors += 1;
    this.firstError ??= reason;
  }

  /** @param {number} counted answers inside the measured time @param {number} seconds @returns {LoadFigures} */
  figures(counted, seconds) {
    this.latencies.sort((a, b) => a - b);
    return {
      answered: this.answered,
      perSecond: counted / seconds,
      p50: percentile(this.latencies, 0.5),
      p99: percentile(this.latencies, 0.99),
      answerBytes: Math.round(this.bytes / Math.max(1, this.answered)),
      errors: this.errors,
      firstError: this.firstError,
    };
  }
}

// @ts-check
// The criteria of a correct response, and the figures of many responses.

/**
 * @typedef {import("./client.mjs").Answer} Answer
 *
 * A correct response: `ok` any 2xx, `completed` a 200 with a completed context, `result` a 200 with a tool's result,
 * `accepted` a 202, and an object a 200 that ends like that, with so many events if it is a stream.
 * @typedef {"ok" | "completed" | "result" | "accepted" | { ends: string, events?: number }} Expectation
 *
 * Latencies in ms; `answered` includes the few responses that were under way at the end, `perSecond` does not.
 * `pieces` is the number of a streamed response.
 * @typedef {{ answered: number, perSecond: number, p50: number, p99: number, answerBytes: number, pieces: number,
 *   errors: number, firstError: string | null }} LoadFigures
 */

/** Why the response is wrong, or null. @param {Answer} answer @param {Expectation} expect */
export function wrong(answer, expect) {
  if (typeof expect === "object") {
    const isWhole = answer.body.subarray(-expect.ends.length).equals(Buffer.from(expect.ends));
    if (answer.status === 200 && isWhole && answer.stream?.events === expect.events) return null;
    const events = answer.stream ? `${answer.stream.events} events, at the end ` : "";
    return `${answer.status} ${events}${answer.body.toString("utf8", Math.max(0, answer.body.length - 400))}`;
  }
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
  // The quick check is correct for compact JSON; a context that did not complete never contains this text.
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

/** Collects responses, correct and wrong ones. */
export class Tally {
  /** @type {number[]} */
  latencies = [];
  answered = 0;
  bytes = 0;
  pieces = 0;
  errors = 0;
  /** @type {string | null} */
  firstError = null;

  /** @param {Answer} answer @param {Expectation} expect */
  answer(answer, expect) {
    this.answered += 1;
    this.bytes += answer.bytes;
    this.pieces += answer.stream?.pieces ?? 0;
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
      pieces: Math.round(this.pieces / Math.max(1, this.answered)),
      errors: this.errors,
      firstError: this.firstError,
    };
  }
}

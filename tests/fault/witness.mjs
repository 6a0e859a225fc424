// @ts-check
// What is held against the three witnesses and the gateway's own list in the end:
//
// * no acknowledged context is lost, and no service was called for one that is not there;
// * each ends, in exactly one final state, within 10 s of the last restart; what is idempotent completes;
// * a final state that a client was told never changes;
// * nothing that is not idempotent is called again, unless the service had refused it with 425, 429 or 503;
// * the same Idempotency-Key is one context;
// * event sequences have no gap and no repeat, over all reconnects, and what was read is there again, unchanged;
// * each context has exactly one final event, which agrees with its state.
import { AGAIN, ONCE, REFUSALS } from "./service.mjs";

/**
 * @typedef {import("./load.mjs").Context} Context
 * @typedef {{ contexts: Map<string, Context>, told: import("./load.mjs").Told[], calls: import("./service.mjs").Call[],
 *   events: import("./stream.mjs").StreamEvent[], readAgain: import("./stream.mjs").StreamEvent[], lastStart: number }} Evidence
 *   `contexts` is what GET says in the end; `lastStart` when the gateway answered after the last kill
 * @typedef {(text: string) => void} Report
 */

export const FINAL = ["completed", "failed", "cancelled", "timed_out"];
/** How long after the last restart everything has ended. */
const END_MS = 10_000;

/** Whether this event says that a context ended. @param {{ type: string }} event */
export const isFinal = ({ type }) => FINAL.some((status) => type === `context.${status}`);

/** @template T @param {Iterable<T>} items @param {(item: T) => string} of @returns {Map<string, T[]>} */
export const groupBy = (items, of) => Map.groupBy(items, of);

/** What of a context never changes once it is final. @param {Context} context */
const verdict = ({ status, result, error }) => JSON.stringify({ status, result, error });

/** When it reached its final state. @param {Context} context */
export const endedAt = (context) => Date.parse(context.history.findLast(({ status }) => FINAL.includes(status))?.at ?? "");

/**
 * By when it has to have ended: counted from the last restart, or from its own creation after that.
 * @param {Context} context @param {number} lastStart
 */
const dueBy = (context, lastStart) => Math.max(lastStart, Date.parse(context.created_at)) + END_MS;

/** @param {Evidence} evidence @param {Report} report */
function checkTold({ contexts, told }, report) {
  for (const [id, answers] of groupBy(told, ({ context }) => context.id)) {
    const now = contexts.get(id);
    if (!now) {
      report(`${id} was acknowledged and is lost`);
      continue;
    }
    const changed = answers.find(({ context }) => FINAL.includes(context.status) && verdict(context) !== verdict(now));
    if (changed) report(`${id} was told as ${verdict(changed.context)} and is ${verdict(now)}`);
  }
  for (const [key, answers] of groupBy(told.filter(({ key }) => key !== null), ({ key }) => String(key))) {
    const ids = new Set(answers.map(({ context }) => context.id));
    if (ids.size > 1) report(`the key ${key} was answered with ${[...ids].join(" and ")}`);
  }
}

/** @param {Evidence} evidence @param {Report} report */
function checkContexts({ contexts, lastStart }, report) {
  for (const context of contexts.values()) {
    const { id, status, capability } = context;
    const finals = context.history.filter((step) => FINAL.includes(step.status));
    const late = endedAt(context) - dueBy(context, lastStart);
    if (!FINAL.includes(status)) report(`${id} (${capability}) is still ${status}`);
    else if (finals.length !== 1) report(`${id} has ${finals.length} final states: ${finals.map((step) => step.status).join(", ")}`);
    else if (finals[0]?.status !== status) report(`${id} is ${status}, its history says ${finals[0]?.status}`);
    else if (late > 0) report(`${id} (${capability}) ended ${late} ms too late`);
    if (FINAL.includes(status) && status !== "completed") {
      if (capability === AGAIN) report(`${id} is idempotent and ended ${status}: ${context.error?.code}`);
      else if (status !== "failed" || context.error?.code !== "outcome_unknown") {
        report(`${id} ended ${status} for no reason of this test's: ${context.error?.code}`);
      }
    }
    if (status === "completed" && JSON.stringify(context.result) !== JSON.stringify(context.parameters)) {
      report(`${id} completed with the result of another`);
    }
  }
  const keyed = [...contexts.values()].filter((context) => context.idempotency_key !== null);
  for (const [key, same] of groupBy(keyed, (context) => String(context.idempotency_key))) {
    if (same.length > 1) report(`the key ${key} made ${same.map(({ id }) => id).join(" and ")}`);
  }
}

/** @param {Evidence} evidence @param {Report} report */
function checkCalls({ contexts, calls }, report) {
  for (const [id, made] of groupBy(calls, (call) => call.context)) {
    const context = contexts.get(id);
    if (!context) report(`the service was called for ${id}, which is not there`);
    const done = made.filter(({ status }) => !REFUSALS.includes(status ?? 0));
    if (made[0]?.capability === ONCE && done.length > 1) {
      const answers = made.map((call) => call.status ?? "no answer");
      report(`${id} is not idempotent and was called ${made.length} times: ${answers.join(", ")}`);
    }
    if (context?.status === "completed" && !made.some(({ status }) => status === 200)) {
      report(`${id} completed without an answer of the service`);
    }
  }
  const called = new Set(calls.map((call) => call.context));
  for (const { id, status } of contexts.values()) {
    if (status === "completed" && !called.has(id)) report(`${id} completed and the service was never called`);
  }
}

/** @param {Evidence} evidence @param {Report} report */
function checkEvents({ contexts, events, readAgain }, report) {
  events.forEach((event, at) => {
    const expected = Number(events[at - 1]?.sequence ?? 0) + 1;
    if (Number(event.sequence) !== expected) {
      report(`sequence ${event.sequence} of connection ${event.connection} came where ${expected} was due`);
    }
  });
  const again = new Map(readAgain.map((event) => [event.sequence, event]));
  /** @param {import("./stream.mjs").StreamEvent | undefined} event */
  const inWords = (event) => (event ? `${event.id}, ${event.type} of ${event.subject}` : "gone");
  for (const event of events) {
    const now = again.get(event.sequence);
    if (inWords(now) !== inWords(event)) report(`event ${event.sequence} was ${inWords(event)}; read again it is ${inWords(now)}`);
  }
  const finals = groupBy(events.filter(isFinal), ({ subject }) => subject);
  for (const { id, status } of contexts.values()) {
    if (!FINAL.includes(status)) continue;
    const types = (finals.get(id) ?? []).map(({ type }) => type);
    if (types.length !== 1) report(`${id} (${status}) has ${types.length} final events${types.length ? `: ${types.join(", ")}` : ""}`);
    else if (types[0] !== `context.${status}`) report(`${id} is ${status}, its event says ${types[0]}`);
  }
  for (const id of new Set(events.filter(({ type }) => type.startsWith("context.")).map(({ subject }) => subject))) {
    if (!contexts.has(id)) report(`events tell of ${id}, which is not there`);
  }
}

/** What was violated, in words. @param {Evidence} evidence @returns {string[]} */
export function violationsOf(evidence) {
  /** @type {string[]} */
  const violations = [];
  /** @param {string} text */
  const report = (text) => void violations.push(text);
  for (const check of [checkTold, checkContexts, checkCalls, checkEvents]) check(evidence, report);
  return violations;
}

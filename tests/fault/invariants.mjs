// @ts-check
// The invariants that the records of clients, service and event stream and the gateway's own list must satisfy at the
// end:
//
// * no acknowledged context is lost, and the service is called for no unknown context;
// * each context ends in exactly one final state: within 10 s of the last restart where deadlines are far away,
//   otherwise within 2 s of its deadline, and it never times out before its deadline;
// * a completed context has its own result; every other one, and each attempt, is explained by an injected fault
//   (reasons.mjs);
// * a final state that a client has received never changes;
// * a call that is not idempotent is repeated only after a 425, 429 or 503;
// * no retry comes earlier than its Retry-After, and retries stay within the retry budget;
// * there are no calls while the circuit is open, and only one while it is half open; it opens and closes by itself;
// * one Idempotency-Key means one context;
// * event sequences have no gap and no repeat across reconnects, and a second read returns the same events;
// * each context has exactly one final event, which agrees with its state.
import { checkCircuit } from "./circuit.mjs";
import { resultOf, shortened } from "./large.mjs";
import { callsSeen, endReason, REFUSALS } from "./reasons.mjs";
import { ONCE } from "./service.mjs";

/**
 * @typedef {import("./load.mjs").Context} Context
 * @typedef {{ state: "closed" | "open" | "half_open", at: number }} Change
 *   a new state of the service's circuit, and when
 * @typedef {{ contexts: Map<string, Context>, responses: import("./load.mjs").Acknowledged[],
 *   calls: import("./service.mjs").Call[], passages: import("./proxy.mjs").Passage[] | null,
 *   periods: import("./proxy.mjs").Period[], kills: number[], circuit: Change[],
 *   events: import("./stream.mjs").StreamEvent[], readAgain: import("./stream.mjs").StreamEvent[], began: number,
 *   lastStart: number }} Evidence `contexts` as GET returns them at the end; `passages` and `periods`
 *   are the proxy's, if there is one; `lastStart` is when the gateway responded after the last kill
 * @typedef {(text: string) => void} Report
 */

export const FINAL = ["completed", "failed", "cancelled", "timed_out"];
/**
 * The time after the last restart within which everything ends, where the deadlines are far away. The lease of a killed
 * worker lasts up to 10 s after the kill, of which a quick restart takes less than one.
 */
const END_MS = 13_000;
/** The time after its deadline within which a context ends, or after the restart if the gateway was down then. */
const DEADLINE_MS = 2000;
/** A retry may come this much too early: the resolution of timers and clocks. */
const EARLY_MS = 10;
/** The retries that the budget always allows within ten seconds, plus one for this many first attempts. */
const BUDGET = { least: 3, oneIn: 5, windowMs: 10_000 };

/** Whether this event reports the end of a context. @param {{ type: string }} event */
export const isFinal = ({ type }) => FINAL.some((status) => type === `context.${status}`);

/** @template T @param {Iterable<T>} items @param {(item: T) => string} of @returns {Map<string, T[]>} */
export const groupBy = (items, of) => Map.groupBy(items, of);

/** The part of a context that never changes once it is final. @param {Context} context */
const verdict = ({ status, result, error }) => JSON.stringify({ status, result, error });

/** When a context reached its final state. @param {Context} context */
export const endedAt = (context) =>
  Date.parse(context.history.findLast(({ status }) => FINAL.includes(status))?.at ?? "");

/**
 * The time by which a context must have ended: counted from the last restart, or from its creation after that; where
 * deadlines are near, from its deadline.
 * @param {Context} context @param {Evidence} evidence
 */
function dueBy({ created_at, expires_at }, { lastStart, passages }) {
  if (passages) return Math.max(lastStart, Date.parse(expires_at)) + DEADLINE_MS;
  return Math.max(lastStart, Date.parse(created_at)) + END_MS;
}

/** @param {Evidence} evidence @param {Report} report */
function checkResponses({ contexts, responses }, report) {
  for (const [id, answers] of groupBy(responses, ({ context }) => context.id)) {
    const now = contexts.get(id);
    if (!now) {
      report(`${id} was acknowledged and is lost`);
      continue;
    }
    const changed = answers.find(({ context }) => FINAL.includes(context.status) && verdict(context) !== verdict(now));
    if (changed) report(`${id} was reported as ${verdict(changed.context)} and is ${verdict(now)}`);
  }
  for (const [key, answers] of groupBy(
    responses.filter(({ key }) => key !== null),
    ({ key }) => String(key),
  )) {
    const ids = new Set(answers.map(({ context }) => context.id));
    if (ids.size > 1) report(`the key ${key} was answered with ${[...ids].join(" and ")}`);
  }
}

/** @param {Evidence} evidence @param {Report} report */
function checkContexts(evidence, report) {
  const { contexts } = evidence;
  const seen = callsSeen(evidence);
  for (const context of contexts.values()) {
    const { id, status, capability } = context;
    const finals = context.history.filter((step) => FINAL.includes(step.status));
    const late = endedAt(context) - dueBy(context, evidence);
    if (!FINAL.includes(status)) report(`${id} (${capability}) is still ${status}`);
    else if (finals.length !== 1)
      report(`${id} has ${finals.length} final states: ${finals.map((step) => step.status).join(", ")}`);
    else if (finals[0]?.status !== status) report(`${id} is ${status}, its history says ${finals[0]?.status}`);
    else if (late > 0) report(`${id} (${capability}) ended ${late} ms too late`);
    if (FINAL.includes(status) && endReason(context, evidence, seen, endedAt(context)) === null) {
      const { error, attempts, expires_at } = context;
      const calls = attempts.map(({ number }) => seen.get(`${id} ${number}`) ?? null);
      report(
        `${id} (${capability}) ended ${status} and nothing explains it: ${JSON.stringify({ error, attempts, expires_at, calls })}`,
      );
    }
    const expected = shortened({ result: resultOf(id, context.parameters) }).result;
    if (status === "completed" && JSON.stringify(context.result) !== JSON.stringify(expected)) {
      report(`${id} completed with the result of another`);
    }
  }
  const keyed = [...contexts.values()].filter((context) => context.idempotency_key !== null);
  for (const [key, same] of groupBy(keyed, (context) => String(context.idempotency_key))) {
    if (same.length > 1) report(`the key ${key} made ${same.map(({ id }) => id).join(" and ")}`);
  }
}

/** @param {Evidence} evidence @param {Report} report */
function checkCalls({ contexts, calls, passages }, report) {
  /** @type {(import("./service.mjs").Call | import("./proxy.mjs").Passage)[]} */
  const seen = passages ?? calls;
  for (const [id, made] of groupBy(seen, (call) => call.context)) {
    const context = contexts.get(id);
    if (!context) report(`the service was called for ${id}, which does not exist`);
    // The gateway must assume that a call whose response was cut short was executed.
    const done = made.filter(({ status }) => !REFUSALS.includes(status ?? 0));
    if (made[0]?.capability === ONCE && done.length > 1) {
      report(`${id} is not idempotent and was called ${made.length} times: ${JSON.stringify(made)}`);
    }
    const numbers = new Set(made.map(({ attempt }) => attempt));
    if (numbers.size < made.length) report(`${id} was called twice in one attempt: ${JSON.stringify(made)}`);
  }
  const served = new Set(calls.filter(({ status }) => status === 200).map((call) => call.context));
  for (const { id, status } of contexts.values()) {
    if (status === "completed" && !served.has(id)) report(`${id} completed without an answer of the service`);
  }
  if (passages === null) return;
  const heard = new Set(passages.map(({ context, attempt }) => `${context} ${attempt}`));
  for (const { context, attempt } of calls) {
    if (!heard.has(`${context} ${attempt}`))
      report(`the service was called for ${context} by another than the gateway`);
  }
}

/** @param {Evidence} evidence @param {Report} report */
function checkRetries({ contexts, passages, kills, began }, report) {
  for (const [id, made] of groupBy(passages ?? [], (call) => call.context)) {
    made.forEach((call, index) => {
      const before = made[index - 1];
      const early = before ? (before.until ?? 0) + before.waitMs - call.at : 0;
      if (before && before.waitMs > 0 && early > EARLY_MS) report(`${id} came ${early} ms before its Retry-After`);
    });
  }
  // A killed Worker loses its budget, and attempts whose lease was lost are not counted.
  if (passages === null || kills.length > 0) return;
  const { firsts, repeats } = attemptsMade(contexts.values());
  const windows = Math.ceil((Date.now() - began) / BUDGET.windowMs) + 1;
  const most = firsts / BUDGET.oneIn + BUDGET.least * windows;
  if (repeats > most) report(`${repeats} repeats for ${firsts} first attempts, ${most} are allowed`);
}

/** Counts the first attempts and the retries. @param {Iterable<Context>} contexts */
export function attemptsMade(contexts) {
  let [firsts, repeats] = [0, 0];
  for (const { attempts } of contexts) {
    const made = attempts.filter(({ code }) => code !== "circuit_open").length;
    firsts += Math.min(made, 1);
    repeats += Math.max(made - 1, 0);
  }
  return { firsts, repeats };
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
  const describe = (event) => (event ? `${event.id}, ${event.type} of ${event.subject}` : "gone");
  for (const event of events) {
    const now = again.get(event.sequence);
    if (describe(now) !== describe(event))
      report(`event ${event.sequence} was ${describe(event)}; read again it is ${describe(now)}`);
  }
  const finals = groupBy(events.filter(isFinal), ({ subject }) => subject);
  for (const { id, status } of contexts.values()) {
    if (!FINAL.includes(status)) continue;
    const types = (finals.get(id) ?? []).map(({ type }) => type);
    if (types.length !== 1)
      report(`${id} (${status}) has ${types.length} final events${types.length ? `: ${types.join(", ")}` : ""}`);
    else if (types[0] !== `context.${status}`) report(`${id} is ${status}, its event says ${types[0]}`);
  }
  for (const id of new Set(events.filter(({ type }) => type.startsWith("context.")).map(({ subject }) => subject))) {
    if (!contexts.has(id)) report(`there are events of ${id}, which does not exist`);
  }
}

/** The violations, as text. @param {Evidence} evidence @returns {string[]} */
export function violationsOf(evidence) {
  /** @type {string[]} */
  const violations = [];
  /** @param {string} text */
  const report = (text) => void violations.push(text);
  for (const check of [checkResponses, checkContexts, checkCalls, checkRetries, checkCircuit, checkEvents])
    check(evidence, report);
  return violations;
}

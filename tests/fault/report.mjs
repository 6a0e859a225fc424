// @ts-check
// What people read.
import { AGAIN, ONCE } from "./service.mjs";
import { endedAt, groupBy } from "./witness.mjs";

/**
 * @typedef {import("./witness.mjs").Evidence & { load: import("./load.mjs").Load, startsMs: number[],
 *   connections: number, tookMs: number, violations: string[] }} Outcome
 */

/** How many violations are listed. */
const LISTED = 10;

/** @param {string} text */
export const say = (text) => void process.stdout.write(`fault: ${text}\n`);

/** @param {number} ms */
export const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

/** @param {Outcome} outcome */
function figures({ contexts, told, calls, events, load, startsMs, connections, tookMs, lastStart, violations }) {
  const all = [...contexts.values()];
  const acknowledged = new Set(told.map(({ context }) => context.id));
  const byEnd = groupBy(all, ({ capability, status, error }) => `${capability}: ${status}${error ? ` (${error.code})` : ""}`);
  const callsOf = [...groupBy(calls, ({ context }) => context).values()];
  /** @param {string} capability */
  const calledAgain = (capability) => callsOf.filter((made) => made.length > 1 && made[0]?.capability === capability).length;
  const restarts = startsMs.toSorted((a, b) => a - b);
  const afterLast = all.map(endedAt).filter((at) => at > lastStart);
  const keys = new Set(told.flatMap(({ key }) => (key === null ? [] : [key])));
  /** @type {[string, string | number][]} */
  const rows = [
    ["kills", startsMs.length],
    ["restarts, median and longest", `${seconds(restarts[restarts.length >> 1] ?? 0)}, ${seconds(restarts.at(-1) ?? 0)}`],
    ["contexts", all.length],
    ["… acknowledged", acknowledged.size],
    ...[...byEnd].sort().map(([end, { length }]) => /** @type {[string, number]} */ ([`… ${end}`, length])),
    ["last one ended after the last restart", afterLast.length ? seconds(Math.max(...afterLast) - lastStart) : "none did"],
    ["answers with a context", told.length],
    ["requests without an answer, most while it was down", load.broken],
    ...[...load.refused].map(([status, count]) => /** @type {[string, number]} */ ([`answers with ${status}`, count])),
    ["idempotency keys, repeats of them", `${keys.size}, ${load.repeats}`],
    ["calls of the service", calls.length],
    ["… without an answer, the gateway was gone", calls.filter(({ status }) => status === null).length],
    ["… refused by the service", calls.filter(({ status }) => status !== null && status !== 200).length],
    [`contexts called again, ${AGAIN}`, calledAgain(AGAIN)],
    [`contexts called again, ${ONCE} (after a refusal)`, calledAgain(ONCE)],
    ["events, connections", `${events.length}, ${connections}`],
    ["took", seconds(tookMs)],
    ["violations", violations.length],
  ];
  return rows;
}

/** Prints the table and the first violations. @param {Outcome} outcome */
export function printFigures(outcome) {
  const rows = figures(outcome);
  const width = Math.max(...rows.map(([name]) => name.length));
  process.stdout.write(`\n${rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join("\n")}\n\n`);
  const { violations } = outcome;
  for (const violation of violations.slice(0, LISTED)) process.stdout.write(`  ${violation}\n`);
  if (violations.length > LISTED) process.stdout.write(`  … and ${violations.length - LISTED} more\n`);
  say(violations.length === 0 ? "nothing was violated" : "FAILED");
}

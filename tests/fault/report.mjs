// @ts-check
// The report that is printed.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { circuitFigures } from "./circuit.mjs";
import { callsSeen, endReason } from "./reasons.mjs";
import { AGAIN, ONCE } from "./service.mjs";
import { attemptsMade, endedAt, groupBy } from "./invariants.mjs";

/**
 * @typedef {import("./invariants.mjs").Evidence & { part: import("./options.mjs").Part,
 *   load: import("./load.mjs").Load, startsMs: number[], connections: number, tookMs: number,
 *   violations: string[] }} Outcome
 * @typedef {[string, string | number][]} Rows
 */

const RESULTS = join(import.meta.dirname, "results");
/** How many violations are listed. */
const LISTED = 10;

/** @param {string} text */
export const say = (text) => void process.stdout.write(`fault: ${text}\n`);

/** @param {number} ms */
export const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

/**
 * The number of items of each kind, sorted.
 * @template T @param {Iterable<T>} items @param {(item: T) => string} kind @returns {Rows}
 */
const counted = (items, kind) =>
  [...groupBy(items, kind)].sort().map(([name, { length }]) => /** @type {[string, number]} */ ([`… ${name}`, length]));

/** @param {Outcome} outcome @returns {Rows} */
function figures(outcome) {
  const { part, contexts, responses, calls, events, load, startsMs, connections, tookMs, lastStart, violations } =
    outcome;
  const all = [...contexts.values()];
  const seen = callsSeen(outcome);
  const ended = (/** @type {import("./load.mjs").Context} */ context) => {
    const { capability, status, error } = context;
    const reason =
      status === "completed"
        ? ""
        : `, ${error?.code}: ${endReason(context, outcome, seen, endedAt(context)) ?? "not explained"}`;
    return `${capability} ${status}${reason}`;
  };
  const callsOf = [...groupBy(calls, ({ context }) => context).values()];
  /** @param {string} capability */
  const calledAgain = (capability) =>
    callsOf.filter((made) => made.length > 1 && made[0]?.capability === capability).length;
  const keys = new Set(responses.flatMap(({ key }) => (key === null ? [] : [key])));
  return [
    ...(part.kills > 0 ? killFigures(startsMs, all, lastStart) : []),
    ["contexts", all.length],
    ["… acknowledged", load.acknowledged.size],
    ...counted(all, ended),
    ["responses with a context", responses.length],
    ["requests without a response", load.broken],
    ...[...load.refused].map(
      ([status, count]) => /** @type {[string, number]} */ ([`responses with ${status}`, count]),
    ),
    ["idempotency keys, repeats of them", `${keys.size}, ${load.repeats}`],
    ["calls of the service", calls.length],
    ["… without a response, the caller was gone", calls.filter(({ status }) => status === null).length],
    ["… refused by the service", calls.filter(({ status }) => status !== null && status !== 200).length],
    [`contexts called again, ${AGAIN}`, calledAgain(AGAIN)],
    [`contexts called again, ${ONCE} (after a refusal)`, calledAgain(ONCE)],
    ...(part.proxied ? proxyFigures(outcome, all) : []),
    ["events, connections", `${events.length}, ${connections}`],
    ["took", seconds(tookMs)],
    ["violations", violations.length],
  ];
}

/** @param {number[]} startsMs @param {import("./load.mjs").Context[]} all @param {number} lastStart @returns {Rows} */
function killFigures(startsMs, all, lastStart) {
  const restarts = startsMs.toSorted((a, b) => a - b);
  const afterLast = all.map(endedAt).filter((at) => at > lastStart);
  return [
    ["kills", startsMs.length],
    [
      "restarts, median and longest",
      `${seconds(restarts[restarts.length >> 1] ?? 0)}, ${seconds(restarts.at(-1) ?? 0)}`,
    ],
    [
      "last one ended after the last restart",
      afterLast.length ? seconds(Math.max(...afterLast) - lastStart) : "none did",
    ],
  ];
}

/** @param {Outcome} outcome @param {import("./load.mjs").Context[]} all @returns {Rows} */
function proxyFigures(outcome, all) {
  const { passages, periods } = outcome;
  const { firsts, repeats } = attemptsMade(all);
  const { opened, half, closed, callsWhileOpen, mostProbes } = circuitFigures(outcome);
  const late = all
    .filter(({ status }) => status === "timed_out")
    .map((context) => endedAt(context) - Date.parse(context.expires_at));
  return [
    ["calls seen by the proxy", passages?.length ?? 0],
    ...counted(passages ?? [], ({ done }) => done),
    ["storms", periods.length],
    ...counted(periods, ({ storm }) => storm),
    ["first attempts, repeats", `${firsts}, ${repeats} (${((100 * repeats) / Math.max(firsts, 1)).toFixed(1)}%)`],
    ["circuit opened, half open, closed", `${opened}, ${half}, ${closed}`],
    ["calls while it was open; most at once while half open", `${callsWhileOpen}; ${mostProbes}`],
    ["timed out; the latest after its deadline", `${late.length}; ${late.length ? `${Math.max(...late)} ms` : "–"}`],
  ];
}

/**
 * Prints a table and the first violations, and writes all of it as JSON.
 * @param {string} name @param {object} part @param {Rows} rows @param {string[]} violations @param {object} [more]
 */
export function keepFigures(name, part, rows, violations, more = {}) {
  const width = Math.max(...rows.map(([name]) => name.length));
  process.stdout.write(`\n${rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join("\n")}\n\n`);
  mkdirSync(RESULTS, { recursive: true });
  const path = join(RESULTS, `${name}.json`);
  const report = { at: new Date().toISOString(), part, figures: Object.fromEntries(rows), violations, ...more };
  writeFileSync(path, `${JSON.stringify(report, null, 2)}\n`);
  say(`written to ${path}`);
  for (const violation of violations.slice(0, LISTED)) process.stdout.write(`  ${violation}\n`);
  if (violations.length > LISTED) process.stdout.write(`  … and ${violations.length - LISTED} more\n`);
  say(violations.length === 0 ? "nothing was violated" : "FAILED");
}

/** @param {Outcome} outcome */
export function printFigures(outcome) {
  const { part, violations, circuit, periods } = outcome;
  keepFigures(`${part.name}-${part.seed}`, part, figures(outcome), violations, { circuit, storms: periods });
}

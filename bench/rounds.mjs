// @ts-check
// Runs a scenario in rounds that alternate between the sides, so that a machine that becomes slower affects all of
// them equally, and computes medians.

/**
 * @typedef {import("./scenarios.mjs").Cell} Cell
 * @typedef {import("./targets.mjs").Side} Side
 * @typedef {{ rounds: Cell[], median: Cell, spread: { perSecond: number | null, p50: number | null,
 *   cpuMs: number | null } }} SideFigures
 * @typedef {{ perSecond: number | null, p50: number | null, cpuMs: number | null }} Ratio
 *
 * `ratio` is gateway / comparator, `overFloor` gateway / floor, and `laterMs` how much later than directly a side is.
 * @typedef {{ key: string, title: string, sides: Partial<Record<Side, SideFigures>>, ratio: Ratio,
 *   overFloor?: Ratio, laterMs?: Partial<Record<Side, number>> }} ScenarioFigures
 */

/** @param {number[]} values */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 ? upper : (upper + (sorted[middle - 1] ?? 0)) / 2;
}

/** Widest distance between rounds, as a share of the median. @param {(number | null | undefined)[]} values */
function spread(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (known.length === 0) return null;
  return (Math.max(...known) - Math.min(...known)) / (median(known) || 1);
}

/** @param {Cell[]} rounds @returns {Cell} */
function medianCell(rounds) {
  /** @type {Record<string, number | null>} */
  const cell = {};
  for (const member of /** @type {(keyof Cell)[]} */ (Object.keys(rounds[0] ?? {}))) {
    const known = rounds.map((round) => round[member]).filter((value) => typeof value === "number");
    cell[member] = known.length ? median(known) : null;
  }
  return /** @type {Cell} */ (/** @type {unknown} */ (cell));
}

/** @param {number | null | undefined} a @param {number | null | undefined} b */
const ratio = (a, b) => (a === null || a === undefined || !b ? null : a / b);

/** @param {Cell | undefined} a @param {Cell | undefined} b @returns {Ratio} */
const ratios = (a, b) => ({
  perSecond: ratio(a?.perSecond, b?.perSecond),
  p50: ratio(a?.p50, b?.p50),
  cpuMs: ratio(a?.cpuMs, b?.cpuMs),
});

/**
 * @param {import("./scenarios.mjs").Scenario} scenario @param {import("./scenarios.mjs").Bench} bench
 * @param {Partial<Record<Side, import("./targets.mjs").Target>>} targets @param {(line: string) => void} say
 * @returns {Promise<ScenarioFigures>}
 */
export async function runScenario(scenario, bench, targets, say) {
  /** @type {Partial<Record<Side, Cell[]>>} */
  const cells = {};
  for (let round = 0; round < bench.options.rounds; round += 1) {
    const first = round % scenario.sides.length;
    for (const side of [...scenario.sides.slice(first), ...scenario.sides.slice(0, first)]) {
      const target = targets[side];
      if (!target) throw new Error(`${side} was not started`);
      say(`${scenario.key} ${scenario.title}: round ${round + 1} of ${bench.options.rounds}, ${side}`);
      try {
        (cells[side] ??= []).push(await scenario.run(bench, target));
      } catch (error) {
        throw new Error(
          `${side}, scenario ${scenario.key} (${scenario.title}), round ${round + 1}: ${error instanceof Error ? error.message : error}`,
        );
      }
    }
  }
  /** @type {Partial<Record<Side, SideFigures>>} */
  const sides = {};
  for (const side of scenario.sides) {
    const rounds = cells[side] ?? [];
    sides[side] = {
      rounds,
      median: medianCell(rounds),
      spread: {
        perSecond: spread(rounds.map((one) => one.perSecond)),
        p50: spread(rounds.map((one) => one.p50)),
        cpuMs: spread(rounds.map((one) => one.cpuMs)),
      },
    };
  }
  const { gateway, comparator, floor, provider } = sides;
  return {
    key: scenario.key,
    title: scenario.title,
    sides,
    ratio: ratios(gateway?.median, comparator?.median),
    ...(floor && { overFloor: ratios(gateway?.median, floor.median) }),
    ...(scenario.isTimed && provider && { laterMs: later(sides, provider.median.p50) }),
  };
}

/** @param {Partial<Record<Side, SideFigures>>} sides @param {number} directly */
const later = (sides, directly) =>
  Object.fromEntries(Object.entries(sides).map(([side, { median }]) => [side, median.p50 - directly]));

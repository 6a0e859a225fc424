// @ts-check
// The printed table. results/latest.json has all of it and more, including every round.
import { ASSUMPTIONS, perMillion } from "./prices.mjs";
import { sum } from "./costs.mjs";

/**
 * @typedef {import("./rounds.mjs").ScenarioFigures} ScenarioFigures
 * @typedef {{ date: string, options: import("./options.mjs").Options,
 *   machine: Record<string, string | number | number[]>, versions: Record<string, string>,
 *   sizes: ReturnType<typeof import("./startup.mjs").sizes>,
 *   startup: Awaited<ReturnType<typeof import("./startup.mjs").startups>> | null, scenarios: ScenarioFigures[],
 *   registry: import("./registry.mjs").RegistryReading[],
 *   costs: Partial<Record<"gateway" | "comparator", import("./costs.mjs").CostFigures>> }} Results
 */

/** @param {number | null | undefined} value @param {number} [digits] */
const fixed = (value, digits = 0) => (value === null || value === undefined ? "n/a" : value.toFixed(digits));

/** @param {number | null} share @param {number} rounds one has no spread */
const percent = (share, rounds) => (share === null || rounds < 2 ? "" : `±${(share * 50).toFixed(0)}%`);

/** @param {string[][]} rows the first is the heading; the first two columns are text, the others figures */
function table(rows) {
  const widths = rows.reduce(
    (/** @type {number[]} */ widest, row) => row.map((cell, column) => Math.max(widest[column] ?? 0, cell.length)),
    [],
  );
  return rows.map((row) =>
    row
      .map((cell, column) => (column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join("  ")
      .trimEnd(),
  );
}

const HEADING = ["scenario", "side", "per s", "", "p50 ms", "", "p99 ms", "CPU ms", "", "RSS MiB", "peak", "answer B"];

/** @param {ScenarioFigures} scenario */
function scenarioRows(scenario) {
  const rows = Object.entries(scenario.sides).map(([side, { median, spread, rounds }], index) => [
    index === 0 ? `(${scenario.key}) ${scenario.title}` : "",
    side,
    median.perSecond === null ? "" : fixed(median.perSecond),
    percent(spread.perSecond, rounds.length),
    fixed(median.p50, 2),
    percent(spread.p50, rounds.length),
    fixed(median.p99, 2),
    fixed(median.cpuMs, 3),
    percent(spread.cpuMs, rounds.length),
    fixed(median.rss),
    fixed(median.peak),
    median.answerBytes === undefined ? "" : fixed(median.answerBytes),
  ]);
  const { limited, open } = scenario.sides;
  if (limited && open) {
    const checks = (limited.median.cpuMs ?? NaN) - (open.median.cpuMs ?? NaN);
    rows.push(["", "authentication and limits", "", "", "", "", "", fixed(checks, 4), "", "", "", ""]);
    return rows;
  }
  const times = (/** @type {number | null} */ value) => (value === null ? "" : `×${value.toFixed(2)}`);
  const { api, mcp, many } = scenario.sides;
  if (many) return rows;
  if (api && mcp) {
    const of = (/** @type {number | null} */ a, /** @type {number | null} */ b) =>
      times(a === null || !b ? null : a / b);
    rows.push([
      "",
      "mcp / api",
      of(mcp.median.perSecond, api.median.perSecond),
      "",
      of(mcp.median.p50, api.median.p50),
      "",
      "",
      of(mcp.median.cpuMs, api.median.cpuMs),
      "",
      "",
      "",
      "",
    ]);
    return rows;
  }
  const compared = (
    /** @type {string} */ name,
    /** @type {import("./rounds.mjs").Ratio} */ { perSecond, p50, cpuMs },
  ) => rows.push(["", name, times(perSecond), "", times(p50), "", "", times(cpuMs), "", "", "", ""]);
  compared("gateway / comparator", scenario.ratio);
  if (scenario.overFloor) compared("gateway / floor", scenario.overFloor);
  for (const [side, ms] of Object.entries(scenario.laterMs ?? {})) {
    if (side !== "provider")
      rows.push(["", `${side} - provider`, "", "", fixed(ms, 2), ...HEADING.slice(5).map(() => "")]);
  }
  const accepted = Object.values(scenario.sides)
    .map(({ median }) => median.answeredPerSecond)
    .filter((value) => value !== undefined);
  if (accepted.length > 0) {
    rows.push([
      "",
      `202 answered per s: ${Object.entries(scenario.sides)
        .map(([side, one]) => `${side} ${fixed(one.median.answeredPerSecond)}`)
        .join(", ")}`,
      ...HEADING.slice(2).map(() => ""),
    ]);
  }
  return rows;
}

/** @param {ScenarioFigures[]} scenarios */
function scenarioTable(scenarios) {
  const rows = [HEADING, ...scenarios.flatMap(scenarioRows)];
  // The note on 202s is longer than its column and must not widen it.
  const notes = new Map(rows.filter((row) => row[1]?.startsWith("202")).map((row) => [row, row[1]]));
  for (const row of notes.keys()) row[1] = "";
  const lines = table(rows);
  rows.forEach((row, index) => {
    const note = notes.get(row);
    if (note) lines[index] = `      ${note}`;
  });
  return lines;
}

/** @param {Results} results */
function startupLines({ sizes, startup }) {
  const lines = [
    `size: Wasm ${fixed(sizes.wasmGzipKib, 1)} KiB gzip (${fixed(sizes.wasmKib)} KiB), whole Worker ${fixed(sizes.workerGzipKib, 1)} KiB gzip`,
  ];
  if (!startup) return lines;
  const { gateway, comparator, wasmOnly, blank } = startup;
  const less = (/** @type {number | null | undefined} */ a, /** @type {number | null | undefined} */ b) =>
    fixed(a === null || a === undefined || b === null || b === undefined ? null : a - b, 1);
  lines.push(
    `start: CPU until the first /health, median of ${gateway?.cpuMs.length}: gateway ${fixed(gateway?.medianMs, 1)} ms, comparator ` +
      `${fixed(comparator?.medianMs, 1)} ms, difference ${less(gateway?.medianMs, comparator?.medianMs)} ms`,
    `       of that, compiling and instantiating the Wasm: ${less(wasmOnly?.medianMs, blank?.medianMs)} ms` +
      `; memory then: gateway ${fixed(gateway?.rssMib)} MiB, comparator ${fixed(comparator?.rssMib)} MiB`,
  );
  return lines;
}

/** @param {Results} results */
function registryLines({ registry }) {
  return registry.map((one) => {
    const requests = Object.entries(one.objectRequests)
      .filter(([, count]) => count > 0)
      .map(([name, count]) => `${name} ${count}`);
    return (
      `registry: ${one.services} services, ${fixed(one.documentsMib, 1)} MiB, index ${fixed(one.indexKib)} KiB: ` +
      `a write ${fixed(one.writeCpuMs, 1)} ms of CPU; memory ${fixed(one.writtenMib)} MiB after all writes;\n` +
      `          after a restart the first call ${fixed(one.firstCallMs)} ms, CPU ${fixed(one.firstCallCpuMs)} ms, ` +
      `memory ${fixed(one.startedMib)} MiB, object requests ${requests.join(", ")}`
    );
  });
}

/** @param {Record<string, number>} values */
const split = (values) =>
  `${sum(values).toFixed(2)} (${Object.entries(values)
    .map(([name, value]) => `${name} ${value.toFixed(2)}`)
    .join(", ")})`;

/** @param {Results} results */
function costLines({ costs }) {
  const lines = [];
  for (const [side, figures] of Object.entries(costs)) {
    lines.push(`costs of a durable context that is waited for, ${side}:`);
    for (const when of /** @type {const} */ (["solitary", "loaded"])) {
      const one = figures[when];
      if (!one) {
        lines.push(`  ${when.padEnd(8)}  not available`);
        continue;
      }
      const price = perMillion(one);
      lines.push(
        `  ${when.padEnd(8)}  rows written ${split(one.rowsWritten)}, object requests ${split(one.objectRequests)}, ` +
          `alarms set ${fixed(one.alarmsSet, 2)}, queue messages ${one.queueMessages.toFixed(2)}, CPU ${fixed(one.cpuMs, 2)} ms`,
        `            $${price.total.toFixed(2)} a million: requests ${price.workerRequests.toFixed(2)}, CPU ${price.workerCpu.toFixed(2)}, ` +
          `object requests ${price.objectRequests.toFixed(2)}, object time ${price.objectTime.toFixed(3)}, rows ${(price.rowsWritten + price.rowsRead).toFixed(2)}` +
          `${price.queue > 0 ? `, queue ${price.queue.toFixed(2)}` : ""}`,
      );
    }
    const stored = Object.entries(figures.stored).map(
      ([name, one]) =>
        `${name} ${fixed(one.bytes / figures.contexts)} B (${Object.entries(one.rows)
          .map(([table, rows]) => `${table} ${rows}`)
          .join(", ")})`,
    );
    lines.push(`  on disk after ${figures.contexts} contexts, bytes a context and rows: ${stored.join("; ")}`);
  }
  if (lines.length > 0) lines.push("prices assume: " + ASSUMPTIONS.join(";\n  "));
  return lines;
}

/** @param {Results} results */
export function report(results) {
  const { machine, versions, options, scenarios } = results;
  const parts = [
    `Narthex benchmark, ${results.date}: ${machine.cores} × ${machine.cpu}, ${machine.memoryGib} GiB, ${machine.system}; ` +
      `workerd ${versions.workerd}, Node ${versions.node}; ${options.connections} connections, ${options.rounds} × ${options.seconds} s, medians`,
    "",
  ];
  if (options.gateway === "comparator")
    parts.push("THE COMPARATOR PLAYS THE GATEWAY'S PART: a test of the benchmark itself", "");
  if (scenarios.length > 0) {
    parts.push(
      ...scenarioTable(scenarios),
      "",
      "per s: ended contexts or answers; ±: half the distance between the best and the worst round; CPU: user and system of the whole",
      "process for each request (for sockets: for each event and its context), work after the answer included",
      "",
    );
  }
  parts.push(...startupLines(results), ...registryLines(results), ...costLines(results));
  return parts.join("\n");
}

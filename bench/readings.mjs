// @ts-check
// The cost of a process, read from /proc on Linux. Elsewhere every reading is null and the table says n/a.
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";

/** @param {string} path */
function read(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

const ticksPerSecond = (() => {
  try {
    return Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" })) || 100;
  } catch {
    return 100;
  }
})();

/** User and system time of a process so far, in ms, to a tick (10 ms). @param {number} pid @returns {number | null} */
export function cpuMs(pid) {
  const stat = read(`/proc/${pid}/stat`);
  if (stat === null) return null;
  // The program's name, in parentheses, may contain spaces: fields are counted after it.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / ticksPerSecond;
}

/**
 * The same with microsecond resolution, as the sum over live threads; for short periods in which no thread exits.
 * @param {number} pid @returns {number | null}
 */
export function preciseCpuMs(pid) {
  try {
    let nanoseconds = 0;
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      nanoseconds += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]);
    }
    return nanoseconds / 1e6;
  } catch {
    return cpuMs(pid);
  }
}

/**
 * Resident memory now and at its peak, in MiB.
 * @param {number} pid @returns {{ rss: number | null, peak: number | null }}
 */
export function memoryMib(pid) {
  const status = read(`/proc/${pid}/status`) ?? "";
  const value = (/** @type {string} */ name) => {
    const kib = status.match(new RegExp(`^${name}:\\s+(\\d+) kB`, "m"))?.[1];
    return kib === undefined ? null : Number(kib) / 1024;
  };
  return { rss: value("VmRSS"), peak: value("VmHWM") };
}

/** Resets the peak, so that each round has its own. @param {number} pid */
export function resetPeak(pid) {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, "5");
  } catch {
    // Then the peak is the whole run's.
  }
}

/**
 * Waits until a process is idle, so that work after the responses (records, events, garbage) is included.
 * @param {number} pid
 */
export async function untilQuiet(pid) {
  const deadline = performance.now() + 4000;
  let before = cpuMs(pid);
  while (performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 150));
    const after = cpuMs(pid);
    if (before === null || after === null || after - before <= 10) return;
    before = after;
  }
}

// @ts-check
// Ends the processes that a process started: a killed wrangler leaves its workerd running.
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";

/** Every process of this machine with its parent. @returns {Map<number, number>} */
function processes() {
  const known = new Map();
  if (existsSync("/proc/self/stat")) {
    for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
      try {
        // The name, in parentheses, may contain anything.
        const after = readFileSync(`/proc/${name}/stat`, "latin1").split(") ").at(-1) ?? "";
        known.set(Number(name), Number(after.split(" ")[1]));
      } catch {
        /* It has ended. */
      }
    }
    return known;
  }
  for (const line of execFileSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" }).trim().split("\n")) {
    const [pid, parent] = line.trim().split(/\s+/).map(Number);
    known.set(pid, parent);
  }
  return known;
}

/**
 * Records the processes that a process starts, periodically and on `look`. `end`, and the exit of this process, ends
 * all of them: a workerd left running would use the same state as the next one.
 * @param {() => number | undefined} of
 */
export function followChildren(of) {
  /** @type {number[]} */
  let children = [];
  function look() {
    let known;
    // May fail temporarily if there are too many processes or open files, which must not end this one.
    try {
      known = processes();
    } catch {
      return;
    }
    const isBelow = (/** @type {number | undefined} */ pid) => {
      for (let at = pid; at !== undefined && at > 1; at = known.get(at)) if (at === of()) return true;
      return false;
    };
    const found = [...known].flatMap(([pid, parent]) => (isBelow(parent) ? [pid] : []));
    // If it has exited, its children have another parent. Only those recorded before count, because ids are reused.
    if (found.length > 0) children = found;
  }
  const watching = setInterval(look, 2000).unref();
  function end() {
    clearInterval(watching);
    process.off("exit", end);
    for (const pid of children) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        /* It has ended. */
      }
    }
  }
  process.on("exit", end);
  return { look, end };
}

// @ts-check
// What a process started, to be ended after it: wrangler, killed, leaves its workerd running.
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";

/** Every process of this machine with the one that started it. @returns {Map<number, number>} */
function processes() {
  const known = new Map();
  if (existsSync("/proc/self/stat")) {
    for (const name of readdirSync("/proc").filter((one) => /^\d+$/.test(one))) {
      try {
        // The name, in parentheses, may have anything in it.
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
 * Remembers what a process starts, now and then and when asked to `look`; `end`, and the end of this process, ends all
 * of it. A workerd that was left running would go on with the same state beside the next one's.
 * @param {() => number | undefined} of
 */
export function followChildren(of) {
  /** @type {number[]} */
  let children = [];
  function look() {
    let known;
    // It may fail for a moment, when there are too many processes or open files; this one goes on.
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
    // None: it has ended, and they belong to another now. Those of before count, and no older ones: ids are used again.
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

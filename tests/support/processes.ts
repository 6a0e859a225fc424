// Processes of the machine.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

type Process = { pid: number; parent: number; name: string; hasEnded: boolean };

function readProcess(pid: string): Process[] {
  try {
    const [, name = "", state, parent] = /^\d+ \((.*)\) (\S) (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, "latin1"))!;
    return [{ pid: Number(pid), parent: Number(parent), name, hasEnded: state === "Z" }];
  } catch {
    // It has ended.
    return [];
  }
}

function processes(): Process[] {
  if (process.platform === "linux") {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .flatMap(readProcess);
  }
  const lines = execFileSync("ps", ["-A", "-o", "pid=,ppid=,state=,comm="], { encoding: "utf8" }).trim().split("\n");
  return lines.map((line) => {
    const [pid, parent, state, ...path] = line.trim().split(/\s+/);
    const name = path.join(" ").split("/").at(-1)!;
    return { pid: Number(pid), parent: Number(parent), name, hasEnded: state!.startsWith("Z") };
  });
}

/** The child processes of a process; with a name, the running ones that have it. */
export const children = (parent: number, name?: string): number[] =>
  processes()
    .filter((one) => one.parent === parent && (name === undefined || (one.name === name && !one.hasEnded)))
    .map(({ pid }) => pid);

/** Whether a process runs; one that has ended and is only remembered does not. */
export const isRunning = (pid: number): boolean => readProcess(String(pid)).some(({ hasEnded }) => !hasEnded);

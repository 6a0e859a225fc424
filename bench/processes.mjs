// @ts-check
// Starts and ends the processes of a run, each by its own id, even if the run fails or is interrupted.
import { fork, spawn } from "node:child_process";
import { createRequire } from "node:module";

/** @typedef {import("node:child_process").ChildProcess} ChildProcess */

/** @type {Set<ChildProcess>} */
const running = new Set();
/** Those that were asked to exit. @type {Set<ChildProcess>} */
const ending = new Set();
/** How long a process may take to exit by itself. */
const END_MS = 3000;

// npm's `bin` entry can be a Node script that starts workerd; this is the program itself, whose CPU is counted.
/** @type {string} */
const workerd = createRequire(import.meta.url)("workerd").default;

/** @param {ChildProcess} child */
function remember(child) {
  running.add(child);
  child.once("exit", () => running.delete(child));
  return child;
}

/**
 * Starts workerd in a folder with a `config.capnp` and waits until it listens.
 * @param {string} folder @param {string[]} sockets the names of the sockets to wait for
 * @returns {Promise<{ child: ChildProcess, ports: Record<string, number> }>} the port of each socket by its name
 */
export async function startWorkerd(folder, sockets) {
  // The queue stand-in passes messages on through a service binding, which is experimental in workerd.
  const child = remember(
    spawn(workerd, ["serve", "--experimental", "--control-fd=3", "config.capnp"], {
      cwd: folder,
      stdio: ["ignore", "pipe", "pipe", "pipe"],
    }),
  );
  let said = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.on("data", (chunk) => (said = (said + chunk).slice(-4000)));
  /** @type {Record<string, number>} */
  const ports = {};
  const control = /** @type {import("node:stream").Readable} */ (child.stdio[3]);
  let text = "";
  await new Promise((resolve, reject) => {
    child.once("exit", (code, signal) => reject(new Error(`workerd ended at its start (${signal ?? code}): ${said}`)));
    child.once("error", reject);
    control.on("data", (chunk) => {
      text += chunk;
      const lines = text.split("\n");
      text = lines.pop() ?? "";
      for (const line of lines.filter(Boolean)) {
        const message = JSON.parse(line);
        if (message.event === "listen") ports[message.socket] = message.port;
      }
      if (sockets.every((name) => name in ports)) resolve(undefined);
    });
  });
  child.on("exit", (code, signal) => {
    if (ending.has(child)) return;
    // The figures so far may be those of a process that was already failing.
    process.stderr.write(`bench: workerd ended unasked (${signal ?? code}): ${said}\n`);
    process.exit(1);
  });
  return { child, ports };
}

/** @param {string} script a module of this folder @returns {ChildProcess} */
export const startNode = (script) =>
  remember(fork(new URL(script, import.meta.url), [], { stdio: ["ignore", "inherit", "inherit", "ipc"] }));

/** @param {ChildProcess} child */
export async function end(child) {
  if (!running.has(child)) return;
  ending.add(child);
  await new Promise((resolve) => {
    const impatient = setTimeout(() => child.kill("SIGKILL"), END_MS);
    child.once("exit", () => {
      clearTimeout(impatient);
      resolve(undefined);
    });
    child.kill("SIGTERM");
  });
}

export const endAll = () => Promise.all([...running].map(end));

/** However this process ends, nothing that it started is left running. @param {() => void} [andThen] */
export function endAllAtExit(andThen) {
  process.on("exit", () => {
    for (const child of running) child.kill("SIGKILL");
    andThen?.();
  });
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"])) {
    process.once(signal, () => {
      process.stderr.write(`bench: stopped by ${signal}\n`);
      process.exit(130);
    });
    // A second signal changes nothing: a terminal and a parent may both send one.
    process.on(signal, () => {});
  }
}

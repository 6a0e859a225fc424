// @ts-check
// `npm run fault`: kills `npm start` (npm, wrangler, workerd: the whole process group) with SIGKILL again and again
// under load and restarts it on the same folder; then puts a proxy between gateway and service that does what networks
// do. At the end the responses to clients, the calls to the service and the event stream are compared; invariants.mjs
// has the invariants. Then thousands of sockets watch, a connected service is killed, the core alone is simulated over
// many seeds, and finally Schemathesis requests everything in openapi.json. `npm run fault -- --help` lists options.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The oldest Node this runs on; the project includes one. */
const NODE = 24;

/** Runs this file again under the project's own Node. */
function underOwnNode() {
  const own = fileURLToPath(new URL("../../node_modules/.bin/node", import.meta.url));
  if (!existsSync(own)) {
    process.stderr.write(`fault: needs Node ${NODE}; run npm ci first, it brings one along\n`);
    process.exit(1);
  }
  const child = spawn(own, process.argv.slice(1), { stdio: "inherit" });
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"]))
    process.on(signal, () => child.kill(signal));
  child.on("exit", (code) => process.exit(code ?? 1));
}

/** However this process ends, nothing that it started is left running. @param {Set<() => void>} undo */
function cleanUp(undo) {
  process.on("exit", () => undo.forEach((one) => one()));
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"])) {
    process.once(signal, () => {
      process.stderr.write(`fault: stopped by ${signal}\n`);
      process.exit(130);
    });
    // A second signal changes nothing: a terminal and a parent may both send one.
    process.on(signal, () => {});
  }
}

async function main() {
  const { readOptions, USAGE } = await import("./options.mjs");
  const parts = readOptions(process.argv.slice(2));
  if (!parts) {
    process.stdout.write(USAGE);
    return;
  }
  const { runTrial } = await import("./trial.mjs");
  const { runSeeds } = await import("./seeds.mjs");
  const { runSockets } = await import("./sockets.mjs");
  const { runBacklog } = await import("./backlog.mjs");
  const { runServiceKills } = await import("./service-kills.mjs");
  const { runSchemathesis } = await import("./schemathesis.mjs");
  /** @type {Set<() => void>} */
  const undo = new Set();
  cleanUp(undo);
  let good = true;
  /** @param {() => void} one */
  const atExit = (one) => void undo.add(one);
  /** @param {typeof parts[0]} part */
  const runPart = (part) => {
    if ("seeds" in part) return runSeeds(part, atExit);
    if ("examples" in part) return runSchemathesis(part, atExit);
    if ("backlog" in part) return runBacklog(part, atExit);
    if ("serviceKills" in part) return runServiceKills(part, atExit);
    return "sockets" in part ? runSockets(part, atExit) : runTrial(part, atExit);
  };
  for (const part of parts) good = (await runPart(part)) && good;
  // An explicit exit: sockets of the service and to a killed gateway may still be open.
  process.exit(good ? 0 : 1);
}

if (Number(process.versions.node.split(".")[0]) < NODE) underOwnNode();
else {
  main().catch((error) => {
    process.stderr.write(`fault: ${error instanceof Error ? error.message : error}\n`);
    process.exit(1);
  });
}

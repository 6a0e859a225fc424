// @ts-check
// `npm run fault`: kills `npm start` (npm, wrangler, workerd: the whole process group) with SIGKILL again and again under
// load, restarts it on the same folder, and compares three witnesses in the end: what clients were told, what the
// service saw, what the event stream said. witness.mjs has what is held against them. `npm run fault -- --help`.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The oldest Node this runs on; the project brings one along. */
const NODE = 24;

/** Runs this file again under the project's own Node. */
function underOwnNode() {
  const own = fileURLToPath(new URL("../../node_modules/.bin/node", import.meta.url));
  if (!existsSync(own)) {
    process.stderr.write(`fault: needs Node ${NODE}; run npm ci first, it brings one along\n`);
    process.exit(1);
  }
  const child = spawn(own, process.argv.slice(1), { stdio: "inherit" });
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"])) process.on(signal, () => child.kill(signal));
  child.on("exit", (code) => process.exit(code ?? 1));
}

async function main() {
  const { readOptions, USAGE } = await import("./options.mjs");
  const options = readOptions(process.argv.slice(2));
  if (!options) {
    process.stdout.write(USAGE);
    return;
  }
  const { runTrial } = await import("./trial.mjs");
  // Exits by itself: sockets to a killed gateway and the service's may still be open.
  process.exit((await runTrial(options)) ? 0 : 1);
}

if (Number(process.versions.node.split(".")[0]) < NODE) underOwnNode();
else {
  main().catch((error) => {
    process.stderr.write(`fault: ${error instanceof Error ? error.message : error}\n`);
    process.exit(1);
  });
}

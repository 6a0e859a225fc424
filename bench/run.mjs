// @ts-check
// Measures the gateway against a hand-written Worker with the same path: `node bench/run.mjs --help`.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The oldest Node this runs on; the project includes one. */
const NODE = 24;

/** Runs this file again under the project's own Node. */
function underOwnNode() {
  const own = fileURLToPath(new URL("../node_modules/.bin/node", import.meta.url));
  if (!existsSync(own)) {
    process.stderr.write(`bench: needs Node ${NODE}; run npm ci first, it brings one along\n`);
    process.exit(1);
  }
  const child = spawn(own, process.argv.slice(1), { stdio: "inherit" });
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"]))
    process.on(signal, () => child.kill(signal));
  child.on("exit", (code) => process.exit(code ?? 1));
}

async function main() {
  const { readOptions, USAGE } = await import("./options.mjs");
  const options = readOptions(process.argv.slice(2));
  if (!options) {
    process.stdout.write(USAGE);
    return;
  }
  if (options.build) {
    const { buildWorker } = await import("../scripts/build.mjs");
    await buildWorker();
  }
  const { runSuite } = await import("./suite.mjs");
  await runSuite(options);
}

if (Number(process.versions.node.split(".")[0]) < NODE) underOwnNode();
else {
  main().catch((error) => {
    process.stderr.write(`bench: ${error instanceof Error ? error.message : error}\n`);
    process.exit(1);
  });
}

// @ts-check
// `npm run check`: everything about the sources that is not a test. Every step runs, whatever became of the ones before.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildWorker } from "./build.mjs";
import { cargoDeny, node, prepare, root, run, say, seconds } from "./tools.mjs";

const scratch = mkdtempSync(join(tmpdir(), "narthex-check-"));
const quiet = {
  ...process.env,
  WRANGLER_SEND_METRICS: "false",
  WRANGLER_SEND_ERROR_REPORTS: "false",
  WRANGLER_HIDE_BANNER: "true",
};

/** @type {[string, () => Promise<number | void>][]} */
const steps = [
  ["Rust format", () => run("cargo", ["fmt", "--check"])],
  [
    "format of all else",
    () => run(node, [join(root, "node_modules/prettier/bin/prettier.cjs"), "--check", "--log-level", "warn", "."]),
  ],
  ["clippy, native with tests", () => run("cargo", ["clippy", "--locked", "--all-targets", "--", "-D", "warnings"])],
  [
    "clippy, Wasm",
    () => run("cargo", ["clippy", "--locked", "--lib", "--target", "wasm32-unknown-unknown", "--", "-D", "warnings"]),
  ],
  ["build", buildWorker],
  ["JavaScript types", () => run(node, [join(root, "node_modules/typescript/bin/tsc")])],
  [
    "JavaScript types, console",
    () => run(node, [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.console.json"]),
  ],
  [
    "JavaScript types, Worker",
    () => run(node, [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.worker.json"]),
  ],
  ["bans, licences, sources", async () => run(await cargoDeny(), ["--locked", "check", "bans", "licenses", "sources"])],
  [
    "bundle for deployment",
    () =>
      run(node, [join(root, "node_modules/wrangler/bin/wrangler.js"), "deploy", "--dry-run", "--outdir", scratch], {
        env: quiet,
      }),
  ],
];

const rows = [];
await prepare();
for (const [name, step] of steps) {
  say(`${name} …`);
  const started = Date.now();
  let good = false;
  try {
    good = ((await step()) ?? 0) === 0;
  } catch (error) {
    say(/** @type {Error} */ (error).message);
  }
  rows.push({ name, good, took: seconds(started) });
}
rmSync(scratch, { recursive: true, force: true });

const width = Math.max(...rows.map(({ name }) => name.length));
for (const { name, good, took } of rows)
  say(`${name.padEnd(width)}  ${good ? "ok    " : "FAILED"}  ${took.padStart(8)}`);
process.exitCode = rows.every(({ good }) => good) ? 0 : 1;

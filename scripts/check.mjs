// @ts-check
// `npm run check`: all checks of the sources other than tests. `npm run check -- core` runs the steps of one group:
// `core`, `worker`, or `sources`, which compiles nothing. Every step runs, even if earlier ones fail. The group
// `advisories` runs only when it is named: advisories come from the network and change without a commit.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildWorker } from "./build.mjs";
import { PACKAGES } from "./groups.mjs";
import { cargoDeny, ensurePackages, node, prepare, prepareRust, root, run, say, seconds } from "./tools.mjs";

const scratch = mkdtempSync(join(tmpdir(), "narthex-check-"));
const quiet = {
  ...process.env,
  WRANGLER_SEND_METRICS: "false",
  WRANGLER_SEND_ERROR_REPORTS: "false",
  WRANGLER_HIDE_BANNER: "true",
};

const tsc = (/** @type {string[]} */ ...args) => run(node, [join(root, "node_modules/typescript/bin/tsc"), ...args]);
const prettier = join(root, "node_modules/prettier/bin/prettier.cjs");
const wrangler = join(root, "node_modules/wrangler/bin/wrangler.js");
const deploy = (/** @type {string[]} */ ...args) =>
  run(node, [wrangler, "deploy", "--dry-run", "--outdir", scratch, ...args], { env: quiet });
/** @param {string[]} packages @param {string[]} args */
const clippy = (packages, ...args) =>
  run("cargo", ["clippy", "--locked", ...packages.flatMap((name) => ["-p", name]), ...args, "--", "-D", "warnings"]);

/** @typedef {[string, () => Promise<number | void>][]} Steps */

/** @type {Record<"core" | "worker" | "sources" | "advisories", Steps>} */
const steps = {
  core: [
    ["Rust format", () => run("cargo", ["fmt", "--all", "--check"])],
    ["Rust format, fuzz targets", () => run("cargo", ["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])],
    ["clippy, core", () => clippy(PACKAGES.core, "--all-targets")],
  ],
  worker: [
    ["clippy, Worker, native with tests", () => clippy(PACKAGES.worker, "--all-targets")],
    ["clippy, Worker, Wasm", () => clippy(PACKAGES.worker, "--lib", "--target", "wasm32-unknown-unknown")],
    ["build", buildWorker],
    ["JavaScript types, Worker", () => tsc("-p", "tsconfig.worker.json")],
    ["bundle for deployment", () => deploy("--env=")],
    ["bundle for deployment, staging", () => deploy("--env", "staging")],
  ],
  sources: [
    ["layers", () => run(node, [join(root, "scripts/layers.mjs")])],
    ["prose", () => run(node, [join(root, "scripts/prose.mjs")])],
    ["contract bundled from api/", () => run(node, [join(root, "scripts/api.mjs"), "--check"])],
    ["format of all else", () => run(node, [prettier, "--check", "--log-level", "warn", "."])],
    ["JavaScript types", () => tsc()],
    ["JavaScript types, console", () => tsc("-p", "tsconfig.console.json")],
    [
      "bans, licenses, sources",
      async () => run(await cargoDeny(), ["--locked", "check", "bans", "licenses", "sources"]),
    ],
  ],
  advisories: [["advisories", async () => run(await cargoDeny(), ["--locked", "check", "advisories"])]],
};

const words = process.argv.slice(2);
const unknown = words.find((word) => !Object.hasOwn(steps, word));
if (unknown !== undefined) {
  say(`no group of checks is named ${unknown}; there are ${Object.keys(steps).join(", ")}`);
  process.exit(2);
}
const groups = /** @type {(keyof typeof steps)[]} */ (
  words.length > 0 ? words : Object.keys(steps).filter((group) => group !== "advisories")
);

const rows = [];
if (groups.includes("worker")) await prepare();
else {
  await prepareRust();
  if (groups.includes("sources")) await ensurePackages();
}
for (const [name, step] of groups.flatMap((group) => steps[group])) {
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

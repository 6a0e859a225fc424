// @ts-check
// `npm test`: the Rust tests, then the tests of the built gateway. `npm test -- contexts queues` runs only the test
// files whose path contains one of the words; `npm test -- rust` only the Rust tests; `npm test -- core`, `worker` and
// `conformance` the groups of groups.mjs, which together are everything.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { buildWorker } from "./build.mjs";
import { select } from "./groups.mjs";
import { node, prepare, prepareRust, root, run, say, seconds } from "./tools.mjs";

const words = process.argv.slice(2).filter((arg) => !arg.startsWith("-"));
const flags = process.argv.slice(2).filter((arg) => arg.startsWith("-"));
const { packages, files, alone, last } = select(words);
const gateway = files.length + alone.length > 0;

/** What Node has compiled of the tests and their packages, for all files and runs. */
const NODE_COMPILE_CACHE = join(root, "node_modules/.cache/narthex-tests");

/** Files that run side by side: they wait more than they compute, and each has a gateway of its own. */
const AT_ONCE = Math.min(12, 3 * availableParallelism());

/** @type {string[]} */
const passed = [];
/** @type {string[]} */
const failed = [];

async function rustTests() {
  say("running the Rust tests …");
  const color = process.stdout.isTTY ? ["--color", "always"] : [];
  let output = "";
  const chosen = packages.flatMap((name) => ["-p", name]);
  const code = await run("cargo", ["test", ...chosen, "--lib", "--locked", ...color], {
    onStdout(text) {
      output += text;
      process.stdout.write(text);
    },
  });
  // One line for each crate.
  const lines = [...output.matchAll(/(\d+) passed; (\d+) failed/g)];
  const sum = (/** @type {1 | 2} */ at) => lines.reduce((total, line) => total + Number(line[at]), 0);
  if (code === 0) passed.push(`${sum(1)} Rust tests`);
  else failed.push(sum(2) === 0 ? "the Rust tests did not run to their end" : `${sum(2)} Rust tests`);
}

/**
 * @param {string} title
 * @param {string[]} paths
 * @param {number} atOnce
 * @param {string} scratch
 * @param {NodeJS.ProcessEnv} env
 */
async function gatewayTests(title, paths, atOnce, scratch, env) {
  if (paths.length === 0) return;
  say(`running ${title} (${paths.length} ${paths.length === 1 ? "file" : "files"}) …`);
  const report = join(scratch, "counts.json");
  rmSync(report, { force: true });
  const runner = join(root, "scripts/files.mjs");
  const code = await run(node, [runner, report, String(atOnce), ...paths, "--", ...flags], { env });
  /** @type {{ passed: number, failed: number, cancelled: number }} */
  const counts = existsSync(report) ? JSON.parse(readFileSync(report, "utf8")) : { passed: 0, failed: 0, cancelled: 0 };
  if (code === 0) passed.push(`${counts.passed} ${title}`);
  else failed.push(`${counts.failed + counts.cancelled || "some"} ${title}`);
}

const started = Date.now();
try {
  if (packages.length === 0 && !gateway) throw new Error(`no test file fits: ${words.join(" ")}`);
  await (gateway ? prepare() : prepareRust());
  if (packages.length > 0) await rustTests();
  if (gateway) {
    say("building the Worker …");
    await buildWorker();
    const scratch = mkdtempSync(join(tmpdir(), "narthex-run-"));
    const env = {
      ...process.env,
      CONTRACT_SEEN: join(scratch, "contract-seen"),
      NODE_COMPILE_CACHE,
      NODE_NO_WARNINGS: "1",
    };
    try {
      await gatewayTests("gateway tests", files, AT_ONCE, scratch, env);
      await gatewayTests("gateway tests that measure", alone, 1, scratch, env);
      await gatewayTests("coverage tests", last, 1, scratch, env);
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  }
} catch (error) {
  failed.push(/** @type {Error} */ (error).message);
}
const outcome =
  failed.length > 0
    ? `FAILED: ${failed.join(", ")}; passed: ${passed.join(", ") || "none"}`
    : `passed: ${passed.join(", ")}`;
say(`${outcome} (${seconds(started)})`);
process.exitCode = failed.length > 0 ? 1 : 0;

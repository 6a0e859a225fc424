// @ts-check
// Compiles the crate to Wasm and writes to `build/`: index.js, its snippets, index_bg.wasm and version.mjs, which
// `entry.mjs` imports and wrangler bundles; and worker.mjs, the finished bundle, which tests and benchmarks load.
// The same sources give the same bytes in every folder.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { gzipSync } from "node:zlib";
import { assembleBuild } from "./assemble.mjs";
import { bundle } from "./bundle.mjs";
import { commitOfSources } from "./git.mjs";
import { bindgen, prepare, root, run, say, seconds } from "./tools.mjs";

// The default features of rustc's wasm32-unknown-unknown, and those that wasm-bindgen's catch wrappers need;
// listed one by one, so that a newer binaryen never emits code that workerd cannot read yet.
const FEATURES = [
  "mutable-globals",
  "sign-ext",
  "nontrapping-float-to-int",
  "bulk-memory",
  "multivalue",
  "reference-types",
  "exception-handling",
].map((name) => `--enable-${name}`);

const out = join(root, "build");

/**
 * During development, `NARTHEX_BUILD=quick` compiles only changes and skips optimization, for a build in seconds;
 * `NARTHEX_BUILD=none` uses the last build, whatever has changed since.
 */
const profile = process.env.NARTHEX_BUILD === "quick" ? "quick" : "release";

/** @param {string} program @param {string[]} args */
async function must(program, args) {
  const code = await run(program, args);
  if (code !== 0) throw new Error(`${program} ended with ${code}`);
}

/** Every JavaScript file of the bundle, and the scripts that create it. */
const sources = () => [
  "entry.mjs",
  "Cargo.lock",
  "package-lock.json",
  "scripts/build.mjs",
  "scripts/bundle.mjs",
  "scripts/tools.mjs",
  ...readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
    .filter((name) => /\.m?js$/.test(name))
    .map((name) => join("src", name)),
];

/** @param {string[]} paths */
const mark = (paths) => paths.map((path) => `${path} ${statSync(path).mtimeMs} ${statSync(path).size}`).join("\n");

/**
 * Replaces the folders of this machine in the paths that the compiler writes into the Wasm, for panics. They are added
 * to the flags of .cargo/config.toml, which a variable would replace.
 * @param {string} target cargo's folder for what it builds
 */
function withoutMachinePaths(target) {
  const args = ["metadata", "--locked", "--format-version", "1", "--filter-platform", "wasm32-unknown-unknown"];
  const output = execFileSync("cargo", args, { cwd: root, encoding: "utf8", maxBuffer: 2 ** 28 });
  /** @type {{ source: string | null, manifest_path: string }[]} */
  const packages = JSON.parse(output).packages;
  const downloaded = packages.filter(({ source }) => source !== null);
  const folders = new Set(downloaded.map(({ manifest_path }) => dirname(dirname(manifest_path))));
  // Where several fit, the last one counts: the target folder may be inside of the project's.
  const renamed = [[root, "narthex"], [target, "target"], ...[...folders].sort().map((folder) => [folder, "crates"])];
  const flags = renamed.map(([from, to]) => `--remap-path-prefix=${from}=${to}`);
  return ["--config", `target.wasm32-unknown-unknown.rustflags=${JSON.stringify(flags)}`];
}

/** Compiles what has changed. Returns the path of the Wasm module. */
async function compile() {
  const target = resolve(root, process.env.CARGO_TARGET_DIR || "target");
  const args = ["build", "--profile", profile, "--locked", "--lib", "--target", "wasm32-unknown-unknown"];
  await must("cargo", [...withoutMachinePaths(target), ...args]);
  return join(target, "wasm32-unknown-unknown", profile, "narthex.wasm");
}

/** Writes index.js, its snippets and the optimized index_bg.wasm. @param {string} compiled */
async function link(compiled) {
  // Written elsewhere and moved at the end, so that a running `wrangler dev` never sees half a build.
  const next = join(out, ".next");
  rmSync(next, { recursive: true, force: true });
  mkdirSync(next, { recursive: true });
  // Reinitialisation after a panic is emitted because worker's `init.rs` asks for it; the abort handler
  // has to be forced where panics abort.
  await must(await bindgen(), [
    compiled,
    "--target",
    "module",
    "--out-dir",
    next,
    "--out-name",
    "index",
    "--force-enable-abort-handler",
  ]);
  const glue = join(next, "index.js");
  // One entry for each module that Rust imports from: wasm-bindgen names it once for each block of declarations.
  const named = new Set();
  const once = (/** @type {string} */ line, /** @type {string} */ module) =>
    named.has(module) ? "" : (named.add(module), line);
  writeFileSync(
    glue,
    readFileSync(glue, "utf8")
      .replace("import source ", "import ")
      .replace(/^ +("\.\/snippets\/[^"]+"): import\d+,\n/gm, once),
  );
  const wasm = join(next, "index_bg.wasm");
  const full = join(next, "full.wasm");
  renameSync(wasm, full);
  const level = profile === "quick" ? "-O0" : "-O2";
  await must("wasm-opt", [full, "-o", wasm, level, "--strip-debug", ...FEATURES]);
  rmSync(full);
  for (const name of readdirSync(next)) {
    rmSync(join(out, name), { recursive: true, force: true });
    renameSync(join(next, name), join(out, name));
  }
  rmSync(next, { recursive: true });
}

/** Builds the Worker, and what `narthex serve` runs from, unless they are up to date. Throws if a step fails. */
export async function buildWorker() {
  await buildBundle();
  await assembleBuild();
}

async function buildBundle() {
  const started = Date.now();
  const version = join(out, "version.mjs");
  const finished = [version, join(out, "worker.mjs")];
  if (process.env.NARTHEX_BUILD === "none" && finished.every((path) => existsSync(path))) return;
  const compiled = await compile();
  const stamp = join(out, ".stamp");
  const now = mark([compiled, ...sources().map((path) => join(root, path))]);
  const linked = existsSync(stamp) && readFileSync(stamp, "utf8") === now;
  const line = `export const commit = ${JSON.stringify(commitOfSources())};\n`;
  const versioned = existsSync(version) && readFileSync(version, "utf8") === line;
  if (linked && versioned) return;

  rmSync(stamp, { force: true });
  if (!linked) await link(compiled);
  // Only where it differs: `wrangler dev` reloads what is written.
  if (!versioned) writeFileSync(version, line);
  await bundle("entry.mjs", join(out, "worker.mjs"));
  writeFileSync(stamp, now);
  const bytes = readFileSync(join(out, "index_bg.wasm"));
  /** @param {number} size */
  const kib = (size) => `${(size / 1024).toFixed(0)} KiB`;
  say(`built in ${seconds(started)}: ${kib(bytes.length)} of Wasm, ${kib(gzipSync(bytes, { level: 9 }).length)} gzip`);
}

if (process.argv[1] === import.meta.filename) {
  try {
    await prepare();
    await buildWorker();
  } catch (error) {
    say(/** @type {Error} */ (error).message);
    process.exitCode = 1;
  }
}

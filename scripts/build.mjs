// @ts-check
// Compiles the crate to Wasm and writes to `build/`: index.js, its snippets and index_bg.wasm, which `entry.mjs`
// imports and wrangler bundles; and worker.mjs, the finished bundle, which tests and benchmarks load.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { gzipSync } from "node:zlib";
import { assembleBuild } from "./assemble.mjs";
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
  "scripts/tools.mjs",
  ...readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
    .filter((name) => /\.m?js$/.test(name))
    .map((name) => join("src", name)),
];

/** @param {string[]} paths */
const mark = (paths) => paths.map((path) => `${path} ${statSync(path).mtimeMs} ${statSync(path).size}`).join("\n");

/** Builds the Worker, and what `narthex serve` runs from, unless they are up to date. Throws if a step fails. */
export async function buildWorker() {
  await buildBundle();
  await assembleBuild();
}

async function buildBundle() {
  const started = Date.now();
  if (process.env.NARTHEX_BUILD === "none" && existsSync(join(out, "worker.mjs"))) return;
  await must("cargo", ["build", "--profile", profile, "--locked", "--lib", "--target", "wasm32-unknown-unknown"]);
  const target = resolve(root, process.env.CARGO_TARGET_DIR || "target");
  const compiled = join(target, "wasm32-unknown-unknown", profile, "narthex.wasm");
  const stamp = join(out, ".stamp");
  const now = mark([compiled, ...sources().map((path) => join(root, path))]);
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === now) return;

  // Written elsewhere and moved at the end, so that a running `wrangler dev` never sees half a build.
  const next = join(out, ".next");
  rmSync(stamp, { force: true });
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

  const esbuild = await import("esbuild");
  await esbuild.build({
    // The bundle ignores TypeScript's configuration, in particular one in a parent folder.
    tsconfigRaw: "{}",
    entryPoints: [join(root, "entry.mjs")],
    outfile: join(out, "worker.mjs"),
    bundle: true,
    format: "esm",
    target: "es2024",
    external: ["cloudflare:*"],
    logLevel: "warning",
    plugins: [
      {
        name: "wasm",
        setup(build) {
          build.onResolve({ filter: /\.wasm$/ }, () => ({ path: "./index_bg.wasm", external: true }));
        },
      },
    ],
  });
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

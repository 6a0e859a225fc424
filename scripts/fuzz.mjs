// @ts-check
// `npm run fuzz`: builds the fuzz targets in `fuzz/` and runs each of them for a while.
// `npm run fuzz -- --seconds 60 json cron` runs these two for a minute each; `npm run fuzz -- json FILE` repeats one
// input that a run has saved.
//
// The instrumentation is that of `cargo fuzz`, without the sanitizers, which need a nightly toolchain: the core has no
// unsafe code for them to check. The corpus starts with the literals of each parser's own tests, so a case added there
// is a seed here.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { prepareRust, root, run, say, seconds } from "./tools.mjs";

const core = "crates/core/src";
const patterns = "crates/regex/src";

/** Each target, with the modules whose sources and tests contain its seeds. @type {Record<string, string[]>} */
const TARGETS = {
  canonical: ["base/canonical", "base/json"],
  connection_frame: ["calling/connection/frame"],
  cron: ["schedules/cron", "schedules/next_run"],
  decimal: ["base/decimal", "services/schema/number_tests"],
  egress_address: ["http/egress_address"],
  etag: ["http/etag"],
  formats: ["services/schema/formats"],
  idempotency_key: ["context/idempotency"],
  json: ["base/json", "base/json_parts"],
  json_repair: ["base/json_repair", "base/json"],
  jwk: ["access/jose/jwk"],
  jwt: ["access/jose/jwt"],
  mcp_message: ["mcp/message"],
  merge_patch: ["http/merge_patch"],
  openai_stream: ["calling/openai/stream", "calling/openai/completion", "calling/openai/surrogates"],
  page_cursor: ["http/page_cursor"],
  pattern: ["services/schema/pattern_tests"],
  permission: ["access/permission", "access/role"],
  prefer: ["http/prefer"],
  retry_after: ["http/retry_after"],
  schema: ["services/schema"],
  sse: ["http/sse"],
  trace_context: ["http/trace_context"],
};

/** The separator between the parts of an input, as in `fuzz/src/lib.rs`. */
const BETWEEN = Buffer.from([0xff]);
/** Longer inputs find no more faults and take longer. */
const MAX_INPUT = 4096;

const FLAGS = [
  "-Cpasses=sancov-module",
  ...["level=4", "inline-8bit-counters", "pc-table", "trace-compares"].map(
    (option) => `-Cllvm-args=-sanitizer-coverage-${option}`,
  ),
  "--cfg=fuzzing",
];

/**
 * The string literals of a Rust source, as bytes; comments and undecodable literals are left out.
 * @param {string} source
 */
function literals(source) {
  const token = /\/\/[^\n]*|'(?:[^'\\\n]|\\.[^'\n]*)'|b?r(#*)"([\s\S]*?)"\1|b?"((?:[^"\\]|\\[\s\S])*)"/g;
  /** @type {Buffer[]} */
  const found = [];
  for (const [, , raw, escaped] of source.matchAll(token)) {
    if (raw !== undefined) found.push(Buffer.from(raw));
    else if (escaped !== undefined) found.push(unescaped(escaped));
  }
  return found.filter((one) => one.length > 0 && one.length <= MAX_INPUT);
}

/** @param {string} text */
function unescaped(text) {
  /** @type {Record<string, string>} */
  const simple = { n: "\n", r: "\r", t: "\t", 0: "\0", "\\": "\\", '"': '"', "'": "'" };
  const pieces = text.split(/(\\u\{[0-9a-fA-F_]+\}|\\x[0-9a-fA-F]{2}|\\\n\s*|\\.)/);
  return Buffer.concat(
    pieces.map((piece) => {
      if (piece.startsWith("\\x")) return Buffer.from([parseInt(piece.slice(2), 16)]);
      if (piece.startsWith("\\u"))
        return Buffer.from(String.fromCodePoint(parseInt(piece.slice(3, -1).replaceAll("_", ""), 16)));
      if (piece.startsWith("\\\n")) return Buffer.alloc(0);
      if (piece.startsWith("\\")) return Buffer.from(simple[piece.slice(1)] ?? piece);
      return Buffer.from(piece);
    }),
  );
}

/** The sources of a module: its file, and all files in its folder. @param {string} folder @param {string} module */
function sources(folder, module) {
  const at = join(root, folder, module);
  const inside = existsSync(at)
    ? readdirSync(at, { recursive: true, encoding: "utf8" }).map((name) => join(at, name))
    : [];
  const files = [`${at}.rs`, ...inside].filter((path) => path.endsWith(".rs") && existsSync(path));
  if (files.length === 0) throw new Error(`${folder}/${module} is not there: correct TARGETS in scripts/fuzz.mjs`);
  return files;
}

/** Writes the seeds of a target; returns their number. @param {string} target @param {string} folder */
function seed(target, folder) {
  const files = (TARGETS[target] ?? []).flatMap((module) => sources(core, module));
  if (target === "pattern") files.push(...sources(patterns, "parse"));
  const texts = files.flatMap((path) => literals(readFileSync(path, "utf8")));
  // Targets with two texts use neighboring literals of the tests: a pattern and its subject, a document and a patch.
  const pairs = texts.flatMap((text, at) => {
    const next = texts[at + 1];
    return next ? [Buffer.concat([text, BETWEEN, next])] : [];
  });
  const all = [...texts, ...pairs];
  for (const bytes of all) writeFileSync(join(folder, createHash("sha1").update(bytes).digest("hex")), bytes);
  return all.length;
}

const args = process.argv.slice(2);
const at = args.indexOf("--seconds");
const each = at < 0 ? 20 : Number(args.splice(at, 2)[1]);
const inputs = args.filter((word) => !Object.hasOwn(TARGETS, word));
const chosen = args.filter((word) => Object.hasOwn(TARGETS, word));
const targets = chosen.length > 0 ? chosen : Object.keys(TARGETS);

/** Fails if a target has no seeds, or seeds have no target. */
function complete() {
  const programs = readdirSync(join(root, "fuzz/src/bin")).map((name) => name.replace(/\.rs$/, ""));
  const odd = [...new Set([...programs, ...Object.keys(TARGETS)])].filter(
    (name) => !programs.includes(name) || !Object.hasOwn(TARGETS, name),
  );
  if (odd.length > 0) throw new Error(`in fuzz/src/bin or in TARGETS of scripts/fuzz.mjs, but not in both: ${odd}`);
}

const targetDir = join(root, "target", "fuzz");

/** Builds the chosen targets; returns their folder. */
async function build() {
  const host = execFileSync("rustc", ["-vV"], { cwd: root, encoding: "utf8" }).match(/^host: (.+)$/m)?.[1] ?? "";
  const env = { ...process.env, CARGO_TARGET_DIR: targetDir, CARGO_ENCODED_RUSTFLAGS: FLAGS.join("\x1f") };
  const bins = targets.flatMap((target) => ["--bin", target]);
  // With an explicit target, build scripts and macros are not instrumented.
  const manifest = join("fuzz", "Cargo.toml");
  const command = ["build", "--release", "--locked", "--manifest-path", manifest, "--target", host, ...bins];
  if ((await run("cargo", command, { env })) !== 0) throw new Error("the fuzz targets were not built");
  return join(targetDir, host, "release");
}

/** @param {string} programs @param {string} target */
async function fuzz(programs, target) {
  const corpus = join(root, "fuzz", "corpus", target);
  const found = join(root, "fuzz", "artifacts", target);
  for (const folder of [corpus, found]) mkdirSync(folder, { recursive: true });
  const count = seed(target, corpus);
  let output = "";
  const keep = (/** @type {string} */ text) => {
    output = (output + text).slice(-16_000);
  };
  const options = [
    `-max_total_time=${each}`,
    `-max_len=${MAX_INPUT}`,
    "-timeout=10",
    "-rss_limit_mb=2048",
    "-print_final_stats=1",
    `-artifact_prefix=${found}/`,
  ];
  const code = await run(join(programs, target), [...options, corpus], { onStdout: keep, onStderr: keep });
  const runs = output.match(/number_of_executed_units: (\d+)/)?.[1] ?? "?";
  const added = output.match(/new_units_added: +(\d+)/)?.[1] ?? "?";
  if (code === 0) {
    say(`${target}: ${runs} inputs from ${count} seeds, ${added} of them new to it`);
    return true;
  }
  process.stderr.write(output);
  const file = output.match(/Test unit written to (\S+)/)?.[1];
  say(`${target} FAILED${file ? `; again: npm run fuzz -- ${target} ${file.replace(`${root}/`, "")}` : ""}`);
  return false;
}

const started = Date.now();
try {
  const unknown = inputs.find((path) => !existsSync(path));
  if (unknown) throw new Error(`no target and no file: ${unknown}; targets are ${Object.keys(TARGETS).join(", ")}`);
  if (!(each > 0)) throw new Error("--seconds takes a number");
  if (inputs.length > 0 && chosen.length !== 1) throw new Error("an input is tried by one target: name it");
  complete();
  await prepareRust();
  say(`building ${targets.length} fuzz ${targets.length === 1 ? "target" : "targets"} …`);
  const programs = await build();
  const failed = [];
  if (inputs.length > 0) {
    if ((await run(join(programs, /** @type {string} */ (chosen[0])), inputs)) !== 0) failed.push(chosen[0]);
  } else for (const target of targets) if (!(await fuzz(programs, target))) failed.push(target);
  say(failed.length > 0 ? `FAILED: ${failed.join(", ")} (${seconds(started)})` : `nothing found (${seconds(started)})`);
  process.exitCode = failed.length > 0 ? 1 : 0;
} catch (error) {
  say(/** @type {Error} */ (error).message);
  process.exitCode = 1;
}

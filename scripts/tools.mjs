// @ts-check
// Installs what a fresh clone lacks: npm packages, the Rust toolchain with its Wasm target, and programs built by
// `cargo install`, once per machine in the user's cache folder, keyed by version.
// Imports nothing from npm, because this runs before packages are installed.
import { execFileSync, spawn } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const bin = join(root, "node_modules/.bin");

/** Node 24: wrangler, miniflare and the tests need it, whatever Node the machine has. */
export const node = join(bin, "node");

// Every child finds the project's own programs first, also when a script was not started by npm.
if (!process.env.PATH?.startsWith(bin)) process.env.PATH = `${bin}${delimiter}${process.env.PATH}`;

/** @param {string} line */
export const say = (line) => process.stderr.write(`narthex: ${line}\n`);

/** @param {number} since milliseconds, as of `Date.now()` */
export const seconds = (since) => `${((Date.now() - since) / 1000).toFixed(1)} s`;

/** @type {Set<import("node:child_process").ChildProcess>} */
const children = new Set();
let ending = false;

/** Asks every child to exit, then exits; kills those that do not exit by themselves. */
function end() {
  ending = true;
  if (children.size === 0) process.exit(130);
  for (const child of children) child.kill("SIGTERM");
  setTimeout(() => {
    for (const child of children) child.kill("SIGKILL");
  }, 5000).unref();
}
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, end);

// npm's shell does not always pass a signal on, so we exit when it does.
const parent = process.ppid;
if (process.env.npm_lifecycle_event) {
  const watching = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watching);
    end();
  }, 500);
  watching.unref();
}

/**
 * Runs a program in the project's folder; returns its exit code, or 1 if a signal ended it.
 * @param {string} program @param {string[]} args
 * @param {{
 *   env?: NodeJS.ProcessEnv, onPid?: (pid: number) => void,
 *   onStdout?: (text: string) => void, onStderr?: (text: string) => void,
 * }} [options] `onPid` receives the process's id; with it, the run ends when the process exits, even if it leaves
 * others running
 * @returns {Promise<number>}
 */
export function run(program, args, { env = process.env, onPid, onStdout, onStderr } = {}) {
  return new Promise((resolve, reject) => {
    const stdio = ["ignore", onStdout ? "pipe" : "inherit", onStderr ? "pipe" : "inherit"];
    const child = spawn(program, args, {
      cwd: root,
      env,
      stdio: /** @type {import("node:child_process").StdioOptions} */ (stdio),
    });
    children.add(child);
    if (onStdout) child.stdout?.setEncoding("utf8").on("data", onStdout);
    if (onStderr) child.stderr?.setEncoding("utf8").on("data", onStderr);
    child.on("error", (error) => {
      children.delete(child);
      reject(error);
    });
    if (child.pid !== undefined) onPid?.(child.pid);
    // "close" waits for the end of the output, which a process left running would delay.
    child.on(onPid ? "exit" : "close", (code) => {
      children.delete(child);
      if (ending && children.size === 0) process.exit(130);
      resolve(code ?? 1);
    });
  });
}

/**
 * Like `run`, for long silent steps: prints every half minute that it is still running, and the program's own output
 * only if it fails.
 * @param {string} what @param {string} program @param {string[]} args @param {NodeJS.ProcessEnv} [env]
 */
async function patiently(what, program, args, env) {
  const started = Date.now();
  let output = "";
  /** @param {string} text */
  const keep = (text) => {
    output = (output + text).slice(-8000);
  };
  say(`${what} …`);
  const ticking = setInterval(() => say(`… still ${what} (${seconds(started)})`), 30_000);
  try {
    const code = await run(program, args, { ...(env && { env }), onStdout: keep, onStderr: keep });
    if (code !== 0) throw new Error(`${what} failed: ${program} ${args.join(" ")}\n${output}`);
  } finally {
    clearInterval(ticking);
  }
  say(`… done in ${seconds(started)}`);
}

/** The version of a package in Cargo.lock. @param {string} name */
function locked(name) {
  const lock = readFileSync(join(root, "Cargo.lock"), "utf8");
  const version = lock.match(new RegExp(`name = "${name}"\\nversion = "([^"]+)"`))?.[1];
  if (!version) throw new Error(`${name} is not in Cargo.lock`);
  return version;
}

/** The folder for programs; inside the clone where the user's own cache folder cannot be written. */
function cache() {
  const folder = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "narthex");
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
    return folder;
  } catch {
    return join(root, "node_modules/.cache/narthex");
  }
}

/**
 * The path of a program from `cargo install`, installed if it is missing.
 * @param {string} crate @param {string} version @param {string} program
 */
async function installed(crate, version, program) {
  const folder = join(cache(), `${crate}-${version}`);
  const path = join(folder, "bin", program);
  if (existsSync(path)) return path;
  const what = `installing ${crate} ${version}, once for this machine (a few minutes)`;
  const args = ["install", crate, "--version", version, "--root", folder, "--bin", program];
  const { CARGO_TARGET_DIR: _, ...inherited } = process.env;
  // These run for about a second: compiling them quickly matters more than their speed.
  const env = {
    ...inherited,
    CARGO_PROFILE_RELEASE_OPT_LEVEL: "1",
    CARGO_PROFILE_RELEASE_LTO: "off",
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS: "16",
  };
  try {
    await patiently(what, "cargo", [...args, "--locked"], env);
  } catch {
    // A tool's lock file may name a version that was removed: then use the newest that match.
    await patiently(`${what}, with newer dependencies`, "cargo", args, env);
  }
  return path;
}

/** wasm-bindgen's command, which must have exactly the library's version. */
export const bindgen = () => installed("wasm-bindgen-cli", locked("wasm-bindgen"), "wasm-bindgen");

export const cargoDeny = () => installed("cargo-deny", "0.20.2", "cargo-deny");

/** Schemathesis's command, in its own Python environment. */
export async function schemathesis() {
  const version = "4.32.5";
  const folder = join(cache(), `schemathesis-${version}`);
  const path = join(folder, "bin", "schemathesis");
  if (existsSync(path)) return path;
  await patiently("making a Python environment", "python3", ["-m", "venv", "--clear", folder]);
  const args = ["install", "--quiet", "--disable-pip-version-check", `schemathesis==${version}`];
  await patiently(`installing Schemathesis ${version}, once for this machine`, join(folder, "bin", "pip"), args);
  return path;
}

/** Installs the npm packages if they are missing or older than package-lock.json. */
export async function ensurePackages() {
  const done = join(root, "node_modules/.package-lock.json");
  const current =
    existsSync(node) && existsSync(done) && statSync(done).mtimeMs >= statSync(join(root, "package-lock.json")).mtimeMs;
  if (current) return;
  // The engines warning is about the machine's Node, which does not run these packages.
  await patiently("installing the npm packages", "npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
}

/** Installs the toolchain of rust-toolchain.toml and its Wasm target if they are missing. */
async function ensureToolchain() {
  /** @param {string[]} args */
  const rustup = (...args) =>
    execFileSync("rustup", args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  try {
    if (rustup("target", "list", "--installed").includes("wasm32-unknown-unknown")) return;
  } catch {
    // Not installed: rustup may be configured not to install by itself.
    await patiently("installing the Rust toolchain", "rustup", ["toolchain", "install"]);
    if (rustup("target", "list", "--installed").includes("wasm32-unknown-unknown")) return;
  }
  await patiently("adding the target wasm32-unknown-unknown", "rustup", ["target", "add", "wasm32-unknown-unknown"]);
}

/** The requirements of native tests: no npm packages, no programs. */
export const prepareRust = ensureToolchain;

/** Everything that building, serving and testing require. Quick if all of it is installed. */
export async function prepare() {
  await ensurePackages();
  await ensureToolchain();
  await bindgen();
}

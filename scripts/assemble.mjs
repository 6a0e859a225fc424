// @ts-check
// Puts together what `narthex serve` runs from: the program, workerd, the Worker for it, the console's files, and their
// configuration. `npm run build` writes it to `build/serve`; a release is a copy of it.
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { extname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { bundle } from "./bundle.mjs";
import { root } from "./tools.mjs";

/** The only workerd that the program runs. */
const runtime = join(root, "node_modules/@cloudflare/workerd-linux-64/bin/workerd");

/** The program, which `bin/` has, and what lies beside workerd. */
const PROGRAM = "narthex";
const PARTS = ["output.sh", "options.sh", "secrets.sh", "folder.sh", "configuration.sh", "process.sh", "doctor.sh"];
const FILES = [...PARTS, "gateway.capnp", "control.capnp", "control.mjs", "doctor.mjs", "console.mjs"];

/** @type {Record<string, string>} */
const TYPES = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".svg": "image/svg+xml",
};

/**
 * The console's files, compressed one after the other, and where each one lies.
 * @param {(name: string, bytes: Buffer) => Buffer} change
 */
function consoleFiles(change) {
  /** @type {Record<string, { type: string, etag: string, from: number, to: number }>} */
  const index = {};
  /** @type {Buffer[]} */
  const parts = [];
  let at = 0;
  for (const name of readdirSync(join(root, "console")).sort()) {
    const bytes = change(name, readFileSync(join(root, "console", name)));
    const type = TYPES[extname(name)];
    if (type === undefined) throw new Error(`scripts/assemble.mjs knows no media type for console/${name}`);
    const etag = `"${createHash("sha256").update(bytes).digest("hex").slice(0, 32)}"`;
    const compressed = gzipSync(bytes, { level: 9 });
    index[`/${name}`] = { type, etag, from: at, to: (at += compressed.length) };
    parts.push(compressed);
  }
  return { index: `${JSON.stringify(index, null, 1)}\n`, bytes: Buffer.concat(parts) };
}

/** The names of the variables and secrets that the configuration reads. */
export function variables() {
  const text = readFileSync(join(root, "serve/gateway.capnp"), "utf8");
  return [...text.matchAll(/fromEnvironment = "(\w+)"/g)].map(([, name]) => /** @type {string} */ (name));
}

/**
 * Writes the folder, from the build of the Worker in `build/`.
 * @param {string} folder
 * @param {{ version: string, commit: string | null, change?: (name: string, bytes: Buffer) => Buffer }} release
 *   `change` returns what is served in place of a file of the console
 */
export async function assemble(folder, { version, commit, change = (_, bytes) => bytes }) {
  rmSync(folder, { recursive: true, force: true });
  for (const name of ["bin", "lib"]) mkdirSync(join(folder, name), { recursive: true });
  const lib = (/** @type {string} */ name) => join(folder, "lib", name);
  for (const name of FILES) copyFileSync(join(root, "serve", name), lib(name));
  copyFileSync(join(root, "build/index_bg.wasm"), lib("index_bg.wasm"));
  await bundle("serve/entry.mjs", lib("worker.mjs"));
  const { index, bytes } = consoleFiles(change);
  writeFileSync(lib("console.json"), index);
  writeFileSync(lib("console.bin"), bytes);
  writeFileSync(lib("variables"), `${variables().join("\n")}\n`);
  writeFileSync(lib("version"), `${version} ${commit ?? "unknown"}\n`);
  copyFileSync(join(root, "serve", PROGRAM), join(folder, "bin", PROGRAM));
  chmodSync(join(folder, "bin", PROGRAM), 0o755);
  try {
    linkSync(runtime, lib("workerd"));
  } catch {
    // On another file system.
    copyFileSync(runtime, lib("workerd"));
  }
}

/** Writes `build/serve`, unless it is up to date or this system is one that the program does not run on. */
export async function assembleBuild() {
  if (!existsSync(runtime)) return;
  const folder = join(root, "build/serve");
  const files = ["serve", "console"].flatMap((name) => readdirSync(join(root, name)).map((file) => join(name, file)));
  const sources = [...files, "build/index_bg.wasm", "build/version.mjs", "scripts/assemble.mjs", "package-lock.json"];
  const now = sources.map((path) => `${path} ${statSync(join(root, path)).mtimeMs}`).join("\n");
  const stamp = join(root, "build/.serve-stamp");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === now) return;
  rmSync(stamp, { force: true });
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const { commit } = await import(join(root, "build/version.mjs"));
  await assemble(folder, { version, commit });
  writeFileSync(stamp, now);
}

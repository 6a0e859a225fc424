// @ts-check
// The finished Worker, as wrangler deploys it without Rust: the bundle, the Wasm, the console's files, and
// wrangler.toml without the build.
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { parse } from "smol-toml";
import { root } from "./tools.mjs";

/** The configuration for the finished Worker, with its comments. @param {string} text of wrangler.toml */
export function finishedConfiguration(text) {
  const guard = /(?:^#.*\n)*^main = "entry\.mjs"\n/m;
  const finished = text
    .replace(
      guard,
      '# The finished Worker: wrangler uploads it as it is.\nmain = "worker/worker.mjs"\nno_bundle = true\n',
    )
    .replace(/^\[build\]\n(?:(?!\[).*\n)*/m, "");
  const expected = { ...parse(text), main: "worker/worker.mjs", no_bundle: true };
  Reflect.deleteProperty(expected, "build");
  if (!isDeepStrictEqual({ ...parse(finished) }, expected))
    throw new Error("wrangler.toml has another form than scripts/worker-folder.mjs expects");
  return finished;
}

/**
 * Writes the folder.
 * @param {string} folder
 * @param {(name: string, bytes: Buffer) => Buffer} change returns what is served in place of a file of the console
 */
export function writeWorkerFolder(folder, change) {
  // A folder of their own: wrangler uploads what lies beside the bundle.
  const worker = join(folder, "worker");
  mkdirSync(worker, { recursive: true });
  for (const name of ["worker.mjs", "index_bg.wasm"]) cpSync(join(root, "build", name), join(worker, name));
  mkdirSync(join(folder, "console"));
  for (const name of readdirSync(join(root, "console")))
    writeFileSync(join(folder, "console", name), change(name, readFileSync(join(root, "console", name))));
  const configuration = readFileSync(join(root, "wrangler.toml"), "utf8");
  writeFileSync(join(folder, "wrangler.toml"), finishedConfiguration(configuration));
}

// @ts-check
// Runs test files in the order given, which `node --test` would sort by name:
// `files.mjs REPORT AT_ONCE FILE… -- FLAG…`. Writes the number of tests that passed and failed to the file REPORT, as
// JSON. Needs the Node of the tests.
import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";

/** Much longer than any test waits for an event, so that a test that fails states why. */
const TIMEOUT_MS = 240_000;

const [report, atOnce, ...rest] = process.argv.slice(2);
const end = rest.indexOf("--");
const stream = run({
  files: rest.slice(0, end).map((path) => resolve(path)),
  concurrency: Number(atOnce),
  timeout: TIMEOUT_MS,
  forceExit: true,
  execArgv: rest.slice(end + 1),
});
stream.on("test:summary", ({ file, success, counts }) => {
  if (file !== undefined) return;
  writeFileSync(/** @type {string} */ (report), JSON.stringify(counts));
  if (!success) process.exitCode = 1;
});
stream.compose(new spec()).pipe(process.stdout);

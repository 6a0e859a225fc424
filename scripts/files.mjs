// @ts-check
// Runs test files in the order given, which `node --test` would sort by name:
// `files.mjs REPORT AT_ONCE FILE… -- FLAG…`. Writes the number of tests that passed and failed to the file REPORT, as
// JSON. Needs the Node of the tests.
import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { Readable } from "node:stream";
import { run } from "node:test";
import { spec } from "node:test/reporters";

/** Much longer than any test waits for an event, so that a test that fails states why. */
const TIMEOUT_MS = 240_000;
/** How a test fails that needs what only miniflare can do: tests/support/served.ts. */
const NOT_SERVED = /narthex serve has no [a-z ]+/;

const [report, atOnce, ...rest] = process.argv.slice(2);
const end = rest.indexOf("--");
const stream = run({
  files: rest.slice(0, end).map((path) => resolve(path)),
  concurrency: Number(atOnce),
  timeout: TIMEOUT_MS,
  forceExit: true,
  execArgv: rest.slice(end + 1),
});

/**
 * The events, but a test that cannot run against `narthex serve` is skipped. Counts what passed and failed.
 * @param {AsyncIterable<any>} events @param {{ passed: number, failed: number, cancelled: number }} counts
 */
async function* withoutNotServed(events, counts) {
  for await (const event of events) {
    const { type, data } = event;
    if (type !== "test:fail" && type !== "test:pass") {
      yield event;
      continue;
    }
    const error = data.details?.error;
    const reason = `${error?.cause?.message ?? error?.message}`.match(NOT_SERVED)?.[0];
    const skip = type === "test:fail" ? reason : data.skip;
    if (skip === undefined && data.details?.type !== "suite") counts[type === "test:pass" ? "passed" : "failed"] += 1;
    yield skip === undefined ? event : { type: "test:pass", data: { ...data, details: { ...data.details }, skip } };
  }
}

if (process.env.NARTHEX_TARGET === "serve") {
  const counts = { passed: 0, failed: 0, cancelled: 0 };
  const events = Readable.from(withoutNotServed(stream, counts));
  for await (const text of events.compose(new spec())) process.stdout.write(text);
  writeFileSync(/** @type {string} */ (report), JSON.stringify(counts));
  if (counts.failed > 0) process.exitCode = 1;
} else {
  stream.on("test:summary", ({ file, success, counts }) => {
    if (file !== undefined) return;
    writeFileSync(/** @type {string} */ (report), JSON.stringify(counts));
    if (!success) process.exitCode = 1;
  });
  stream.compose(new spec()).pipe(process.stdout);
}

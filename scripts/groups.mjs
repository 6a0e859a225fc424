// @ts-check
// The groups of tests: each is one job of continuous integration, and one command on your machine. Every test file
// belongs to exactly one; tests/groups.test.ts verifies that.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { root } from "./tools.mjs";

/** @typedef {"core" | "worker" | "conformance"} Group */

/** @type {Record<Group, string>} */
export const groups = {
  core: "the core, its simulation and its patterns, natively: no Wasm, no npm packages",
  worker: "the built gateway over HTTP, and the native tests of its own crate",
  conformance: "the outside: console, documents, examples, generated clients, official SDKs and suites",
};

/** The crates whose native tests belong to a group. @type {Record<Group, string[]>} */
export const PACKAGES = { core: ["narthex-core", "narthex-simulation", "regex"], worker: ["narthex"], conformance: [] };

/** The files of the group `conformance`, by the beginnings of their names. All others are of the group `worker`. */
export const CONFORMANCE = [
  "console",
  "contract-shape",
  "docs",
  "examples",
  "generators",
  "groups",
  "layers",
  "official-suite",
  "prose",
  "sdk-clients",
];

/**
 * Files that run alone, after the others: what they measure would be measured wrong beside another file.
 * @type {Record<string, string>} by the beginnings of their names, each with its reason
 */
export const ALONE = {
  panic: "an answer to a panic must come within a second",
  readers: "a reader that keeps up must not fall behind because the machine is busy",
  storms: "counts and times what hundreds of calls at once come to",
};

/**
 * Files that take longest, by the beginnings of their names. They begin first: otherwise the last of them would run on
 * by itself at the end.
 */
export const LONG = [
  "console",
  "generators",
  "matrix",
  "official-suite",
  "recovery",
  "release",
  "results",
  "room",
  "start",
];

/**
 * Files that do not run with `NARTHEX_TARGET=serve`, by the beginnings of their names, each with its reason. Single
 * tests that need what only miniflare has are skipped by themselves.
 * @type {Record<string, string>}
 */
export const NOT_SERVED = {
  "contract-shape": "reads the contract",
  front: "is about `npm start`",
  groups: "is about the tests",
  harness: "is about miniflare as the tests use it",
  layers: "reads sources",
  prose: "reads sources",
  release: "makes files",
  start: "is about `npm start`",
};

/** The word for all native tests, of every group. */
const RUST = "rust";

/** Every test file, sorted. */
export const testFiles = () =>
  readdirSync(join(root, "tests"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".test.ts") && !name.includes("node_modules"))
    .map((name) => join("tests", name))
    .sort();

/** Whether a file checks what all the others have covered, and so runs after them. @param {string} path */
export const isLast = (path) => path.startsWith(join("tests", "coverage"));

/** Whether a file name begins with this whole word, as `console-live.test.ts` begins with `console`. */
const begins = (/** @type {string} */ path, /** @type {string} */ name) =>
  ["-", "."].some((end) => path.startsWith(join("tests", name) + end));

/** The group of a test file. @param {string} path @returns {Group} */
export const groupOf = (path) => (CONFORMANCE.some((name) => begins(path, name)) ? "conformance" : "worker");

/** Whether a file runs alone. @param {string} path */
export const isAlone = (path) => Object.keys(ALONE).some((name) => begins(path, name));

/** Whether a file takes long. @param {string} path */
const isLong = (path) => LONG.some((name) => begins(path, name));

/** @param {string} word @returns {word is Group} */
const isGroup = (word) => Object.hasOwn(groups, word);

/**
 * The selection of words on the command line: a group, all native tests (`rust`), or files whose path contains the
 * word. No word selects everything.
 * @param {string[]} words
 * @returns {{ packages: string[], files: string[], alone: string[], last: string[] }}
 *   the crates whose native tests run, the test files that run side by side, those that run one by
 *   one, and those that run after all others
 */
export function select(words) {
  const all = words.length === 0;
  const has = (/** @type {string} */ word) => all || words.includes(word);
  const fits = (/** @type {string} */ path) =>
    words.some((word) => (isGroup(word) ? word === groupOf(path) : word !== RUST && path.includes(word)));
  const served = process.env.NARTHEX_TARGET === "serve";
  const runs = (/** @type {string} */ path) => !served || !Object.keys(NOT_SERVED).some((name) => begins(path, name));
  const chosen = testFiles().filter((path) => !isLast(path) && runs(path) && (all || fits(path)));
  return {
    packages: served
      ? []
      : Object.entries(PACKAGES).flatMap(([group, names]) => (has(RUST) || has(group) ? names : [])),
    files: [true, false].flatMap((long) => chosen.filter((path) => !isAlone(path) && isLong(path) === long)),
    alone: chosen.filter(isAlone),
    // A few files cover only a part of the contract; the group `worker` covers all of it.
    last: has("worker") && !served ? testFiles().filter(isLast) : [],
  };
}

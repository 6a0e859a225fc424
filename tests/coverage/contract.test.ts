// Runs last: checks that this run covered the contract. An exception that was covered must be removed.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { root } from "../support/configuration.ts";
import { Contract, seenInThisRun } from "../support/contract.ts";

const read = (name: string) => JSON.parse(readFileSync(join(root, "console", name), "utf8"));
const seen = seenInThisRun();
// Only a full run covers the contract; a partial one proves nothing.
const skip = !seen.has("POST /v1/contexts 200") && "only some of the tests ran";

const events = {};
const codes = {
  stopping: "the entry of narthex serve answers so, for any request; tests/serve-stop.test.ts",
  storage_full: "needs a file system of its own, which not every user may mount; tests/serve-disk.test.ts",
};

/** Asserts that everything except the exceptions was covered. */
function covered(all: string[], wasSeen: (one: string) => boolean, exceptions: Record<string, string> = {}): void {
  const missing = all.filter((entry) => !wasSeen(entry) && !(entry in exceptions));
  assert.deepEqual(missing, [], "never seen");
  const stale = Object.keys(exceptions).filter((entry) => wasSeen(entry) || !all.includes(entry));
  assert.deepEqual(stale, [], "exceptions to remove");
}

test("every_operation_was_covered_with_all_its_success_statuses", { skip }, () => {
  // A 101 has no body to check against a schema; its events are checked instead.
  covered(
    Contract.load()!
      .documented()
      .filter((entry) => / [23]\d\d$/.test(entry)),
    (entry) => seen.has(entry),
  );
});

test("every_problem_code_was_covered", { skip }, () => {
  const all: string[] = read("openapi.json").components.schemas.ProblemCode.enum;
  // "internal" is a fault of the gateway: a run need not contain one.
  covered(
    all.filter((code) => code !== "internal"),
    (code) => seen.has(`PROBLEM ${code}`),
    codes,
  );
});

test("every_event_type_was_covered", { skip }, () => {
  const types = Object.keys(read("asyncapi.json").components.messages).filter((name) => name.includes("."));
  covered(types, (type) => seen.has(`EVENT ${type}`), events);
});

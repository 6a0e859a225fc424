// Runs last: what the contract says was really seen in this run. An exception that was seen is none any more.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { root } from "../support/configuration.ts";
import { Contract, seenInThisRun } from "../support/contract.ts";

const read = (name: string) => JSON.parse(readFileSync(join(root, "console", name), "utf8"));
const seen = seenInThisRun();
// Whatever runs all files waits for contexts; what only some of them saw says nothing of the contract.
const skip = !seen.has("POST /v1/contexts 200") && "only some of the tests ran";

const events = {};
const codes = {};

/** Asserts that everything was seen but the exceptions, and none of those. */
function covered(all: string[], wasSeen: (one: string) => boolean, exceptions: Record<string, string> = {}): void {
  const missing = all.filter((one) => !wasSeen(one) && !(one in exceptions));
  assert.deepEqual(missing, [], "never seen");
  const stale = Object.keys(exceptions).filter((one) => wasSeen(one) || !all.includes(one));
  assert.deepEqual(stale, [], "no exceptions any more");
}

test("every_operation_was_seen_with_every_success_it_has", { skip }, () => {
  // A 101 is no answer with a body to hold against a schema: its events are.
  covered(
    Contract.load()!
      .documented()
      .filter((one) => / [23]\d\d$/.test(one)),
    (one) => seen.has(one),
  );
});

test("every_problem_code_was_seen", { skip }, () => {
  const all: string[] = read("openapi.json").components.schemas.ProblemCode.enum;
  // "internal" is a fault of the gateway's own: a run may do without.
  covered(
    all.filter((code) => code !== "internal"),
    (code) => seen.has(`PROBLEM ${code}`),
    codes,
  );
});

test("every_event_type_was_seen", { skip }, () => {
  const types = Object.keys(read("asyncapi.json").components.messages).filter((name) => name.includes("."));
  covered(types, (type) => seen.has(`EVENT ${type}`), events);
});

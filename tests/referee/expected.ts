// What is known to fail, each with a reason and the day it was found. An entry that passes by now fails the test, so
// that the list only says what is true.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import type { Revision, Verdict } from "./referee.ts";

/** What a run is between: the client's revision, and the upstream behind the gateway. */
export type Between = { client: Revision; upstream: "http" | "both" | "legacy" | "modern" };
type Entry = Between & { scenario: string; checks: string[]; reason: string; since: string };

const list: Entry[] = JSON.parse(readFileSync(new URL("expected-failures.json", import.meta.url), "utf8"));

for (const { scenario, checks, reason, since } of list) {
  assert.ok(checks.length > 0 && reason.length > 20 && /^20\d\d-\d\d-\d\d$/.test(since), `${scenario} is listed without checks, a reason or a date`);
}

/** Asserts that of these scenarios exactly what is listed fails. */
export function failsAsExpected({ client, upstream }: Between, verdicts: Iterable<Verdict>) {
  const seen = [...verdicts];
  const entries = list.filter((entry) => entry.client === client && entry.upstream === upstream);
  for (const { scenario } of entries) assert.ok(seen.some((verdict) => verdict.scenario === scenario), `${scenario} is listed and was not run`);
  const expected = new Set(entries.flatMap(({ scenario, checks }) => checks.map((check) => `${scenario}: ${check}`)));
  const failed = seen.flatMap(({ scenario, failed }) => failed.map(({ check, message }) => [`${scenario}: ${check}`, message] as const));
  const unexpected = failed.filter(([name]) => !expected.has(name)).map(([name, message]) => `${name}: ${message}`);
  assert.deepEqual(unexpected, [], "failed, and is not listed in expected-failures.json");
  const names = new Set<string>(failed.map(([name]) => name));
  assert.deepEqual([...expected].filter((name) => !names.has(name)), [], "passes: take it out of expected-failures.json");
}

// Known failures, each with a reason and the day it was found. An entry that passes fails the test, so the list stays
// true. `UPDATE_EXPECTED=1 npm test -- official-suite` removes entries that pass.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import type { Revision, Verdict } from "./suite.ts";

export type Behind = "http" | "both" | "legacy" | "modern";
/** The two ends of a run: the client's revision, and the upstream behind the gateway. */
export type Between = { client: Revision; upstream: Behind };
type Entry = {
  client: Revision;
  upstreams: Behind[];
  scenario: string;
  checks: string[];
  reason: string;
  since: string;
};

const file = new URL("expected-failures.json", import.meta.url);
const read = (): Entry[] => JSON.parse(readFileSync(file, "utf8"));

for (const { scenario, upstreams, checks, reason, since } of read()) {
  const isComplete =
    upstreams.length > 0 && checks.length > 0 && reason.length > 20 && /^20\d\d-\d\d-\d\d$/.test(since);
  assert.ok(isComplete, `${scenario} is listed without an upstream, checks, a reason or a date`);
}

const listedFor = ({ client, upstream }: Between) =>
  read().filter((entry) => entry.client === client && entry.upstreams.includes(upstream));

/** Whether a scenario fails a check that is not listed. */
export function failsUnexpectedly(between: Between, { scenario, failed }: Verdict): boolean {
  const listed = listedFor(between).filter((entry) => entry.scenario === scenario);
  return failed.some(({ check }) => !listed.some(({ checks }) => checks.includes(check)));
}

/** Asserts that exactly the listed checks of these scenarios fail. */
export function failsAsExpected({ client, upstream }: Between, verdicts: Iterable<Verdict>) {
  const seen = [...verdicts];
  const entries = listedFor({ client, upstream });
  for (const { scenario } of entries)
    assert.ok(
      seen.some((verdict) => verdict.scenario === scenario),
      `${scenario} is listed and was not run`,
    );
  const expected = new Set(entries.flatMap(({ scenario, checks }) => checks.map((check) => `${scenario}: ${check}`)));
  const failed = seen.flatMap(({ scenario, failed }) =>
    failed.map(({ check, message }) => [`${scenario}: ${check}`, message] as const),
  );
  const unexpected = failed.filter(([name]) => !expected.has(name)).map(([name, message]) => `${name}: ${message}`);
  assert.deepEqual(unexpected, [], `${client} over ${upstream}: failed, and is not listed in expected-failures.json`);
  const names = new Set<string>(failed.map(([name]) => name));
  const stale = [...expected].filter((name) => !names.has(name));
  if (process.env.UPDATE_EXPECTED === "1") return takeOut({ client, upstream }, stale);
  assert.deepEqual(stale, [], `${client} over ${upstream}: passes; take it out of expected-failures.json`);
}

function takeOut({ client, upstream }: Between, stale: string[]) {
  const left = read().flatMap((entry) => {
    if (entry.client !== client || !entry.upstreams.includes(upstream)) return [entry];
    const others = { ...entry, upstreams: entry.upstreams.filter((other) => other !== upstream) };
    const still = {
      ...entry,
      upstreams: [upstream],
      checks: entry.checks.filter((check) => !stale.includes(`${entry.scenario}: ${check}`)),
    };
    if (still.checks.length === entry.checks.length) return [entry];
    return [others, still].filter(({ upstreams, checks }) => upstreams.length > 0 && checks.length > 0);
  });
  writeList(left);
}

/** One entry per line, so that a changed entry is a one-line diff. */
const writeList = (list: Entry[]) =>
  writeFileSync(file, `[\n${list.map((entry) => `  ${JSON.stringify(entry)}`).join(",\n")}\n]\n`);

// Runs the official conformance suite against an address and reads its verdicts strictly: a warning counts as a
// failure, and a scenario without a verdict, a check with an unknown status, or a contradicting summary aborts the run.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export type Revision = "2025-11-25" | "2026-07-28";
export type Verdict = {
  scenario: string;
  passed: number;
  /** Failed checks, and those with a warning: the check's id and the suite's message. */
  failed: { check: string; message: string; status: "FAILURE" | "WARNING" }[];
};
export type Requirements = {
  /** What the revision requires of a server. */
  scored: string[];
  /** Scenarios that are run but not counted: extensions and later additions. */
  unscored: string[];
};

const conformance = fileURLToPath(new URL("../../node_modules/@modelcontextprotocol/conformance", import.meta.url));
const credentials = new URL("credentials.mjs", import.meta.url).href;

/** What a revision requires of servers, from the suite's own frozen list. */
export function requirements(revision: Revision): Requirements {
  const list = readFileSync(join(conformance, "requirements", `${revision}.yaml`), "utf8");
  const section = (name: string) => list.match(new RegExp(`^${name}:\\n((?:[ #].*\\n|\\n)*)`, "m"))?.[1] ?? "";
  const scored = [...section("server").matchAll(/^ {2}- (\S+)$/gm)].map(([, name]) => name!);
  const unscored = [...section("not_scored").matchAll(/^ {2}- scenario: (\S+)\n {4}leg: server$/gm)].map(
    ([, name]) => name!,
  );
  return { scored, unscored };
}

/** Runs all scenarios of a revision, counted or not, or only one of them. Returns the verdicts by scenario. */
export async function judge(
  url: string,
  revision: Revision,
  { scenario, authorization }: { scenario?: string; authorization?: string } = {},
): Promise<Map<string, Verdict>> {
  const folder = mkdtempSync(join(tmpdir(), "narthex-conformance-"));
  try {
    const what = scenario
      ? ["--scenario", scenario, "--spec-version", revision, "--force"]
      : ["--requirements", revision];
    const output = await run(["server", "--url", url, ...what, "--output-dir", folder], authorization);
    const { scored, unscored } = requirements(revision);
    const expected = scenario ? [scenario] : [...scored, ...unscored];
    const verdicts = new Map(expected.map((name) => [name, verdict(folder, name, output)]));
    const known = new Set(expected.map((name) => folderOf(folder, name)));
    for (const other of readdirSync(folder))
      assert.ok(known.has(other), `the suite ran an unexpected scenario: ${other}`);
    if (!scenario) agree([...verdicts.values()], output);
    return verdicts;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function run(args: string[], authorization: string | undefined): Promise<string> {
  const preload = authorization === undefined ? [] : ["--import", credentials];
  const env = { ...process.env, ...(authorization !== undefined && { CONFORMANCE_AUTHORIZATION: authorization }) };
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...preload, join(conformance, "dist/index.js"), ...args], { env });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text) => (output += text));
    child.on("error", reject);
    // 0 and 1 state whether everything passed, which we read from the verdicts; other codes mean the suite itself
    // failed.
    child.on("close", (code) =>
      code === 0 || code === 1 ? resolve(output) : reject(new Error(`exit code ${code}\n${output}`)),
    );
  });
}

/** The folder with a scenario's checks. */
function folderOf(folder: string, scenario: string): string {
  const stamp = /^-\d{4}-\d\d-\d\dT/;
  const found = readdirSync(folder).filter(
    (name) => name.startsWith(`server-${scenario}`) && stamp.test(name.slice(7 + scenario.length)),
  );
  return found.length === 1 ? found[0]! : "";
}

function verdict(folder: string, scenario: string, output: string): Verdict {
  const found = folderOf(folder, scenario);
  const broke = output.match(new RegExp(`^Failed to run scenario ${scenario}: (.*)$`, "m"));
  if (!found && broke)
    return { scenario, passed: 0, failed: [{ check: scenario, message: broke[1]!, status: "FAILURE" }] };
  assert.ok(found, `the suite has no verdict on ${scenario}:\n${output.slice(-4000)}`);
  const checks = JSON.parse(readFileSync(join(folder, found, "checks.json"), "utf8"));
  assert.ok(Array.isArray(checks) && checks.length > 0, `${scenario} checked nothing`);
  const failed: Verdict["failed"] = [];
  let passed = 0;
  for (const { id, status, errorMessage } of checks) {
    if (status === "SUCCESS") passed += 1;
    else if (status === "FAILURE" || status === "WARNING")
      failed.push({ check: id, message: errorMessage ?? "no message", status });
    else assert.ok(["INFO", "SKIPPED"].includes(status), `${scenario}: ${id} is ${status}`);
  }
  return { scenario, passed, failed };
}

/** Asserts that the printed summary agrees with the verdicts. */
function agree(verdicts: Verdict[], output: string) {
  const printed = [...output.matchAll(/^(✓|✗) (\S+): (\d+) passed, (\d+) failed$/gm)].map(([, sign, ...rest]) =>
    [sign, ...rest].join(" "),
  );
  const read = verdicts.map(({ scenario, passed, failed }) => {
    const failures = failed.filter(({ status }) => status === "FAILURE").length;
    return `${failures ? "✗" : "✓"} ${scenario} ${passed} ${failures}`;
  });
  assert.deepEqual(printed.sort(), read.sort());
}

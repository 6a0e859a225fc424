// Runs the official referee against an address and reads its verdicts, strictly: what it only warns of has failed here,
// and a scenario without a verdict, a check with a status nobody knows, or a summary that says otherwise breaks the run.
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
  /** What failed, or was warned of: the check's id and what the referee says of it. */
  failed: { check: string; message: string; status: "FAILURE" | "WARNING" }[];
};
export type Requirements = {
  /** What the revision requires of a server. */
  scored: string[];
  /** What is run and not counted: extensions, and what came later. */
  unscored: string[];
};

const conformance = fileURLToPath(new URL("../../node_modules/@modelcontextprotocol/conformance", import.meta.url));
const credentials = new URL("credentials.mjs", import.meta.url).href;

/** What a revision requires of servers, by the referee's own frozen list. */
export function requirements(revision: Revision): Requirements {
  const list = readFileSync(join(conformance, "requirements", `${revision}.yaml`), "utf8");
  const section = (name: string) => list.match(new RegExp(`^${name}:\\n((?:[ #].*\\n|\\n)*)`, "m"))?.[1] ?? "";
  const scored = [...section("server").matchAll(/^ {2}- (\S+)$/gm)].map(([, name]) => name!);
  const unscored = [...section("not_scored").matchAll(/^ {2}- scenario: (\S+)\n {4}leg: server$/gm)].map(
    ([, name]) => name!,
  );
  return { scored, unscored };
}

/** Everything the revision requires, and what is not counted; or one scenario of it. The verdicts by scenario. */
export async function judge(
  url: string,
  revision: Revision,
  { scenario, authorization }: { scenario?: string; authorization?: string } = {},
): Promise<Map<string, Verdict>> {
  const folder = mkdtempSync(join(tmpdir(), "narthex-referee-"));
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
      assert.ok(known.has(other), `the referee ran what was not asked for: ${other}`);
    if (!scenario) agree([...verdicts.values()], output);
    return verdicts;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function run(args: string[], authorization: string | undefined): Promise<string> {
  const preload = authorization === undefined ? [] : ["--import", credentials];
  const env = { ...process.env, ...(authorization !== undefined && { REFEREE_AUTHORIZATION: authorization }) };
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...preload, join(conformance, "dist/index.js"), ...args], { env });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text) => (output += text));
    child.on("error", reject);
    // 0 and 1 say whether all has passed, which is read from the verdicts; anything else is no verdict.
    child.on("close", (code) =>
      code === 0 || code === 1 ? resolve(output) : reject(new Error(`exit code ${code}\n${output}`)),
    );
  });
}

/** Where the referee puts a scenario's checks. */
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
  assert.ok(found, `the referee has no verdict on ${scenario}:\n${output.slice(-4000)}`);
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

/** The summary that people read says the same. */
function agree(verdicts: Verdict[], output: string) {
  const said = [...output.matchAll(/^(✓|✗) (\S+): (\d+) passed, (\d+) failed$/gm)].map(([, sign, ...rest]) =>
    [sign, ...rest].join(" "),
  );
  const read = verdicts.map(({ scenario, passed, failed }) => {
    const failures = failed.filter(({ status }) => status === "FAILURE").length;
    return `${failures ? "✗" : "✓"} ${scenario} ${passed} ${failures}`;
  });
  assert.deepEqual(said.sort(), read.sort());
}

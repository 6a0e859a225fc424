// The official referee of the Model Context Protocol, @modelcontextprotocol/conformance.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { judge, requirements, type Revision, type Verdict } from "./referee/referee.ts";
import { startUpstream, type Upstream } from "./referee/upstream/server.ts";

/** The SDK has no tasks: those scenarios are for services that are not MCP servers. */
const isTask = (scenario: string) => scenario.startsWith("tasks-");
const failures = (verdicts: Iterable<Verdict>) =>
  [...verdicts].filter(({ failed }) => failed.length > 0).map(({ scenario, failed }) => `${scenario}\n  ${failed.join("\n  ")}`);

test("the_referee_asks_what_is_known", () => {
  const counted = (revision: Revision) => Object.values(requirements(revision)).map(({ length }) => length);
  assert.deepEqual(counted("2025-11-25"), [30, 3]);
  assert.deepEqual(counted("2026-07-28"), [37, 13]);
});

describe("the fixture by itself", () => {
  let upstream: Upstream;
  before(async () => void (upstream = await startUpstream()));
  after(() => upstream?.stop());

  for (const revision of ["2025-11-25", "2026-07-28"] as const) {
    test(`passes_at_${revision}`, async () => {
      const verdicts = await judge(upstream.url, revision);
      assert.deepEqual(failures([...verdicts.values()].filter(({ scenario }) => !isTask(scenario))), []);
    });
  }
});

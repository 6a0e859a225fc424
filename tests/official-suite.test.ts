// The official conformance suite of the Model Context Protocol, @modelcontextprotocol/conformance.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { failsAsExpected, failsUnexpectedly } from "./official-suite/expected.ts";
import { capabilities, startJobs } from "./official-suite/jobs.ts";
import { judge, requirements, type Revision, type Verdict } from "./official-suite/suite.ts";
import { startUpstream, type Upstream } from "./official-suite/upstream/server.ts";
import { acceptanceRecorded, makeKey, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import type { Service } from "./support/service.ts";

/** The SDK does not support tasks: these scenarios run against services that are not MCP servers. */
const isTask = (scenario: string) => scenario.startsWith("tasks-");

test("the_suite_has_the_expected_number_of_requirements", () => {
  const counted = (revision: Revision) => Object.values(requirements(revision)).map(({ length }) => length);
  assert.deepEqual(counted("2025-11-25"), [30, 3]);
  assert.deepEqual(counted("2026-07-28"), [37, 13]);
});

describe("the test server alone", { concurrency: 2 }, () => {
  let upstream: Upstream;
  before(async () => void (upstream = await startUpstream()));
  after(() => upstream?.stop());

  for (const revision of ["2025-11-25", "2026-07-28"] as const) {
    test(`passes_${revision}`, async () => {
      const verdicts = [...(await judge(upstream.url, revision)).values()];
      const failed = verdicts.filter(({ scenario, failed }) => !isTask(scenario) && failed.length > 0);
      assert.deepEqual(failed, []);
    });
  }
});

// The servers are beside each other: most of its time the suite waits.
describe("through the gateway, with a key", { concurrency: 4, timeout: 600_000 }, () => {
  let gateway: Gateway;
  let jobs: Service;
  let authorization: string;
  const upstreams: Upstream[] = [];
  before(async () => {
    gateway = await startGateway({ vars: { OAUTH: "true" } });
    jobs = await startJobs((id) => acceptanceRecorded(gateway, id));
    await register(gateway, "jobs", serviceAt(jobs.url, capabilities));
    for (const revisions of ["both", "legacy", "modern"] as const) {
      const upstream = await startUpstream({ revisions });
      upstreams.push(upstream);
      await register(gateway, revisions, {
        name: `Speaks ${revisions}`,
        type: "tool",
        transport: { kind: "mcp", url: upstream.url },
      });
    }
    authorization = `Bearer ${(await makeKey(gateway, "caller")).secret}`;
  });
  after(async () => {
    await gateway?.stop();
    for (const service of [jobs, ...upstreams]) await service?.stop();
  });

  for (const upstream of ["both", "legacy", "modern"] as const) {
    describe(`in front of a server that speaks ${upstream}`, { concurrency: 1 }, () => {
      for (const client of ["2025-11-25", "2026-07-28"] as const) {
        test(`${client}_in_front_of_a_server_that_speaks_${upstream}`, async () => {
          const url = `${gateway.url}/mcp/${upstream}`;
          const verdicts = await judge(url, client, { authorization });
          for (const [scenario, verdict] of verdicts) {
            if (isTask(scenario)) verdicts.delete(scenario);
            // The suite waits a fixed time, which a busy machine may exceed: a scenario that fails must fail twice.
            else if (failsUnexpectedly({ client, upstream }, verdict))
              verdicts.set(scenario, (await judge(url, client, { scenario, authorization })).get(scenario)!);
          }
          failsAsExpected({ client, upstream }, verdicts.values());
        });
      }
    });
  }

  test("tasks_of_2026-07-28_in_front_of_an_http_service", async () => {
    const client = "2026-07-28";
    const scenarios = requirements(client).unscored.filter(isTask);
    assert.equal(scenarios.length, 10);
    const verdicts: Verdict[] = [];
    const verdictOn = async (scenario: string) =>
      (await judge(`${gateway.url}/mcp/jobs`, client, { scenario, authorization })).get(scenario)!;
    // A few side by side: they spend most of their time waiting.
    const runs = async () => {
      for (let scenario = scenarios.shift(); scenario; scenario = scenarios.shift()) {
        const verdict = await verdictOn(scenario);
        // The suite ends a scenario after 30 s, whatever else the machine does; every other check counts at once.
        const isCut = verdict.failed.some(({ check }) => check === "scenario-timeout");
        verdicts.push(isCut ? await verdictOn(scenario) : verdict);
      }
    };
    await Promise.all([runs(), runs(), runs()]);
    failsAsExpected({ client, upstream: "http" }, verdicts);
  });
});

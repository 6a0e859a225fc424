// The official clients of the Model Context Protocol against the gateway, as programs use them: with a key, and signed
// in.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import type { Credentials, Doings, Kind } from "./clients/kinds.ts";
import { signsIn } from "./clients/person.ts";
import { interpreter, kinds as python } from "./clients/python.ts";
import { kinds as typescript } from "./clients/typescript.ts";
import { capabilities, startJobs } from "./official-suite/jobs.ts";
import { startUpstream, type Upstream } from "./official-suite/upstream/server.ts";
import { acceptanceRecorded, eventually, makeKey, register, serviceAt } from "./support/arrange.ts";
import { root } from "./support/configuration.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import type { Service } from "./support/service.ts";

let gateway: Gateway;
let jobs: Service;
let url: string;
const upstreams: { [revisions in "legacy" | "modern"]?: Upstream } = {};
const credentials: Record<string, Credentials> = {};

before(async () => {
  gateway = await startGateway({ vars: { OAUTH: "true", OAUTH_REGISTRATION: "true" } });
  jobs = await startJobs((id) => acceptanceRecorded(gateway, id));
  await register(gateway, "jobs", serviceAt(jobs.url, capabilities));
  url = `${gateway.url}/mcp/jobs`;
  for (const revisions of ["legacy", "modern"] as const) {
    const upstream = (upstreams[revisions] = await startUpstream({ revisions }));
    await register(gateway, revisions, {
      name: `Speaks ${revisions}`,
      type: "tool",
      transport: { kind: "mcp", url: upstream.url },
    });
  }
  credentials.key = { key: (await makeKey(gateway, "caller")).secret };
  const body = {
    name: "A program",
    grant_types: ["client_credentials"],
    scope: "contexts:create:* contexts:read contexts:cancel",
  };
  const { json } = await gateway.request("PUT", "/v1/clients/program", { body });
  credentials.oauth = { client_id: json.client_id, client_secret: json.secret, issuer: gateway.url };
});
after(async () => {
  await gateway?.stop();
  for (const service of [jobs, ...Object.values(upstreams)]) await service?.stop();
});

for (const [name, program, skip] of [
  ["mcp-client.mjs", process.execPath, false],
  ["mcp_client.py", interpreter, python[0]!.skip],
] as const) {
  test(`examples/${name}_lists_calls_and_shows_progress`, { skip: skip ?? false }, async () => {
    const env = { ...process.env, MCP_URL: url, MCP_KEY: (credentials.key as { key: string }).key };
    const { stdout } = await promisify(execFile)(program, [`examples/${name}`, "slow_compute", '{"seconds": 1}'], {
      cwd: root,
      env,
    });
    assert.match(stdout, new RegExp(`^2026-07-28: .*\\bgreet\\b.*\n(.*step \\d of 4\n)+\\{"seconds":1\\}\n$`));
  });
}

for (const mode of ["legacy", "auto"] as const) {
  test(`an_app_that_knows_only_the_address_signs_a_person_in_${mode}`, async () => {
    const key = (await makeKey(gateway, "caller")).secret;
    const client = await signsIn(gateway, url, key, mode);
    const result = await client.callTool({ name: "greet", arguments: { name: "Ada" } });
    assert.deepEqual(result.content, [{ type: "text", text: "Hello, Ada!" }]);
    await client.close();
  });
}

/** The endpoints, with their tools, and whether the service has received the cancellation of a call. */
type Place = {
  name: string;
  url(): string;
  slow: string;
  tools: string[];
  by: string[];
  isCancelled(label: string): boolean;
};

const places: Place[] = [
  {
    name: "an HTTP service",
    url: () => url,
    slow: "slow_compute",
    tools: capabilities.map(({ name }) => name),
    by: ["key", "oauth"],
    isCancelled(label) {
      const made = jobs.calls.find(({ json }) => json.parameters?.label === label);
      return jobs.calls.some(({ method, json }) => method === "DELETE" && json.context_id === made?.json.context_id);
    },
  },
  ...(["legacy", "modern"] as const).map((revisions) => ({
    name: `a server that speaks ${revisions}`,
    url: () => `${gateway.url}/mcp/${revisions}`,
    slow: "take_time",
    tools: ["confirm_delete", "greet", "take_time"],
    by: ["key"],
    isCancelled: (label: string) => upstreams[revisions]!.cancelled.has(label),
  })),
];

// Concurrently: they spend most of the time waiting.
describe("official clients", { concurrency: 4 }, () => {
  for (const place of places) {
    for (const kind of [...typescript, ...python] as Kind[]) {
      for (const by of place.by) {
        const label = `${kind.name}, by ${by}, ${place.name}`;
        describe(label, { skip: kind.skip ?? false }, () => {
          const does: <What extends keyof Doings>(what: What) => Promise<Doings[What]> = (what) =>
            kind.does(what, { url: place.url(), slow: place.slow, label }, credentials[by]!);

          test("lists_and_calls", async () => {
            const { revision, tools, said } = await does("list");
            assert.deepEqual([revision, said], [kind.revision, "Hello, Ada!"]);
            assert.deepEqual(
              place.tools.filter((name) => !tools.includes(name)),
              [],
            );
          });

          test("streams_progress", async () => {
            const { messages, result } = await does("progress");
            // In order; a slow client may receive only the latest.
            assert.match(messages.join(), /^(?=.)(step 0 of 4,?)?(step 1 of 4,?)?(step 2 of 4,?)?(step 3 of 4)?$/);
            assert.deepEqual(result, { seconds: 2 });
          });

          test("cancels", async () => {
            assert.deepEqual(await does("cancel"), { cancelled: true });
            await eventually(() => place.isCancelled(label));
          });

          test("elicits", async () => {
            assert.deepEqual(await does("elicit"), { asked: ["Delete notes.txt?"], result: { deleted: true } });
          });

          test(
            "runs_a_task",
            {
              skip: kind.tasks
                ? place.slow === "take_time" && "short calls do not become tasks"
                : "this client does not support tasks",
            },
            async () => {
              const { seen, result } = await does("task");
              assert.equal(seen[0], "created");
              assert.deepEqual(result, { seconds: 1, label: "a task" });
            },
          );
        });
      }
    }
  }
});

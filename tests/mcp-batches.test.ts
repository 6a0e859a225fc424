// Batches, in the revision that has them: limits apply to each message as if it had been sent alone.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { makeKey, obedient, register, serviceAt } from "./support/arrange.ts";
import { type Answer, type Gateway, startGateway } from "./support/gateway.ts";
import { claim, errorOf, message } from "./support/mcp.ts";
import { type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;
let running = 0;
let mostRunning = 0;

before(async () => {
  gateway = await startGateway({ elsewhere: true });
  service = await startService(async (call, response) => {
    mostRunning = Math.max(mostRunning, ++running);
    await obedient(call, response);
    running -= 1;
  });
  const other = { name: "other", durable: false };
  await register(gateway, "worker", serviceAt(service.url, [{ name: "work" }, other]));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const headers = { "mcp-protocol-version": "2025-03-26" };
const call = (capability = "work", parameters = {}) =>
  message("tools/call", { name: `worker__${capability}`, arguments: parameters });
const calls = (count: number, capability = "work", parameters = {}) =>
  Array.from({ length: count }, () => call(capability, parameters));
const send = (body: unknown, key = gateway.adminKey) => gateway.request("POST", "/mcp", { body, headers, key });

type Response = { id?: number; result?: any; error?: any };
const made = (answers: Answer[]) => answers.flatMap(({ json }) => json as Response[]);
const passed = (responses: Response[]) => responses.filter(({ result }) => result);

let limits = 0;
/** Uses a limit with a separate name, so that counts do not carry over. */
async function limited(limit: object, work: (name: string) => Promise<void>): Promise<void> {
  const name = `x${++limits}`;
  const body = { kind: "requests", ...(!("kind" in limit) && { window_seconds: 3600 }), ...limit };
  const answer = await gateway.request("PUT", `/v1/limits/${name}`, { body });
  assert.equal(answer.status, 201, answer.text);
  try {
    await work(name);
  } finally {
    await gateway.request("DELETE", `/v1/limits/${name}`, { headers: { "if-match": "*" } });
  }
}

test("a_batch_within_a_batch_is_refused", async () => {
  const before = service.calls.length;
  const answer = await send([calls(3), call()]);
  assert.deepEqual(
    answer.json.map(({ error }: Response) => error?.code),
    [-32600, undefined],
  );
  assert.equal(service.calls.length - before, 1);
});

test("each_call_of_a_batch_counts_towards_a_limit", async () => {
  for (const binds of [{ capability: "work" }, { service: "worker" }, { capability: "*" }]) {
    await limited({ quota: 40, binds }, async (name) => {
      const before = service.calls.length;
      const batches = [calls(32), calls(32), calls(32)];
      const answers = await Promise.all(batches.map((batch) => send(batch)));
      for (const [at, { status, json }] of answers.entries()) {
        assert.equal(status, 200);
        assert.deepEqual(
          json.map(({ id }: Response) => id),
          batches[at]!.map(({ id }) => id),
        );
      }
      const refused = made(answers).filter(({ error }) => error);
      assert.equal(service.calls.length - before, 40);
      assert.equal(passed(made(answers)).length, 40);
      assert.equal(refused.length, 56);
      for (const { error } of refused) {
        assert.equal(error.code, 429);
        assert.equal(error.data.code, "rate_limited");
        assert.deepEqual(error.data["violated-policies"], [name]);
        assert.ok(error.data.retry_after >= 1);
      }
    });
  }
});

test("each_request_of_a_batch_counts_towards_limits_of_the_caller", async () => {
  for (const bind of [(id: string) => ({ key: id }), () => ({ role: "bare" })]) {
    const { id, secret } = await makeKey(gateway, "bare", ["contexts:create:*", "contexts:read"]);
    await limited({ quota: 10, binds: bind(id) }, async (name) => {
      // Seven requests; notifications do not count, and invalid messages are not served.
      const notification = { jsonrpc: "2.0", method: "notifications/initialized" };
      const batch = [...calls(3), message("ping"), notification, message("tools/list"), 7, ...calls(2, "other")];
      const answer = await send(batch, secret);
      assert.equal(answer.status, 200, answer.text);
      assert.equal(passed(answer.json).length, 7);
      assert.ok(answer.headers.get("ratelimit")!.startsWith(`"${name}";r=3;`), answer.headers.get("ratelimit")!);
      const more = await send([...calls(2), message("ping"), message("ping"), call()], secret);
      assert.deepEqual(
        more.json.map(({ error }: Response) => error?.code),
        [undefined, undefined, undefined, 429, 429],
      );
      const alone = await send(call(), secret);
      assert.equal(alone.status, 429, alone.text);
    });
  }
});

test("a_single_call_counts_once", async () => {
  const { id, secret } = await makeKey(gateway, "bare", ["contexts:create:*"]);
  await limited({ quota: 3, binds: { key: id } }, async () => {
    const statuses = [];
    for (const body of [call(), [call()], call(), call()]) statuses.push((await send(body, secret)).status);
    assert.deepEqual(statuses, [200, 200, 200, 429]);
  });
});

test("the_calls_of_a_batch_use_one_permit_in_turn", async () => {
  await limited({ kind: "concurrent", quota: 1, binds: { capability: "work" } }, async () => {
    mostRunning = 0;
    const batch = [...calls(2, "work", { ms: 30 }), call("other"), ...calls(2, "work", { ms: 30 })];
    const answer = await send(batch);
    assert.equal(passed(answer.json).length, 5, answer.text);
    assert.equal(mostRunning, 1);
  });
});

test("concurrent_batches_do_not_exceed_a_concurrency_limit", async () => {
  await limited({ kind: "concurrent", quota: 2, binds: { service: "*" } }, async () => {
    mostRunning = 0;
    const answers = await Promise.all(Array.from({ length: 6 }, () => send(calls(4, "work", { ms: 20 }))));
    assert.ok(mostRunning <= 2, `${mostRunning} at a time`);
    for (const { error } of made(answers).filter(({ error }) => error)) assert.equal(error.code, 429);
    assert.ok(passed(made(answers)).length >= 4);
  });
});

test("mixed_limits_apply_across_isolates_and_batches", async () => {
  // The other is not durable, so another isolate may learn of a limit on it two seconds later.
  await limited({ quota: 25, binds: { capability: "work" } }, async () => {
    const before = service.calls.length;
    const mixed = () => Array.from({ length: 30 }, (_, at) => call(at % 2 ? "work" : "other"));
    const elsewhere = () => gateway.askElsewhere("POST", "/mcp", gateway.adminKey, mixed(), headers);
    const answers = await Promise.all([send(mixed()), elsewhere(), send(mixed()), elsewhere()]);
    for (const answer of answers) assert.equal(typeof answer === "number" ? answer : answer.status, 200);
    const seen = service.calls.slice(before).map(({ json }) => json.capability);
    assert.equal(seen.filter((name) => name === "work").length, 25);
    assert.equal(seen.filter((name) => name === "other").length, 60);
  });
});

test("only_the_revisions_that_have_batches_may_send_one", async () => {
  const ping = message("ping");
  const batch = [ping, { jsonrpc: "2.0", method: "notifications/initialized" }, message("nothing"), 7];
  const answer = await gateway.request("POST", "/mcp", {
    body: batch,
    headers: { "mcp-protocol-version": "2025-03-26" },
  });
  assert.equal(answer.status, 200, answer.text);
  assert.deepEqual(
    answer.json.map((one: any) => one.error?.code),
    [undefined, -32601, -32600],
  );
  assert.deepEqual(answer.json[0], { jsonrpc: "2.0", id: ping.id, result: {} });
  for (const headers of [{ "mcp-protocol-version": "2025-11-25" }, { "mcp-protocol-version": "2026-07-28" }]) {
    errorOf(await gateway.request("POST", "/mcp", { body: batch, headers }), 400, -32600);
  }
  const claiming = [message("tools/list", { _meta: claim })];
  errorOf(await gateway.request("POST", "/mcp", { body: claiming }), 400, -32600);
});

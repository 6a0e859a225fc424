import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { randomUUID } from "node:crypto";
import { startGateway, type Gateway } from "./support/gateway.ts";
import { echo, startService, type Service } from "./support/service.ts";

let gateway: Gateway;
let service: Service;

const register = () =>
  gateway.request("PUT", "/v1/services/echo", {
    body: {
      name: "Echo",
      type: "tool",
      transport: { kind: "http", url: service.url },
      capabilities: [{ name: "echo" }, { name: "look", durable: false }],
    },
    headers: { "if-none-match": "*" },
  });

before(async () => {
  gateway = await startGateway();
  service = await startService();
  assert.equal((await register()).status, 201);
});

after(async () => {
  await gateway.stop();
  await service.stop();
});

const create = (
  key: string,
  parameters: unknown,
  more: { headers?: Record<string, string>; key?: string; capability?: string } = {},
) =>
  gateway.request("POST", "/v1/contexts", {
    body: { capability: more.capability ?? "echo", parameters },
    headers: { "idempotency-key": key, ...more.headers },
    ...(more.key && { key: more.key }),
  });

const callsFor = (id: string) => service.calls.filter((call) => call.json.context_id === id).length;

test("a_repeat_gets_the_context_of_the_first_request", async () => {
  const key = randomUUID();
  const first = await create(`"${key}"`, { n: 1 });
  assert.equal(first.status, 200);
  assert.equal(first.headers.get("idempotency-replayed"), null);
  assert.equal(first.json.idempotency_key, key);
  // Unquoted, with other whitespace and order, it is the same request.
  const second = await gateway.request("POST", "/v1/contexts", {
    body: `{ "parameters" : {"n":1.0},\n "capability":"echo" }`,
    headers: { "idempotency-key": key, "content-type": "application/json" },
  });
  assert.equal(second.status, 200);
  assert.equal(second.headers.get("idempotency-replayed"), "true");
  assert.equal(second.json.id, first.json.id);
  assert.deepEqual(second.json.result, first.json.result);
  assert.equal(callsFor(first.json.id), 1);
});

test("another_body_under_the_same_key_is_refused", async () => {
  const key = randomUUID();
  await create(key, { n: 1 });
  const other = await create(key, { n: 2 });
  assert.equal(other.status, 422);
  assert.equal(other.json.code, "idempotency_key_reused");
});

test("a_malformed_key_is_refused", async () => {
  for (const key of ['"', '"a"b', "a b", '""', "a".repeat(256)]) {
    const answer = await create(key, {});
    assert.equal(answer.status, 400, key);
    assert.equal(answer.json.code, "invalid_request");
  }
});

test("many_requests_at_once_under_one_key_are_one_context_and_one_call", async () => {
  const key = randomUUID();
  const answers = await Promise.all(Array.from({ length: 200 }, () => create(key, { many: true })));
  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
  const ids = new Set(answers.map(({ json }) => json.id));
  assert.equal(ids.size, 1);
  assert.equal(answers.filter(({ headers }) => headers.get("idempotency-replayed") !== "true").length, 1);
  assert.equal(callsFor([...ids][0]), 1);
});

test("an_idempotency_key_belongs_to_its_sender", async () => {
  const key = randomUUID();
  const mine = await create(key, { n: 1 });
  const { json: other } = await gateway.request("POST", "/v1/keys", { body: { name: "other", role: "caller" } });
  const theirs = await create(key, { n: 2 }, { key: other.secret });
  assert.equal(theirs.status, 200);
  assert.notEqual(theirs.json.id, mine.json.id);
});

test("a_repeat_waits_for_a_context_that_still_runs", async () => {
  const key = randomUUID();
  let release = () => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  service.handler = async (call, response) => {
    await held;
    return echo(call, response);
  };
  const first = await create(key, { slow: 1 }, { headers: { prefer: "respond-async" } });
  assert.equal(first.status, 202);
  const asked = await create(key, { slow: 1 }, { headers: { prefer: "respond-async" } });
  assert.equal(asked.status, 202);
  assert.equal(asked.json.id, first.json.id);
  const waiting = create(key, { slow: 1 }, { headers: { prefer: "wait=20" } });
  release();
  const ended = await waiting;
  service.handler = echo;
  assert.equal(ended.status, 200);
  assert.equal(ended.json.status, "completed");
  assert.equal(callsFor(first.json.id), 1);
});

test("under_a_key_even_a_non_durable_context_is_stored_first", async () => {
  const key = randomUUID();
  const first = await create(key, { q: 1 }, { capability: "look" });
  const second = await create(key, { q: 1 }, { capability: "look" });
  assert.equal(second.headers.get("idempotency-replayed"), "true");
  assert.equal(second.json.id, first.json.id);
});

test("a_repeat_is_answered_even_when_the_service_is_gone", async () => {
  const key = randomUUID();
  const first = await create(key, { n: 1 });
  await gateway.request("DELETE", "/v1/services/echo", { headers: { "if-match": "*" } });
  const again = await create(key, { n: 1 });
  assert.equal(again.status, 200);
  assert.equal(again.json.id, first.json.id);
  assert.equal((await create(randomUUID(), { n: 1 })).status, 422);
  assert.equal((await register()).status, 201);
});

test("keys_outlive_the_object_that_holds_them", async () => {
  const key = randomUUID();
  const first = await create(key, { n: 1 });
  const store = `default/${first.json.id.slice(4, 8)}`;
  await gateway.evict("ContextStore", store);
  const again = await create(key, { n: 1 });
  assert.equal(again.headers.get("idempotency-replayed"), "true");
  assert.equal(again.json.id, first.json.id);
});

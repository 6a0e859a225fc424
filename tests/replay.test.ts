import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accepted, create, ended, makeKey, refused, register, serviceAt } from "./support/arrange.ts";
import { startGateway, type Gateway } from "./support/gateway.ts";
import { echo, inTurn, startService, status, type Service } from "./support/service.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway();
  service = await startService();
  await register(gateway, "work", serviceAt(service.url, [{ version: "1.2.0" }]));
});

after(async () => {
  await gateway.stop();
  await service.stop();
});

const replay = (id: string, options = {}) => gateway.request("POST", `/v1/contexts/${id}/replay`, options);

test("a_failed_context_is_recreated_from_its_original_request", async () => {
  service.handler = inTurn(status(400), echo);
  const body = {
    parameters: { n: 1.5 },
    metadata: { order: 7 },
    priority: "high",
    service: "work",
    version: "^1.1",
    timeout_seconds: 9,
  };
  const { json: first } = await create(gateway, body);
  assert.equal(first.status, "failed");
  const { status: code, json: again } = await replay(first.id);
  assert.equal(code, 200);
  assert.notEqual(again.id, first.id);
  assert.equal(again.status, "completed");
  assert.deepEqual(again.result, { n: 1.5 });
  for (const name of ["capability", "version", "service", "parameters", "priority", "metadata", "owner"]) {
    assert.deepEqual(again[name], first[name], name);
  }
  assert.equal(Date.parse(again.expires_at) - Date.parse(again.created_at), 9000);
});

test("a_replay_honors_prefer_and_accepts_an_idempotency_key", async () => {
  service.handler = echo;
  const { json: first } = await create(gateway, { parameters: { n: 2 } });
  const answer = await replay(first.id, { headers: { prefer: "respond-async", "idempotency-key": "again-1" } });
  assert.equal(answer.status, 202);
  const done = await ended(gateway, answer.json.id);
  const repeat = await replay(first.id, { headers: { "idempotency-key": "again-1" } });
  assert.equal(repeat.headers.get("idempotency-replayed"), "true");
  assert.equal(repeat.json.id, done.id);
});

test("a_context_that_has_not_ended_cannot_be_replayed", async () => {
  const context = await accepted(gateway, { run_at: new Date(Date.now() + 60_000).toISOString() });
  refused(await replay(context.id), 409, "conflict");
  await gateway.request("POST", `/v1/contexts/${context.id}/cancel`);
  assert.equal((await replay(context.id)).status, 200);
});

test("a_replay_requires_permission_to_see_and_create_the_context", async () => {
  const { json: first } = await create(gateway, {});
  const { secret } = await makeKey(gateway, "caller");
  refused(await replay(first.id, { key: secret }), 404, "not_found");
  const viewer = await makeKey(gateway, "viewer");
  refused(await replay(first.id, { key: viewer.secret }), 403, "permission_denied");
  refused(await replay("ctx_nothing"), 404, "not_found");
  refused(await replay(first.id, { body: { parameters: {} } }), 422, "validation_failed");
});

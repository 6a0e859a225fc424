// A service is down for a while: waiting clients are notified at once, asynchronous contexts run when it is back.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { accepted, create, ended, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, type Service, startService, status } from "./support/service.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway({ vars: { BREAKER_OPEN_MS: "2000" } });
  service = await startService();
});

after(async () => {
  await gateway.stop();
  await service.stop();
});

const read = async (id: string): Promise<any> => (await gateway.request("GET", `/v1/contexts/${id}`)).json;
const beat = (id: string, health: string) =>
  gateway.request("POST", `/v1/services/${id}/heartbeat`, { body: { status: health, lease_seconds: 60 } });

test("accepted_contexts_wait_for_a_service_that_is_offline", async () => {
  await register(gateway, "sleeper", serviceAt(service.url, [{ name: "sleep" }]));
  const run_at = new Date(Date.now() + 3000).toISOString();
  const { id } = await accepted(gateway, { capability: "sleep", run_at });
  assert.equal((await beat("sleeper", "offline")).status, 200);
  refused(await create(gateway, { capability: "sleep" }), 503, "no_service_available");
  const calls = service.calls.length;
  // It waits, and is not called.
  await pause(4500);
  const waiting = await read(id);
  assert.deepEqual([waiting.status, waiting.attempts, service.calls.length], ["queued", [], calls]);
  assert.equal((await beat("sleeper", "online")).status, 200);
  const context = await ended(gateway, id);
  assert.deepEqual([context.status, context.attempts.length], ["completed", 1]);
});

test("an_open_circuit_fails_awaited_contexts_and_delays_asynchronous_ones", async () => {
  await register(gateway, "broken", serviceAt(service.url, [{ name: "break", idempotent: true }]));
  service.handler = status(500);
  for (let call = 0; call < 5; call++)
    assert.equal((await create(gateway, { capability: "break" })).json.status, "failed");
  const calls = service.calls.length;
  const response = await create(gateway, { capability: "break" });
  assert.deepEqual([response.status, response.json.status, response.json.error.code], [200, "failed", "circuit_open"]);
  assert.deepEqual([response.json.attempts, service.calls.length], [[], calls]);
  // Its own way for what may run long, and for what is short.
  const long = await accepted(gateway, { capability: "break" });
  const short = await accepted(gateway, { capability: "break", timeout_seconds: 20 });
  // Both wait, and are not refused.
  await pause(500);
  for (const { id } of [long, short]) assert.equal((await read(id)).status, "queued");
  service.handler = echo;
  for (const { id } of [long, short]) {
    const context = await ended(gateway, id);
    assert.equal(context.status, "completed", JSON.stringify(context));
  }
  assert.equal((await gateway.request("GET", "/v1/services/broken")).json.status, "online");
});

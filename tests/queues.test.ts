// Contexts behind a slow one: the platform here, like a deployed one with a single consumer, does not begin a batch of
// a queue before the previous one has ended.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accepted, ended, eventually, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let slow: Service;
let quick: Service;
let release = () => {};
const released = new Promise<void>((resolve) => (release = resolve));

before(async () => {
  gateway = await startGateway();
  slow = await startService(async (call, response) => {
    await released;
    await echo(call, response);
  });
  quick = await startService(echo);
  await register(gateway, "slow", serviceAt(slow.url, [{ name: "dawdle", timeout_seconds: 300 }]));
  await register(gateway, "quick", serviceAt(quick.url));
});
after(async () => {
  release();
  await gateway?.stop();
  await slow?.stop();
  await quick?.stop();
});

const served = process.env.NARTHEX_TARGET === "serve" && "no context waits behind others of a batch";

test("a_slow_context_delays_no_schedule_and_the_cron_runs_contexts_behind_it", { skip: served }, async () => {
  const tenant = await gateway.request("PUT", "/v1/tenants/other", { body: { name: "Other" } });
  assert.equal(tenant.status, 201, tenant.text);
  const key = tenant.json.admin_key;
  const service = await gateway.request("PUT", "/v1/services/quick", { body: serviceAt(quick.url), key });
  assert.equal(service.status, 201, service.text);

  // It occupies the only consumer until it is released.
  const held = await accepted(gateway, { capability: "dawdle" });
  await slow.call(0);
  const waiting = await accepted(gateway, { capability: "work", parameters: { n: 1 } }, { key });
  const context = { capability: "work", parameters: { n: 2 } };
  const planned = await gateway.request("PUT", "/v1/schedules/ticks", { body: { interval_seconds: 10, context } });
  assert.equal(planned.status, 201, planned.text);
  const { last_runs } = await eventually(async () => {
    const { json } = await gateway.request("GET", "/v1/schedules/ticks");
    return json.last_runs.length > 0 && json;
  });
  await gateway.request("DELETE", "/v1/schedules/ticks", { headers: { "if-match": "*" } });
  assert.deepEqual([last_runs[0].planned_at, last_runs[0].outcome], [planned.json.next_runs[0], "created"]);

  // By now another tenant's context has waited for more than 10 s.
  const still = await gateway.request("GET", `/v1/contexts/${waiting.id}`, { key });
  assert.equal(still.json.status, "queued");
  await gateway.runCron();
  assert.equal((await ended(gateway, waiting.id, { key })).status, "completed");
  assert.equal((await gateway.request("GET", `/v1/contexts/${held.id}`)).json.status, "executing");
  release();
  assert.equal((await ended(gateway, held.id)).status, "completed");
});

// What the gateway does when the platform cannot deliver a call to an object.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, eventually, makeKey, register, serviceAt } from "./support/arrange.ts";
import { connect, connecting } from "./support/connection.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, type Service, startService } from "./support/service.ts";
import { openEvents } from "./support/socket.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway({ objectsFail: true, timeScale: 0.2, vars: { CONTEXT_SHARDS: "1", HUB_SOCKETS: "1" } });
  service = await startService(echo);
  await register(gateway, "worker", serviceAt(service.url, [{ idempotent: true }]));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

type Failing = { containing: string; times: number; properties?: Record<string, boolean>; acts?: boolean };

async function fail(failing: Failing): Promise<void> {
  const body = { properties: {}, ...failing };
  assert.equal((await gateway.request("POST", "/failing", { body, contract: false })).status, 200);
}

/** How many calls were made that were to fail. */
async function calls(): Promise<number> {
  return (await gateway.request("GET", "/failing", { contract: false })).json.calls;
}

/** The text by which the calls of one kind of request are known. */
const ADMIT = '{"admit":';
const COMMIT = '{"commit":';
const ALWAYS = 1_000;

test("an_overloaded_store_is_not_called_again", async () => {
  await fail({ containing: ADMIT, times: ALWAYS, properties: { overloaded: true, retryable: true } });
  const answer = await gateway.request("POST", "/v1/contexts", { body: { capability: "work", parameters: {} } });
  assert.equal(answer.status, 500, answer.text);
  assert.equal(answer.json.code, "internal");
  assert.equal(await calls(), 1);
});

test("an_admission_that_a_lost_connection_has_swallowed_is_sent_once_more", async () => {
  await fail({ containing: ADMIT, times: 1, properties: { retryable: true } });
  const { json } = await create(gateway, { parameters: { a: 1 } });
  assert.equal(json.status, "completed");
  assert.equal(await calls(), 2);
});

test("what_the_platform_itself_repeats_is_sent_once_more_and_not_five_times", async () => {
  await fail({ containing: COMMIT, times: 2, properties: { retryable: true } });
  const { json } = await create(gateway, { parameters: { a: 1 } });
  assert.equal(json.status, "completed");
  // The first attempt could not be reported; its lease expired.
  assert.equal(json.attempts.length, 2);
  assert.equal(await calls(), 3);
});

test("an_outcome_reaches_its_store_after_failures_that_the_platform_does_not_repeat", async () => {
  await fail({ containing: COMMIT, times: 3 });
  const { json } = await create(gateway, { parameters: { a: 1 } });
  assert.equal(json.status, "completed");
  assert.equal(json.attempts.length, 1);
  assert.equal(await calls(), 4);
});

test("an_outcome_for_an_overloaded_store_is_left_to_the_next_lease", async () => {
  await fail({ containing: COMMIT, times: 1, properties: { overloaded: true } });
  const { json } = await create(gateway, { parameters: { a: 1 } });
  assert.equal(json.status, "completed");
  assert.equal(json.attempts.length, 2);
  assert.equal(await calls(), 2);
});

test("a_context_is_offered_to_its_worker_while_the_lane_of_its_service_is_overloaded", async () => {
  const single = { ...serviceAt(service.url, [{ name: "solo" }]), limits: { max_concurrency: 1 } };
  await register(gateway, "single", single);
  // The pauses between these calls are longer than an offer that is not renewed.
  await fail({ containing: '"acquire":', times: 5, properties: { overloaded: true } });
  const { json } = await create(gateway, { capability: "solo", parameters: { a: 1 } });
  assert.equal(json.status, "completed");
  assert.equal(json.attempts.length, 1);
  assert.equal(await calls(), 6);
});

test("work_that_a_connected_service_has_finished_is_not_handed_over_again_when_the_reply_was_lost", async () => {
  await register(gateway, "connected", connecting([{ name: "once" }]));
  const { secret } = await makeKey(gateway, "service", ["services:connect:connected"]);
  const connection = await connect(gateway, "connected", secret);
  connection.onWork = ({ delivery, work }) => connection.send({ type: "result", delivery, result: work.parameters });
  connection.ready(1);
  await fail({ containing: '"hand":', times: 2, acts: true });
  const { json } = await create(gateway, { capability: "once", parameters: { n: 1 } });
  assert.deepEqual([json.status, json.result], ["completed", { n: 1 }]);
  await eventually(async () => (await calls()) === 3);
  // Messages of a connection arrive in order, so a second delivery of the first work would come before this one.
  const { json: next } = await create(gateway, { capability: "once", parameters: { n: 2 } });
  assert.equal(next.status, "completed");
  const received = connection.messages.filter(({ type }) => type === "work").map(({ work }) => work.parameters.n);
  assert.deepEqual(received, [1, 2]);
  assert.equal((await gateway.request("GET", `/v1/contexts/${json.id}`)).json.attempts.length, 1);
  connection.close();
});

test("the_alarm_of_the_hub_reaches_a_shard_that_could_not_be_reached", async () => {
  // The hub has room for the first socket, so the second is at a shard.
  const sockets = [await openEvents(gateway), await openEvents(gateway)];
  await fail({ containing: '{"push":', times: 5 });
  const { json: context } = await create(gateway);
  for (const socket of sockets) await socket.next((event) => event.subject === context.id);
  // Five failures are one call and its retries. The sixth call is the alarm's.
  assert.ok((await calls()) >= 6);
  assert.equal(gateway.logs.filter((line) => line.startsWith("panicked at")).length, 0);
  for (const socket of sockets) socket.close();
});

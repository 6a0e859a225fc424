// Connected services: a service receives its work on a WebSocket, across failures of either side.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { accepted, create, ended, eventually, makeKey, pointers, refused, register } from "./support/arrange.ts";
import { type Connection, connect, connecting } from "./support/connection.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { UpgradeRefused } from "./support/socket.ts";

let gateway: Gateway;
before(async () => {
  gateway = await startGateway();
});
after(async () => {
  await gateway?.stop();
});

const waits = { headers: { prefer: "wait=30" } };

/** Registers a connected service with one capability of the same name; returns its key. */
async function made(id: string, capability: object = {}, more: object = {}): Promise<string> {
  await register(gateway, id, connecting([{ name: id, ...capability }], more));
  return (await makeKey(gateway, "service", [`services:connect:${id}`])).secret;
}

const ask = (capability: string, parameters: object = {}, more: object = {}) =>
  create(gateway, { capability, parameters, ...more }, waits);

const status = async (id: string) => (await gateway.request("GET", `/v1/services/${id}`)).json.status;

/** Answers work with its parameters by default. */
function echoes(connection: Connection) {
  connection.onWork = ({ delivery, work }) => connection.send({ type: "result", delivery, result: work.parameters });
}

test("a_service_receives_its_work_over_its_own_connection", async () => {
  const key = await made("taken");
  const connection = await connect(gateway, "taken", key);
  const welcome = await connection.next("welcome");
  assert.deepEqual([welcome.service, welcome.grace_seconds, welcome.ping_seconds], ["taken", 2, 20]);
  connection.ready(4);
  const asked = ask("taken", { text: "hi" });
  const { delivery, work } = await connection.next("work");
  assert.deepEqual(
    [work.capability, work.version, work.parameters, work.attempt],
    ["taken", "1.0.0", { text: "hi" }, 1],
  );
  assert.match(work.callback_url, /\/v1\/callbacks\//);
  assert.match(work.traceparent, /^00-/);
  assert.ok(Date.parse(work.deadline) > Date.now());
  connection.send({ type: "result", delivery, result: { done: true } });
  const { json } = await asked;
  assert.deepEqual([json.status, json.result, json.id], ["completed", { done: true }, work.context_id]);
  assert.deepEqual(
    json.attempts.map((one: any) => [one.service, one.outcome, one.status_code]),
    [["taken", "succeeded", null]],
  );
  assert.deepEqual(await connection.next("done"), { type: "done", delivery, late: false });
  // Reported again, because the first report was lost.
  connection.send({ type: "result", delivery, result: { done: true } });
  assert.deepEqual(await connection.next("done"), { type: "done", delivery, late: true });
  connection.close();
});

test("contexts_created_before_a_connection_wait_in_the_queue", async () => {
  const key = await made("early", { timeout_seconds: 60 });
  const waited = ask("early", { n: 1 });
  const { id } = await accepted(gateway, { capability: "early", parameters: { n: 2 } });
  await eventually(async () => (await status("early")) === "offline");
  await eventually(async () => {
    const { json } = await gateway.request("GET", "/v1/contexts?capability=early&status=queued");
    return json.data.length === 2;
  });
  const connection = await connect(gateway, "early", key);
  echoes(connection);
  connection.ready(1);
  assert.equal((await waited).json.status, "completed");
  assert.equal((await ended(gateway, id)).status, "completed");
  await eventually(async () => (await status("early")) === "online");
  connection.close();
  await eventually(async () => (await status("early")) === "offline");
});

test("a_context_without_a_connection_ends_at_its_deadline", async () => {
  await made("absent");
  const { json } = await ask("absent", {}, { timeout_seconds: 2 });
  assert.deepEqual([json.status, json.error.code], ["timed_out", "deadline_exceeded"]);
});

test("work_goes_to_connections_with_room_and_never_beyond_their_credit", async () => {
  const key = await made("shared", { timeout_seconds: 60 });
  const connections = await Promise.all([connect(gateway, "shared", key), connect(gateway, "shared", key)]);
  const most = [0, 0];
  const inFlight = [0, 0];
  for (const [at, connection] of connections.entries()) {
    connection.onWork = async ({ delivery, work }) => {
      inFlight[at]! += 1;
      most[at] = Math.max(most[at]!, inFlight[at]!);
      await pause(20);
      inFlight[at]! -= 1;
      connection.send({ type: "result", delivery, result: work.parameters });
    };
    connection.ready(at === 0 ? 1 : 3);
  }
  const answers = await Promise.all(Array.from({ length: 60 }, (_, n) => ask("shared", { n })));
  for (const { json } of answers) assert.equal(json.status, "completed", JSON.stringify(json.error));
  assert.ok(most[0]! <= 1 && most[1]! <= 3, String(most));
  assert.ok(most[0]! === 1 && most[1]! > 1, String(most));
  for (const connection of connections) connection.close();
});

test("the_limit_of_the_service_counts_over_all_its_connections", async () => {
  const key = await made("limited", { timeout_seconds: 60 }, { limits: { max_concurrency: 2 } });
  const connection = await connect(gateway, "limited", key);
  let [most, inFlight] = [0, 0];
  connection.onWork = async ({ delivery }) => {
    most = Math.max(most, (inFlight += 1));
    await pause(20);
    inFlight -= 1;
    connection.send({ type: "result", delivery, result: null });
  };
  connection.ready(10);
  const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => ask("limited", { n })));
  assert.deepEqual([...new Set(answers.map(({ json }) => json.status))], ["completed"]);
  assert.equal(most, 2);
  connection.close();
});

test("an_error_is_retried_only_where_that_is_safe", async () => {
  const key = await made("failing");
  const safe = await made("failing-safe", { idempotent: true });
  const [one, other] = [await connect(gateway, "failing", key), await connect(gateway, "failing-safe", safe)];
  for (const connection of [one, other]) {
    connection.onWork = ({ delivery, work }) => {
      if (work.attempt > 1) return connection.send({ type: "result", delivery, result: work.attempt });
      connection.send({ type: "error", delivery, error: { code: "busy", message: "Not now.", retryable: true } });
    };
    connection.ready(1);
  }
  const { json: failed } = await ask("failing");
  assert.deepEqual([failed.status, failed.error.code, failed.error.message], ["failed", "upstream_error", "Not now."]);
  const { json: again } = await ask("failing-safe");
  assert.deepEqual([again.status, again.result], ["completed", 2]);
  one.close();
  other.close();
});

test("a_result_is_validated_against_its_output_schema", async () => {
  const key = await made("typed", { output_schema: { type: "object", required: ["words"] } });
  const connection = await connect(gateway, "typed", key);
  connection.onWork = ({ delivery }) => connection.send({ type: "result", delivery, result: { letters: 1 } });
  connection.ready(1);
  const { json } = await ask("typed");
  assert.deepEqual([json.status, json.error.code], ["failed", "upstream_invalid_response"]);
  connection.close();
});

test("progress_is_published_and_input_is_requested", async () => {
  const key = await made("asking", { timeout_seconds: 60 });
  const connection = await connect(gateway, "asking", key);
  connection.ready(1);
  const { id } = await accepted(gateway, { capability: "asking" });
  const first = await connection.next("work");
  connection.send({ type: "progress", delivery: first.delivery, progress: { percent: 40 } });
  const context = await eventually(async () => {
    const { json } = await gateway.request("GET", `/v1/contexts/${id}`);
    return json.progress && json;
  });
  assert.deepEqual([context.status, context.progress.data], ["executing", { percent: 40 }]);
  connection.send({
    type: "ask",
    delivery: first.delivery,
    input_required: { message: "Whom?", schema: { type: "string" } },
  });
  await connection.next("done");
  const answered = await gateway.request("POST", `/v1/contexts/${id}/input`, {
    body: { input: "Ada" },
    headers: { prefer: "respond-async" },
  });
  assert.equal(answered.status, 202, answered.text);
  const { delivery, work } = await connection.next("work");
  assert.equal(work.input, "Ada");
  assert.notEqual(delivery, first.delivery);
  connection.send({ type: "result", delivery, result: `Hello, ${work.input}!` });
  assert.equal((await ended(gateway, id)).result, "Hello, Ada!");
  connection.close();
});

test("cancelling_a_context_reaches_its_connection", async () => {
  const key = await made("stopped", { timeout_seconds: 60 });
  const connection = await connect(gateway, "stopped", key);
  connection.ready(1);
  const { id } = await accepted(gateway, { capability: "stopped" });
  const { delivery } = await connection.next("work");
  await eventually(async () => {
    const cancelled = await gateway.request("POST", `/v1/contexts/${id}/cancel`);
    return cancelled.status === 200 || cancelled.status === 409;
  });
  assert.deepEqual(await connection.next("cancel"), { type: "cancel", delivery, reason: "cancelled" });
  // It has room again.
  echoes(connection);
  assert.equal((await ask("stopped")).json.status, "completed");
  connection.close();
});

test("a_result_by_the_callback_url_frees_credit_too", async () => {
  const key = await made("calling");
  const connection = await connect(gateway, "calling", key);
  connection.ready(1);
  const asked = ask("calling");
  const { work } = await connection.next("work");
  const called = await gateway.request("POST", new URL(work.callback_url).pathname, { key: null, body: { result: 1 } });
  assert.equal(called.status, 200, called.text);
  assert.equal((await asked).json.result, 1);
  echoes(connection);
  assert.equal((await ask("calling", { n: 2 })).json.status, "completed");
  connection.close();
});

test("a_connection_that_resumes_in_time_loses_nothing", async () => {
  const key = await made("resumed", { timeout_seconds: 60 }, { transport: { kind: "socket", grace_seconds: 30 } });
  const first = await connect(gateway, "resumed", key);
  first.ready(2);
  const asked = [ask("resumed", { n: 1 }), ask("resumed", { n: 2 })];
  const works = [await first.next("work"), await first.next("work")];
  first.terminate();
  const second = await connect(gateway, "resumed", key);
  second.ready(2, [...works.map(({ delivery }) => delivery), "ctx_unknown.1"]);
  assert.deepEqual(await second.next("cancel"), { type: "cancel", delivery: "ctx_unknown.1", reason: "over" });
  for (const { delivery, work } of works) second.send({ type: "result", delivery, result: work.parameters.n });
  assert.deepEqual(
    (await Promise.all(asked)).map(({ json }) => [json.result, json.attempts.length]),
    [
      [1, 1],
      [2, 1],
    ],
  );
  second.close();
});

test("work_lost_with_a_connection_is_unknown_unless_it_is_idempotent", async () => {
  const retry = { max_attempts: 5, base_ms: 1, cap_ms: 10 };
  const key = await made("lost", { timeout_seconds: 60 }, { retry });
  const safe = await made("lost-safe", { timeout_seconds: 60, idempotent: true }, { retry });
  const [one, other] = [await connect(gateway, "lost", key), await connect(gateway, "lost-safe", safe)];
  one.ready(1);
  other.ready(1);
  const asked = [ask("lost"), ask("lost-safe", { n: 7 })];
  await Promise.all([one.next("work"), other.next("work")]);
  one.terminate();
  other.terminate();
  const [again, safely] = [await connect(gateway, "lost", key), await connect(gateway, "lost-safe", safe)];
  echoes(again);
  echoes(safely);
  again.ready(1);
  safely.ready(1);
  const [unknown, tried] = (await Promise.all(asked)).map(({ json }) => json) as [any, any];
  assert.deepEqual([unknown.status, unknown.error.code, again.count("work")], ["failed", "outcome_unknown", 0]);
  assert.deepEqual([tried.status, tried.result, tried.attempts.length], ["completed", { n: 7 }, 2]);
  again.close();
  safely.close();
});

test("connections_outlive_the_lane_that_holds_them", async () => {
  const key = await made("asleep", { timeout_seconds: 60 });
  const connection = await connect(gateway, "asleep", key);
  connection.ready(2);
  const asked = ask("asleep", { n: 1 });
  const { delivery } = await connection.next("work");
  await gateway.evict("ServiceLane", "default/asleep");
  // It knows its connection, the credit, and the deliveries under way.
  const second = ask("asleep", { n: 2 });
  const next = await connection.next("work");
  connection.send({ type: "result", delivery, result: 1 });
  connection.send({ type: "result", delivery: next.delivery, result: 2 });
  assert.deepEqual(
    (await Promise.all([asked, second])).map(({ json }) => json.result),
    [1, 2],
  );
  connection.close();
});

test("a_lane_that_loses_its_connections_and_state_resumes_deliveries", async () => {
  const key = await made("redeployed", { timeout_seconds: 60 }, { transport: { kind: "socket", grace_seconds: 30 } });
  const connection = await connect(gateway, "redeployed", key);
  connection.ready(1);
  const asked = ask("redeployed");
  const { delivery } = await connection.next("work");
  await gateway.evict("ServiceLane", "default/redeployed", { webSockets: "close" });
  await connection.closed;
  const again = await connect(gateway, "redeployed", key);
  again.ready(1, [delivery]);
  again.send({ type: "result", delivery, result: "kept" });
  assert.deepEqual(await again.next("done"), { type: "done", delivery, late: false });
  assert.equal((await asked).json.result, "kept");
  again.close();
});

test("a_lane_that_lost_its_connections_gives_up_deliveries_that_are_not_resumed", async () => {
  const key = await made("forsaken", { timeout_seconds: 120 });
  const connection = await connect(gateway, "forsaken", key);
  connection.ready(1);
  const asked = ask("forsaken");
  await connection.next("work");
  await gateway.evict("ServiceLane", "default/forsaken", { webSockets: "close" });
  await connection.closed;
  const check = await gateway.request("POST", "/v1/services/forsaken/check");
  assert.equal(check.json.error, "not_connected");
  const { json } = await asked;
  assert.deepEqual([json.status, json.error?.code], ["failed", "outcome_unknown"], JSON.stringify(json.history));
});

test("a_deleted_service_finishes_its_work", async () => {
  const key = await made("deleted", { timeout_seconds: 60 });
  const connection = await connect(gateway, "deleted", key);
  connection.ready(1);
  const asked = ask("deleted");
  const { delivery } = await connection.next("work");
  assert.equal((await gateway.request("DELETE", "/v1/services/deleted", { headers: { "if-match": "*" } })).status, 204);
  connection.send({ type: "result", delivery, result: "finished" });
  assert.equal((await asked).json.result, "finished");
  assert.equal((await connection.closed).code, 4404);
});

test("a_refused_connection_reports_the_reason", async () => {
  const key = await made("guarded");
  const other = await made("guarded-other");
  const refusal = async (service: string, secret: string | null, protocols?: string[]) => {
    const error = await connect(gateway, service, secret, protocols).then(
      () => undefined,
      (error: unknown) => error,
    );
    assert.ok(error instanceof UpgradeRefused, String(error));
    return [error.status, error.json.code];
  };
  assert.deepEqual(await refusal("guarded", other), [403, "permission_denied"]);
  assert.deepEqual(await refusal("guarded", null), [401, "unauthenticated"]);
  assert.deepEqual(await refusal("guarded", key, ["other"]), [400, "invalid_request"]);
  assert.deepEqual(await refusal("guarded", key, []), [400, "invalid_request"]);
  refused(await gateway.request("GET", "/v1/services/guarded/connect", { key }), 426, "upgrade_required");
  refused(await gateway.request("GET", "/v1/services/unheard-of/connect"), 404, "not_found");
  const called = {
    name: "Called",
    type: "tool",
    transport: { kind: "http", url: "http://127.0.0.1:9/" },
    capabilities: [{ name: "called" }],
  };
  await register(gateway, "called", called);
  refused(await gateway.request("GET", "/v1/services/called/connect"), 409, "conflict");
});

test("settings_without_meaning_for_a_connected_service_are_refused", async () => {
  const document = connecting([{ name: "odd" }], {
    credentials: { header: "Authorization", value: "x" },
    health: { path: "/" },
    transport: { kind: "socket", url: "https://example.com/", grace_seconds: 301 },
  });
  const answer = await gateway.request("PUT", "/v1/services/odd", { body: document });
  const found = pointers(refused(answer, 422, "validation_failed"));
  assert.deepEqual(found, ["#/credentials", "#/health", "#/transport/grace_seconds", "#/transport/url"]);
});

test("an_unreadable_message_is_reported_and_one_that_is_too_large_ends_the_connection", async () => {
  const key = await made("garbled");
  const connection = await connect(gateway, "garbled", key);
  connection.send("{");
  assert.equal((await connection.next("fault")).errors.length, 1);
  connection.send({ type: "ready", credit: -1 });
  assert.deepEqual(
    (await connection.next("fault")).errors.map((fault: any) => fault.pointer),
    ["#/credit"],
  );
  connection.send("ping");
  await connection.ponged;
  connection.send({ type: "result", delivery: "x", result: "x".repeat(1024 * 1024) });
  assert.equal((await connection.closed).code, 1009);
});

test("a_connection_reports_its_health_and_a_check_sees_whether_there_is_one", async () => {
  const key = await made("checked");
  const check = async () => (await gateway.request("POST", "/v1/services/checked/check")).json;
  assert.deepEqual([(await check()).healthy, (await check()).error], [false, "not_connected"]);
  const connection = await connect(gateway, "checked", key);
  assert.deepEqual([(await check()).healthy, (await check()).error], [true, null]);
  connection.send({ type: "status", status: "degraded" });
  await eventually(async () => (await status("checked")) === "degraded");
  connection.close();
});

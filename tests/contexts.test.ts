// POST, GET and cancel of contexts: preferences, the reported lifecycle, deadlines, scheduled starts.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  accepted,
  create,
  ended,
  eventually,
  finalStates,
  makeKey,
  obedient,
  refused,
  register,
  serviceAt,
} from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { tolerance } from "./support/patience.ts";
import { echo, hang, hold, inTurn, type Service, slow, startService, status } from "./support/service.ts";
import { openEvents } from "./support/socket.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway();
  service = await startService(obedient);
  const capabilities = [
    { version: "1.2.0" },
    { version: "2.0.0" },
    { name: "again", idempotent: true },
    { name: "look", durable: false },
    { name: "brief", timeout_seconds: 5 },
  ];
  await register(gateway, "worker", serviceAt(service.url, capabilities));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const statuses = (context: any) => context.history.map((step: any) => step.status);

test("a_context_is_created_run_and_returned_in_full", async () => {
  const metadata = { ticket: "T-1", nested: [1, { a: null }] };
  const answer = await create(gateway, {
    service: "worker",
    version: "^1.0",
    parameters: { city: "Łódź", n: 1.5 },
    priority: "high",
    source: "system",
    timeout_seconds: 30,
    metadata,
  });
  assert.equal(answer.status, 200);
  const context = answer.json;
  assert.match(context.id, /^ctx_[a-z0-9]+$/);
  const { capability, version, service: by, parameters, priority, source, tenant, owner, error } = context;
  assert.deepEqual(
    { capability, version, by, parameters, priority, source, tenant, owner, error },
    {
      capability: "work",
      version: "1.2.0",
      by: "worker",
      parameters: { city: "Łódź", n: 1.5 },
      priority: "high",
      source: "system",
      tenant: "default",
      owner: "key:admin",
      error: null,
    },
  );
  assert.deepEqual(context.metadata, metadata);
  assert.equal(context.status, "completed");
  assert.deepEqual(context.result, { city: "Łódź", n: 1.5 });
  assert.equal(Date.parse(context.expires_at) - Date.parse(context.created_at), 30_000);
  const stored = await gateway.request("GET", `/v1/contexts/${context.id}`);
  assert.deepEqual(stored.json, context);
  assert.equal(stored.headers.get("cache-control"), "no-store");
});

test("the_history_has_every_step_in_order_and_each_attempt_is_published", async () => {
  service.handler = inTurn(status(503), status(502), slow(60));
  const { json: context } = await create(gateway, { capability: "again" });
  service.handler = obedient;
  assert.deepEqual(statuses(context), [
    "created",
    "validated",
    "queued",
    "executing",
    "queued",
    "executing",
    "queued",
    "executing",
    "completed",
  ]);
  const times = context.history.map((step: any) => Date.parse(step.at));
  assert.deepEqual(
    times,
    times.toSorted((a: number, b: number) => a - b),
  );
  const attempts = context.attempts.map(({ number, outcome, status_code, service: by }: any) => [
    number,
    outcome,
    status_code,
    by,
  ]);
  assert.deepEqual(attempts, [
    [1, "failed", 503, "worker"],
    [2, "failed", 502, "worker"],
    [3, "succeeded", 200, "worker"],
  ]);
  for (const { started_at, ended_at } of context.attempts) assert.ok(Date.parse(started_at) <= Date.parse(ended_at));
  const whole = Date.parse(context.updated_at) - Date.parse(context.attempts[0].started_at);
  assert.equal(context.execution_time_ms, whole);
  assert.ok(whole >= 55, `${whole} ms`);
});

for (const [prefer, ms, expected, applied] of [
  [undefined, 0, 200, null],
  ["wait=50", 0, 200, "wait=50"],
  ["wait=50", 300, 200, "wait=50"],
  ["wait=1", 2500, 202, "wait=1"],
  ["wait=0", 300, 202, "wait=0"],
  ["respond-async", 300, 202, "respond-async"],
  ["respond-async", 0, 202, "respond-async"],
  // RFC 7240 §4.3: asynchronous only if it takes longer than the wait.
  ["respond-async, wait=50", 300, 200, "wait=50"],
  ["respond-async, wait=1", 2500, 202, "respond-async, wait=1"],
  ["handling=lenient, wait=soon", 0, 200, null],
] as const) {
  test(`preferring_${prefer}_of_a_service_that_takes_${ms}_ms_is_answered_${expected}`, async (t) => {
    // A response before the result comes while the service still works, however busy the machine is.
    const busy = expected === 202 ? hold(t, service, obedient, obedient) : undefined;
    const answer = await create(gateway, { parameters: { ms } }, { headers: prefer ? { prefer } : {} });
    service.handler = obedient;
    assert.equal(answer.status, expected, answer.text);
    assert.equal(answer.headers.get("preference-applied"), applied);
    if (expected === 200) {
      assert.equal(answer.json.status, "completed");
      return;
    }
    assert.equal(finalStates.includes(answer.json.status), false);
    assert.ok(Number(answer.headers.get("retry-after")) >= 1);
    const location = answer.headers.get("location");
    assert.equal(location, `/v1/contexts/${answer.json.id}`);
    // Stored before the response, and completed without a waiting client.
    assert.equal((await gateway.request("GET", location)).status, 200);
    busy?.open();
    const context = await ended(gateway, answer.json.id);
    assert.equal(context.status, "completed");
    assert.deepEqual(context.result, { ms });
  });
}

test("without_a_preference_the_wait_is_ten_seconds", async (t) => {
  const busy = hold(t, service, obedient);
  const began = Date.now();
  const answer = await create(gateway, { parameters: {} });
  const took = Date.now() - began;
  service.handler = obedient;
  busy.open();
  assert.equal(answer.status, 202);
  // Its deadline is after 30 s.
  assert.ok(took > 9_500 && took < 28_000, `${took} ms`);
  assert.equal((await ended(gateway, answer.json.id)).status, "completed");
});

test("a_wait_beyond_the_gateways_own_bound_is_shortened_and_reported", async () => {
  const answer = await create(gateway, {}, { headers: { prefer: "wait=99999" } });
  const [, seconds] = answer.headers.get("preference-applied")!.match(/^wait=(\d+)$/)!;
  assert.ok(Number(seconds) < 99_999);
});

test("a_long_poll_ends_with_the_context_for_all_waiting_clients", async () => {
  const { id } = await accepted(gateway, { parameters: { ms: 800 } });
  const began = Date.now();
  const poll = () => gateway.request("GET", `/v1/contexts/${id}`, { headers: { prefer: "wait=100" } });
  const seen = await Promise.all(Array.from({ length: 8 }, poll));
  assert.ok(Date.now() - began < 90_000);
  for (const { json } of seen) assert.equal(json.status, "completed");
});

test("a_long_poll_that_ends_first_shows_the_live_state", async (t) => {
  const busy = hold(t, service, obedient);
  const { id } = await accepted(gateway);
  const answer = await gateway.request("GET", `/v1/contexts/${id}`, { headers: { prefer: "wait=1" } });
  service.handler = obedient;
  busy.open();
  assert.equal(answer.status, 200);
  assert.equal(answer.json.status, "executing");
  assert.equal(answer.headers.get("preference-applied"), "wait=1");
  assert.ok(Number(answer.headers.get("retry-after")) >= 1);
  assert.equal((await ended(gateway, id)).status, "completed");
});

test("changes_of_the_registry_do_not_disturb_a_long_poll", async (t) => {
  const busy = hold(t, service, obedient);
  const { id } = await accepted(gateway, { timeout_seconds: 60 });
  let polling = true;
  const writes = (async () => {
    while (polling) {
      await makeKey(gateway, "viewer");
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  })();
  const began = Date.now();
  const answer = await gateway.request("GET", `/v1/contexts/${id}`, { headers: { prefer: "wait=1" } });
  const took = Date.now() - began;
  polling = false;
  await writes;
  assert.equal(answer.status, 200, answer.text);
  assert.equal(answer.json.status, "executing");
  assert.ok(took < 45_000, `${took} ms, which is longer than it was asked to`);
  service.handler = obedient;
  busy.open();
  await gateway.request("POST", `/v1/contexts/${id}/cancel`);
});

test("a_non_durable_context_is_answered_at_once_and_stored_afterwards", async () => {
  const answer = await create(gateway, { capability: "look", parameters: { q: 1 } });
  assert.equal(answer.status, 200);
  assert.deepEqual(answer.json.result, { q: 1 });
  assert.deepEqual(statuses(answer.json), ["created", "validated", "queued", "executing", "completed"]);
  const kept = await eventually(async () => {
    const stored = await gateway.request("GET", `/v1/contexts/${answer.json.id}`);
    return stored.status === 200 && stored.json;
  });
  assert.deepEqual(kept, answer.json);
  const events = await gateway.request("GET", `/v1/contexts/${answer.json.id}/events`);
  assert.equal(events.json.data.at(-1).type, "context.completed");
});

test("a_failed_non_durable_context_is_stored_too", async () => {
  service.handler = status(500);
  const answer = await create(gateway, { capability: "look" });
  service.handler = obedient;
  assert.equal(answer.status, 200);
  assert.equal(answer.json.error.code, "upstream_error");
  await eventually(
    async () => (await gateway.request("GET", `/v1/contexts/${answer.json.id}`)).json.status === "failed",
  );
});

test("a_non_durable_context_is_not_awaited_longer_than_requested", async (t) => {
  const busy = hold(t, service, obedient);
  const asked = (prefer: string) => create(gateway, { capability: "look" }, { headers: { prefer } });
  const [long, short] = [asked("wait=50"), asked("wait=1")];
  const answer = await Promise.race([long, short]);
  service.handler = obedient;
  assert.equal(answer.status, 202);
  assert.equal(answer.headers.get("preference-applied"), "wait=1");
  assert.equal((await gateway.request("GET", answer.headers.get("location")!)).status, 200);
  busy.open();
  assert.equal((await long).status, 200);
});

test("a_start_in_the_near_future_is_honored", async () => {
  const calls = service.calls.length;
  const runAt = new Date(Date.now() + 4000);
  const answer = await create(gateway, { run_at: runAt.toISOString(), timeout_seconds: 30 });
  assert.equal(answer.status, 202);
  assert.equal(answer.json.status, "queued");
  assert.equal(Date.parse(answer.json.run_at), runAt.getTime());
  assert.equal(Date.parse(answer.json.expires_at), runAt.getTime() + 30_000);
  const call = await service.call(calls);
  assert.ok(call.at >= runAt.getTime(), `called ${runAt.getTime() - call.at} ms too early`);
  assert.ok(call.at - runAt.getTime() < tolerance(), `called ${call.at - runAt.getTime()} ms too late`);
  assert.equal((await ended(gateway, answer.json.id)).status, "completed");
});

test("a_start_in_the_past_is_a_start_now_and_one_in_the_future_can_be_waited_for", async () => {
  const past = await create(gateway, { run_at: "2020-01-01T00:00:00+02:00" });
  assert.equal(past.json.status, "completed");
  assert.ok(Date.parse(past.json.expires_at) > Date.now());
  const soon = new Date(Date.now() + 700).toISOString();
  const future = await create(gateway, { run_at: soon }, { headers: { prefer: "wait=60" } });
  assert.equal(future.status, 200);
  assert.equal(future.json.status, "completed");
});

test("a_deadline_ends_the_context_in_time_without_any_traffic", async () => {
  const events = await openEvents(gateway, { query: { types: "context.timed_out" } });
  service.handler = hang;
  const ids = [
    (await accepted(gateway, { timeout_seconds: 4 })).id,
    (await accepted(gateway, { capability: "again", timeout_seconds: 5 })).id,
  ];
  for (const id of ids) {
    const event = await events.next((message) => message.subject === id);
    assert.equal(event.data.error.code, "deadline_exceeded");
  }
  service.handler = obedient;
  events.close();
  for (const id of ids) {
    const { json: context } = await gateway.request("GET", `/v1/contexts/${id}`);
    assert.equal(context.status, "timed_out");
    assert.equal(context.attempts.at(-1).outcome, "timed_out");
    const late = Date.parse(context.history.at(-1).at) - Date.parse(context.expires_at);
    assert.ok(late >= -50 && late < tolerance(), `${late} ms after its time`);
  }
});

test("a_context_that_timed_out_within_the_wait_is_a_200", async () => {
  service.handler = hang;
  const answer = await create(gateway, { timeout_seconds: 1 });
  service.handler = obedient;
  assert.equal(answer.status, 200);
  assert.equal(answer.json.status, "timed_out");
  assert.equal(answer.json.error.code, "deadline_exceeded");
});

test("a_context_lives_no_longer_than_its_capability_allows", async () => {
  const problem = refused(await create(gateway, { capability: "brief", timeout_seconds: 6 }), 422, "validation_failed");
  assert.equal(problem.errors[0].pointer, "#/timeout_seconds");
  const { json: context } = await create(gateway, { capability: "brief" });
  assert.equal(Date.parse(context.expires_at) - Date.parse(context.created_at), 5000);
});

test("the_newest_matching_version_is_chosen", async () => {
  assert.equal((await create(gateway)).json.version, "2.0.0");
  assert.equal((await create(gateway, { version: "^1.1" })).json.version, "1.2.0");
  assert.equal((await create(gateway, { version: "=1.2.0" })).json.version, "1.2.0");
  const problem = refused(await create(gateway, { version: ">=3" }), 422, "validation_failed");
  assert.equal(problem.errors[0].pointer, "#/version");
});

test("a_waiting_context_is_cancelled_at_once_and_never_runs", async () => {
  const { id } = await accepted(gateway, { run_at: new Date(Date.now() + 4000).toISOString() });
  const answer = await gateway.request("POST", `/v1/contexts/${id}/cancel`);
  assert.equal(answer.status, 200);
  assert.equal(answer.json.status, "cancelled");
  assert.equal(answer.json.error.code, "cancelled");
  // A later one that has run shows that this one's time is over.
  const later = await accepted(gateway, { run_at: new Date(Date.now() + 4500).toISOString() });
  await ended(gateway, later.id);
  const called = service.calls.map((call) => call.json.context_id);
  assert.deepEqual([called.includes(later.id), called.includes(id)], [true, false]);
  assert.equal((await ended(gateway, id)).status, "cancelled");
});

test("a_running_context_is_aborted_and_ends_cancelled", async () => {
  const calls = service.calls.length;
  const { id } = await accepted(gateway, { parameters: { ms: 20_000 }, timeout_seconds: 24 });
  await service.call(calls);
  const answer = await gateway.request("POST", `/v1/contexts/${id}/cancel`);
  assert.equal(answer.status, 202);
  assert.equal(answer.headers.get("location"), `/v1/contexts/${id}`);
  assert.ok(Number(answer.headers.get("retry-after")) >= 1);
  const context = await ended(gateway, id);
  assert.equal(context.status, "cancelled");
  assert.equal(context.error.code, "cancelled");
  assert.equal(context.attempts.at(-1).outcome, "cancelled");
});

test("the_first_contexts_of_a_new_deployment_are_served", async () => {
  const fresh = await startGateway({ vars: { CONTEXT_SHARDS: "32" } });
  try {
    await register(fresh, "worker", serviceAt(service.url));
    for (let at = 0; at < 8; at++) {
      const answer = await create(fresh);
      assert.equal(answer.status, 200, `number ${at + 1}: ${answer.text}`);
    }
    const all = await Promise.all(Array.from({ length: 24 }, () => create(fresh)));
    assert.deepEqual(new Set(all.map(({ status }) => status)), new Set([200]));
  } finally {
    await fresh.stop();
  }
});

test("an_ended_context_cannot_be_cancelled_and_does_not_change", async () => {
  const { json: context } = await create(gateway);
  for (let time = 0; time < 2; time++) {
    refused(await gateway.request("POST", `/v1/contexts/${context.id}/cancel`), 409, "conflict");
  }
  assert.deepEqual((await gateway.request("GET", `/v1/contexts/${context.id}`)).json, context);
});

test("a_cancellation_that_races_with_the_end_leaves_exactly_one_final_state", async () => {
  const contexts = await Promise.all(
    Array.from({ length: 20 }, (_, at) => accepted(gateway, { parameters: { ms: at * 10 } })),
  );
  const cancels = await Promise.all(contexts.map(({ id }) => gateway.request("POST", `/v1/contexts/${id}/cancel`)));
  for (const { status } of cancels) assert.ok([200, 202, 409].includes(status), String(status));
  for (const { id } of contexts) {
    const context = await ended(gateway, id);
    assert.equal(statuses(context).filter((name: string) => finalStates.includes(name)).length, 1);
    assert.equal(statuses(context).at(-1), context.status);
  }
  service.handler = echo;
});

// Services that take longer than a call: they answer 202, report their progress, request input, and end their work by
// the callback.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import {
  acceptanceRecorded,
  accepted,
  create,
  ended,
  eventually,
  makeKey,
  pointers,
  refused,
  register,
  serviceAt,
} from "./support/arrange.ts";
import { type Answer, type Gateway, startGateway } from "./support/gateway.ts";
import { tolerance } from "./support/patience.ts";
import { inTurn, json, type Recorded, type Service, startService, status } from "./support/service.ts";
import { openEvents } from "./support/socket.ts";

let gateway: Gateway;
let service: Service;
const secret = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;

before(async () => {
  gateway = await startGateway();
  service = await startService();
  const offers = [
    { name: "work" },
    { name: "again", idempotent: true },
    { name: "typed", output_schema: { type: "object", required: ["pages"] } },
    { name: "quick", durable: false },
  ];
  await register(gateway, "slow", { ...serviceAt(service.url, offers), signing_secret: secret });
});

after(async () => {
  await gateway.stop();
  await service.stop();
});

/** Sends a report to a call's callback, as its service would: with the address alone. */
const say = (call: Recorded, body: unknown): Promise<Answer> => {
  const { origin, pathname } = new URL(call.json.callback_url);
  assert.equal(origin, gateway.url);
  return gateway.request("POST", pathname, { body, key: null });
};

/** A context that its service has accepted with 202, and the call it received. */
async function takenOn(body: object = {}, answer = status(202)): Promise<{ id: string; call: Recorded }> {
  service.handler = answer;
  const calls = service.calls.length;
  const { id } = await accepted(gateway, body);
  const call = await service.call(calls);
  assert.equal(call.json.context_id, id);
  return { id, call };
}

const read = async (id: string): Promise<any> => (await gateway.request("GET", `/v1/contexts/${id}`)).json;

/** Until a context's worker has recorded the 202, it cancels by aborting the call. */
const recorded = (id: string) => acceptanceRecorded(gateway, id);

test("a_service_that_answers_202_ends_the_context_later", async () => {
  const { id, call } = await takenOn();
  await recorded(id);
  assert.equal((await read(id)).status, "executing");
  const said = await say(call, { result: { pages: 12 } });
  assert.deepEqual([said.status, said.json], [200, { id, status: "completed" }]);
  const context = await ended(gateway, id);
  assert.deepEqual(context.result, { pages: 12 });
  assert.deepEqual(
    context.attempts.map(({ outcome, status_code }: any) => [outcome, status_code]),
    [["succeeded", 202]],
  );
});

test("a_waiting_client_gets_the_result_of_the_callback", async () => {
  service.handler = status(202);
  const calls = service.calls.length;
  const answer = create(gateway, {}, { headers: { prefer: "wait=10" } });
  const call = await service.call(calls);
  await recorded(call.json.context_id);
  assert.equal((await say(call, { result: 1 })).status, 200);
  const { status: code, json: context } = await answer;
  assert.deepEqual([code, context.status, context.result], [200, "completed", 1]);
});

test("a_callback_may_arrive_before_the_202", async () => {
  let said: Answer | undefined;
  service.handler = async (call, response) => {
    said = await say(call, { result: "early" });
    response.writeHead(202).end();
  };
  const { json: context } = await create(gateway);
  assert.equal(said?.status, 200, said?.text);
  assert.deepEqual([context.status, context.result], ["completed", "early"]);
});

test("the_same_result_may_be_reported_twice_but_no_other", async () => {
  const { id, call } = await takenOn();
  assert.equal((await say(call, { result: 1 })).status, 200);
  const again = await say(call, { result: 2 });
  assert.deepEqual([again.status, again.json], [200, { id, status: "completed" }]);
  assert.equal((await read(id)).result, 1);
});

test("a_reported_error_fails_or_retries_the_context", async () => {
  const error = { code: "broken", message: "Not today.", retryable: true };
  const once = await takenOn();
  assert.equal((await say(once.call, { error })).json.status, "failed");
  assert.equal((await read(once.id)).error.message, "Not today.");

  const calls = service.calls.length;
  const twice = await takenOn({ capability: "again" });
  assert.equal((await say(twice.call, { error })).json.status, "queued");
  const second = await service.call(calls + 1);
  assert.deepEqual([second.json.context_id, second.json.attempt], [twice.id, 2]);
  // The first attempt is over: its address has become invalid.
  refused(await say(twice.call, { result: "late" }), 409, "conflict");
  assert.equal((await say(second, { result: "in time" })).status, 200);
  assert.equal((await ended(gateway, twice.id)).result, "in time");
});

test("progress_is_shown_and_published", async () => {
  const events = await openEvents(gateway, { query: { types: "context.progress" } });
  const { id, call } = await takenOn();
  for (const percent of [10, 60]) {
    const said = await say(call, { progress: { percent }, lease_seconds: 30 });
    assert.deepEqual([said.status, said.json.status], [200, "executing"]);
    const event = await events.next(({ subject }) => subject === id);
    assert.deepEqual(event.data.progress, { percent });
  }
  assert.deepEqual((await read(id)).progress.data, { percent: 60 });
  await say(call, { result: null });
  events.close();
  const own = await gateway.request("GET", `/v1/contexts/${id}/events`);
  const types = own.json.data.map(({ type }: any) => type.replace("context.", ""));
  assert.deepEqual(types, [
    "created",
    "validated",
    "queued",
    "executing",
    "progress",
    "progress",
    "attempt",
    "completed",
  ]);
});

describe("a_service_that_promised_to_report", () => {
  const promise = json({ lease_seconds: 8 }, 202);

  test("and_does_not_is_given_up_as_unknown", async () => {
    const { id } = await takenOn({}, promise);
    const context = await ended(gateway, id);
    assert.deepEqual([context.status, context.error.code], ["failed", "outcome_unknown"]);
    assert.equal(context.attempts[0].outcome, "lost");
  });

  test("and_does_keeps_its_work", async () => {
    const { id, call } = await takenOn({}, promise);
    // Longer than it promised: until one that was accepted later, and is not reported, is given up.
    const silent = await takenOn({}, promise);
    let isOver = false;
    const over = ended(gateway, silent.id).finally(() => (isOver = true));
    while (!isOver) {
      assert.equal((await say(call, { lease_seconds: 8 })).status, 200);
      await pause(1000);
    }
    assert.equal((await over).error.code, "outcome_unknown");
    assert.equal((await say(call, { result: "done" })).status, 200);
    assert.equal((await read(id)).status, "completed");
  });
});

test("an_invalid_callback_is_refused_and_changes_nothing", async () => {
  const { id, call } = await takenOn({ capability: "typed" });
  for (const [body, at] of [
    [{}, ["#/result"]],
    [{ result: 1, error: { code: "a", message: "b" } }, ["#/error"]],
    [{ result: 1, progress: 1 }, ["#/progress"]],
    [{ lease_seconds: 1 }, ["#/lease_seconds", "#/result"]],
    [{ progress: 1, more: 1 }, ["#/more"]],
  ] as const) {
    assert.deepEqual(pointers(refused(await say(call, body), 422, "validation_failed")), at, JSON.stringify(body));
  }
  // Against the capability's output schema: the service is notified, and may correct its result.
  refused(await say(call, { result: {} }), 422, "validation_failed");
  refused(await say(call, { error: {} }), 422, "validation_failed");
  refused(
    await gateway.request("POST", new URL(call.json.callback_url).pathname, {
      body: "{",
      headers: { "content-type": "application/json" },
      key: null,
    }),
    400,
    "invalid_json",
  );
  assert.equal((await read(id)).status, "executing");
  assert.equal((await say(call, { result: { pages: 1 } })).status, 200);
});

test("an_altered_address_is_refused", async () => {
  const altered = (id: string) => id.slice(0, -1) + (id.endsWith("0") ? "1" : "0");
  const { call } = await takenOn();
  const { pathname } = new URL(call.json.callback_url);
  const [tenant, id, lease, tag] = pathname.slice("/v1/callbacks/".length).split(".");
  for (const token of [
    `other.${id}.${lease}.${tag}`,
    `${tenant}.${id}.2.${tag}`,
    `${tenant}.${altered(id!)}.${lease}.${tag}`,
    `${tenant}.${id}.${lease}.${"A".repeat(22)}`,
    `${tenant}.${id}.${lease}`,
    "nonsense",
  ]) {
    const answer = await gateway.request("POST", `/v1/callbacks/${token}`, { body: { result: 1 }, key: null });
    refused(answer, 404, "not_found");
  }
  assert.equal((await say(call, { result: 1 })).status, 200);
});

test("a_deadline_ends_work_in_the_background", async () => {
  const { id, call } = await takenOn({ timeout_seconds: 5 });
  const context = await ended(gateway, id);
  assert.deepEqual([context.status, context.error.code], ["timed_out", "deadline_exceeded"]);
  const late = Date.parse(context.updated_at) - Date.parse(context.expires_at);
  assert.ok(late < tolerance(), JSON.stringify(context.history));
  refused(await say(call, { result: 1 }), 409, "conflict");
});

for (const [where, path] of [
  ["at_its_own_address", "/"],
  ["at_the_location_of_the_work", "/jobs/7?a=b"],
] as const) {
  test(`a_service_is_notified_${where}_that_its_work_was_cancelled`, async () => {
    const { id } = await takenOn({}, status(202, undefined, path === "/" ? {} : { location: path }));
    await recorded(id);
    const calls = service.calls.length;
    const cancelled = await gateway.request("POST", `/v1/contexts/${id}/cancel`);
    assert.deepEqual([cancelled.status, cancelled.json.status], [200, "cancelled"]);
    const notice = await service.call(calls);
    assert.deepEqual([notice.method, notice.path], ["DELETE", path]);
    assert.deepEqual(notice.json, { context_id: id, reason: "cancelled" });
    const { "webhook-id": signedId, "webhook-timestamp": time, "webhook-signature": signature } = notice.headers;
    assert.equal(signedId, id);
    const mac = createHmac("sha256", Buffer.alloc(32, 7)).update(`${id}.${time}.`).update(notice.raw).digest("base64");
    assert.equal(signature, `v1,${mac}`);
    assert.equal((await read(id)).attempts[0].outcome, "cancelled");
  });
}

test("another_host_is_never_notified_whatever_the_service_says", async () => {
  const other = await startService();
  const { id } = await takenOn({}, status(202, undefined, { location: `${other.url}jobs/1` }));
  await recorded(id);
  const calls = service.calls.length;
  await gateway.request("POST", `/v1/contexts/${id}/cancel`);
  assert.equal((await service.call(calls)).path, "/");
  assert.equal(other.calls.length, 0);
  await other.stop();
});

test("a_202_of_a_non_durable_capability_is_stored_nevertheless", async () => {
  const { id, call } = await takenOn({ capability: "quick" });
  await eventually(async () => (await gateway.request("GET", `/v1/contexts/${id}`)).status === 200);
  assert.equal((await say(call, { result: 1 })).status, 200);
  assert.equal((await ended(gateway, id)).status, "completed");

  service.handler = status(202);
  const calls = service.calls.length;
  const answer = create(gateway, { capability: "quick" }, { headers: { prefer: "wait=10" } });
  const second = await service.call(calls);
  await eventually(async () => (await say(second, { result: 2 })).status === 200);
  assert.equal((await answer).json.result, 2);
});

describe("input", () => {
  const request = { message: "Which page?", schema: { type: "integer", minimum: 1 } };
  const answerWith = (id: string, body: unknown, options = {}) =>
    gateway.request("POST", `/v1/contexts/${id}/input`, { body, ...options });

  test("is_requested_in_the_response_and_sent_with_the_next_call", async () => {
    const calls = service.calls.length;
    service.handler = inTurn(json({ input_required: request }), json({ result: "read" }));
    const events = await openEvents(gateway, { query: { types: "context.input_required" } });
    const asked = await create(gateway, { parameters: { book: 1 } });
    assert.deepEqual([asked.status, asked.json.status], [202, "input_required"]);
    assert.deepEqual(asked.json.input_request, request);
    const { id } = asked.json;
    assert.deepEqual((await events.next(({ subject }) => subject === id)).data.input_request, request);
    events.close();

    assert.deepEqual(pointers(refused(await answerWith(id, { input: 0 }), 422, "validation_failed")), ["#/input"]);
    assert.deepEqual(pointers(refused(await answerWith(id, {}), 422, "validation_failed")), ["#/input"]);
    const done = await answerWith(id, { input: 3 }, { headers: { prefer: "wait=10" } });
    assert.deepEqual([done.status, done.json.status, done.json.result], [200, "completed", "read"], done.text);
    const second = await service.call(calls + 1);
    assert.deepEqual([second.json.input, second.json.attempt, second.json.parameters], [3, 2, { book: 1 }]);
    assert.deepEqual(
      done.json.history.map(({ status }: any) => status),
      ["created", "validated", "queued", "executing", "input_required", "queued", "executing", "completed"],
    );
    assert.deepEqual(
      done.json.attempts.map(({ outcome }: any) => outcome),
      ["input_required", "succeeded"],
    );
    assert.equal(done.json.input_request, undefined);
    refused(await answerWith(id, { input: 3 }), 409, "conflict");
  });

  test("is_requested_by_a_callback", async () => {
    const { id, call } = await takenOn();
    assert.equal((await say(call, { input_required: { message: "And?" } })).json.status, "input_required");
    refused(await say(call, { result: 1 }), 409, "conflict");
    const calls = service.calls.length;
    service.handler = json({ result: "with it" });
    assert.equal(
      (await answerWith(id, { input: { any: "thing" } }, { headers: { prefer: "respond-async" } })).status,
      202,
    );
    assert.deepEqual((await service.call(calls)).json.input, { any: "thing" });
    assert.equal((await ended(gateway, id)).result, "with it");
  });

  test("is_accepted_only_from_callers_who_may_create_and_see_the_context", async () => {
    service.handler = json({ input_required: { message: "Go on?" } });
    const { id } = (await create(gateway)).json;
    const { secret: viewer } = await makeKey(gateway, "viewer");
    refused(await answerWith(id, { input: 1 }, { key: viewer }), 403, "permission_denied");
    const { secret: stranger } = await makeKey(gateway, "caller");
    refused(await answerWith(id, { input: 1 }, { key: stranger }), 404, "not_found");
    const cancelled = await gateway.request("POST", `/v1/contexts/${id}/cancel`);
    assert.deepEqual([cancelled.status, cancelled.json.status], [200, "cancelled"]);
    refused(await answerWith(id, { input: 1 }), 409, "conflict");
  });

  test("that_never_comes_ends_with_the_deadline", async () => {
    service.handler = json({ input_required: { message: "Go on?" } });
    const { id } = (await create(gateway, { timeout_seconds: 1 })).json;
    const context = await ended(gateway, id);
    assert.deepEqual([context.status, context.error.code], ["timed_out", "deadline_exceeded"]);
  });

  test("that_is_requested_wrongly_is_an_invalid_response", async () => {
    service.handler = json({ input_required: { schema: {} } });
    const { json: context } = await create(gateway);
    assert.deepEqual([context.status, context.error.code], ["failed", "upstream_invalid_response"]);
  });
});

test("a_cancellation_goes_to_the_service_whatever_location_it_named", async () => {
  let number = 0;
  for (const [location, path] of [
    ["http://user:pw@HOST/job/1", "/"],
    ["//user@HOST/job/1", "/"],
    ["http://elsewhere.example/job/1", "/"],
    ["/job/1#part", "/job/1"],
    ["job/1?x=2", "/job/1?x=2"],
    ["http://[broken", "/"],
    [`/${"x".repeat(3000)}`, "/"],
  ] as const) {
    const name = `located-${(number += 1)}`;
    const service = await startService((call, response) => {
      const there = location.replace("HOST", new URL(service.url).host);
      status(call.method === "POST" ? 202 : 204, undefined, { location: there })(call, response);
    });
    await register(gateway, name, serviceAt(service.url, [{ name }]));
    // Until the worker has recorded the 202, it cancels by aborting the call, and no cancellation is sent.
    let made = 0;
    for (let cancelled = 0; cancelled !== 200; made++) {
      assert.ok(made < 5, "it was never taken on");
      const { id } = await accepted(gateway, { capability: name });
      await service.call(made);
      await eventually(async () => {
        const { json: context } = await gateway.request("GET", `/v1/contexts/${id}`);
        return context.updated_at > context.history.at(-1).at;
      });
      cancelled = (await gateway.request("POST", `/v1/contexts/${id}/cancel`)).status;
    }
    const { method, path: called, headers } = await service.call(made);
    assert.deepEqual([method, called], ["DELETE", path], location);
    assert.equal(headers.authorization, undefined);
    await service.stop();
  }
});

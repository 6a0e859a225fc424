// Under pressure: a thousand concurrent repeats, a failing primary, services that request pauses, deadlines that pass
// without traffic, hundreds of contexts waiting for a service that is down.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { accepted, create, eventually, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { slowness } from "./support/patience.ts";
import { echo, hang, inTurn, json, type Service, slow, startService, status } from "./support/service.ts";

let gateway: Gateway;
const undo: (() => Promise<void>)[] = [];

before(async () => {
  gateway = await startGateway();
});
after(async () => {
  for (const step of undo) await step();
  await gateway?.stop();
});

async function serve(...args: Parameters<typeof startService>): Promise<Service> {
  const service = await startService(...args);
  undo.push(() => service.stop());
  return service;
}

const read = async (id: string): Promise<any> => (await gateway.request("GET", `/v1/contexts/${id}`)).json;
const services = (context: any) => context.attempts.map(({ service, outcome }: any) => [service, outcome]);

test("a_thousand_requests_at_once_under_one_key_are_one_context_and_one_call", async () => {
  const service = await serve(slow(300));
  await register(gateway, "keyed", serviceAt(service.url, [{ name: "keyed" }]));
  const headers = { "idempotency-key": randomUUID(), prefer: "wait=30" };
  const body = { capability: "keyed", parameters: { a: 1 } };
  const ask = () => create(gateway, body, { headers, contract: false });
  const answers = await Promise.all(Array.from({ length: 1000 }, ask));
  assert.deepEqual([...new Set(answers.map((answer) => answer.status))], [200]);
  assert.equal(new Set(answers.map((answer) => answer.json.id)).size, 1);
  assert.deepEqual([...new Set(answers.map((answer) => answer.json.status))], ["completed"]);
  assert.equal(answers.filter((answer) => answer.headers.get("idempotency-replayed") !== "true").length, 1);
  assert.equal(service.calls.length, 1);
});

for (const [when, handler] of [
  ["before_the_call", echo],
  ["during_the_call", hang],
] as const) {
  test(`a_context_whose_primary_dies_${when}_completes_on_the_secondary`, async () => {
    const [primary, secondary] = [await serve(), await serve()];
    const capability = `double-${when}`;
    await register(gateway, `primary-${when}`, serviceAt(primary.url, [{ name: capability, idempotent: true }]));
    const spare = serviceAt(secondary.url, [{ name: capability, idempotent: true }], { tier: 1 });
    await register(gateway, `secondary-${when}`, spare);
    const healthy = await create(gateway, { capability });
    assert.deepEqual(services(healthy.json), [[`primary-${when}`, "succeeded"]]);
    primary.handler = handler;
    if (handler === echo) await primary.stop();
    const asked = create(gateway, { capability, parameters: { a: 1 } });
    if (handler === hang) {
      await primary.call(1);
      await primary.stop();
    }
    const { json: context } = await asked;
    assert.deepEqual([context.status, context.service, context.result], ["completed", `secondary-${when}`, { a: 1 }]);
    assert.deepEqual(services(context), [
      [`primary-${when}`, "failed"],
      [`secondary-${when}`, "succeeded"],
    ]);
    assert.equal(context.attempts[0].code, "service_unavailable");
    assert.equal(secondary.calls.length, 1);
    assert.deepEqual(await read(context.id), context);
  });
}

test("a_retry_honors_retry_after_and_never_follows_the_deadline", async () => {
  const service = await serve(status(429, undefined, { "retry-after": "1" }));
  const retry = { max_attempts: 10, base_ms: 1, cap_ms: 1 };
  await register(gateway, "busy", serviceAt(service.url, [{ name: "busy" }], { retry }));
  const { json: context } = await create(gateway, { capability: "busy", timeout_seconds: 3 });
  assert.deepEqual([context.status, context.error.code], ["failed", "service_unavailable"]);
  // A fourth would begin when its time is over: that is known as soon as the third has failed.
  assert.equal(service.calls.length, 3);
  const times = service.calls.map(({ at }) => at);
  for (let at = 1; at < times.length; at++) assert.ok(times[at]! - times[at - 1]! >= 990, `${times}`);
  assert.ok(Date.parse(context.updated_at) < Date.parse(context.expires_at));
});

test("deadlines_end_contexts_within_two_seconds_without_any_traffic", async () => {
  const service = await serve();
  const asks = json({ input_required: { message: "Which one?" } });
  service.handler = (call, response) => (call.json.capability === "asked" ? asks : hang)(call, response);
  await register(gateway, "silent", serviceAt(service.url, [{ name: "hung" }, { name: "asked" }]));
  const limits = { max_concurrency: 1 };
  await register(gateway, "narrow", serviceAt(service.url, [{ name: "line", timeout_seconds: 600 }], { limits }));
  // It occupies the only permit for longer than this test.
  await accepted(gateway, { capability: "line", timeout_seconds: 600 });
  await service.call(0);
  const soon = (ms: number) => new Date(Date.now() + ms).toISOString();
  const states: [string, object][] = [
    ["queued", { capability: "line", timeout_seconds: 2 }],
    ["queued", { capability: "line", timeout_seconds: 2, run_at: soon(1000) }],
    ["executing", { capability: "hung", timeout_seconds: 2 }],
    ["executing", { capability: "hung", timeout_seconds: 2, run_at: soon(1000) }],
    ["input_required", { capability: "asked", timeout_seconds: 3 }],
  ];
  const contexts: any[] = [];
  for (const [, body] of states) contexts.push(await accepted(gateway, body));
  const latest = Math.max(...contexts.map((context) => Date.parse(context.expires_at)));
  // There are no requests in the meantime.
  const promise = 2000 * slowness();
  await pause(latest + promise + 500 - Date.now());
  for (const [at, { id }] of contexts.entries()) {
    const context = await read(id);
    const label = JSON.stringify(context);
    assert.deepEqual([context.status, context.error?.code], ["timed_out", "deadline_exceeded"], label);
    const [before] = context.history.slice(-2);
    assert.equal(before.status, states[at]![0], label);
    const late = Date.parse(context.updated_at) - Date.parse(context.expires_at);
    assert.ok(late >= 0 && late <= promise, `${late} ms: ${label}`);
  }
  // Hanging calls are aborted as well; the one with time left is still running.
  await eventually(() =>
    service.calls.filter((call) => call.json.capability === "hung").every((call) => call.abandoned),
  );
});

test("a_service_that_refuses_in_a_storm_is_called_again_when_it_is_over", async () => {
  const service = await serve();
  await register(gateway, "stormy", serviceAt(service.url, [{ name: "stormy" }]));
  service.handler = inTurn(status(429), status(503, undefined, { "retry-after": "0" }), echo);
  const { json: context } = await create(gateway, { capability: "stormy", parameters: { a: 1 } });
  assert.deepEqual([context.status, context.result], ["completed", { a: 1 }]);
  assert.deepEqual(
    context.attempts.map((attempt: any) => attempt.status_code),
    [429, 503, 200],
  );
});

test("contexts_behind_an_open_circuit_cost_little_and_run_afterwards", async () => {
  const own = await startGateway({ vars: { BREAKER_OPEN_MS: "2000", COUNT_COSTS: "true" } });
  undo.push(() => own.stop());
  const service = await serve(status(500));
  await register(own, "dead", serviceAt(service.url, [{ timeout_seconds: 60 }]));
  for (let call = 0; call < 5; call++) await create(own);
  const many = 300;
  const contexts: any[] = [];
  while (contexts.length < many) {
    const some = Array.from({ length: 20 }, (_, at) =>
      accepted(own, { timeout_seconds: at % 2 ? 25 : 60 }, { contract: false }),
    );
    contexts.push(...(await Promise.all(some)));
  }
  const asked = async () =>
    (await own.request("GET", "/v1/costs", { contract: false })).json.object_requests.store as number;
  const before = await asked();
  let longest = 0;
  for (const until = Date.now() + 8000; Date.now() < until; await pause(50)) {
    const began = Date.now();
    assert.equal((await own.request("GET", "/health")).status, 200);
    longest = Math.max(longest, Date.now() - began);
  }
  // Taken and put back one by one, again and again, they would have the gateway to themselves.
  const spent = (await asked()) - before;
  assert.ok(spent < 10 * many, `the stores were asked ${spent} times`);
  assert.ok(longest < 3000 * slowness(), `${longest} ms`);
  service.handler = echo;
  await eventually(async () => {
    const { json: page } = await own.request("GET", "/v1/contexts?status=queued&limit=1", { contract: false });
    return page.data.length === 0;
  });
  const ends = await Promise.all(
    contexts.map(
      async ({ id }) =>
        (await own.request("GET", `/v1/contexts/${id}`, { headers: { prefer: "wait=10" }, contract: false })).json,
    ),
  );
  const count = (end: string) => ends.filter(({ status, error }) => (error?.code ?? status) === end).length;
  const [done, late, tried] = ["completed", "deadline_exceeded", "upstream_error"].map(count) as [
    number,
    number,
    number,
  ];
  assert.equal(done + late + tried, many, JSON.stringify(ends.map(({ status, error }) => error?.code ?? status)));
  // The probes that found it still down.
  assert.ok(tried < 10, `${tried} were tried`);
  assert.ok(done > many / 3, `${done} are done`);
});

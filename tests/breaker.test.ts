// The circuit breaker, one state per service: when it opens, how it is reported, and how it closes
// again; and a service that is down for a while: waiting clients are notified at once, asynchronous contexts run when
// it is back.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accepted, create, ended, eventually, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Service, echo, gate, html, json, startService, status } from "./support/service.ts";
import { openEvents } from "./support/socket.ts";

/** How long a breaker is open here, the first time; 80 to 120% of it. Tests look at it while it is open. */
const OPEN_MS = 8_000;

let gateway: Gateway;
const services: Service[] = [];

before(async () => {
  gateway = await startGateway({ vars: { BREAKER_OPEN_MS: String(OPEN_MS) } });
});
after(async () => {
  await gateway?.stop();
  for (const service of services) await service.stop();
});

async function serve(...parameters: Parameters<typeof startService>): Promise<Service> {
  const service = await startService(...parameters);
  services.push(service);
  return service;
}

/** Fails, on a new connection: a reused one may have been closed during a pause. */
const broken = status(500, undefined, { connection: "close" });
const once = { retry: { max_attempts: 1 } };
const get = async (id: string) => (await gateway.request("GET", `/v1/services/${id}`)).json;
const becomes = (id: string, state: string) =>
  eventually(async () => {
    const seen = await get(id);
    return seen.breaker.state === state && seen;
  });

/** Calls a failing service until its breaker is open; returns the breaker as shown then. */
async function trip(id: string): Promise<any> {
  for (let call = 0; call < 5; call++) {
    const { json } = await create(gateway, { capability: id });
    assert.equal(json.error.code, "upstream_error", JSON.stringify(json.error));
  }
  return becomes(id, "open");
}

test("five_failures_in_a_row_open_it_for_all_isolates_and_stop_all_calls", async () => {
  const service = await serve(broken);
  await register(gateway, "failing", serviceAt(service.url, [{ name: "failing" }], once));
  const events = await openEvents(gateway, { query: { types: "service.status", subject: "failing" } });
  const before = Date.now();
  const seen = await trip("failing");
  assert.equal(seen.status, "offline");
  const [whole, left] = [before, Date.now()].map((since) => Date.parse(seen.breaker.until) - since) as [number, number];
  assert.ok(whole >= OPEN_MS * 0.8 && left <= OPEN_MS * 1.2, `${whole}, ${left}`);

  const calls = service.calls.length;
  assert.equal(calls, 5);
  const { json: refused } = await create(gateway, { capability: "failing" });
  assert.deepEqual([refused.status, refused.error.code], ["failed", "circuit_open"]);
  assert.deepEqual([refused.attempts.length, service.calls.length], [0, calls], "no attempt was made");
  const { json: offers } = await gateway.request("GET", "/v1/capabilities?name=failing");
  assert.equal(offers.data[0].available, false);

  const { data } = await events.next((event) => event.data.breaker === "open");
  assert.deepEqual(
    [data.id, data.status, data.reason, data.breaker_until],
    ["failing", "offline", "breaker", seen.breaker.until],
  );
  const half = await events.next((event) => event.data.breaker === "half_open");
  assert.deepEqual([half.data.status, half.data.breaker_until], ["degraded", null]);
  events.close();
});

test("half_open_lets_exactly_one_call_through_and_the_next_one_after_it_finds_it_closed", async () => {
  const service = await serve(broken);
  await register(gateway, "probed-once", serviceAt(service.url, [{ name: "probed-once" }], once));
  await trip("probed-once");
  for (const round of [1, 2]) {
    await becomes("probed-once", "half_open");
    const probed = gate(round === 1 ? broken : echo);
    service.handler = probed.handler;
    const calls = service.calls.length;
    let refusals = 0;
    const asked = Array.from({ length: 20 }, async () => {
      const answer = await create(gateway, { capability: "probed-once" });
      refusals += 1;
      return answer;
    });
    await eventually(() => refusals + service.calls.length - calls >= asked.length);
    assert.equal(service.calls.length, calls + 1, `round ${round}: one probe`);
    const before = Date.now();
    probed.open();
    const answers = await Promise.all(asked);
    const codes = answers.map(({ json }) => json.error?.code ?? json.status).sort();
    const probe = round === 1 ? "upstream_error" : "completed";
    assert.deepEqual(codes, [...Array(19).fill("circuit_open"), probe].sort());
    if (round === 1) {
      const again = await get("probed-once");
      assert.equal(again.breaker.state, "open", "it was reported before the probe was answered");
      const until = Date.parse(again.breaker.until);
      assert.ok(until - before >= 2 * OPEN_MS * 0.8, `twice as long: ${until - before}`);
      assert.ok(until - Date.now() <= 2 * OPEN_MS * 1.2, `not longer: ${until - Date.now()}`);
    }
  }
  // At once: the client of the probe's context may rely on it.
  const next = await Promise.all([1, 2, 3].map(() => create(gateway, { capability: "probed-once" })));
  assert.deepEqual(
    next.map(({ json }) => json.status),
    Array(3).fill("completed"),
  );
  const closed = await get("probed-once");
  assert.deepEqual([closed.breaker, closed.status], [{ state: "closed", until: null }, "online"]);
});

test("proper_refusals_do_not_count_as_failures", async () => {
  const service = await serve();
  await register(gateway, "strict", serviceAt(service.url, [{ name: "strict" }], once));
  for (const handler of [status(404), status(429), json({ error: { code: "no", message: "No." } })]) {
    service.handler = handler;
    for (let call = 0; call < 7; call++) await create(gateway, { capability: "strict" });
  }
  service.handler = echo;
  assert.equal((await create(gateway, { capability: "strict" })).json.status, "completed");
  assert.equal((await get("strict")).breaker.state, "closed");
});

test("with_a_dead_service_there_are_few_more_attempts_than_requests", async () => {
  const service = await serve(status(503));
  const retry = { max_attempts: 5, base_ms: 1, cap_ms: 5 };
  await register(gateway, "dead", serviceAt(service.url, [{ name: "dead", idempotent: true }], { retry }));
  const requests = 100;
  for (let batch = 0; batch < requests / 10; batch++) {
    await Promise.all(Array.from({ length: 10 }, () => create(gateway, { capability: "dead" })));
  }
  assert.ok(service.calls.length <= 1.2 * requests, `${service.calls.length} attempts`);
});

test("a_higher_tier_takes_over_while_it_is_open_and_then_hands_back", async () => {
  const [first, second] = [await serve(broken), await serve()];
  const both = { name: "tiered", idempotent: true };
  await register(gateway, "tier-zero", serviceAt(first.url, [both]));
  await register(gateway, "tier-one", serviceAt(second.url, [both], { tier: 1 }));
  for (let call = 0; call < 5; call++) {
    const { json } = await create(gateway, { capability: "tiered" });
    assert.deepEqual([json.status, json.service], ["completed", "tier-one"]);
  }
  await becomes("tier-zero", "open");
  const calls = first.calls.length;
  for (let call = 0; call < 5; call++) {
    const { json } = await create(gateway, { capability: "tiered" });
    assert.deepEqual([json.status, json.service, json.attempts.length], ["completed", "tier-one", 1]);
  }
  assert.equal(first.calls.length, calls);
  first.handler = echo;
  await becomes("tier-zero", "half_open");
  await eventually(async () => (await create(gateway, { capability: "tiered" })).json.service === "tier-zero");
  assert.equal((await get("tier-zero")).breaker.state, "closed");
});

test("asynchronous_contexts_run_once_it_is_closed_again", async () => {
  const service = await serve(broken);
  await register(gateway, "patient", serviceAt(service.url, [{ name: "patient", timeout_seconds: 120 }], once));
  await trip("patient");
  service.handler = echo;
  const ids = await Promise.all([1, 2, 3].map(async () => (await accepted(gateway, { capability: "patient" })).id));
  for (const id of ids) assert.equal((await ended(gateway, id)).status, "completed");
});

test("it_stays_open_across_a_restart_of_its_lane_and_of_the_registry", async () => {
  const service = await serve(broken);
  await register(gateway, "restarted", serviceAt(service.url, [{ name: "restarted" }], once));
  const seen = await trip("restarted");
  await gateway.evict("ServiceLane", "default/restarted");
  await gateway.evict("Registry", "default");
  const again = await get("restarted");
  assert.deepEqual(again.breaker, seen.breaker);
  await becomes("restarted", "half_open");
});

test("a_new_address_starts_with_a_closed_one", async () => {
  const [old, fixed] = [await serve(broken), await serve()];
  const document = (url: string) => serviceAt(url, [{ name: "moving" }], once);
  await register(gateway, "moving", document(old.url));
  await trip("moving");
  const headers = { "if-match": "*" };
  const moved = await gateway.request("PUT", "/v1/services/moving", { body: document(fixed.url), headers });
  assert.equal(moved.status, 200, moved.text);
  assert.equal((await get("moving")).breaker.state, "closed");
  const { json } = await create(gateway, { capability: "moving" });
  assert.equal(json.status, "completed", JSON.stringify(json.error));
});

test("web_pages_instead_of_results_count_against_the_service", async () => {
  const service = await serve(html);
  await register(gateway, "paged", serviceAt(service.url, [{ name: "paged" }], once));
  await eventually(async () => (await create(gateway, { capability: "paged" })).json.error.code === "circuit_open");
});

const storeOf = (id: string) => id.slice(4, 8);
const read = async (id: string): Promise<any> => (await gateway.request("GET", `/v1/contexts/${id}`)).json;
const beat = (id: string, health: string) =>
  gateway.request("POST", `/v1/services/${id}/heartbeat`, { body: { status: health, lease_seconds: 600 } });

test("accepted_contexts_wait_for_a_service_that_is_offline", async () => {
  const service = await serve();
  await register(gateway, "sleeper", serviceAt(service.url, [{ name: "sleep" }]));
  await register(gateway, "awake", serviceAt((await serve()).url, [{ name: "stay" }]));
  const run_at = new Date(Date.now() + 8_000).toISOString();
  const { id } = await accepted(gateway, { capability: "sleep", run_at });
  assert.equal((await beat("sleeper", "offline")).status, 200);
  // Others in the same store, which look after it as after this one.
  const other = (when: object) =>
    eventually(async () => {
      const made = await accepted(gateway, { capability: "stay", ...when });
      return storeOf(made.id) === storeOf(id) && made.id;
    });
  const due = await other({ run_at });
  refused(await create(gateway, { capability: "sleep" }), 503, "no_service_available");
  // It waits, and is not called: one of the same time has run in the meantime, and then another.
  assert.equal((await ended(gateway, due)).status, "completed");
  assert.equal((await ended(gateway, await other({}))).status, "completed");
  const waiting = await read(id);
  assert.deepEqual([waiting.status, waiting.attempts, service.calls.length], ["queued", [], 0]);
  assert.equal((await beat("sleeper", "online")).status, 200);
  const context = await ended(gateway, id);
  assert.deepEqual([context.status, context.attempts.length], ["completed", 1]);
});

test("an_open_circuit_fails_awaited_contexts_and_delays_asynchronous_ones", async () => {
  const service = await serve(status(500));
  await register(gateway, "broken", serviceAt(service.url, [{ name: "break", idempotent: true }]));
  for (let call = 0; call < 5; call++)
    assert.equal((await create(gateway, { capability: "break" })).json.status, "failed");
  const { breaker } = await becomes("broken", "open");
  const calls = service.calls.length;
  const response = await create(gateway, { capability: "break" });
  assert.deepEqual([response.status, response.json.status, response.json.error.code], [200, "failed", "circuit_open"]);
  assert.deepEqual([response.json.attempts, service.calls.length], [[], calls]);
  service.handler = echo;
  // Its own way for what may run long, and for what is short.
  const long = await accepted(gateway, { capability: "break" });
  const short = await accepted(gateway, { capability: "break", timeout_seconds: 20 });
  // Both wait, and are not refused.
  for (const { id } of [long, short]) {
    const context = await ended(gateway, id);
    assert.equal(context.status, "completed", JSON.stringify(context));
  }
  const early = service.calls.slice(calls).filter(({ at }) => at < Date.parse(breaker.until));
  assert.deepEqual(early, []);
  assert.equal((await gateway.request("GET", "/v1/services/broken")).json.status, "online");
});

// Rate limits: exact across isolates, cheap while quota is left, reported in the standard's headers; failed logins.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  create,
  ended,
  eventually,
  makeKey,
  obedient,
  pointers,
  refused,
  register,
  serviceAt,
} from "./support/arrange.ts";
import { type Answer, type Gateway, startGateway } from "./support/gateway.ts";
import { gate, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway({
    elsewhere: true,
    timeScale: 0.2,
    vars: { COUNT_COSTS: "true", OAUTH: "true", FAILED_LOGINS: "" },
  });
  service = await startService(obedient);
  await register(gateway, "worker", serviceAt(service.url, [{ name: "work", idempotent: true }, { name: "rest" }]));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const put = (name: string, body: unknown, headers: Record<string, string> = {}, key = gateway.adminKey) =>
  gateway.request("PUT", `/v1/limits/${name}`, { body, headers, key });
const remove = (name: string, headers: Record<string, string> = { "if-match": "*" }) =>
  gateway.request("DELETE", `/v1/limits/${name}`, { headers });
const get = (name: string) => gateway.request("GET", `/v1/limits/${name}`);

async function limited(name: string, limit: object, work: () => Promise<void>): Promise<void> {
  const made = await put(name, { kind: "requests", window_seconds: 3600, ...limit });
  assert.equal(made.status, 201, made.text);
  try {
    await work();
  } finally {
    assert.equal((await remove(name)).status, 204);
  }
}

const whoami = (key: string) => gateway.request("GET", "/v1/whoami", { key });
/** Concurrent requests, some from each isolate; returns the number of responses by status. */
async function storm(count: number, key: string): Promise<Record<number, number>> {
  const asked = Array.from({ length: count }, async (_, at) =>
    at % 2 ? (await whoami(key)).status : gateway.askElsewhere("GET", "/v1/whoami", key),
  );
  const seen: Record<number, number> = {};
  for (const status of await Promise.all(asked)) seen[status] = (seen[status] ?? 0) + 1;
  return seen;
}

test("a_limit_is_created_replaced_and_deleted_under_its_entity_tag", async () => {
  const body = { kind: "requests", quota: 100, window_seconds: 60, binds: { role: "unknown" } };
  const made = await put("calls", body);
  assert.equal(made.status, 201, made.text);
  assert.equal(made.headers.get("location"), "/v1/limits/calls");
  const { created_at, updated_at, ...limit } = made.json;
  assert.deepEqual(limit, { name: "calls", ...body });
  assert.equal(created_at, updated_at);
  refused(await put("calls", body), 428, "precondition_required");
  refused(await put("calls", body, { "if-match": '"7"' }), 412, "precondition_failed");
  const concurrent = { kind: "concurrent", quota: 5, binds: { service: "nothing" } };
  const replaced = await put("calls", concurrent, { "if-match": made.headers.get("etag")! });
  assert.equal(replaced.status, 200, replaced.text);
  assert.equal(replaced.json.window_seconds, undefined);
  const read = await get("calls");
  assert.deepEqual([read.json, read.headers.get("etag")], [replaced.json, replaced.headers.get("etag")]);
  assert.deepEqual((await gateway.request("GET", "/v1/limits")).json.data, [replaced.json]);
  refused(await remove("calls", {}), 428, "precondition_required");
  refused(await remove("calls", { "if-match": made.headers.get("etag")! }), 412, "precondition_failed");
  assert.equal((await remove("calls")).status, 204);
  refused(await remove("calls"), 404, "not_found");
  refused(await get("calls"), 404, "not_found");
  const { json } = await gateway.request("GET", "/v1/audit?object=limits/calls");
  assert.deepEqual(
    json.data.map(({ action }: any) => action),
    ["limit.deleted", "limit.updated", "limit.created"],
  );
});

test("a_wrong_limit_reports_every_fault", async () => {
  const answer = await put("wrong", { kind: "some", quota: 0, binds: { role: "A", user: "b" }, more: 1 });
  assert.deepEqual(pointers(refused(answer, 422, "validation_failed")), [
    "#/binds/role",
    "#/binds/user",
    "#/kind",
    "#/more",
    "#/quota",
    "#/window_seconds",
  ]);
  const two = { kind: "concurrent", quota: 1, window_seconds: 1, binds: { role: "a", service: "b" } };
  assert.deepEqual(pointers(refused(await put("wrong", two), 422, "validation_failed")), [
    "#/binds",
    "#/window_seconds",
  ]);
  refused(await put("No-Name", two), 422, "validation_failed");
});

test("exactly_the_quota_is_admitted_across_two_isolates", async () => {
  for (const quota of [1, 7, 40, 150]) {
    const { id, secret } = await makeKey(gateway, "caller");
    await limited("exact", { quota, binds: { key: id } }, async () => {
      assert.deepEqual(await storm(2 * quota + 20, secret), { 200: quota, 429: quota + 20 });
    });
  }
});

test("quota_that_one_isolate_does_not_use_returns_to_the_others", async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  await limited("shared", { quota: 60, binds: { key: id } }, async () => {
    for (let turn = 0; turn < 20; turn++) assert.equal((await whoami(secret)).status, 200);
    let through = 20;
    while ((await gateway.askElsewhere("GET", "/v1/whoami", secret)) === 200) through += 1;
    assert.equal(through, 60);
    refused(await whoami(secret), 429, "rate_limited");
  });
});

test("a_distant_limit_costs_less_than_one_request_in_ten", async () => {
  const asked = async () =>
    (await gateway.request("GET", "/v1/costs", { contract: false })).json.object_requests.limiter;
  const { id, secret } = await makeKey(gateway, "caller");
  await limited("far", { quota: 100_000, binds: { key: id } }, async () => {
    for (let turn = 0; turn < 40; turn++) await whoami(secret);
    const before = await asked();
    for (let turn = 0; turn < 300; turn++) assert.equal((await whoami(secret)).status, 200);
    const hops = (await asked()) - before;
    console.log(`limits: 300 requests asked the limiter ${hops} times`);
    assert.ok(hops < 30, `${hops}`);
  });
});

test("responses_carry_the_applied_limits_in_the_standard_headers", async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  await limited("few", { quota: 2, binds: { key: id } }, async () => {
    await limited("many", { quota: 1_000, window_seconds: 60, binds: { key: `key:${id}` } }, async () => {
      const seen: Answer[] = [];
      for (let turn = 0; turn < 3; turn++) seen.push(await whoami(secret));
      const [first, second, third] = seen as [Answer, Answer, Answer];
      assert.equal(first.headers.get("ratelimit-policy"), '"few";q=2;w=3600,"many";q=1000;w=60');
      assert.match(first.headers.get("ratelimit")!, /^"few";r=1;t=36\d\d,"many";r=999;t=6[01]$/);
      assert.match(second.headers.get("ratelimit")!, /^"few";r=0;t=36\d\d,/);
      const problem = refused(third, 429, "rate_limited");
      assert.equal(problem.type, "https://iana.org/assignments/http-problem-types#quota-exceeded");
      assert.deepEqual(problem["violated-policies"], ["few"]);
      const t = Number(third.headers.get("ratelimit")!.match(/"few";r=0;t=(\d+)/)?.[1]);
      const retry = Number(third.headers.get("retry-after"));
      assert.ok(t > 3_500 && retry >= t && retry <= t * 1.25 + 2, `${retry} ${t}`);
    });
  });
  assert.equal((await whoami(secret)).headers.get("ratelimit"), null, "no limit, no header");
});

test("a_request_refused_by_one_limit_uses_no_quota_of_another", async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  const other = await makeKey(gateway, "caller");
  await limited("one", { quota: 3, binds: { key: id } }, async () => {
    await limited("all", { quota: 20, binds: { role: "caller" } }, async () => {
      assert.deepEqual(await storm(30, secret), { 200: 3, 429: 27 });
      let through = 0;
      await eventually(async () => {
        if ((await whoami(other.secret)).status === 200) through += 1;
        return through === 17 || null;
      });
      refused(await whoami(other.secret), 429, "rate_limited");
    });
  });
});

test("limits_of_a_service_or_capability_count_requests_that_create_contexts", async () => {
  await limited("work", { quota: 3, binds: { capability: "work" } }, async () => {
    await limited("any", { quota: 5, binds: { service: "*" } }, async () => {
      for (let turn = 0; turn < 5; turn++) assert.equal((await gateway.request("GET", "/v1/contexts")).status, 200);
      const first = await create(gateway);
      assert.equal(first.status, 200, first.text);
      assert.match(first.headers.get("ratelimit-policy")!, /^"any";q=5;w=3600,"work";q=3;w=3600$/);
      assert.match(first.headers.get("server-timing")!, /auth;dur/);
      assert.equal((await gateway.request("POST", `/v1/contexts/${first.json.id}/replay`)).status, 200);
      assert.equal((await create(gateway)).status, 200);
      assert.deepEqual(refused(await create(gateway), 429, "rate_limited")["violated-policies"], ["work"]);
      refused(await gateway.request("POST", `/v1/contexts/${first.json.id}/replay`), 429, "rate_limited");
      assert.equal((await create(gateway, { capability: "rest" })).status, 200);
      refused(await create(gateway, { capability: "nothing" }), 422, "validation_failed");
      assert.equal((await create(gateway, { capability: "rest" })).status, 200);
      assert.deepEqual(
        refused(await create(gateway, { capability: "rest" }), 429, "rate_limited")["violated-policies"],
        ["any"],
      );
    });
  });
});

test("a_repeated_request_is_answered_even_when_the_limit_is_reached", async () => {
  await limited("once", { quota: 1, binds: { capability: "work" } }, async () => {
    const headers = { "idempotency-key": '"first"' };
    const first = await create(gateway, {}, { headers });
    assert.equal(first.status, 200, first.text);
    const again = await create(gateway, {}, { headers });
    assert.deepEqual([again.status, again.json.id], [200, first.json.id]);
    refused(await create(gateway, {}, { headers: { "idempotency-key": '"second"' } }), 429, "rate_limited");
  });
});

test("a_repeat_beyond_a_limit_gets_its_context_while_the_registry_changes", async () => {
  await limited("changing", { quota: 1, binds: { capability: "work" } }, async () => {
    const headers = { "idempotency-key": '"changing"' };
    const first = await create(gateway, {}, { headers });
    assert.equal(first.status, 200, first.text);
    // A write from another isolate: this one has the older snapshot, and the store knows the newer revision.
    const role = { permissions: ["contexts:read"] };
    assert.equal(await gateway.askElsewhere("PUT", "/v1/roles/passing", gateway.adminKey, role), 201);
    const again = await create(gateway, {}, { headers });
    assert.equal(again.status, 200, again.text);
    assert.equal(again.json.id, first.json.id);
    assert.equal(again.headers.get("idempotency-replayed"), "true");
    assert.equal(
      await gateway.askElsewhere("DELETE", "/v1/roles/passing", gateway.adminKey, undefined, { "if-match": "*" }),
      204,
    );
  });
});

test("contexts_of_schedules_count_too", async () => {
  await limited("plan", { quota: 1, binds: { capability: "work" } }, async () => {
    assert.equal((await create(gateway)).status, 200);
    const schedule = { interval_seconds: 10, context: { capability: "work" } };
    assert.equal((await gateway.request("PUT", "/v1/schedules/over", { body: schedule })).status, 201);
    const run = await eventually(async () => (await gateway.request("GET", "/v1/schedules/over")).json.last_runs[0]);
    assert.deepEqual([run.outcome, run.code], ["refused", "rate_limited"]);
    await gateway.request("DELETE", "/v1/schedules/over", { headers: { "if-match": "*" } });
  });
});

test("a_concurrency_limit_is_held_while_waiting_for_a_context", async (t) => {
  t.after(() => (service.handler = obedient));
  await limited(
    "two",
    { kind: "concurrent", quota: 2, window_seconds: undefined, binds: { service: "worker" } },
    async () => {
      const before = service.calls.length;
      const awaited = gate();
      t.after(awaited.open);
      service.handler = awaited.handler;
      const slow = Array.from({ length: 2 }, () => create(gateway));
      await service.call(before + 1);
      const third = await create(gateway);
      assert.deepEqual(refused(third, 429, "rate_limited")["violated-policies"], ["two"]);
      assert.equal(third.headers.get("ratelimit-policy"), '"two";q=2;qu="concurrent-requests"');
      assert.equal(third.headers.get("ratelimit"), '"two";r=0');
      assert.ok(Number(third.headers.get("retry-after")) >= 1);
      awaited.open();
      for (const answer of await Promise.all(slow)) assert.equal(answer.status, 200, answer.text);
      await eventually(async () => (await create(gateway)).status === 200 || null);
      // Listeners hold it until the stream's end.
      const heard = gate();
      t.after(heard.open);
      service.handler = heard.handler;
      const calls = service.calls.length;
      const listen = () => create(gateway, {}, { headers: { accept: "text/event-stream" }, contract: false });
      const listening = [listen(), listen()];
      await service.call(calls + 1);
      refused(await create(gateway), 429, "rate_limited");
      heard.open();
      for (const answer of await Promise.all(listening)) assert.match(answer.text, /event: end/);
      // Asynchronous contexts hold none.
      const busy = gate();
      t.after(busy.open);
      service.handler = busy.handler;
      const later: string[] = [];
      for (let turn = 0; turn < 5; turn++) {
        await eventually(async () => {
          const answer = await create(gateway, {}, { headers: { prefer: "respond-async" } });
          if (answer.status === 202) later.push(answer.json.id);
          return answer.status === 202 || null;
        });
      }
      busy.open();
      service.handler = obedient;
      for (const id of later) assert.equal((await ended(gateway, id)).status, "completed");
    },
  );
});

test("a_changed_limit_applies_to_the_next_request", async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  const limit = (quota: number) => ({ kind: "requests", quota, window_seconds: 3600, binds: { key: id } });
  await limited("moving", limit(3), async () => {
    assert.deepEqual(await storm(10, secret), { 200: 3, 429: 7 });
    assert.equal((await put("moving", limit(5), { "if-match": "*" })).status, 200);
    // A refusal is cached for a second.
    await eventually(async () => (await whoami(secret)).status === 200 || null);
    await eventually(async () => (await gateway.askElsewhere("GET", "/v1/whoami", secret)) === 200 || null);
    refused(await whoami(secret), 429, "rate_limited");
  });
  assert.equal((await whoami(secret)).status, 200);
});

test("callers_who_may_change_limits_are_never_locked_out", async () => {
  await limited("low", { quota: 2, binds: { tenant: true } }, async () => {
    for (let turn = 0; turn < 2; turn++) assert.equal((await whoami(gateway.adminKey)).status, 200);
    refused(await whoami(gateway.adminKey), 429, "rate_limited");
    assert.equal((await get("low")).status, 200);
  });
  assert.equal((await whoami(gateway.adminKey)).status, 200);
});

test("an_evicted_limiter_grants_no_quota_twice", async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  await limited("kept", { quota: 30, binds: { key: id } }, async () => {
    let through = 0;
    for (let turn = 0; turn < 60; turn++) {
      if ((await whoami(secret)).status === 200) through += 1;
      if (turn < 30 && turn % 10 === 5) await gateway.evict("RateLimiter", `default/kept/key:${id}`);
    }
    assert.ok(through <= 30 && through >= 24, `${through}`);
  });
});

test("failed_logins_are_limited_by_address_before_any_lookup", async () => {
  const from = (address: string, key: string) =>
    gateway.request("GET", "/v1/whoami", { key, headers: { "cf-connecting-ip": address } });
  const { secret } = await makeKey(gateway, "caller");
  for (let turn = 0; turn < 30; turn++) assert.equal((await from("192.0.2.1", secret)).status, 200);
  for (let turn = 0; turn < 20; turn++) refused(await from("192.0.2.1", `wrong-${turn}`), 401, "unauthenticated");
  const shut = await from("192.0.2.1", "wrong");
  assert.deepEqual(refused(shut, 429, "rate_limited")["violated-policies"], ["failed-logins"]);
  assert.ok(Number(shut.headers.get("retry-after")) >= 1);
  refused(await from("192.0.2.1", secret), 429, "rate_limited");
  assert.equal((await from("192.0.2.2", secret)).status, 200);
  refused(await from("192.0.2.2", "wrong"), 401, "unauthenticated");
  // In IPv6 one client has many addresses.
  for (let turn = 0; turn < 20; turn++) refused(await from(`2001:db8::${turn}`, "wrong"), 401, "unauthenticated");
  refused(await from("2001:db8::ffff", "wrong"), 429, "rate_limited");
});

test("failed_logins_are_counted_over_isolates", async () => {
  const seen: number[] = [];
  for (let turn = 0; turn < 15; turn++) {
    seen.push(
      await gateway.askElsewhere("GET", "/v1/whoami", `wrong-${turn}`, undefined, { "cf-connecting-ip": "192.0.2.9" }),
    );
    const headers = { "cf-connecting-ip": "192.0.2.9" };
    seen.push((await gateway.request("GET", "/v1/whoami", { key: `wrong-${turn}`, headers })).status);
  }
  assert.deepEqual(seen, [...Array(20).fill(401), ...Array(10).fill(429)]);
});

test("failed_logins_at_the_authorization_server_count_too", async () => {
  const headers = { "content-type": "application/x-www-form-urlencoded", "cf-connecting-ip": "192.0.2.20" };
  const document = {
    name: "A client",
    grant_types: ["client_credentials"],
    auth_method: "client_secret_post",
    scope: "services:read",
  };
  const { json } = await gateway.request("PUT", "/v1/clients/machine", { body: document });
  const form = (path: string, secret: string, more: Record<string, string> = {}) => {
    const body = new URLSearchParams({ client_id: json.client_id, client_secret: secret, ...more }).toString();
    return gateway.request("POST", path, { key: null, headers, body });
  };
  const token = (secret: string) => form("/oauth/token", secret, { grant_type: "client_credentials" });
  for (let turn = 0; turn < 25; turn++) assert.equal((await token("wrong")).status === 401, turn < 20, `${turn}`);
  for (const path of ["/oauth/token", "/oauth/introspect", "/oauth/revoke"]) {
    const answer = await form(path, json.secret, { token: "x", grant_type: "client_credentials" });
    assert.deepEqual(refused(answer, 429, "rate_limited")["violated-policies"], ["failed-logins"]);
  }
  headers["cf-connecting-ip"] = "192.0.2.21";
  for (let turn = 0; turn < 25; turn++) assert.equal((await token(json.secret)).status, 200);
});

test("wrong_keys_on_the_consent_page_and_wrong_tickets_count_too", async () => {
  const headers = { "cf-connecting-ip": "192.0.2.30" };
  const document = {
    name: "An app",
    grant_types: ["authorization_code"],
    auth_method: "none",
    redirect_uris: ["https://app.example.com/done"],
    scope: "services:read",
  };
  const { json } = await gateway.request("PUT", "/v1/clients/app", { body: document });
  const body = new URLSearchParams({
    response_type: "code",
    client_id: json.client_id,
    code_challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
    code_challenge_method: "S256",
    decision: "allow",
    api_key: "wrong",
  }).toString();
  for (let turn = 0; turn < 10; turn++) {
    const page = await gateway.request("POST", "/oauth/authorize", {
      key: null,
      body,
      contract: false,
      headers: { ...headers, "content-type": "application/x-www-form-urlencoded" },
    });
    assert.match(page.text, /This key is invalid, has expired or was revoked/);
    const socket = {
      ...headers,
      upgrade: "websocket",
      connection: "Upgrade",
      "sec-websocket-version": "13",
      "sec-websocket-key": "x",
    };
    const ticket = await gateway.open("GET", "/v1/events?ticket=tkt_default_wrong", { key: null, headers: socket });
    assert.equal(ticket.status, 401);
  }
  const answer = await gateway.request("POST", "/oauth/authorize", {
    key: null,
    body,
    headers: { ...headers, "content-type": "application/x-www-form-urlencoded" },
  });
  refused(answer, 429, "rate_limited");
});

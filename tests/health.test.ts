// Measurements of a service's health: probes, heartbeats, checks and calls; and that nothing else is claimed.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { after, before, test } from "node:test";
import { create, eventually, makeKey, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Service, type Handler, echo, hang, json, startService, status } from "./support/service.ts";
import { openEvents } from "./support/socket.ts";

let gateway: Gateway;
const services: Service[] = [];

before(async () => {
  gateway = await startGateway({ timeScale: 0.2 });
});
after(async () => {
  await gateway?.stop();
  for (const service of services) await service.stop();
});

/** A separate service for a test. */
async function serve(probe: Handler = json({ status: "ok" })): Promise<Service> {
  const service = await startService(echo, { probe });
  services.push(service);
  return service;
}

const get = async (id: string) => (await gateway.request("GET", `/v1/services/${id}`)).json;
const check = (id: string) => gateway.request("POST", `/v1/services/${id}/check`);
const beat = (id: string, body?: object, key?: string) =>
  gateway.request("POST", `/v1/services/${id}/heartbeat`, { body, ...(key && { key }) });
const becomes = (id: string, wanted: string) =>
  eventually(async () => {
    const seen = await get(id);
    return seen.status === wanted && seen;
  });

test("a_service_that_is_probed_comes_online_by_itself_and_the_probe_is_signed", async () => {
  const service = await serve();
  const events = await openEvents(gateway, { query: { types: "service.status", subject: "probed" } });
  const { signing_secret } = await register(
    gateway,
    "probed",
    serviceAt(service.url, [{ name: "probed" }], {
      health: { path: "/health?deep=1", interval_seconds: 5 },
      credentials: { header: "X-Its-Key", value: "known to it" },
    }),
  );
  assert.equal((await get("probed")).status, "unknown", "not measured yet");
  const seen = await becomes("probed", "online");
  assert.ok(Date.now() - Date.parse(seen.status_at) < 30_000, seen.status_at);

  const [probe] = service.probes;
  assert.deepEqual([probe!.method, probe!.path], ["GET", "/health?deep=1"]);
  assert.equal(probe!.headers["x-its-key"], "known to it");
  const id = String(probe!.headers["webhook-id"]);
  assert.match(id, /^probe_/);
  const key = Buffer.from(signing_secret.slice("whsec_".length), "base64");
  const signed = createHmac("sha256", key).update(`${id}.${probe!.headers["webhook-timestamp"]}.`).digest("base64");
  assert.equal(probe!.headers["webhook-signature"], `v1,${signed}`);

  const { data } = await events.next((event) => event.type === "service.status");
  assert.deepEqual([data.id, data.previous, data.status, data.reason], ["probed", "unknown", "online", "probe"]);
  events.close();
});

test("three_failed_probes_take_it_offline_and_it_gets_no_calls_until_two_successful_ones", async () => {
  const service = await serve();
  await register(
    gateway,
    "shaky",
    serviceAt(service.url, [{ name: "shaky" }], { health: { path: "/up", interval_seconds: 3600 } }),
  );
  await becomes("shaky", "online");
  service.probe = status(500);
  const statuses: string[] = [];
  const look = async () => {
    // A check within a second of the last probe returns its result.
    await eventually(async () => {
      const before = service.probes.length;
      const { json } = await check("shaky");
      if (service.probes.length === before) return false;
      statuses.push(json.status);
      return true;
    });
  };
  await look();
  await look();
  await look();
  assert.deepEqual(statuses.slice(0, 2), ["online", "online"]);
  await becomes("shaky", "offline");
  refused(await create(gateway, { capability: "shaky" }), 503, "no_service_available");
  const { json: offers } = await gateway.request("GET", "/v1/capabilities?name=shaky");
  assert.deepEqual([offers.data[0].available, offers.data[0].services[0].status], [false, "offline"]);

  service.probe = json({});
  await look();
  assert.equal((await get("shaky")).status, "offline", "one good probe is not enough");
  await look();
  await becomes("shaky", "online");
  assert.equal((await create(gateway, { capability: "shaky" })).json.status, "completed");
});

test("a_check_reports_the_result_and_there_is_one_probe_at_a_time", async () => {
  const service = await serve();
  await register(gateway, "checked", serviceAt(service.url, [{ name: "checked" }]));
  service.probe = async (_, response) => {
    await new Promise((resolve) => setTimeout(resolve, 200));
    response.writeHead(404).end();
  };
  const checks = await Promise.all([1, 2, 3, 4].map(() => check("checked")));
  for (const { status: code, json } of checks) {
    assert.deepEqual([code, json.id, json.healthy, json.status_code, json.error], [200, "checked", true, 404, null]);
    assert.ok(json.latency_ms >= 190, String(json.latency_ms));
    assert.equal(json.at, checks[0]!.json.at, "they all got the one probe's answer");
  }
  assert.deepEqual(
    service.probes.map(({ path }) => path),
    ["/"],
    "without a health path its address is asked",
  );
  assert.equal((await get("checked")).status, "online");
  refused(await check("unknown"), 404, "not_found");
});

test("a_check_distinguishes_a_refused_connection_from_a_missing_response", async () => {
  const gone = await startService();
  await gone.stop();
  await register(gateway, "gone", serviceAt(gone.url, [{ name: "gone" }]));
  const refusedAnswer = (await check("gone")).json;
  assert.deepEqual(
    [refusedAnswer.healthy, refusedAnswer.error, refusedAnswer.status_code],
    [false, "unreachable", null],
  );
  assert.equal(refusedAnswer.status, "degraded", "one failed probe is not three");

  const silent = await serve(hang);
  await register(gateway, "silent", serviceAt(silent.url, [{ name: "silent" }]));
  const late = (await check("silent")).json;
  assert.deepEqual([late.healthy, late.error, late.status_code], [false, "timed_out", null]);
  assert.ok(late.latency_ms >= 4_900 && late.latency_ms < 60_000, String(late.latency_ms));
});

test("a_redirect_of_the_health_path_is_not_followed", async () => {
  const elsewhere = await serve();
  const service = await serve((_, response) => {
    response.writeHead(302, { location: elsewhere.url }).end();
  });
  const health = { path: "/health", interval_seconds: 3600 };
  await register(gateway, "moved", serviceAt(service.url, [{ name: "moved" }], { health }));
  const seen = (await check("moved")).json;
  assert.deepEqual([seen.healthy, seen.status_code], [false, 302]);
  assert.equal(elsewhere.probes.length, 0);
});

test("a_heartbeat_is_valid_for_its_lease_and_then_the_service_is_offline", async () => {
  const service = await serve();
  await register(gateway, "beating", serviceAt(service.url, [{ name: "beating" }]));
  const { secret } = await makeKey(gateway, "service", ["services:heartbeat:beating"]);
  const taken = await beat("beating", undefined, secret);
  assert.deepEqual([taken.status, taken.json.id, taken.json.status], [200, "beating", "online"]);
  const left = Date.parse(taken.json.lease_until) - Date.now();
  assert.ok(left > 15_000 && left <= 30_500, String(left));

  const events = await openEvents(gateway, { query: { types: "service.status", subject: "beating" } });
  const short = await beat("beating", { status: "degraded", lease_seconds: 8 }, secret);
  assert.equal(short.status, 200);
  await becomes("beating", "degraded");
  await becomes("beating", "offline");
  const ended = await events.next((event) => event.data.status === "offline");
  assert.equal(ended.data.reason, "heartbeat_ended");
  await beat("beating", {}, secret);
  await becomes("beating", "online");
  events.close();

  refused(await beat("other", {}, secret), 403, "permission_denied");
  const wrong = await beat("beating", { status: "fine", lease_seconds: 4, more: 1 }, secret);
  assert.deepEqual(pointers(refused(wrong, 422, "validation_failed")), ["#/lease_seconds", "#/more", "#/status"]);
  refused(await beat("unknown"), 404, "not_found");
});

test("a_successful_call_is_a_measurement_too", async () => {
  const service = await serve();
  await register(gateway, "called", serviceAt(service.url, [{ name: "called" }]));
  assert.equal((await get("called")).status, "unknown");
  assert.equal((await create(gateway, { capability: "called" })).json.status, "completed");
  const seen = await becomes("called", "online");
  assert.deepEqual(seen.breaker, { state: "closed", until: null });
});

test("measurements_survive_a_restart_and_are_deleted_with_the_service", async () => {
  const service = await serve();
  await register(gateway, "kept", serviceAt(service.url, [{ name: "kept" }]));
  await beat("kept", { status: "degraded", lease_seconds: 600 });
  await becomes("kept", "degraded");
  await gateway.evict("ServiceLane", "default/kept");
  await gateway.evict("Registry", "default");
  assert.equal((await get("kept")).status, "degraded");

  const gone = await gateway.request("DELETE", "/v1/services/kept", { headers: { "if-match": "*" } });
  assert.equal(gone.status, 204, gone.text);
  await register(gateway, "kept", serviceAt(service.url, [{ name: "kept" }]));
  const anew = await get("kept");
  assert.deepEqual([anew.status, anew.status_at], ["unknown", null]);
});

test("measurements_change_the_entity_tag_but_not_the_precondition_of_writes", async () => {
  const service = await serve();
  await register(gateway, "tagged", serviceAt(service.url, [{ name: "tagged" }]));
  const before = await gateway.request("GET", "/v1/services/tagged");
  await beat("tagged");
  const tag = before.headers.get("etag")!;
  const after = await gateway.request("GET", "/v1/services/tagged", { headers: { "if-none-match": tag } });
  assert.deepEqual([after.status, after.json?.status], [200, "online"]);
  const patched = await gateway.request("PATCH", "/v1/services/tagged", {
    headers: { "if-match": tag },
    body: { weight: 2 },
  });
  assert.deepEqual([patched.status, patched.json.status, patched.json.weight], [200, "online", 2]);
});

test("requested_tags_narrow_the_choice", async () => {
  const [europe, asia] = [await serve(), await serve()];
  await register(gateway, "in-eu", serviceAt(europe.url, [{ name: "placed" }], { tags: ["eu", "gpu"], tier: 1 }));
  await register(gateway, "in-as", serviceAt(asia.url, [{ name: "placed" }], { tags: ["as"] }));
  for (const [tags, service] of [
    [["eu"], "in-eu"],
    [["gpu", "eu"], "in-eu"],
    [["as"], "in-as"],
    [[], "in-as"],
  ]) {
    const answer = await create(gateway, { capability: "placed", tags });
    assert.equal(answer.json.service, service, `${tags}: ${answer.text}`);
  }
  const none = await create(gateway, { capability: "placed", tags: ["eu", "as"] });
  assert.deepEqual(pointers(refused(none, 422, "validation_failed")), ["#/tags"]);
});

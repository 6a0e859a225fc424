// Webhooks: events are signed, delivered, retried, given up, redelivered, and do not delay others.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, test } from "node:test";
import { Webhook } from "standardwebhooks";
import { create, eventually, makeKey, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { Contract } from "./support/contract.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import {
  echo,
  type Handler,
  hang,
  inTurn,
  type Recorded,
  type Service,
  startService,
  status,
} from "./support/service.ts";
import { openEvents } from "./support/socket.ts";

let gateway: Gateway;
let service: Service;
/** The receivers of each test; all are stopped at the end. */
const receivers: Service[] = [];

before(async () => {
  gateway = await startGateway({ vars: { WEBHOOK_RETRY_SECONDS: "0.05,0.05,0.05" } });
  service = await startService(echo);
  await register(gateway, "worker", serviceAt(service.url));
});
after(async () => {
  await gateway?.stop();
  await Promise.all([service, ...receivers].map((one) => one?.stop()));
});

async function receiver(handler: Handler = status(204)): Promise<Service> {
  const made = await startService(handler);
  receivers.push(made);
  return made;
}

const put = (id: string, body: unknown, headers: Record<string, string> = {}, key = gateway.adminKey) =>
  gateway.request("PUT", `/v1/webhooks/${id}`, { body, headers, key });
const get = async (id: string) => (await gateway.request("GET", `/v1/webhooks/${id}`)).json;
const deliveries = async (id: string, query = "") =>
  (await gateway.request("GET", `/v1/webhooks/${id}/deliveries${query}`)).json;
const redeliver = (id: string, event_id: string) =>
  gateway.request("POST", `/v1/webhooks/${id}/redeliver`, { body: { event_id } });

/** Creates a webhook for final events; returns its secret. */
async function subscribe(id: string, url: string, more: object = {}): Promise<string> {
  const answer = await put(id, { url, types: ["context.completed"], ...more });
  assert.equal(answer.status, 201, answer.text);
  return answer.json.secret;
}

/** The event in a call, after its signature was verified by the standard's own library. */
function verified(secret: string, { raw, headers }: Recorded): any {
  const event = new Webhook(secret).verify(raw.toString(), headers as Record<string, string>) as any;
  assert.equal(headers["content-type"], "application/cloudevents+json");
  assert.equal(headers["webhook-id"], event.id);
  return event;
}

async function run(): Promise<string> {
  const answer = await create(gateway);
  assert.equal(answer.json.status, "completed", answer.text);
  return answer.json.id;
}

test("a_webhook_is_created_replaced_and_deleted_under_its_entity_tag", async () => {
  const made = await put("first", { url: "https://hooks.example.com/in", types: ["key.*"], description: "d" });
  assert.equal(made.status, 201, made.text);
  assert.equal(made.headers.get("location"), "/v1/webhooks/first");
  assert.match(made.json.secret, /^whsec_/);
  const { secret: _, ...shown } = made.json;
  assert.deepEqual(await get("first"), shown, "the secret is shown once");
  assert.deepEqual([shown.status, shown.reason, shown.waiting], ["active", null, 0]);
  refused(await put("first", { url: "https://hooks.example.com/" }), 428, "precondition_required");
  refused(await put("first", { url: "https://hooks.example.com/" }, { "if-match": '"7"' }), 412, "precondition_failed");
  const etag = made.headers.get("etag")!;
  const paused = await put("first", { url: "https://hooks.example.com/", enabled: false }, { "if-match": etag });
  assert.equal(paused.status, 200, paused.text);
  assert.deepEqual([paused.json.status, paused.json.types, paused.json.secret], ["paused", [], undefined]);
  const { json } = await gateway.request("GET", "/v1/webhooks");
  assert.deepEqual(
    json.data.map(({ id }: any) => id),
    ["first"],
  );
  const remove = (headers = {}) => gateway.request("DELETE", "/v1/webhooks/first", { headers });
  refused(await remove(), 428, "precondition_required");
  assert.equal((await remove({ "if-match": "*" })).status, 204);
  refused(await gateway.request("GET", "/v1/webhooks/first"), 404, "not_found");
  refused(await gateway.request("GET", "/v1/webhooks/first/deliveries"), 404, "not_found");
  refused(await gateway.request("POST", "/v1/webhooks/first/test"), 404, "not_found");
  refused(await redeliver("first", "registry-1"), 404, "not_found");
});

test("a_wrong_webhook_reports_every_fault", async () => {
  const wrong = { url: "https://10.0.0.1/", types: ["No"], secret: "s", enabled: 1, more: true };
  const faults = ["#/enabled", "#/more", "#/secret", "#/types", "#/url"];
  assert.deepEqual(pointers(refused(await put("wrong", wrong), 422, "validation_failed")), faults);
  refused(await put("No", { url: "https://hooks.example.com/" }), 422, "validation_failed");
  await subscribe("wrong", "https://hooks.example.com/");
  const asked = await gateway.request("POST", "/v1/webhooks/wrong/redeliver", { body: {} });
  assert.deepEqual(pointers(refused(asked, 422, "validation_failed")), ["#/event_id"]);
  refused(await gateway.request("GET", "/v1/webhooks/wrong/deliveries?limit=0"), 422, "validation_failed");
  refused(await gateway.request("GET", "/v1/webhooks/wrong/deliveries?cursor=x"), 400, "invalid_request");
});

test("events_that_match_are_delivered_once_signed_and_in_order", async () => {
  const here = await receiver();
  const secret = await subscribe("signed", here.url, { types: ["context.*"], service: "worker" });
  const ids = [await run(), await run()];
  const events = [];
  for (let at = 0; at < 12; at++) events.push(verified(secret, await here.call(at)));
  for (const event of events) Contract.load()!.checkEvent(event);
  assert.deepEqual(new Set(events.map(({ subject }) => subject)), new Set(ids));
  assert.equal(new Set(events.map(({ id }) => id)).size, 12);
  const done = await eventually(async () => {
    const { data } = await deliveries("signed");
    return data.every(({ status }: any) => status === "delivered") && data;
  });
  assert.equal(done.length, 12);
  assert.deepEqual(
    [...done].sort((a: any, b: any) => (a.sequence < b.sequence ? 1 : -1)),
    done,
    "the newest first",
  );
  assert.deepEqual([done[0].attempts, done[0].last_attempt.status_code, done[0].next_attempt_at], [1, 204, null]);
  const { data, next_cursor } = await deliveries("signed", "?limit=5");
  const rest = await deliveries("signed", `?limit=50&cursor=${next_cursor}`);
  assert.deepEqual([...data, ...rest.data], done);
  assert.equal(here.calls.length, 12, "each came once");
});

const python = process.env.PYTHON ?? "python3";
const hasLibrary = spawnSync(python, ["-c", "import standardwebhooks"]).status === 0;

test(
  "the_standards_library_for_python_accepts_them_too",
  { skip: !hasLibrary && "pip install standardwebhooks" },
  async () => {
    const here = await receiver();
    const secret = await subscribe("python", here.url);
    const id = await run();
    const { raw, headers } = await here.call(0);
    const check =
      "import json, sys; from standardwebhooks import Webhook; given = json.load(sys.stdin); " +
      "print(Webhook(given['secret']).verify(given['body'], given['headers'])['subject'])";
    const verify = (body: string) =>
      spawnSync(python, ["-c", check], { input: JSON.stringify({ secret, body, headers }), encoding: "utf8" });
    assert.equal(verify(raw.toString()).stdout.trim(), id);
    assert.notEqual(verify(`${raw} `).status, 0);
  },
);

test("a_given_secret_signs_and_is_never_shown", async () => {
  const here = await receiver();
  const own = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;
  assert.equal(await subscribe("own", here.url, { secret: own }), undefined);
  const id = await run();
  assert.equal(verified(own, await here.call(0)).subject, id);
  const other = `whsec_${Buffer.alloc(32, 8).toString("base64")}`;
  await put("own", { url: here.url, types: ["context.completed"], secret: other }, { "if-match": "*" });
  await put("own", { url: here.url, types: ["context.completed"] }, { "if-match": "*" });
  await run();
  verified(other, await here.call(1));
  const audit = await gateway.request("GET", "/v1/audit?object=webhooks/own");
  assert.ok(audit.json.data.length >= 3);
  assert.ok(!audit.text.includes(own) && !audit.text.includes(other) && audit.text.includes("fingerprint:"));
});

test("a_failed_delivery_is_retried_with_the_same_id_until_it_is_accepted", async () => {
  const here = await receiver(inTurn(status(500), status(302, undefined, { location: "/" }), status(200)));
  const secret = await subscribe("again", here.url);
  const id = await run();
  const events = [
    verified(secret, await here.call(0)),
    verified(secret, await here.call(1)),
    verified(secret, await here.call(2)),
  ];
  assert.deepEqual(
    events.map(({ subject }) => subject),
    [id, id, id],
  );
  assert.equal(new Set(events.map((event) => event.id)).size, 1);
  const [one] = await eventually(async () => {
    const { data } = await deliveries("again");
    return data[0]?.status === "delivered" && data;
  });
  assert.equal(one.attempts, 3);
  assert.equal((await get("again")).failing_since, null);
  assert.equal(here.calls.length, 3, "a redirect is not followed");
});

test("after_lasting_failure_a_webhook_is_disabled_and_an_event_reports_it", async () => {
  const here = await receiver(status(500));
  await subscribe("failing", here.url);
  const socket = await openEvents(gateway, { query: { types: "webhook.*" } });
  await run();
  const event = await socket.next();
  assert.deepEqual(
    [event.type, event.subject, event.data],
    ["webhook.disabled", "failing", { id: "failing", reason: "failing" }],
  );
  socket.close();
  assert.equal(here.calls.length, 4, "once, and after each of three pauses");
  const shown = await get("failing");
  assert.deepEqual([shown.status, shown.reason, shown.waiting, shown.enabled], ["disabled", "failing", 0, true]);
  const { data } = await deliveries("failing");
  assert.deepEqual([data[0].status, data[0].attempts, data[0].last_attempt.status_code], ["failed", 4, 500]);
  // Reading its events publishes them to the log before the webhook is written again.
  await gateway.request("GET", `/v1/contexts/${await run()}/events`);
  refused(await redeliver("failing", data[0].event_id), 409, "conflict");
  // Writing it enables it again; events from the meantime can be redelivered.
  here.handler = status(204);
  await put("failing", { url: here.url, types: ["context.completed"] }, { "if-match": "*" });
  assert.equal((await get("failing")).status, "active");
  assert.equal((await redeliver("failing", data[0].event_id)).status, 202);
  assert.equal((await here.call(4)).json.id, data[0].event_id);
});

test("an_address_that_is_gone_disables_at_once", async () => {
  const here = await receiver(status(410));
  await subscribe("gone", here.url);
  await run();
  const shown = await eventually(async () => {
    const seen = await get("gone");
    return seen.status === "disabled" && seen;
  });
  assert.equal(shown.reason, "gone");
  assert.equal(here.calls.length, 1);
});

test("a_paused_webhook_receives_only_tests", async () => {
  const here = await receiver();
  const secret = await subscribe("paused", here.url, { enabled: false });
  await run();
  const tested = await gateway.request("POST", "/v1/webhooks/paused/test");
  assert.deepEqual([tested.status, tested.json.delivered, tested.json.attempt.status_code], [200, true, 204]);
  const event = verified(secret, await here.call(0));
  assert.deepEqual([event.type, event.id, event.subject], ["webhook.test", tested.json.event_id, "paused"]);
  assert.equal(here.calls.length, 1);
  await here.stop();
  const again = await gateway.request("POST", "/v1/webhooks/paused/test");
  assert.deepEqual([again.json.delivered, again.json.attempt.status_code], [false, null]);
  assert.ok(["unreachable", "broken"].includes(again.json.attempt.error), again.text);
});

test("a_slow_webhook_delays_no_other", async () => {
  const slow = await receiver(hang);
  const quick = await receiver();
  await subscribe("slow", slow.url);
  await subscribe("quick", quick.url);
  for (let count = 0; count < 10; count++) await run();
  await quick.call(9);
  assert.ok((await get("slow")).waiting >= 10);
  await gateway.request("DELETE", "/v1/webhooks/slow", { headers: { "if-match": "*" } });
});

test("queued_events_outlive_the_hub", async () => {
  const here = await receiver(inTurn(status(500), status(204)));
  await put("outlives", { url: here.url, types: ["context.completed"] });
  const id = await run();
  await here.call(0);
  await gateway.evict("EventHub", "default");
  // The alarm wakes it for what is due.
  assert.equal((await here.call(1)).json.subject, id);
});

test("an_event_is_redelivered_only_to_a_matching_webhook", async () => {
  const here = await receiver();
  await subscribe("picky", here.url);
  const id = await run();
  const first = (await here.call(0)).json;
  assert.equal(first.subject, id);
  const again = await redeliver("picky", first.id);
  assert.deepEqual([again.status, again.json.event_id, again.json.status], [202, first.id, "waiting"]);
  assert.deepEqual((await here.call(1)).json, first);
  const { json } = await gateway.request("GET", `/v1/contexts/${id}/events`);
  const created = json.data.find(({ type }: any) => type === "context.created");
  for (const other of [created.id, "eu00-99999999", "unknown-1", "x"])
    refused(await redeliver("picky", other), 404, "not_found");
});

test("a_caller_who_may_not_see_all_contexts_gets_webhooks_for_its_own", async () => {
  const { secret: key, id } = await makeKey(gateway, "bare", [
    "webhooks:write",
    "webhooks:read",
    "contexts:create:*",
    "contexts:read",
  ]);
  const here = await receiver();
  const made = await put("mine", { url: here.url, types: ["context.completed"], owner: "key:other" }, {}, key);
  assert.equal(made.json.owner, `key:${id}`);
  await run();
  const own = await create(gateway, {}, { key });
  assert.equal((await here.call(0)).json.subject, own.json.id);
  assert.equal(here.calls.length, 1);
});

// `narthex serve` does in the background what queues and the cron trigger do at Cloudflare, and serves the console.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Webhook } from "standardwebhooks";
import { gunzipSync } from "node:zlib";
import {
  accepted,
  acceptanceRecorded,
  ended,
  eventually,
  many,
  obedient,
  register,
  serviceAt,
} from "./support/arrange.ts";
import { root } from "./support/configuration.ts";
import { notHere, type Served, serve } from "./support/serve.ts";
import {
  gate as gated,
  type Handler,
  inTurn,
  json,
  type Service,
  slow,
  startService,
  status,
} from "./support/service.ts";
import { openEvents } from "./support/socket.ts";
import { openStream } from "./support/stream.ts";

let gateway: Served;
const services: Service[] = [];

/** A service of its own, registered under this name with a capability of this name. */
async function serviceOf(name: string, handler: Handler, capability: object = {}, more: object = {}): Promise<Service> {
  const service = await startService(handler);
  services.push(service);
  await register(gateway, name, serviceAt(service.url, [{ name, ...capability }], { ...more }));
  return service;
}

before(async () => {
  if (notHere) return;
  gateway = await serve({ env: { SCHEDULE_LEAST_SECONDS: "1", WEBHOOK_RETRY_SECONDS: "0.5,0.5,0.5" } });
});
after(async () => {
  await gateway?.stop();
  await Promise.all(services.map((service) => service.stop()));
});

describe("in the background", { concurrency: 8, skip: notHere }, () => {
  test("contexts_run_without_a_waiting_client", async () => {
    const service = await serviceOf("repeats", obedient);
    const made = await many(40, () => accepted(gateway, { capability: "repeats", parameters: { ms: 50 } }));
    for (const { id } of made) assert.equal((await ended(gateway, id)).status, "completed");
    assert.equal(service.calls.length, made.length);
  });

  test("a_failed_attempt_is_retried_after_its_delay", async () => {
    const retry = { max_attempts: 3, base_ms: 1000, cap_ms: 1000 };
    const service = await serviceOf(
      "fails",
      inTurn(status(503), status(503), json({ result: 1 })),
      { idempotent: true },
      { retry },
    );
    const context = await ended(gateway, (await accepted(gateway, { capability: "fails" })).id);
    assert.equal(context.status, "completed");
    assert.equal(context.attempts.length, 3);
    assert.equal(service.calls.length, 3);
  });

  test("a_call_may_take_seconds", async () => {
    await serviceOf("slow", slow(6000), { timeout_seconds: 60 });
    const context = await ended(gateway, (await accepted(gateway, { capability: "slow" })).id);
    assert.deepEqual([context.status, context.attempts.length], ["completed", 1]);
  });

  test("slow_contexts_of_one_service_do_not_hold_up_others", async (t) => {
    const gate = gated(obedient);
    t.after(gate.open);
    const held = await serviceOf("held", gate.handler, { timeout_seconds: 60 });
    await serviceOf("swift", obedient);
    const slowly = await many(20, () => accepted(gateway, { capability: "held" }));
    await held.call(0);
    const quickly = await many(20, () => accepted(gateway, { capability: "swift" }));
    for (const { id } of quickly) assert.equal((await ended(gateway, id)).status, "completed");
    gate.open();
    for (const { id } of slowly) assert.equal((await ended(gateway, id)).status, "completed");
  });

  test("a_context_starts_at_its_time", async () => {
    await serviceOf("later", obedient);
    const run_at = new Date(Date.now() + 2500).toISOString();
    const context = await ended(gateway, (await accepted(gateway, { capability: "later", run_at })).id);
    assert.equal(context.status, "completed");
    assert.ok(context.history.find(({ status: one }: any) => one === "executing").at >= run_at);
  });

  test("a_schedule_runs_at_its_interval", async () => {
    const service = await serviceOf("often", obedient);
    const body = { interval_seconds: 1, context: { capability: "often" } };
    assert.equal((await gateway.request("PUT", "/v1/schedules/often", { body })).status, 201);
    await service.call(2);
    await gateway.request("DELETE", "/v1/schedules/often", { headers: { "if-match": "*" } });
    const runs = service.calls.map(({ json: call }) => call.context_id);
    assert.equal(new Set(runs).size, runs.length);
  });

  test("webhooks_are_delivered_signed_and_retried", async () => {
    const receiver = await startService(inTurn(status(500), status(500), status(204)));
    services.push(receiver);
    await serviceOf("noted", obedient);
    const body = { url: receiver.url, types: ["context.completed"], subject: undefined };
    const made = await gateway.request("PUT", "/v1/webhooks/noted", { body });
    assert.equal(made.status, 201, made.text);
    const { id } = await accepted(gateway, { capability: "noted" });
    const call = await eventually(() => receiver.calls.filter(({ json: event }) => event.subject === id)[0]);
    const verified = new Webhook(made.json.secret).verify(call.raw.toString(), call.headers as Record<string, string>);
    assert.equal((verified as any).subject, id);
    await gateway.request("DELETE", "/v1/webhooks/noted", { headers: { "if-match": "*" } });
  });

  test("a_service_ends_a_context_by_its_callback", async () => {
    const service = await serviceOf("calls-back", status(202), { timeout_seconds: 60 });
    const { id } = await accepted(gateway, { capability: "calls-back" });
    const { json: call } = await service.call(0);
    assert.ok(call.callback_url.startsWith(`${gateway.url}/v1/callbacks/`), call.callback_url);
    await acceptanceRecorded(gateway, id);
    const path = new URL(call.callback_url).pathname;
    assert.equal((await gateway.request("POST", path, { body: { result: 1 }, key: null })).status, 200);
    assert.equal((await ended(gateway, id)).result, 1);
  });

  test("events_reach_sockets_and_streams", async () => {
    await serviceOf("watched", obedient);
    const [socket, stream] = [await openEvents(gateway), await openStream(gateway)];
    const { id } = await accepted(gateway, { capability: "watched" });
    const isEnd = ({ type, subject }: any) => type === "context.completed" && subject === id;
    await Promise.all([socket.next(isEnd), stream.next(isEnd)]);
    socket.close();
    stream.close();
  });
});

describe("the console", { concurrency: 4, skip: notHere }, () => {
  const files = readdirSync(join(root, "console"));
  const get = (path: string, headers: Record<string, string> = {}, method = "GET") =>
    fetch(gateway.url + path, { method, headers });

  test("every_file_is_served_as_it_is", async () => {
    for (const name of files) {
      const answer = await get(`/${name}`, { "accept-encoding": "identity" });
      assert.equal(answer.status, 200, name);
      assert.equal(answer.headers.get("content-encoding"), null);
      const bytes = Buffer.from(await answer.arrayBuffer());
      assert.deepEqual(sha(bytes), sha(readFileSync(join(root, "console", name))), name);
    }
    const start = await get("/");
    assert.match(start.headers.get("content-type")!, /^text\/html/);
    assert.equal(await start.text(), readFileSync(join(root, "console/index.html"), "utf8"));
  });

  test("it_is_compressed_for_clients_that_take_it", async () => {
    const path = "/openapi.json";
    const answer = await gateway.open("GET", path, { key: null, headers: { "accept-encoding": "br, gzip" } });
    assert.equal(answer.headers.get("content-encoding"), "gzip");
    assert.match(answer.headers.get("vary")!, /accept-encoding/i);
    const unpacked = gunzipSync(Buffer.from(await answer.arrayBuffer()));
    assert.equal(sha(unpacked), sha(readFileSync(join(root, "console", path))));
    for (const refused of ["gzip;q=0", "br", "identity"]) {
      const plain = await gateway.open("GET", path, { key: null, headers: { "accept-encoding": refused } });
      assert.equal(plain.headers.get("content-encoding"), null, refused);
      await plain.body?.cancel();
    }
  });

  test("a_file_that_the_client_has_is_not_sent_again", async () => {
    const { headers } = await get("/main.js");
    const etag = headers.get("etag")!;
    for (const wanted of [etag, `"other", ${etag}`, `W/${etag}`, "*"]) {
      const again = await get("/main.js", { "if-none-match": wanted });
      const { length } = await again.text();
      assert.deepEqual([wanted, again.status, length, again.headers.get("etag")], [wanted, 304, 0, etag]);
    }
    assert.equal((await get("/main.js", { "if-none-match": '"other"' })).status, 200);
  });

  test("head_and_unknown_names_are_answered_without_a_file", async () => {
    const head = await get("/main.js", {}, "HEAD");
    assert.deepEqual([head.status, await head.text()], [200, ""]);
    assert.match(head.headers.get("content-type")!, /^text\/javascript/);
    for (const path of ["/none.js", "/constructor", "/../package.json", "/%2e%2e/package.json", "/console/main.js"]) {
      const none = await gateway.request("GET", path);
      assert.equal(none.status, 404, path);
    }
  });
});

const sha = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");

// The registry of services: conditional writes, whole-document validation, and that a confirmed write is in effect.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import {
  accepted,
  create,
  ended,
  makeKey,
  obedient,
  pointers,
  refused,
  register,
  serviceAt,
} from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { hold, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway();
  service = await startService(obedient);
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const put = (id: string, body: unknown, headers: Record<string, string> = {}) =>
  gateway.request("PUT", `/v1/services/${id}`, { body, headers });
const patch = (id: string, body: unknown, headers: Record<string, string> = { "if-match": "*" }) =>
  gateway.request("PATCH", `/v1/services/${id}`, { body, headers });
const get = (id: string) => gateway.request("GET", `/v1/services/${id}`);
const remove = (id: string, headers: Record<string, string> = { "if-match": "*" }) =>
  gateway.request("DELETE", `/v1/services/${id}`, { headers });

test("a_service_is_registered_read_replaced_and_deregistered", async () => {
  const document = serviceAt(service.url, [{ description: "Works.", input_schema: { type: "object" } }], {
    description: "Does it.",
    tags: ["eu", "fast"],
    metadata: { team: "a" },
    weight: 3,
    tier: 1,
    type: "llm",
    health: { path: "/health", interval_seconds: 60 },
    limits: { max_concurrency: 8, max_queue: 10 },
  });
  const made = await put("whole", document);
  assert.equal(made.status, 201);
  assert.equal(made.headers.get("location"), "/v1/services/whole");
  assert.match(made.json.signing_secret, /^whsec_[A-Za-z0-9+/=]+$/);
  const read = await get("whole");
  assert.equal(read.headers.get("etag"), made.headers.get("etag"));
  const { signing_secret: _, ...shown } = made.json;
  assert.deepEqual(read.json, shown);
  const { transport, capabilities, ...rest } = document;
  for (const [name, value] of Object.entries(rest)) assert.deepEqual(read.json[name], value, name);
  assert.deepEqual(read.json.transport, { kind: "http", url: service.url });
  assert.deepEqual(read.json.capabilities[0].input_schema, { type: "object" });
  assert.equal(read.json.id, "whole");
  assert.equal(read.json.status, "unknown", "its health was not measured");
  assert.equal(read.json.status_at, null);

  const replaced = await put("whole", serviceAt(service.url), { "if-match": made.headers.get("etag")! });
  assert.equal(replaced.status, 200);
  assert.notEqual(replaced.headers.get("etag"), made.headers.get("etag"));
  assert.equal(replaced.json.signing_secret, undefined, "shown once");
  assert.deepEqual([replaced.json.tags, replaced.json.weight, replaced.json.description], [[], 1, ""]);
  assert.equal(replaced.json.created_at, made.json.created_at);

  const gone = await remove("whole", { "if-match": replaced.headers.get("etag")! });
  assert.deepEqual([gone.status, gone.text], [204, ""]);
  refused(await get("whole"), 404, "not_found");
  refused(await remove("whole"), 404, "not_found");
});

test("an_existing_service_is_changed_only_under_a_valid_precondition", async () => {
  const document = serviceAt(service.url);
  const { headers } = await put("guarded", document);
  const current = headers.get("etag")!;
  assert.match(current, /^"[^"]+"$/, "a strong entity tag");
  for (const [method, body] of [
    ["PUT", document],
    ["PATCH", { weight: 2 }],
    ["DELETE", undefined],
  ] as const) {
    const send = (condition: Record<string, string>) =>
      gateway.request(method, "/v1/services/guarded", { body, headers: condition });
    refused(await send({}), 428, "precondition_required");
    for (const stale of ['"0"', '"999999"', '"x"', '"7", "8"'])
      refused(await send({ "if-match": stale }), 412, "precondition_failed");
    refused(await send({ "if-none-match": "*" }), 412, "precondition_failed");
    refused(await send({ "if-match": "1" }), 400, "invalid_request");
  }
  assert.equal((await get("guarded")).headers.get("etag"), current, "nothing of that changed it");
  assert.equal((await put("guarded", document, { "if-match": `"0", ${current}` })).status, 200);
  refused(await put("guarded", document, { "if-match": current }), 412, "precondition_failed");
  assert.equal((await put("guarded", document, { "if-match": "*" })).status, 200);
  refused(await put("absent", document, { "if-match": "*" }), 412, "precondition_failed");
  refused(await put("absent", document, { "if-none-match": "*", "if-match": "nonsense" }), 400, "invalid_request");
  assert.equal((await put("absent", document, { "if-none-match": "*" })).status, 201);
  refused(await patch("unknown", { weight: 2 }), 404, "not_found");
});

test("one_of_many_concurrent_writes_wins", async () => {
  const document = serviceAt(service.url);
  const creates = await Promise.all(
    Array.from({ length: 8 }, () => put("contested", document, { "if-none-match": "*" })),
  );
  assert.deepEqual(creates.map(({ status }) => status).sort(), [201, ...Array(7).fill(412)]);
  const etag = (await get("contested")).headers.get("etag")!;
  const changes = await Promise.all(
    Array.from({ length: 8 }, (_, at) => patch("contested", { weight: at + 2 }, { "if-match": etag })),
  );
  assert.deepEqual(changes.map(({ status }) => status).sort(), [200, ...Array(7).fill(412)]);
  const winner = changes.find(({ status }) => status === 200)!;
  assert.equal((await get("contested")).json.weight, winner.json.weight);
});

test("a_patch_merges_as_rfc_7396_specifies", async () => {
  await register(
    gateway,
    "merged",
    serviceAt(service.url, [{}], {
      tags: ["a", "b"],
      metadata: { keep: 1, drop: 2, deep: { a: 1, b: 2 } },
      description: "before",
      weight: 4,
    }),
  );
  const answer = await patch("merged", {
    description: "after",
    tags: ["c"],
    weight: null,
    metadata: { drop: null, deep: { b: null, c: 3 }, add: [null] },
  });
  assert.equal(answer.status, 200, answer.text);
  const { json } = await get("merged");
  assert.deepEqual(json.metadata, { keep: 1, deep: { a: 1, c: 3 }, add: [null] });
  assert.deepEqual([json.description, json.tags, json.weight], ["after", ["c"], 1]);
  assert.equal(json.capabilities.length, 1);
  assert.equal((await patch("merged", { metadata: null, description: null })).status, 200);
  const { json: emptied } = await get("merged");
  assert.deepEqual([emptied.metadata, emptied.description], [null, ""]);
  assert.deepEqual(
    pointers(refused(await patch("merged", { name: null, colour: "red", weight: 0 }), 422, "validation_failed")),
    ["#/colour", "#/name", "#/weight"],
  );
  refused(await patch("merged", []), 422, "validation_failed");
  assert.equal(
    (await patch("merged", {}, { "if-match": "*", "content-type": "application/merge-patch+json" })).status,
    200,
  );
});

test("a_patch_with_null_removes_the_credentials", async () => {
  await register(
    gateway,
    "secretive",
    serviceAt(service.url, [{ name: "secretive" }], { credentials: { header: "X-Key", value: "k-123" } }),
  );
  await create(gateway, { capability: "secretive" });
  assert.equal(service.calls.at(-1)!.headers["x-key"], "k-123");
  assert.equal((await patch("secretive", { credentials: null })).status, 200);
  await create(gateway, { capability: "secretive" });
  assert.equal(service.calls.at(-1)!.headers["x-key"], undefined);
});

test("a_draining_service_finishes_its_work_takes_none_and_can_be_resumed", async (t) => {
  await register(gateway, "drained", serviceAt(service.url, [{ name: "drained" }]));
  const calls = service.calls.length;
  const busy = hold(t, service, obedient);
  const running = await accepted(gateway, { capability: "drained" });
  await service.call(calls);
  const waiting = await accepted(gateway, { capability: "drained", run_at: new Date(Date.now() + 1000).toISOString() });
  const drained = await patch("drained", { status: "draining" });
  assert.equal(drained.json.status, "draining");
  const answer = await create(gateway, { capability: "drained" });
  refused(answer, 503, "no_service_available");
  assert.ok(Number(answer.headers.get("retry-after")) >= 1);
  assert.equal((await get("drained")).json.status, "draining");
  assert.equal(
    (await patch("drained", { description: "still" })).json.status,
    "draining",
    "another patch does not undo it",
  );
  busy.open();
  assert.equal((await ended(gateway, running.id)).status, "completed");
  assert.equal((await ended(gateway, waiting.id)).status, "completed", "admitted before it drained");
  service.handler = obedient;
  assert.equal((await patch("drained", { status: null })).json.status, "online", "its calls went well");
  assert.equal((await create(gateway, { capability: "drained" })).json.status, "completed");
});

test("a_deregistered_service_finishes_its_running_work", async (t) => {
  await register(gateway, "leaving", serviceAt(service.url, [{ name: "leaving" }]));
  const calls = service.calls.length;
  const busy = hold(t, service, obedient);
  const { id } = await accepted(gateway, { capability: "leaving" });
  await service.call(calls);
  service.handler = obedient;
  assert.equal((await remove("leaving")).status, 204);
  const problem = refused(await create(gateway, { capability: "leaving" }), 422, "validation_failed");
  assert.deepEqual(pointers(problem), ["#/capability"]);
  busy.open();
  assert.equal((await ended(gateway, id)).status, "completed");
});

test("the_list_shows_exactly_the_matching_services", async () => {
  const own = await startGateway();
  try {
    await register(own, "a", serviceAt(service.url, [{ name: "chat" }], { type: "llm", tags: ["eu"] }));
    await register(
      own,
      "b",
      serviceAt(service.url, [{ name: "chat" }, { name: "embed" }], { tags: ["eu", "us"], status: "draining" }),
    );
    await register(own, "c", serviceAt(service.url, [{ name: "store" }], { type: "database" }));
    for (const [query, ids] of [
      ["", ["a", "b", "c"]],
      ["type=llm", ["a"]],
      ["capability=chat", ["a", "b"]],
      ["capability=embed", ["b"]],
      ["status=draining", ["b"]],
      ["status=unknown", ["a", "c"]],
      ["tag=us", ["b"]],
      ["tag=eu&type=tool", ["b"]],
      ["tag=none", []],
    ] as const) {
      const { json } = await own.request("GET", `/v1/services?${query}`);
      assert.deepEqual(
        json.data.map(({ id }: any) => id),
        ids,
        query,
      );
      assert.equal(json.next_cursor, null);
    }
    refused(await own.request("GET", "/v1/services?type=robot"), 422, "validation_failed");
    refused(await own.request("GET", "/v1/services?status=sleeping"), 422, "validation_failed");
  } finally {
    await own.stop();
  }
});

test("capabilities_are_those_the_caller_may_call", async () => {
  await register(
    gateway,
    "open",
    serviceAt(service.url, [{ name: "seen", input_schema: { type: "object" }, idempotent: true }]),
  );
  await register(
    gateway,
    "closed",
    serviceAt(service.url, [{ name: "unseen" }, { name: "asks", permissions: ["reports:read"] }]),
  );
  await register(gateway, "closed-too", serviceAt(service.url, [{ name: "seen" }]));
  const narrow = await makeKey(gateway, "bare", [
    "services:read",
    "contexts:create:open.*",
    "contexts:create:closed.asks",
  ]);
  const list = async (key: string, query = "") => {
    const { json } = await gateway.request("GET", `/v1/capabilities${query}`, { key });
    return json.data;
  };
  const seen = await list(narrow.secret);
  assert.deepEqual(
    seen.map(({ name }: any) => name),
    ["seen"],
  );
  assert.deepEqual(
    seen[0].services.map(({ service }: any) => service),
    ["open"],
  );
  assert.deepEqual(
    [seen[0].version, seen[0].input_schema, seen[0].idempotent, seen[0].available],
    ["1.0.0", { type: "object" }, true, true],
  );
  // Lists and calls share one decision.
  assert.equal((await create(gateway, { capability: "seen" }, { key: narrow.secret })).json.service, "open");
  for (const body of [
    { capability: "unseen" },
    { capability: "asks" },
    { capability: "seen", service: "closed-too" },
  ]) {
    refused(await create(gateway, body, { key: narrow.secret }), 403, "permission_denied");
  }
  const wide = await makeKey(gateway, "bare", ["services:read", "contexts:create:closed.*", "reports:read"]);
  assert.deepEqual((await list(wide.secret)).map(({ name }: any) => name).sort(), ["asks", "unseen"]);
  assert.equal((await create(gateway, { capability: "asks" }, { key: wide.secret })).status, 200);
  const { length } = (await list(gateway.adminKey, "?name=seen"))[0].services;
  assert.equal(length, 2);
  await patch("open", { status: "draining" });
  assert.equal((await list(narrow.secret))[0].available, false);
});

test("a_confirmed_write_is_in_effect_for_the_next_call", async () => {
  const withSchema = (n: number) =>
    serviceAt(service.url, [{ name: "fast", input_schema: { type: "object", required: [`k${n}`] } }]);
  await register(gateway, "fast", withSchema(0));
  for (let n = 1; n <= 50; n++) {
    assert.equal((await put("fast", withSchema(n), { "if-match": "*" })).status, 200);
    const [good, bad] = await Promise.all([
      create(gateway, { capability: "fast", parameters: { [`k${n}`]: 1 } }),
      create(gateway, { capability: "fast", parameters: { [`k${n - 1}`]: 1 } }),
    ]);
    assert.equal(good.status, 200, `${n}: ${good.text}`);
    refused(bad, 422, "validation_failed");
  }
  for (let n = 0; n < 15; n++) {
    await patch("fast", { status: "draining" });
    refused(await create(gateway, { capability: "fast", parameters: { k50: 1 } }), 503, "no_service_available");
    await patch("fast", { status: null });
    assert.equal((await create(gateway, { capability: "fast", parameters: { k50: 1 } })).status, 200, `undone ${n}`);
    await remove("fast");
    refused(await create(gateway, { capability: "fast", parameters: { k50: 1 } }), 422, "validation_failed");
    refused(await get("fast"), 404, "not_found");
    await register(gateway, "fast", withSchema(50));
  }
});

test("the_registry_survives_a_restart", async () => {
  const persist = mkdtempSync(join(tmpdir(), "narthex-registry-"));
  const vars = { ADMIN_KEY: "a key that outlives the restart" };
  try {
    const first = await startGateway({ persist, vars });
    const kept = await register(
      first,
      "kept",
      serviceAt(service.url, [{ name: "kept" }], {
        credentials: { header: "X-Key", value: "k-9" },
        status: "draining",
      }),
    );
    const before = await first.request("GET", "/v1/services/kept");
    await first.stop();
    const second = await startGateway({ persist, vars });
    try {
      const after = await second.request("GET", "/v1/services/kept");
      assert.deepEqual(after.json, before.json);
      assert.equal(after.json.created_at, kept.created_at);
      assert.equal(after.headers.get("etag"), before.headers.get("etag"));
      const undrained = await second.request("PATCH", "/v1/services/kept", {
        headers: { "if-match": after.headers.get("etag")! },
        body: { status: null },
      });
      assert.equal(undrained.status, 200);
      assert.equal((await create(second, { capability: "kept" })).json.status, "completed");
      assert.equal(service.calls.at(-1)!.headers["x-key"], "k-9");
    } finally {
      await second.stop();
    }
  } finally {
    rmSync(persist, { recursive: true, force: true });
  }
});

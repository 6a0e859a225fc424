// Tenants: created and deleted only by the deployment's own tenant, and invisible to each other.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, test } from "node:test";
import {
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
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, type Service, startService } from "./support/service.ts";
import { openEvents } from "./support/socket.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway();
  service = await startService(echo);
  await register(gateway, "worker", serviceAt(service.url));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const put = (id: string, body: unknown, headers: Record<string, string> = {}, key = gateway.adminKey) =>
  gateway.request("PUT", `/v1/tenants/${id}`, { body, headers, key });
const remove = (id: string, query = "", headers: Record<string, string> = { "if-match": "*" }) =>
  gateway.request("DELETE", `/v1/tenants/${id}${query}`, { headers });
/** Creates a tenant; returns its first key. */
async function make(id: string, body: object = {}): Promise<string> {
  const answer = await put(id, { name: id, ...body });
  assert.equal(answer.status, 201, answer.text);
  return answer.json.admin_key;
}
const as =
  (key: string) =>
  (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
    gateway.request(method, path, { key, headers, ...(body !== undefined && { body }) });

test("a_tenant_is_created_with_its_first_key_read_and_changed_under_its_entity_tag", async () => {
  const made = await put("acme", { name: "Acme", context_retention_days: 7 });
  assert.equal(made.status, 201, made.text);
  assert.equal(made.headers.get("location"), "/v1/tenants/acme");
  const { admin_key, created_at: _, updated_at: __, ...tenant } = made.json;
  assert.deepEqual(tenant, { id: "acme", name: "Acme", context_retention_days: 7, event_retention_hours: null });
  const me = await as(admin_key)("GET", "/v1/whoami");
  assert.deepEqual([me.json.tenant, me.json.role, me.json.permissions], ["acme", "admin", ["*"]]);
  refused(await put("acme", { name: "Acme" }), 428, "precondition_required");
  const changed = await put("acme", { name: "Acme & Co" }, { "if-match": made.headers.get("etag")! });
  assert.equal(changed.status, 200, changed.text);
  assert.equal("admin_key" in changed.json, false, "only once");
  const read = await gateway.request("GET", "/v1/tenants/acme");
  assert.deepEqual([read.json, read.headers.get("etag")], [changed.json, changed.headers.get("etag")]);
  const { json } = await gateway.request("GET", "/v1/tenants");
  assert.ok(json.data.some(({ id }: any) => id === "acme"));
  const wrong = await put("acme", { context_retention_days: 0, more: 1 }, { "if-match": "*" });
  assert.deepEqual(pointers(refused(wrong, 422, "validation_failed")), [
    "#/context_retention_days",
    "#/more",
    "#/name",
  ]);
  for (const id of ["Acme", "a_b", "-a", "a".repeat(33)]) {
    assert.deepEqual(pointers(refused(await put(id, { name: "x" }), 422, "validation_failed")), ["#/id"], id);
  }
  refused(await put("default", { name: "x" }, { "if-match": "*" }), 409, "conflict");
});

test("only_the_deployments_own_tenant_has_tenants", async () => {
  const other = as(await make("outside"));
  for (const [method, path, body] of [
    ["GET", "/v1/tenants"],
    ["GET", "/v1/tenants/outside"],
    ["PUT", "/v1/tenants/inner", { name: "x" }],
    ["DELETE", "/v1/tenants/outside"],
  ] as [string, string, unknown?][]) {
    refused(await other(method, path, body, { "if-match": "*" }), 404, "not_found");
  }
  const { secret } = await makeKey(gateway, "operator");
  refused(await as(secret)("GET", "/v1/tenants"), 403, "permission_denied");
  refused(await gateway.request("GET", "/v1/tenants/inner"), 404, "not_found");
});

test("tenants_cannot_see_each_other", async () => {
  const [one, two] = [as(await make("one")), as(await make("two"))];
  const document = serviceAt(service.url, [{ name: "work" }]);
  for (const ask of [one, two]) {
    assert.equal((await ask("PUT", "/v1/services/same-name", document)).status, 201);
  }
  const context = (await one("POST", "/v1/contexts", { capability: "work" })).json;
  assert.deepEqual([context.status, context.tenant, context.service], ["completed", "one", "same-name"]);
  const key = (await one("POST", "/v1/keys", { name: "x", role: "caller" })).json;
  assert.ok(key.id.startsWith("one-"));
  await one("PUT", "/v1/roles/own", { permissions: [] });
  for (const ask of [two, as(gateway.adminKey)]) {
    for (const [method, path] of [
      ["GET", `/v1/contexts/${context.id}`],
      ["GET", `/v1/contexts/${context.id}/events`],
      ["POST", `/v1/contexts/${context.id}/cancel`],
      ["POST", `/v1/contexts/${context.id}/replay`],
      ["GET", `/v1/keys/${key.id}`],
      ["DELETE", `/v1/keys/${key.id}`],
      ["POST", `/v1/keys/${key.id}/rotate`],
      ["GET", "/v1/roles/own"],
    ] as const) {
      refused(await ask(method, path), 404, "not_found");
    }
    const contexts = (await ask("GET", "/v1/contexts?owner=*")).json.data;
    assert.ok(contexts.every(({ tenant }: any) => tenant !== "one"));
    const text = (await ask("GET", "/v1/audit")).text + (await ask("GET", "/v1/keys")).text;
    assert.equal(text.includes(key.id), false);
  }
  assert.equal((await two("DELETE", "/v1/services/same-name", undefined, { "if-match": "*" })).status, 204);
  assert.equal((await one("GET", "/v1/services/same-name")).status, 200);
});

test("a_tenants_events_are_its_own_and_its_asynchronous_contexts_run", async () => {
  const secret = await make("busy");
  const socket = await openEvents(gateway, { key: secret, query: { types: "context.*" } });
  const mine = { key: secret };
  await as(secret)("PUT", "/v1/services/worker", serviceAt(service.url));
  const elsewhere = await accepted(gateway);
  const here = await accepted(gateway, {}, mine);
  assert.equal((await ended(gateway, here.id, mine)).status, "completed");
  assert.equal((await ended(gateway, elsewhere.id)).status, "completed");
  await socket.next(({ type }) => type === "context.completed");
  assert.ok(socket.messages.every(({ subject, source }: any) => subject === here.id && source === "/tenants/busy"));
  socket.close();
  // The sweep, which covers this tenant too, finds contexts whose alarm was lost.
  await gateway.runCron();
});

test("an_unknown_tenant_is_refused_like_a_wrong_key_and_creates_no_object", async () => {
  const secret = await make("leaving");
  assert.equal((await as(secret)("GET", "/v1/whoami")).status, 200);
  const { json: ticket } = await as(secret)("POST", "/v1/tickets", {});
  refused(await remove("leaving"), 409, "conflict");
  refused(await remove("leaving", "?force=true", { "if-match": '"77"' }), 412, "precondition_failed");
  refused(await remove("leaving", "?force=perhaps"), 422, "validation_failed");
  await as(secret)("PUT", "/v1/services/worker", serviceAt(service.url));
  const here = (await as(secret)("POST", "/v1/contexts", { capability: "work" })).json;
  assert.equal(here.status, "completed");
  const gone = await remove("leaving", "?force=true");
  assert.equal(gone.status, 204, gone.text);
  const again = await as(secret)("GET", "/v1/whoami");
  const body = refused(again, 401, "unauthenticated");
  for (const ask of [
    () => as(secret)("POST", "/v1/contexts", { capability: "work" }),
    () => as(secret)("GET", `/v1/contexts/${here.id}`),
    () => as(secret.replace("nx_leaving", "nx_unknown"))("GET", "/v1/whoami"),
  ]) {
    assert.equal(refused(await ask(), 401, "unauthenticated").detail, body.detail);
  }
  await assert.rejects(openEvents(gateway, { ticket: ticket.ticket }), (error: any) => error.status === 401);
  refused(await remove("leaving", "?force=true"), 404, "not_found");
  refused(await put("leaving", { name: "back" }), 409, "conflict");
  await gateway.runCron();
  assert.equal((await as(secret)("GET", "/v1/whoami")).status, 401);
});

test("an_empty_tenant_is_deleted_without_force_and_one_without_keys_gets_a_first_key_again", async () => {
  const secret = await make("empty");
  const { json } = await as(secret)("GET", "/v1/keys");
  assert.equal((await as(secret)("DELETE", `/v1/keys/${json.data[0].id}`)).status, 204);
  const again = await put("empty", { name: "Empty" }, { "if-match": "*" });
  assert.equal(again.status, 200, again.text);
  const me = await as(again.json.admin_key)("GET", "/v1/whoami");
  assert.equal(me.json.tenant, "empty");
  await as(again.json.admin_key)("DELETE", `/v1/keys/${me.json.principal.slice("key:".length)}`);
  assert.equal((await remove("empty")).status, 204);
});

test("a_tenant_keeps_its_contexts_for_its_configured_time", async () => {
  const persist = mkdtempSync(join(tmpdir(), "narthex-tenants-"));
  const start = () =>
    startGateway({ persist, vars: { ADMIN_KEY: "a key that outlives the restart", CONTEXT_SHARDS: "1" } });
  const stores = () =>
    readdirSync(persist, { recursive: true, encoding: "utf8" })
      .filter((entry) => entry.endsWith(".sqlite") && entry.includes("ContextStore"))
      .map((entry) => new DatabaseSync(join(persist, entry)))
      .filter((database) => database.prepare("SELECT 1 FROM sqlite_master WHERE name = 'done'").get());
  try {
    const first = await start();
    const answer = await first.request("PUT", "/v1/tenants/brief", {
      body: { name: "Brief", context_retention_days: 1 },
    });
    const brief = { key: answer.json.admin_key as string };
    await register(first, "worker", serviceAt(service.url));
    await first.request("PUT", "/v1/services/worker", { ...brief, body: serviceAt(service.url) });
    const ids = [(await create(first)).json.id, (await create(first, {}, brief)).json.id];
    await first.stop();
    // Both as if made two days ago: a key is 41 bits of milliseconds and 22 of the id.
    for (const database of stores()) {
      database.exec(`UPDATE done SET key = key - ${(2n * 86_400_000n) << 22n}; DELETE FROM live`);
      database.close();
    }
    const second = await start();
    await second.runCron();
    const left = () =>
      stores().flatMap((database) => {
        const rows = database.prepare("SELECT id FROM done").all() as { id: string }[];
        database.close();
        return rows.map(({ id }) => id);
      });
    await eventually(() => left().length === 1);
    assert.deepEqual(left(), [ids[0]], "the deployment's own tenant keeps its contexts for 30 days");
    await second.stop();
  } finally {
    rmSync(persist, { recursive: true, force: true });
  }
});

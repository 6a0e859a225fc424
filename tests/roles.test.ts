// Roles: what the built-in ones grant. A tenant's own roles: they take effect at once, grant no more than their writer
// has, and are not deleted while in use.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { create, makeKey, pointers, refused, refusedAt, register, serviceAt } from "./support/arrange.ts";
import { root } from "./support/configuration.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway();
  service = await startService(echo);
  await register(gateway, "worker", serviceAt(service.url, [{ name: "work" }, { name: "rest" }]));
  await register(gateway, "demo", JSON.parse(readFileSync(join(root, "console/demo.json"), "utf8")));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const put = (name: string, body: unknown, headers: Record<string, string> = {}, key = gateway.adminKey) =>
  gateway.request("PUT", `/v1/roles/${name}`, { body, headers, key });
const remove = (name: string, headers: Record<string, string> = { "if-match": "*" }, key = gateway.adminKey) =>
  gateway.request("DELETE", `/v1/roles/${name}`, { headers, key });
const get = (name: string) => gateway.request("GET", `/v1/roles/${name}`);
const whoami = (key: string) => gateway.request("GET", "/v1/whoami", { key });

test("a_role_is_created_replaced_and_deleted_under_its_entity_tag", async () => {
  const made = await put("auditor", { description: "Reads.", permissions: ["audit:read"] });
  assert.equal(made.status, 201, made.text);
  assert.equal(made.headers.get("location"), "/v1/roles/auditor");
  const { created_at, updated_at, ...role } = made.json;
  assert.deepEqual(role, { name: "auditor", description: "Reads.", permissions: ["audit:read"], shipped: false });
  assert.equal(created_at, updated_at);
  refused(await put("auditor", { permissions: [] }), 428, "precondition_required");
  refused(await put("auditor", { permissions: [] }, { "if-match": '"7"' }), 412, "precondition_failed");
  const replaced = await put("auditor", { permissions: [] }, { "if-match": made.headers.get("etag")! });
  assert.equal(replaced.status, 200, replaced.text);
  assert.deepEqual([replaced.json.description, replaced.json.permissions], ["", []]);
  const read = await get("auditor");
  assert.deepEqual([read.json, read.headers.get("etag")], [replaced.json, replaced.headers.get("etag")]);
  refused(await remove("auditor", {}), 428, "precondition_required");
  refused(await remove("auditor", { "if-match": made.headers.get("etag")! }), 412, "precondition_failed");
  assert.equal((await remove("auditor")).status, 204);
  refused(await remove("auditor"), 404, "not_found");
  refused(await get("auditor"), 404, "not_found");
});

test("shipped_roles_are_listed_first_and_never_change", async () => {
  await put("zoo-keeper", { permissions: [] });
  const { json } = await gateway.request("GET", "/v1/roles");
  const names = json.data.map(({ name }: any) => name);
  assert.deepEqual(names.slice(0, 5), ["admin", "operator", "caller", "viewer", "service"]);
  assert.ok(names.includes("zoo-keeper"));
  for (const name of names.slice(0, 5)) {
    assert.deepEqual((await get(name)).json, json.data[names.indexOf(name)]);
    refused(await put(name, { permissions: ["*"] }, { "if-match": "*" }), 409, "conflict");
    refused(await remove(name), 409, "conflict");
  }
});

test("a_wrong_role_reports_every_fault", async () => {
  const answer = await put("wrong", { description: 1, permissions: ["ok:read", "no spaces"], more: 1 });
  assert.deepEqual(pointers(refused(answer, 422, "validation_failed")), ["#/description", "#/more", "#/permissions/1"]);
  assert.deepEqual(pointers(refused(await put("none", {}), 422, "validation_failed")), ["#/permissions"]);
  refused(await put("No-Name", { permissions: [] }), 422, "validation_failed");
});

test("a_changed_role_applies_to_the_next_call_of_its_keys", async () => {
  const role = async (permissions: string[]) => {
    const answer = await put("worker", { permissions }, { "if-match": "*" });
    assert.equal(answer.status, 200, answer.text);
  };
  await put("worker", { permissions: ["contexts:create:worker.work"] });
  const { secret } = await makeKey(gateway, "worker");
  const ask = async (capability: string) => (await create(gateway, { capability }, { key: secret })).status;
  for (let turn = 0; turn < 10; turn++) {
    assert.deepEqual([await ask("work"), await ask("rest")], [200, 403]);
    await role(["contexts:create:worker.rest", "services:read"]);
    assert.deepEqual([await ask("work"), await ask("rest")], [403, 200]);
    const seen = await gateway.request("GET", "/v1/capabilities", { key: secret });
    assert.deepEqual(
      seen.json.data.map(({ name }: any) => name),
      ["rest"],
      "lists follow too",
    );
    await role(["contexts:create:worker.work"]);
  }
  const me = await gateway.request("GET", "/v1/whoami", { key: secret });
  assert.deepEqual([me.json.role, me.json.permissions], ["worker", ["contexts:create:worker.work"]]);
});

test("a_role_in_use_by_keys_is_not_deleted", async () => {
  await put("busy", { permissions: ["contexts:read"] });
  const { id } = await makeKey(gateway, "busy");
  const { detail } = refused(await remove("busy"), 409, "conflict");
  assert.ok(detail.includes(`keys/${id}`), detail);
  await gateway.request("DELETE", `/v1/keys/${id}`);
  assert.equal((await remove("busy")).status, 204);
  const body = { name: "late", role: "busy" };
  refused(await gateway.request("POST", "/v1/keys", { body }), 422, "validation_failed");
});

test("a_role_grants_no_more_than_its_writer_has", async () => {
  const { secret } = await makeKey(gateway, "bare", ["roles:write", "keys:write", "contexts:create:worker.*"]);
  for (const permissions of [["*"], ["roles:*"], ["contexts:create:*"], ["contexts:create:worker.work", "keys:read"]]) {
    refused(await put("more", { permissions }, {}, secret), 403, "permission_denied");
  }
  const granted = await put("less", { permissions: ["contexts:create:worker.work", "keys:write"] }, {}, secret);
  assert.equal(granted.status, 201, granted.text);
  const key = (role: string) => gateway.request("POST", "/v1/keys", { body: { name: "x", role }, key: secret });
  assert.equal((await key("less")).status, 201);
  await put("strong", { permissions: ["audit:read"] });
  refused(await key("strong"), 403, "permission_denied");
  // Nor may a caller extend a role of existing keys beyond its own permissions.
  const raised = await put("less", { permissions: ["audit:read"] }, { "if-match": "*" }, secret);
  refused(raised, 403, "permission_denied");
});

// The contract's table of paths and required permissions. Unknown ids keep the calls harmless.
const asked: [method: string, path: string, permission: string, body?: unknown][] = [
  ["POST", "/v1/contexts", "contexts:create:worker.work", { capability: "work", service: "worker" }],
  ["GET", "/v1/contexts", "contexts:read"],
  ["GET", "/v1/contexts/ctx_none", "contexts:read"],
  ["GET", "/v1/contexts/ctx_none/events", "contexts:read"],
  ["POST", "/v1/contexts/ctx_none/cancel", "contexts:cancel"],
  ["GET", "/v1/services", "services:read"],
  ["GET", "/v1/services/none", "services:read"],
  ["PUT", "/v1/services/none", "services:write", {}],
  ["PATCH", "/v1/services/none", "services:write", {}],
  ["DELETE", "/v1/services/none", "services:write"],
  ["GET", "/v1/capabilities", "services:read"],
  ["GET", "/v1/keys", "keys:read"],
  ["GET", "/v1/keys/none", "keys:read"],
  ["POST", "/v1/keys", "keys:write", {}],
  ["POST", "/v1/keys/none/rotate", "keys:write"],
  ["DELETE", "/v1/keys/none", "keys:write"],
  ["GET", "/v1/events", "events:read"],
  ["POST", "/v1/tickets", "events:read"],
  ["GET", "/v1/model-routes", "models:read"],
  ["GET", "/v1/model-routes/none", "models:read"],
  ["PUT", "/v1/model-routes/none", "models:write", {}],
  ["DELETE", "/v1/model-routes/none", "models:write"],
  // Its service does not have the first two: a request that may use the model is refused with 400.
  ["POST", "/v1/responses", "models:use:demo", { model: "demo", input: "Hi" }],
  ["POST", "/v1/embeddings", "models:use:demo", { model: "demo", input: "Hi" }],
  ["POST", "/v1/chat/completions", "models:use:demo", { model: "demo", messages: [{ role: "user", content: "Hi" }] }],
  ["POST", "/v1/messages", "models:use:demo", { model: "demo", messages: [{ role: "user", content: "Hi" }] }],
  ["POST", "/v1/messages/count_tokens", "models:use:demo", { model: "demo", messages: [] }],
];
const roles: Record<string, string[]> = {
  admin: ["*"],
  operator: [
    "contexts:create:*",
    "contexts:read:*",
    "contexts:cancel",
    "events:read",
    "models:use:*",
    "models:read",
    "models:write",
    "services:*",
    "limits:*",
    "webhooks:*",
    "schedules:*",
    "usage:*",
    "audit:*",
    "grants:*",
    "registry:read",
  ],
  caller: ["contexts:create:*", "contexts:read", "contexts:cancel", "models:use:*", "services:read", "events:read"],
  viewer: ["*:read:*"],
  service: ["services:heartbeat:worker"],
};

/** Whether a granted permission covers a required one: `*` is one whole segment, or at the end the rest. */
function covers(granted: string, wanted: string): boolean {
  const [have, need] = [granted.split(":"), wanted.split(":")];
  for (let at = 0; ; at++) {
    if (at === have.length) return at === need.length;
    if (have[at] === "*" && at === have.length - 1) return true;
    if (have[at] !== "*" && have[at] !== need[at]) return false;
    if (at >= need.length) return false;
  }
}

for (const [role, permissions] of Object.entries(roles)) {
  test(`a_key_of_the_role_${role}_may_do_exactly_what_its_permissions_grant`, async () => {
    const { secret } = await makeKey(gateway, role, role === "service" ? permissions : []);
    assert.deepEqual((await whoami(secret)).json.permissions, permissions);
    for (const [method, path, permission, body] of asked) {
      // Otherwise the tenant's event stream would not end.
      const headers = { accept: "application/json" };
      const answer = await gateway.request(method, path, { key: secret, headers, ...(body !== undefined && { body }) });
      const label = `${role}: ${method} ${path} → ${answer.text}`;
      if (permissions.some((granted) => covers(granted, permission))) {
        assert.ok(![401, 403].includes(answer.status) && answer.status < 500, label);
      } else {
        assert.equal(answer.status, 403, label);
        refusedAt(path, answer, 403, "permission_denied");
        assert.equal(
          answer.headers.get("www-authenticate"),
          `Bearer error="insufficient_scope", scope="${permission}"`,
          label,
        );
      }
    }
  });
}

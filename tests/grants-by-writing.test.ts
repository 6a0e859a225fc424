// Writers may grant no more than they have in the target tenant, and may not take from others what they do not have.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { makeKey, pointers, refused } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Claims, type Pair, pair, sign } from "./support/issuer.ts";

let gateway: Gateway;
let es: Pair;
/** The first key of the tenant `t`. */
let t: string;
const always = { "if-match": "*" };

before(async () => {
  gateway = await startGateway();
  es = await pair("ES256", "es");
  t = (await gateway.request("PUT", "/v1/tenants/t", { body: { name: "T" } })).json.admin_key;
  const role = async (key: string, name: string, permissions: string[]) =>
    assert.equal((await gateway.request("PUT", `/v1/roles/${name}`, { key, body: { permissions } })).status, 201);
  await role(t, "ops", ["*"]);
  await role(gateway.adminKey, "ops", ["contexts:read"]);
  await role(t, "readers", ["contexts:read", "services:read"]);
  await role(t, "schedulers", ["schedules:read"]);
});
after(async () => gateway?.stop());

const document = (name: string, more: Claims = {}) => ({
  issuer: `https://${name}.example.com`,
  audience: "us",
  algorithms: ["ES256"],
  keys: [es.jwk],
  ...more,
});
const put = (key: string, name: string, more: Claims, headers = {}) =>
  gateway.request("PUT", `/v1/issuers/${name}`, { key, body: document(name, more), headers });
const token = (name: string, claims: Claims = {}) =>
  sign({ iss: `https://${name}.example.com`, aud: "us", sub: "ada", ...claims }, es);
const whoami = async (key: string) => (await gateway.request("GET", "/v1/whoami", { key })).json;

test("an_issuer_for_another_tenant_grants_what_its_roles_mean_there", async () => {
  const writer = (await makeKey(gateway, "caller", ["issuers:write"])).secret;
  const signIn = {
    client_id: "x",
    authorization_endpoint: "https://i.example.com/a",
    token_endpoint: "https://i.example.com/t",
  };
  for (const more of [
    { role: "ops", tenant: "t" },
    { role: "caller", tenant: "t" },
    { role: "viewer", tenant: "default" },
    { role: "ops", tenant: "no-such-tenant" },
    { role: "unknown", tenant: "t" },
    { role: "caller", claims: { tenant: "org" } },
    { claims: { role: "roles" }, roles: { a: "ops" }, tenant: "t" },
    { role: "ops", tenant: "t", sign_in: signIn },
  ])
    refused(await put(writer, "mine", more), 403, "permission_denied");
  assert.equal((await put(writer, "mine", { role: "caller" })).status, 201);
  assert.equal(
    (await put(writer, "mine", { role: "ops", tenant: "default" }, always)).status,
    200,
    "its own ops is less",
  );
  assert.deepEqual((await whoami(await token("mine"))).permissions, ["contexts:read"]);
  assert.equal(
    (await gateway.request("GET", "/v1/whoami", { key: await token("mine", { org: "t" }) })).json.tenant,
    "default",
  );
});

test("creators_of_tenants_grant_there_no_more_than_they_have", async () => {
  const writer = (await makeKey(gateway, "caller", ["issuers:write", "tenants:write"])).secret;
  refused(await put(writer, "theirs", { role: "ops", tenant: "t" }), 403, "permission_denied");
  refused(
    await put(writer, "theirs", { claims: { role: "r" }, roles: { a: "caller", b: "ops" }, tenant: "t" }),
    403,
    "permission_denied",
  );
  refused(await put(writer, "theirs", { role: "caller", claims: { tenant: "org" } }), 403, "permission_denied");
  assert.equal(
    (await put(writer, "theirs", { role: "readers", tenant: "t" })).status,
    201,
    "a role that is only there",
  );
  const { tenant, permissions } = await whoami(await token("theirs"));
  assert.deepEqual([tenant, permissions], ["t", ["contexts:read", "services:read"]]);
  assert.deepEqual(
    pointers(refused(await put(writer, "more", { role: "none", tenant: "t" }), 422, "validation_failed")),
    ["#/role"],
  );
  assert.deepEqual(
    pointers(refused(await put(writer, "more", { role: "caller", tenant: "none" }), 422, "validation_failed")),
    ["#/tenant"],
  );
});

test("the_admin_may_name_roles_that_only_the_other_tenant_has", async () => {
  const made = await put(gateway.adminKey, "admins", { role: "schedulers", tenant: "t" });
  assert.equal(made.status, 201, made.text);
  assert.deepEqual((await whoami(await token("admins"))).permissions, ["schedules:read"]);
  assert.equal((await put(gateway.adminKey, "every", { role: "schedulers", claims: { tenant: "org" } })).status, 201);
  assert.equal((await whoami(await token("every", { org: "t" }))).role, "schedulers");
  assert.deepEqual((await whoami(await token("every", { org: "default" }))).permissions, [], "the role does not exist");
});

test("an_issuer_that_grants_more_is_not_changed_or_deleted_by_a_caller_with_less", async () => {
  const writer = (await makeKey(gateway, "caller", ["issuers:write"])).secret;
  assert.equal((await put(gateway.adminKey, "boss", { role: "admin" })).status, 201);
  refused(await put(writer, "boss", { role: "caller" }, always), 403, "permission_denied");
  refused(
    await gateway.request("DELETE", "/v1/issuers/boss", { key: writer, headers: always }),
    403,
    "permission_denied",
  );
  assert.equal((await put(gateway.adminKey, "away", { role: "ops", tenant: "t" })).status, 201);
  refused(await put(writer, "away", { role: "caller" }, always), 403, "permission_denied");
  assert.deepEqual((await whoami(await token("boss"))).permissions, ["*"]);
  assert.equal((await put(writer, "own", { role: "caller" })).status, 201);
  assert.equal((await gateway.request("DELETE", "/v1/issuers/own", { key: writer, headers: always })).status, 204);
});

test("a_role_is_extended_only_by_a_caller_with_the_permissions_in_its_tenant", async () => {
  assert.equal((await put(gateway.adminKey, "grows", { role: "readers", tenant: "t" })).status, 201);
  const body = { name: "there", role: "caller", permissions: ["roles:write"] };
  const there = (await gateway.request("POST", "/v1/keys", { key: t, body })).json.secret;
  const grow = (key: string, permissions: string[]) =>
    gateway.request("PUT", "/v1/roles/readers", { key, body: { permissions }, headers: always });
  refused(await grow(there, ["contexts:read", "keys:write"]), 403, "permission_denied");
  assert.equal((await grow(t, ["contexts:read", "services:read", "keys:read"])).status, 200);
  assert.ok((await whoami(await token("grows"))).permissions.includes("keys:read"), "as its tenant has decided");
});

test("a_role_of_another_tenant_does_not_block_a_role_of_the_same_name", async () => {
  assert.equal((await gateway.request("PUT", "/v1/roles/lonely", { body: { permissions: [] } })).status, 201);
  assert.equal((await gateway.request("PUT", "/v1/roles/lonely", { key: t, body: { permissions: [] } })).status, 201);
  assert.equal((await put(gateway.adminKey, "lonely", { role: "lonely", tenant: "t" })).status, 201);
  assert.equal((await gateway.request("DELETE", "/v1/roles/lonely", { headers: always })).status, 204);
});

test("a_caller_with_less_revokes_no_key_and_shrinks_no_role_of_one_with_more", async () => {
  const writer = await makeKey(gateway, "caller", ["keys:write", "roles:write"]);
  const { secret: key } = writer;
  const boss = await makeKey(gateway, "admin");
  const peer = await makeKey(gateway, "caller");
  refused(await gateway.request("DELETE", `/v1/keys/${boss.id}`, { key }), 403, "permission_denied");
  assert.equal((await whoami(boss.secret)).role, "admin");
  assert.equal((await gateway.request("DELETE", `/v1/keys/${peer.id}`, { key })).status, 204);
  assert.equal(
    (await gateway.request("PUT", "/v1/roles/mighty", { body: { permissions: ["keys:*", "audit:read"] } })).status,
    201,
  );
  const put = (permissions: string[]) =>
    gateway.request("PUT", "/v1/roles/mighty", { key, body: { permissions }, headers: always });
  refused(await put([]), 403, "permission_denied");
  refused(await gateway.request("DELETE", "/v1/roles/mighty", { key, headers: always }), 403, "permission_denied");
  assert.equal((await gateway.request("DELETE", `/v1/keys/${writer.id}`, { key })).status, 204, "its own it may");
});

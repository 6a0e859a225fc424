// API keys: secrets shown once and stored as hashes, roles, rotation, revocation, and refusals that reveal nothing.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { create, makeKey, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { type Answer, type Gateway, startGateway } from "./support/gateway.ts";
import { type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway();
  service = await startService();
  await register(gateway, "worker", serviceAt(service.url));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const whoami = (key: string | null, headers: Record<string, string> = {}) =>
  gateway.request("GET", "/v1/whoami", { key, headers });
const post = (body: unknown, key = gateway.adminKey) => gateway.request("POST", "/v1/keys", { body, key });
const rotate = (id: string, body?: object) => gateway.request("POST", `/v1/keys/${id}/rotate`, body ? { body } : {});
const revoke = (id: string) => gateway.request("DELETE", `/v1/keys/${id}`);

/** Everything in the gateway's folder, byte for byte. */
const onDisk = () =>
  readdirSync(gateway.persist, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), "latin1"))
    .join("\n");

test("a_key_is_created_and_its_secret_shown_once", async () => {
  const answer = await post({ name: "ci", role: "caller", permissions: ["usage:read"], expires_in_days: 7 });
  assert.equal(answer.status, 201);
  const { id, secret, name, role, permissions, expires_at, created_at } = answer.json;
  assert.equal(answer.headers.get("location"), `/v1/keys/${id}`);
  assert.equal(answer.headers.get("cache-control"), "no-store");
  assert.deepEqual([name, role, permissions], ["ci", "caller", ["usage:read"]]);
  assert.ok(Math.abs(Date.parse(expires_at) - Date.parse(created_at) - 7 * 86_400_000) < 5000);
  assert.ok(secret.length > 50);
  const { json: me } = await whoami(secret);
  assert.deepEqual([me.principal, me.tenant, me.role], [`key:${id}`, "default", "caller"]);
  assert.ok(me.permissions.includes("usage:read"));
  for (const path of [`/v1/keys/${id}`, "/v1/keys"]) {
    const shown = await gateway.request("GET", path);
    assert.equal(shown.status, 200);
    assert.equal(shown.text.includes(secret), false);
    const key = shown.json.data?.find((one: any) => one.id === id) ?? shown.json;
    assert.deepEqual(
      [key.id, key.name, key.secret, key.last_four, key.created_by],
      [id, "ci", undefined, secret.slice(-4), "key:admin"],
    );
    assert.equal("hash" in key, false);
  }
});

test("a_secret_is_on_disk_as_a_hash_only", async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  await create(gateway, {}, { key: secret });
  await gateway.request("POST", "/v1/tickets", { key: secret });
  const files = onDisk();
  assert.ok(files.includes(id), "the key itself is on disk");
  const [, , random] = secret.split("_");
  for (const part of [
    secret,
    random!,
    random!.slice(0, 24),
    Buffer.from(secret).toString("base64"),
    gateway.adminKey,
  ]) {
    assert.equal(files.includes(part), false, part);
  }
});

test("a_ninety_day_key_with_no_extra_permissions_is_the_default", async () => {
  const { json } = await post({ name: "plain", role: "viewer" });
  assert.deepEqual(json.permissions, []);
  assert.ok(Math.abs(Date.parse(json.expires_at) - Date.now() - 90 * 86_400_000) < 60_000);
});

test("an_invalid_request_for_a_key_reports_every_fault", async () => {
  const problem = refused(
    await post({
      name: "",
      role: "root",
      permissions: ["ok:read", "no spaces", "a:b:c:d", ""],
      expires_in_days: 0,
      more: 1,
    }),
    422,
    "validation_failed",
  );
  assert.deepEqual(
    pointers(problem),
    [
      "#/expires_in_days",
      "#/more",
      "#/name",
      "#/permissions/1",
      "#/permissions/2",
      "#/permissions/3",
      "#/role",
    ].toSorted(),
  );
  assert.deepEqual(pointers(refused(await post({}), 422, "validation_failed")), ["#/name", "#/role"]);
  for (const expires_in_days of [0, 3651, 1.5, "90"])
    refused(await post({ name: "x", role: "viewer", expires_in_days }), 422, "validation_failed");
  refused(await gateway.request("GET", "/v1/keys/default-000000000000"), 404, "not_found");
  refused(await revoke("default-000000000000"), 404, "not_found");
  refused(await rotate("default-000000000000"), 404, "not_found");
});

test("extra_permissions_add_to_the_role", async () => {
  const { secret } = await makeKey(gateway, "bare", ["contexts:create:worker.work", "contexts:read"]);
  assert.equal((await create(gateway, {}, { key: secret })).status, 200);
  assert.equal((await gateway.request("GET", "/v1/contexts", { key: secret })).status, 200);
  refused(await gateway.request("GET", "/v1/services", { key: secret }), 403, "permission_denied");
  const elsewhere = await makeKey(gateway, "bare", ["contexts:create:worker.other", "contexts:create:work.*"]);
  refused(await create(gateway, {}, { key: elsewhere.secret }), 403, "permission_denied");
});

test("a_key_for_a_service_names_one_service_and_permits_nothing_else", async () => {
  for (const permissions of [
    [],
    ["services:heartbeat:*"],
    ["services:heartbeat:worker", "services:connect:other"],
    ["services:heartbeat:worker", "contexts:read"],
    ["contexts:read"],
    ["*"],
  ]) {
    const answer = await post({ name: "a service", role: "service", permissions });
    assert.deepEqual(pointers(refused(answer, 422, "validation_failed")), ["#/permissions"], String(permissions));
  }
  const both = ["services:heartbeat:worker", "services:connect:worker"];
  const { secret } = await makeKey(gateway, "service", both);
  // By default it would be offline after half a minute.
  const body = { lease_seconds: 3600 };
  const beat = (id: string) => gateway.request("POST", `/v1/services/${id}/heartbeat`, { body, key: secret });
  assert.equal((await beat("worker")).status, 200);
  refused(await beat("other"), 403, "permission_denied");
  refused(await create(gateway, {}, { key: secret }), 403, "permission_denied");
});

test("a_key_grants_no_more_than_its_creator_has", async () => {
  const { secret } = await makeKey(gateway, "operator", ["keys:write"]);
  for (const body of [
    { role: "admin" },
    { role: "viewer" },
    { role: "bare", permissions: ["*"] },
    { role: "bare", permissions: ["contexts:*"] },
    { role: "bare", permissions: ["keys:read"] },
    { role: "bare", permissions: ["*:read"] },
    { role: "bare", permissions: ["roles:write"] },
    { role: "bare", permissions: ["services:write", "keys:read"] },
  ]) {
    refused(await post({ name: "more", ...body }, secret), 403, "permission_denied");
  }
  for (const body of [
    { role: "operator" },
    { role: "caller" },
    { role: "bare", permissions: ["services:*", "contexts:create:worker.work", "keys:write"] },
  ]) {
    assert.equal((await post({ name: "less", ...body }, secret)).status, 201);
  }
});

test("a_key_that_may_write_keys_cannot_take_over_a_stronger_one", async () => {
  const strong = await makeKey(gateway, "admin");
  const { secret } = await makeKey(gateway, "bare", ["keys:write"]);
  const answer = await gateway.request("POST", `/v1/keys/${strong.id}/rotate`, { key: secret });
  assert.equal(answer.status, 403, "rotation would show a secret with more permissions than the asker's");
  assert.equal((await whoami(strong.secret)).status, 200);
});

test("rotation_without_overlap_ends_the_old_secret_with_the_next_call", async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  assert.equal((await whoami(secret)).status, 200);
  const answer = await rotate(id);
  assert.equal(answer.status, 201);
  assert.equal(answer.json.id, id);
  assert.notEqual(answer.json.secret, secret);
  refused(await whoami(secret), 401, "unauthenticated");
  refused(await gateway.request("GET", "/v1/contexts", { key: secret }), 401, "unauthenticated");
  refused(await create(gateway, {}, { key: secret }), 401, "unauthenticated");
  assert.equal((await whoami(answer.json.secret)).json.principal, `key:${id}`);
});

test("rotation_with_overlap_leaves_the_old_secret_alive_for_that_long", async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  const { json } = await rotate(id, { overlap_seconds: 5 });
  const until = Date.now() + 5000;
  assert.equal((await whoami(secret)).status, 200);
  assert.equal((await whoami(json.secret)).status, 200);
  await pause(until - Date.now() + 100);
  refused(await whoami(secret), 401, "unauthenticated");
  assert.equal((await whoami(json.secret)).status, 200);
  for (const overlap_seconds of [-1, 1.5, 10 ** 9, "1"])
    refused(await rotate(id, { overlap_seconds }), 422, "validation_failed");
});

const asks: Record<string, (key: string) => Promise<Answer>> = {
  whoami: (key) => whoami(key),
  creating: (key) => create(gateway, {}, { key }),
  listing_contexts: (key) => gateway.request("GET", "/v1/contexts", { key }),
  listing_services: (key) => gateway.request("GET", "/v1/services", { key }),
  tickets: (key) => gateway.request("POST", "/v1/tickets", { key }),
};
for (const [name, ask] of Object.entries(asks)) {
  test(`a_revoked_key_is_refused_by_${name}_with_the_next_call`, async () => {
    const { id, secret } = await makeKey(gateway, "caller");
    assert.ok((await ask(secret)).status < 300);
    assert.equal((await revoke(id)).status, 204);
    refused(await ask(secret), 401, "unauthenticated");
    refused(await revoke(id), 404, "not_found");
  });
}

test("a_revoked_key_can_no_longer_read_a_context", async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  const { json: context } = await create(gateway, {}, { key: secret });
  await revoke(id);
  for (const path of [`/v1/contexts/${context.id}`, `/v1/contexts/${context.id}/events`]) {
    refused(await gateway.request("GET", path, { key: secret }), 401, "unauthenticated");
  }
});

test("a_revoked_key_ends_within_five_seconds_even_where_nothing_else_happens", async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  assert.equal((await whoami(secret)).status, 200);
  await revoke(id);
  const until = Date.now() + 5000;
  let { status } = await whoami(secret);
  while (status !== 401 && Date.now() < until) {
    await pause(200);
    ({ status } = await whoami(secret));
  }
  assert.equal(status, 401);
});

test("all_wrong_credentials_get_the_same_response", async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  const revoked = await makeKey(gateway, "caller");
  await revoke(revoked.id);
  const last = secret.at(-1) === "0" ? "1" : "0";
  const [, , random] = secret.split("_");
  // A well-formed key needs a valid checksum, which another key's secret under this id does not have.
  const bodies = [];
  for (const [what, key] of Object.entries({
    "a revoked key": revoked.secret,
    "a typing error": secret.slice(0, -1) + last,
    "another's random part": `nx_${revoked.id}_${random}`,
    "of a tenant that is not there": secret.replace("nx_default", "nx_unknown"),
    "an id alone": id,
    "the wrong admin key": `${gateway.adminKey.slice(0, -1)}~`,
    "the admin key in another case": gateway.adminKey.toUpperCase(),
    "a JWT": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.",
    "something very long": "x".repeat(8000),
    "the prefix alone": "nx_",
    "a NUL": "nx_%00",
  })) {
    const answer = await whoami(key);
    const { request_id: _, ...body } = refused(answer, 401, "unauthenticated");
    assert.equal(answer.headers.get("www-authenticate"), 'Bearer error="invalid_token"', what);
    bodies.push(body);
  }
  for (const body of bodies) assert.deepEqual(body, bodies[0]);
});

test("without_credentials_the_challenge_is_bare", async () => {
  for (const headers of [
    {},
    { authorization: "" },
    { authorization: "Bearer" },
    { authorization: "Bearer " },
    { authorization: "Basic YTpi" },
  ] as Record<string, string>[]) {
    for (const path of ["/v1/whoami", "/v1/contexts", "/v1/keys"]) {
      const answer = await gateway.request("GET", path, { key: null, headers });
      refused(answer, 401, "unauthenticated");
      assert.equal(answer.headers.get("www-authenticate"), "Bearer", JSON.stringify(headers));
    }
  }
});

test("a_key_may_be_sent_as_x_api_key_and_authorization_takes_precedence", async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  const by = (headers: Record<string, string>) => whoami(null, headers);
  assert.equal((await by({ "x-api-key": secret })).json.principal, `key:${id}`);
  assert.equal((await by({ "x-api-key": gateway.adminKey })).json.principal, "key:admin");
  assert.equal((await by({ authorization: `bearer ${secret}` })).json.principal, `key:${id}`, "the scheme has no case");
  assert.equal(
    (await by({ authorization: `Bearer ${secret}`, "x-api-key": gateway.adminKey })).json.principal,
    `key:${id}`,
  );
  refused(await by({ authorization: "Bearer wrong", "x-api-key": gateway.adminKey }), 401, "unauthenticated");
  const inUrl = await gateway.request("GET", `/v1/whoami?api_key=${secret}&access_token=${secret}`, { key: null });
  assert.equal(inUrl.status, 401, "credentials never ride in a URL");
});

test("secrets_never_reach_the_log", async () => {
  const { secret } = await makeKey(gateway, "caller");
  await whoami(secret);
  await whoami(`${secret}x`);
  await gateway.request("GET", `/v1/contexts?key=${secret}`, { key: secret });
  const text = gateway.logs.join("\n");
  assert.ok(text.includes("/v1/whoami"));
  for (const part of [secret, gateway.adminKey]) assert.equal(text.includes(part), false);
});

test("variables_that_are_not_valid_are_all_named_and_the_health_check_answers", async () => {
  const vars = { CONTEXT_SHARDS: "four", OAUTH: "yes", KEK_2: "not 32 bytes" };
  const wrong = await startGateway({ vars });
  try {
    for (let time = 0; time < 2; time += 1) {
      const { detail } = refused(await wrong.request("GET", "/v1/whoami"), 503, "not_configured");
      assert.match(detail, /CONTEXT_SHARDS must be a whole number from 1 to 1024; OAUTH must be `true` or `false`/);
      assert.doesNotMatch(detail, /four|yes/);
    }
    assert.equal((await wrong.request("GET", "/health", { key: null })).json.status, "ok");
    const reported = wrong.logs.filter((line) => line.includes('"setting not valid"')).map((line) => JSON.parse(line));
    const named = reported.map(({ level, variable, value }) => [level, variable, value]);
    assert.deepEqual(
      named.filter(([, variable]) => variable !== "KEK_2"),
      [
        ["error", "CONTEXT_SHARDS", "four"],
        ["error", "OAUTH", "yes"],
      ],
    );
  } finally {
    await wrong.stop();
  }
});

test("a_gateway_without_an_admin_key_serves_no_requests_and_states_what_to_run", async () => {
  for (const ADMIN_KEY of ["", "short"]) {
    const bare = await startGateway({ vars: { ADMIN_KEY } });
    try {
      for (const key of [null, ADMIN_KEY, "anything at all, long enough"]) {
        const answer = await bare.request("GET", "/v1/whoami", { key: key || null });
        const { detail } = refused(answer, 503, "not_configured");
        assert.match(detail, /wrangler secret put ADMIN_KEY/);
      }
      assert.equal((await bare.request("GET", "/health", { key: null })).json.status, "ok");
    } finally {
      await bare.stop();
    }
  }
});

// The audit log: every change with its actor, origin and content; refused credentials with the actual reason, and never
// so many that they fill it.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, test } from "node:test";
import { create, eventually, makeKey, many, pointers, refused, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";

let gateway: Gateway;
before(async () => {
  gateway = await startGateway();
});
after(() => gateway?.stop());

const audit = (query: Record<string, string> = {}, key = gateway.adminKey) =>
  gateway.request("GET", `/v1/audit?${new URLSearchParams(query)}`, { key });
const entries = async (query: Record<string, string> = {}): Promise<any[]> => {
  const { status, text, json } = await audit({ limit: "200", ...query });
  assert.equal(status, 200, text);
  return json.data;
};
const from = (address: string, more: Record<string, string> = {}) => ({ "cf-connecting-ip": address, ...more });

test("every_change_is_logged_with_actor_origin_and_content", async () => {
  const url = "https://service.example.com/run";
  const credentials = { header: "Authorization", value: "Bearer of-a-secret" };
  const headers = from("203.0.113.7", { "x-request-id": "made-by-a-test" });
  const document = serviceAt(url, [{}], { credentials });
  const made = await gateway.request("PUT", "/v1/services/changing", { body: document, headers });
  assert.equal(made.status, 201, made.text);
  const [entry, ...more] = await entries({ object: "services/changing" });
  assert.equal(more.length, 0);
  const { id, at, changes, ...rest } = entry;
  assert.match(id, /^aud_/);
  assert.ok(Math.abs(Date.parse(at) - Date.now()) < 30_000);
  assert.deepEqual(rest, {
    actor: "key:admin",
    action: "service.created",
    object: "services/changing",
    request_id: "made-by-a-test",
    address: "203.0.113.7",
    outcome: "done",
  });
  assert.deepEqual(changes.name, { from: null, to: document.name });
  assert.match(changes.credentials.to.value, /^fingerprint:[0-9a-f]{12}$/);
  assert.match(changes.signing_secret.to, /^fingerprint:[0-9a-f]{12}$/);

  const patch = { weight: 7, credentials: { header: "Authorization", value: "Bearer of-another" } };
  await gateway.request("PATCH", "/v1/services/changing", { body: patch, headers: { "if-match": "*" } });
  await gateway.request("DELETE", "/v1/services/changing", { headers: { "if-match": "*" } });
  const [deleted, updated] = await entries({ object: "services/changing" });
  assert.equal(deleted.action, "service.deleted");
  assert.equal(deleted.address, "127.0.0.1", "as the platform saw it");
  assert.deepEqual(deleted.changes.weight, { from: 7, to: null });
  assert.equal(updated.action, "service.updated");
  assert.deepEqual(Object.keys(updated.changes).sort(), ["credentials", "weight"], "only changes are logged");
  assert.deepEqual(updated.changes.weight, { from: 1, to: 7 });
  assert.notEqual(updated.changes.credentials.to.value, updated.changes.credentials.from.value);
  const all = JSON.stringify(await entries());
  for (const secret of ["of-a-secret", "of-another", made.json.signing_secret]) {
    assert.equal(all.includes(secret), false, "secrets are shown as fingerprints");
  }
});

test("keys_and_roles_are_logged_and_filters_find_them", async () => {
  const { id, secret } = await makeKey(gateway, "bare", ["roles:write", "audit:read"]);
  const body = { permissions: ["audit:read"] };
  assert.equal((await gateway.request("PUT", "/v1/roles/watcher", { body, key: secret })).status, 201);
  await gateway.request("POST", `/v1/keys/${id}/rotate`, { body: { overlap_seconds: 60 } });
  await gateway.request("DELETE", `/v1/keys/${id}`);
  const actions = async (query: Record<string, string>) => (await entries(query)).map(({ action }) => action);
  assert.deepEqual(await actions({ object: `keys/${id}` }), ["key.revoked", "key.rotated", "key.created"]);
  assert.deepEqual(await actions({ object: `keys/${id}`, action: "key.rotated" }), ["key.rotated"]);
  assert.deepEqual(await actions({ actor: `key:${id}` }), ["role.created"]);
  assert.ok((await actions({ action: "role.*" })).every((action) => action.startsWith("role.")));
  const [created] = await entries({ object: "roles/watcher" });
  assert.deepEqual(await actions({ after: created.at, object: "roles/watcher" }), []);
  assert.deepEqual(await actions({ before: created.at, object: "roles/watcher" }), []);
  const later = new Date(Date.parse(created.at) + 1).toISOString();
  assert.deepEqual(await actions({ before: later, object: "roles/watcher" }), ["role.created"]);
});

test("a_refused_write_is_not_logged", async () => {
  const count = (await entries()).length;
  refused(await gateway.request("PUT", "/v1/roles/wrong", { body: {} }), 422, "validation_failed");
  refused(await gateway.request("DELETE", "/v1/roles/none", { headers: { "if-match": "*" } }), 404, "not_found");
  assert.equal((await entries()).length, count);
});

test("pages_go_from_newest_to_oldest_without_a_gap", async () => {
  for (let n = 0; n < 7; n++) await gateway.request("PUT", `/v1/roles/page-${n}`, { body: { permissions: [] } });
  const filters = { action: "role.created", limit: "3" };
  const seen: string[] = [];
  let cursor: string | null = null;
  do {
    const { status, text, json } = await audit({ ...filters, ...(cursor && { cursor }) });
    assert.equal(status, 200, text);
    assert.ok(json.data.length <= 3);
    seen.push(...json.data.map(({ object }: any) => object));
    cursor = json.next_cursor;
  } while (cursor);
  assert.deepEqual(
    seen.slice(0, 7),
    [6, 5, 4, 3, 2, 1, 0].map((n) => `roles/page-${n}`),
  );
  const { json } = await audit(filters);
  refused(await audit({ ...filters, action: "key.*", cursor: json.next_cursor }), 400, "invalid_request");
  assert.equal((await audit({ action: `${"_".repeat(39)}*` })).status, 200);
  refused(await audit({ action: `${"_".repeat(40)}*` }), 422, "validation_failed");
  const wrong = await audit({ after: "yesterday", before: "x", action: "Drop?", limit: "0", more: "1" });
  assert.deepEqual(pointers(refused(wrong, 422, "validation_failed")), ["?more"]);
  const values = await audit({ after: "yesterday", before: "x", action: "Drop?", limit: "0" });
  assert.deepEqual(pointers(refused(values, 422, "validation_failed")), ["?action", "?after", "?before", "?limit"]);
});

test("reading_it_requires_its_permission", async () => {
  const { secret } = await makeKey(gateway, "caller");
  refused(await audit({}, secret), 403, "permission_denied");
  for (const role of ["operator", "viewer"]) {
    assert.equal((await audit({}, (await makeKey(gateway, role)).secret)).status, 200, role);
  }
});

test("only_the_audit_log_distinguishes_refused_credentials", async () => {
  const good = await makeKey(gateway, "caller");
  const revoked = await makeKey(gateway, "caller");
  const rotated = await makeKey(gateway, "caller");
  await gateway.request("DELETE", `/v1/keys/${revoked.id}`);
  // Well-formed, with a valid checksum and an existing id, but wrong: the secret before a rotation.
  await gateway.request("POST", `/v1/keys/${rotated.id}/rotate`);
  const ask = async (key: string, address: string) => {
    const headers = from(address);
    refused(await gateway.request("GET", "/v1/whoami", { key, headers }), 401, "unauthenticated");
  };
  await ask(revoked.secret, "198.51.100.1");
  await ask(rotated.secret, "198.51.100.2");
  await ask("no key at all", "198.51.100.3");
  await ask("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.", "198.51.100.4");
  const logged: any[] = await eventually(async () => {
    const found = await entries({ action: "credentials.refused" });
    return found.length >= 4 ? found : undefined;
  });
  const by = (address: string) => logged.find((entry) => entry.address === address)!;
  const what = (address: string) => [by(address)?.object, by(address)?.changes.reason, by(address)?.changes.count];
  assert.deepEqual(what("198.51.100.1"), [`keys/${revoked.id}`, "revoked", 1]);
  assert.deepEqual(what("198.51.100.2"), [`keys/${rotated.id}`, "wrong", 1]);
  assert.deepEqual(what("198.51.100.3"), ["credentials", "malformed", 1]);
  assert.match(by("198.51.100.4").changes.reason, /^the token /);
  assert.equal(by("198.51.100.1").actor, "unknown");
  assert.equal(by("198.51.100.1").outcome, "refused");
  const text = JSON.stringify(logged);
  for (const { secret } of [good, revoked, rotated]) assert.equal(text.includes(secret), false);
});

test("an_attacker_cannot_fill_it", async () => {
  const count = async () => (await entries({ action: "credentials.refused" })).length;
  const before = await count();
  const answers = await many(400, (n) =>
    gateway.request("GET", "/v1/whoami", { key: `guess ${n}`, headers: from(`192.0.2.${n % 200}`) }),
  );
  for (const answer of answers) assert.equal(answer.status, 401);
  // They are logged after the responses.
  await eventually(async () => {
    const all = await entries({ action: "credentials.refused" });
    return all.some(({ address }) => address === "various");
  });
  const added = (await count()) - before;
  assert.ok(added <= 33, `${added} entries of 400 refusals`);
});

test("a_key_shows_when_it_was_last_used_to_the_hour", async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  const read = async () => (await gateway.request("GET", `/v1/keys/${id}`)).json.last_used_at;
  assert.equal(await read(), null);
  assert.equal((await create(gateway, { capability: "none" }, { key: secret })).status, 422);
  const at = await eventually(read);
  assert.match(at, /:00:00\.000Z$/);
  assert.ok(Date.now() - Date.parse(at) < 3_700_000);
  const listed = (await gateway.request("GET", "/v1/keys")).json.data.find((key: any) => key.id === id);
  assert.equal(listed.last_used_at, at);
});

test("old_entries_are_deleted_by_the_sweep_and_young_ones_stay", async () => {
  const persist = mkdtempSync(join(tmpdir(), "narthex-audit-"));
  const vars = { ADMIN_KEY: "a key that outlives the restart", AUDIT_RETENTION_DAYS: "10" };
  const read = async (gateway: Gateway) =>
    (await gateway.request("GET", "/v1/audit")).json.data.map(({ object }: any) => object);
  try {
    const first = await startGateway({ persist, vars });
    for (const name of ["old", "young"]) {
      await first.request("PUT", `/v1/roles/${name}`, { body: { permissions: [] } });
    }
    await first.evict("Registry", "default");
    assert.deepEqual(await read(first), ["roles/young", "roles/old"], "it outlives its object");
    await first.stop();
    for (const entry of readdirSync(persist, { recursive: true, encoding: "utf8" })) {
      if (!entry.endsWith(".sqlite") || !entry.includes("Registry")) continue;
      const database = new DatabaseSync(join(persist, entry));
      if (database.prepare("SELECT 1 FROM sqlite_master WHERE name = 'audit'").get()) {
        database.exec(`UPDATE audit SET at = at - ${11 * 86_400_000} WHERE object = 'roles/old'`);
      }
      database.close();
    }
    const second = await startGateway({ persist, vars });
    assert.deepEqual(await read(second), ["roles/young", "roles/old"]);
    await second.runCron();
    assert.deepEqual(await read(second), ["roles/young"]);
    await second.stop();
  } finally {
    rmSync(persist, { recursive: true, force: true });
  }
});

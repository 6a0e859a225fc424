// The size limits of a tenant's registry: writes that do not fit are refused with their figures and do not affect
// others, and a registry that an earlier version has overfilled recovers.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { eventually, makeKey, refused, register, serviceAt } from "./support/arrange.ts";
import { databases } from "./support/disk.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { openStream } from "./support/stream.ts";
import { startSmallUpstream } from "./support/upstream.ts";

const undo: (() => unknown)[] = [];
after(async () => {
  for (const step of undo.reverse()) await step();
});

const MiB = 1024 * 1024;
const match = { "if-match": "*" };
/** A schema of this many bytes, within the documented limits. */
const schema = (bytes: number) => ({ type: "object", description: "x".repeat(bytes) });
/** A service whose document takes 60,000 bytes for each of its capabilities. */
const large = (capabilities: number, letter = "x") =>
  serviceAt(
    "http://127.0.0.1:9/",
    Array.from({ length: capabilities }, (_, at) => ({ name: `c${at}`, input_schema: schema(60_000) })),
    { description: letter.repeat(1000) },
  );
/**
 * A service whose outline takes about 2,000 bytes for each of its capabilities: no two of them have the same
 * permissions.
 */
const wide = (capabilities: number, letter = "x") =>
  serviceAt(
    "http://127.0.0.1:9/",
    Array.from({ length: capabilities }, (_, at) => ({
      name: `c${at}`,
      permissions: Array.from({ length: 20 }, (_, of) => `${letter.repeat(86)}${1000 * at + of}:use`),
    })),
  );
/** Adds services until not even a small one fits. Returns how many of the largest were taken. */
const fill = async (gateway: Gateway) => {
  let taken = 0;
  let refusal = await put(gateway, "s0", wide(190));
  for (; refusal.status === 201 && taken < 60; refusal = await put(gateway, `s${taken}`, wide(190))) taken += 1;
  for (const size of [40, 8, 1]) {
    for (let at = 0; (await put(gateway, `small${size}-${at}`, wide(size))).status === 201; at += 1) assert.ok(at < 20);
  }
  return { taken, refusal };
};
const room = async (gateway: Gateway, key?: string) => {
  const answer = await gateway.request("GET", "/v1/registry", key === undefined ? {} : { key });
  assert.equal(answer.status, 200, answer.text);
  return answer.json;
};
const put = (gateway: Gateway, id: string, body: object, key?: string, headers = {}) =>
  gateway.request("PUT", `/v1/services/${id}`, { body, headers, ...(key !== undefined && { key }) });

test("a_write_that_does_not_fit_is_refused_with_its_figures_and_affects_no_one_else", async () => {
  const gateway = await startGateway();
  try {
    const stream = await openStream(gateway, { query: { types: "registry.*" } });
    const beta = (await gateway.request("PUT", "/v1/tenants/beta", { body: { name: "Beta" } })).json.admin_key;
    const caller = await makeKey(gateway, "caller");
    const { taken, refusal } = await fill(gateway);
    // 400 KB each.
    assert.ok(taken >= 25 && taken <= 35, `${taken} were taken`);
    const problem = refused(refusal, 413, "payload_too_large");
    assert.match(problem.detail, /The index of this tenant's registry takes \d+ of 12582912 bytes/);
    const full = await room(gateway);
    assert.deepEqual([full.limit_bytes, full.index_limit_bytes], [128 * MiB, 12 * MiB]);
    assert.ok(full.index_bytes > 12 * MiB - 4_000 && full.index_bytes <= 12 * MiB, String(full.index_bytes));
    assert.ok(full.documents.services.count > taken);
    assert.equal(
      Object.values<any>(full.documents).reduce((sum, { bytes }) => sum + bytes, 0),
      full.bytes,
    );
    assert.match(full.largest[0].object, /^services\/s\d+$/);
    assert.deepEqual(full.left_out, []);
    // Every kind of write gets the same refusal once the room is used up.
    refused(
      await gateway.request("PATCH", "/v1/services/s0", {
        body: { capabilities: wide(195).capabilities },
        headers: match,
      }),
      413,
      "payload_too_large",
    );
    // Writes that do not grow are accepted, and everything else continues. Schemas do not count.
    assert.equal((await put(gateway, "s0", wide(190, "y"), undefined, match)).status, 200);
    const described = {
      capabilities: wide(190).capabilities.map((one: any) => ({ ...one, input_schema: schema(500) })),
    };
    assert.equal((await gateway.request("PATCH", "/v1/services/s1", { body: described, headers: match })).status, 200);
    assert.equal(
      (await gateway.request("POST", `/v1/keys/${caller.id}/rotate`, { body: { overlap_seconds: 60 } })).status,
      201,
    );
    const listed = await gateway.request("GET", "/v1/services?limit=3", { key: caller.secret });
    assert.equal(listed.json.data.length, 3);
    assert.equal((await put(gateway, "elsewhere", large(15), beta)).status, 201);
    assert.equal((await room(gateway, beta)).documents.services.count, 1);
    // The warning came once, at four fifths.
    const warned = await stream.next(({ type }) => type === "registry.filling");
    assert.equal(warned.data.limit_bytes, 12 * MiB);
    assert.ok(warned.data.bytes >= 0.8 * 12 * MiB && warned.data.bytes < full.index_bytes, JSON.stringify(warned));
    for (let at = 0; at < 8; at += 1) {
      assert.equal((await gateway.request("DELETE", `/v1/services/s${at}`, { headers: match })).status, 204);
    }
    for (let at = 0; at < 6; at += 1) assert.equal((await put(gateway, `again${at}`, wide(190))).status, 201);
    await eventually(() => stream.events.filter(({ type }) => type === "registry.filling").length === 2);
    stream.close();
    // Only callers who may read everything see it.
    assert.equal((await room(gateway, (await makeKey(gateway, "viewer")).secret)).limit_bytes, 128 * MiB);
    assert.equal((await room(gateway, (await makeKey(gateway, "operator")).secret)).limit_bytes, 128 * MiB);
    refused(
      await gateway.request("GET", "/v1/registry", { key: (await makeKey(gateway, "caller")).secret }),
      403,
      "permission_denied",
    );
    refused(await gateway.request("GET", "/v1/registry?x=1"), 422, "validation_failed");
  } finally {
    await gateway.stop();
  }
});

test("tools_of_an_upstream_that_do_not_fit_change_nothing_and_are_reported", async () => {
  const gateway = await startGateway();
  const tool = () => ({ input: schema(1_000) });
  const upstream = await startSmallUpstream({ small: {} });
  try {
    const body = { name: "Grows", type: "tool", transport: { kind: "mcp", url: upstream.url, refresh_seconds: 60 } };
    const made = await register(gateway, "grows", body);
    assert.deepEqual(
      made.capabilities.map(({ name }: any) => name),
      ["small"],
    );
    await fill(gateway);
    for (let at = 0; at < 60; at += 1) upstream.tools[`${"t".repeat(60)}${at}`] = tool();
    const written = await put(gateway, "grows", body, undefined, match);
    assert.equal(written.status, 200, written.text);
    assert.deepEqual(
      written.json.capabilities.map(({ name }: any) => name),
      ["small"],
    );
    assert.match(written.json.catalogue.error, /exceed the space left in the registry/);
    // Once there is room, they are offered.
    assert.equal((await gateway.request("DELETE", "/v1/services/s0", { headers: match })).status, 204);
    const read = await put(gateway, "grows", body, undefined, match);
    assert.equal(read.json.capabilities.length, 61, read.text.slice(0, 300));
    assert.equal(read.json.catalogue.error, null);
  } finally {
    await gateway.stop();
    await upstream.stop();
  }
});

test(
  "an_overfilled_registry_works_with_the_part_that_fits_and_recovers_by_deleting",
  { timeout: 300_000 },
  async () => {
    const persist = mkdtempSync(join(tmpdir(), "narthex-room-"));
    undo.push(() => rmSync(persist, { recursive: true, force: true }));
    const vars = { ADMIN_KEY: "a key that outlives the restart", OAUTH: "true", OAUTH_REGISTRATION: "true" };
    const before = await startGateway({ persist, vars });
    await register(before, "a-first", serviceAt("http://127.0.0.1:9/"));
    await register(before, "model", large(15));
    const reader = { permissions: ["services:read"] };
    assert.equal((await before.request("PUT", "/v1/roles/reader", { body: reader })).status, 201);
    const caller = await makeKey(before, "caller");
    const redirect_uris = ["https://app.example.com/done"];
    const client = (await before.request("POST", "/oauth/register", { key: null, body: { redirect_uris } })).json;
    await before.stop();
    // As a version without limits left it: 45 services of 900 KB, 48 roles of as much, in part not in Latin letters,
    // and 20 large clients.
    databases(persist, "Registry", "documents", (database) => {
      const find = database.prepare("SELECT document FROM documents WHERE kind = ? AND id = ?");
      const write = database.prepare("INSERT INTO documents (kind, id, document) VALUES (?, ?, ?)");
      const model = find.get("service", "model");
      const role = find.get("role", "reader");
      if (!model || !role) return;
      for (let at = 0; at < 45; at += 1) {
        const document = JSON.parse(String(model.document));
        document.service.id = `z${String(at).padStart(2, "0")}`;
        document.service.description = (at % 2 ? "語" : "x").repeat(1000);
        write.run("service", document.service.id, JSON.stringify(document));
      }
      for (let at = 0; at < 48; at += 1) {
        const document = JSON.parse(String(role.document));
        document.id = `r${String(at).padStart(2, "0")}`;
        document.document.description = at % 2 ? "語".repeat(150_000) : "x".repeat(900_000);
        write.run("role", document.id, JSON.stringify(document));
      }
      // That version does not know of an index.
      database.exec("DELETE FROM outlines; DELETE FROM changes");
      const name = client.client_id.slice("default.".length);
      const known = String(find.get("client", name)!.document);
      for (let at = 0; at < 20; at += 1) {
        const document = JSON.parse(known);
        document.id = document.document.id = `dyn-0000000000000000000000${String(at).padStart(4, "0")}`;
        document.document.scope = Array.from({ length: 6000 }, () => `${"a".repeat(140)}:read`);
        write.run("client", document.id, JSON.stringify(document));
      }
    });
    const gateway = await startGateway({ persist, vars });
    try {
      assert.equal((await gateway.request("GET", "/v1/whoami")).status, 200);
      assert.equal((await gateway.request("GET", "/v1/whoami", { key: caller.secret })).status, 200);
      const found = await room(gateway);
      assert.equal(found.documents.services.count, 47);
      assert.equal(found.registrations.count, 21);
      const left: string[] = found.left_out.map(({ object }: any) => object);
      // Unused registrations are left out first, and small documents fit.
      assert.ok(
        left.length > 20 && left.filter((object) => object.startsWith("clients/")).length >= 20,
        left.join(" "),
      );
      const roles = left.filter((object) => object.startsWith("roles/"));
      assert.ok(roles.length > 5 && roles.length < 20, roles.join(" "));
      assert.ok(gateway.logs.some((line) => line.includes("documents are left out")));
      // Lists and single documents are whole.
      const listed = (await gateway.request("GET", "/v1/roles", { contract: false })).json.data;
      assert.equal(listed.filter(({ name }: any) => /^(r\d\d|reader)$/.test(name)).length, 49);
      assert.equal((await gateway.request("GET", `/v1/${roles[0]}`, { contract: false })).status, 200);
      assert.equal((await gateway.request("GET", "/v1/clients", { contract: false })).json.data.length, 21);
      // All services are served, although their documents take 40 MB.
      const services = await gateway.request("GET", "/v1/services", { key: caller.secret, contract: false });
      assert.deepEqual([services.status, services.json.next_cursor !== null], [200, true]);
      assert.equal((await gateway.request("GET", "/v1/services/z44", { contract: false })).status, 200);
      refused(await put(gateway, "more", large(1)), 413, "payload_too_large");
      // A registration displaces unused ones at once.
      const registered = await gateway.request("POST", "/oauth/register", { key: null, body: { redirect_uris } });
      assert.equal(registered.status, 201, registered.text);
      assert.ok((await room(gateway)).registrations.bytes < 1.5 * MiB);
      const superfluous = listed.filter(({ name }: any) => /^r\d\d$/.test(name)).slice(0, 32);
      // One after the other: each moves a snapshot of 12 MiB.
      for (const { name } of superfluous) {
        const { status, text } = await gateway.request("DELETE", `/v1/roles/${name}`, { headers: match });
        assert.equal(status, 204, text);
      }
      const recovered = await room(gateway);
      assert.deepEqual(recovered.left_out, []);
      assert.ok(recovered.bytes < recovered.limit_bytes && recovered.index_bytes < recovered.index_limit_bytes);
      assert.equal((await put(gateway, "more", large(1))).status, 201);
      assert.equal((await gateway.request("GET", "/v1/services/more")).status, 200);
    } finally {
      await gateway.stop();
    }
  },
);

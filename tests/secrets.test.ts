// Secrets at rest: encrypted with the Worker's key, re-encrypted with its next one, and not stored at all without one.
// And the rotation of a signing secret while services keep working.
import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Webhook } from "standardwebhooks";
import { create, eventually, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { changeDocuments, databases, filesOf } from "./support/disk.ts";
import { type Gateway, keyEncryptionKey, startGateway } from "./support/gateway.ts";
import { echo, type Recorded, type Service, startService } from "./support/service.ts";

const undo: (() => unknown)[] = [];
after(async () => {
  for (const step of undo.reverse()) await step();
});
const vars = { ADMIN_KEY: "a key that outlives the restart" };

function folder(): string {
  const made = mkdtempSync(join(tmpdir(), "narthex-secrets-"));
  undo.push(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

/** A gateway that is stopped at the end, if not before. */
async function start(options: Parameters<typeof startGateway>[0]): Promise<Gateway> {
  const gateway = await startGateway(options);
  let stopped: Promise<void> | undefined;
  const stop = () => (stopped ??= gateway.stop());
  undo.push(stop);
  return { ...gateway, stop };
}

async function service(): Promise<Service> {
  const made = await startService(echo);
  undo.push(() => made.stop());
  return made;
}

const secret = () => `whsec_${randomBytes(32).toString("base64")}`;
const match = { headers: { "if-match": "*" } };

/** The signatures of a call. */
const signatures = ({ headers }: Recorded) => String(headers["webhook-signature"]).split(" ");
/** The expected signature of a call with a secret. */
function signature(secret: string, { headers, raw }: Recorded): string {
  const hmac = createHmac("sha256", Buffer.from(secret.slice("whsec_".length), "base64"));
  hmac.update(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.`).update(raw);
  return `v1,${hmac.digest("base64")}`;
}

/** The stored secrets in the registry's documents of a kind. */
function stored(persist: string): string {
  const rows: string[] = [];
  databases(persist, "Registry", "documents", (database) => {
    rows.push(
      ...database
        .prepare("SELECT document FROM documents")
        .all()
        .map(({ document }) => String(document)),
    );
    rows.push(
      ...database
        .prepare("SELECT value FROM meta")
        .all()
        .map(({ value }) => String(value)),
    );
  });
  databases(persist, "GrantStore", "kept", (database) => {
    rows.push(
      ...database
        .prepare("SELECT document FROM kept")
        .all()
        .map(({ document }) => String(document)),
    );
  });
  databases(persist, "ServiceLane", "kept", (database) => {
    rows.push(
      ...database
        .prepare("SELECT value FROM kept")
        .all()
        .map(({ value }) => String(value)),
    );
  });
  return rows.join("\n");
}

/** Creates one of everything that has a secret; returns the values. */
async function furnish(
  gateway: Gateway,
  url: string,
): Promise<{ signing: string; credential: string; webhook: string; client: string }> {
  const [signing, webhook] = [secret(), secret()];
  const [credential, client] = [`Bearer ${randomBytes(16).toString("hex")}`, randomBytes(16).toString("hex")];
  const health = { path: "/health", interval_seconds: 3600 };
  const credentials = { header: "X-Service-Key", value: credential };
  await register(gateway, "worker", serviceAt(url, [{}], { signing_secret: signing, credentials, health }));
  const put = async (path: string, body: object) =>
    assert.equal((await gateway.request("PUT", path, { body })).status, 201, path);
  await put("/v1/webhooks/hook", { url, types: ["key.*"], secret: webhook });
  const endpoints = { authorization_endpoint: `${url}authorize`, token_endpoint: `${url}token` };
  await put("/v1/issuers/corp", {
    issuer: `${url}corp`,
    audience: "us",
    jwks_url: `${url}jwks`,
    algorithms: ["ES256"],
    role: "viewer",
    sign_in: { client_id: "us", client_secret: client, ...endpoints },
  });
  assert.equal((await gateway.request("GET", "/oauth/jwks", { key: null })).status, 200);
  return { signing, credential, webhook, client };
}

/** Asserts that everything works with its secret. */
async function works(
  gateway: Gateway,
  at: Service,
  { signing, credential, webhook }: Awaited<ReturnType<typeof furnish>>,
): Promise<void> {
  const { json: context } = await create(gateway);
  assert.equal(context.status, "completed", JSON.stringify(context));
  const call = at.calls.at(-1)!;
  assert.deepEqual(signatures(call), [signature(signing, call)]);
  assert.equal(call.headers["x-service-key"], credential);
  assert.equal((await gateway.request("POST", "/v1/services/worker/check")).json.healthy, true);
  const probe = at.probes.at(-1)!;
  assert.deepEqual([signatures(probe), probe.headers["x-service-key"]], [[signature(signing, probe)], credential]);
  assert.equal((await gateway.request("POST", "/v1/webhooks/hook/test")).json.delivered, true);
  const delivery = at.calls.at(-1)!;
  new Webhook(webhook).verify(delivery.raw.toString(), delivery.headers as Record<string, string>);
}

test("another_key_takes_over_and_the_first_may_be_removed", async () => {
  const persist = folder();
  const at = await service();
  const [old, next] = [keyEncryptionKey, randomBytes(32).toString("base64")];
  const under = (keys: Record<string, string>) =>
    start({ persist, vars: { ...vars, OAUTH: "true", KEK_1: "", ...keys } });
  const first = await under({ KEK_1: old });
  const secrets = await furnish(first, at.url);
  await works(first, at, secrets);
  for (let n = 0; n < 3; n++) await create(first);
  const { json: page } = await first.request("GET", "/v1/contexts?limit=2");
  const { json: keys } = await first.request("GET", "/oauth/jwks", { key: null });
  await first.stop();
  assert.match(stored(persist), /sealed\.1\.1\./);
  assert.equal(/whsec_|"d":/.test(stored(persist)), false, "nothing is open");

  const both = await under({ KEK_1: old, KEK_2: next });
  await works(both, at, secrets);
  await both.runCron();
  await eventually(() =>
    both.logs.some((line) => line.includes('"secrets encrypted again"') && line.includes('"left":0')),
  );
  await works(both, at, secrets);
  await both.stop();
  assert.equal(/sealed\.1\.1\./.test(stored(persist)), false, "all is under the second key");

  const second = await under({ KEK_2: next });
  await works(second, at, secrets);
  assert.equal((await second.request("GET", `/v1/contexts?limit=2&cursor=${page.next_cursor}`)).status, 200);
  assert.deepEqual((await second.request("GET", "/oauth/jwks", { key: null })).json, keys);
  await second.stop();
});

test("secrets_stored_before_there_was_a_key_keep_working_and_are_encrypted", async () => {
  const persist = folder();
  const at = await service();
  const options = { persist, vars: { ...vars, OAUTH: "true" } };
  const first = await start(options);
  const secrets = await furnish(first, at.url);
  await first.stop();
  // As earlier versions wrote it.
  changeDocuments(persist, "service", (document) => {
    document.signing_secret = secrets.signing;
    document.credentials.value = secrets.credential;
  });
  changeDocuments(persist, "issuer", ({ document }) => (document.sign_in.client_secret = secrets.client));
  changeDocuments(persist, "webhook", ({ document }) => (document.secret = secrets.webhook));
  const second = await start(options);
  await works(second, at, secrets);
  await second.runCron();
  await works(second, at, secrets);
  await second.request("PATCH", "/v1/services/worker", { body: { weight: 2 }, ...match });
  const { json: log } = await second.request("GET", "/v1/audit?object=services/worker&limit=1");
  assert.deepEqual(Object.keys(log.data[0].changes), ["weight"], "encrypting a secret does not change it");
  await second.stop();
  for (const value of Object.values(secrets)) assert.equal(stored(persist).includes(value), false);
});

test("an_encrypted_secret_moved_to_another_place_cannot_be_decrypted", async () => {
  const persist = folder();
  const at = await service();
  const first = await start({ persist, vars });
  for (const id of ["mine", "theirs"]) {
    const credentials = { header: "X-Service-Key", value: `of ${id}` };
    await register(first, id, serviceAt(at.url, [{ name: id }], { credentials }));
  }
  await first.stop();
  let theirs: unknown;
  changeDocuments(persist, "service", (document, id) => {
    if (id === "theirs") theirs = document.credentials.value;
  });
  changeDocuments(persist, "service", (document, id) => {
    if (id === "mine") document.credentials.value = theirs;
  });
  const second = await start({ persist, vars });
  const { json: context } = await create(second, { capability: "mine" });
  assert.deepEqual([context.status, context.error.code], ["failed", "internal"]);
  assert.equal(at.calls.length, 0);
  assert.equal((await create(second, { capability: "theirs" })).json.status, "completed");
  assert.ok(
    second.logs.some(
      (line) => line.includes("secrets not decrypted") && line.includes("default|service|mine|credentials|"),
    ),
  );
  await second.stop();
});

test("without_a_key_no_secret_is_accepted", async () => {
  for (const KEK_1 of ["", "not 32 bytes in base64", randomBytes(16).toString("base64")]) {
    const gateway = await startGateway({ vars: { KEK_1, OAUTH: "true" } });
    try {
      const document = serviceAt("https://service.example.com/");
      const asked = [
        await gateway.request("PUT", "/v1/services/one", { body: document }),
        await gateway.request("PATCH", "/v1/services/one", { body: {}, ...match }),
        await gateway.request("POST", "/v1/services/one/rotate-secret"),
        await gateway.request("PUT", "/v1/webhooks/one", { body: { url: "https://service.example.com/" } }),
        await gateway.request("GET", "/oauth/jwks", { key: null }),
      ];
      for (const answer of asked)
        assert.match(refused(answer, 503, "not_configured").detail, /wrangler secret put KEK_1/);
      const issuer = {
        issuer: "https://a.example.com",
        audience: "us",
        jwks_url: "https://a.example.com/k",
        algorithms: ["ES256"],
        role: "viewer",
      };
      assert.equal((await gateway.request("PUT", "/v1/issuers/one", { body: issuer })).status, 201, "it has no secret");
      assert.equal((await gateway.request("GET", "/v1/contexts?limit=1")).status, 200);
    } finally {
      await gateway.stop();
    }
  }
});

test("a_signing_secret_is_rotated_while_its_service_keeps_working", async () => {
  const persist = folder();
  const at = await service();
  const gateway = await start({ persist, vars });
  const rotate = (body?: object) => gateway.request("POST", "/v1/services/worker/rotate-secret", body && { body });
  const signed = async () => {
    assert.equal((await create(gateway)).json.status, "completed");
    const call = at.calls.at(-1)!;
    return { found: signatures(call), under: (secret: string) => signature(secret, call) };
  };
  const { signing_secret: first } = await register(gateway, "worker", serviceAt(at.url));
  const made = await rotate();
  assert.equal(made.status, 200, made.text);
  const second = made.json.signing_secret;
  assert.notEqual(second, first);
  const lasts = Date.parse(made.json.overlap_until) - Date.now();
  assert.ok(Math.abs(lasts - 86_400_000) < 60_000, "a day");
  assert.equal(made.headers.get("etag"), '"2"');

  let { found, under } = await signed();
  assert.deepEqual(found, [under(second), under(first)], "the new one first");
  const call = at.calls.at(-1)!;
  for (const known of [first, second])
    new Webhook(known).verify(call.raw.toString(), call.headers as Record<string, string>);
  await gateway.request("POST", "/v1/services/worker/check");
  const probe = at.probes.at(-1)!;
  assert.deepEqual(signatures(probe), [signature(second, probe), signature(first, probe)]);

  const third = secret();
  const again = await rotate({ signing_secret: third, overlap_seconds: 8 });
  assert.equal(again.json.signing_secret, third);
  ({ found, under } = await signed());
  assert.deepEqual(found, [under(third), under(second)], "the oldest has ended");
  await eventually(async () => ({ found, under } = await signed()).found.length === 1);
  assert.deepEqual(found, [under(third)], "the overlap is over");

  const fourth = (await rotate({ overlap_seconds: 3600 })).json.signing_secret;
  const fifth = secret();
  await gateway.request("PATCH", "/v1/services/worker", { body: { signing_secret: fifth }, ...match });
  ({ found, under } = await signed());
  assert.deepEqual(found, [under(fifth)], "a patch takes their places at once");
  assert.equal((await rotate({ overlap_seconds: 0 })).json.overlap_until, undefined);

  const { json: shown } = await gateway.request("GET", "/v1/services/worker");
  assert.deepEqual([shown.signing_secret, shown.overlap_until], [undefined, undefined]);
  const { json: log } = await gateway.request("GET", "/v1/audit?action=service.secret_rotated");
  assert.equal(log.data.length, 4);
  assert.match(log.data[0].changes.signing_secret.to, /^fingerprint:[0-9a-f]{12}$/);
  assert.deepEqual(log.data[0].changes.overlap_seconds, { from: null, to: 0 });
  const wrong = refused(
    await rotate({ overlap_seconds: -1, signing_secret: "whsec_short", more: 1 }),
    422,
    "validation_failed",
  );
  assert.deepEqual(pointers(wrong), ["#/more", "#/overlap_seconds", "#/signing_secret"]);
  refused(await gateway.request("POST", "/v1/services/none/rotate-secret"), 404, "not_found");
  await gateway.runCron();
  await gateway.stop();
  const disk = Buffer.concat(filesOf(persist).map(([, bytes]) => bytes)).toString("latin1");
  for (const known of [first, second, third, fourth, fifth]) assert.equal(disk.includes(known), false);
});

test("an_old_secret_is_deleted_after_its_overlap", async () => {
  const persist = folder();
  const gateway = await start({ persist, vars });
  await register(gateway, "worker", serviceAt("https://service.example.com/"));
  const rotated = await gateway.request("POST", "/v1/services/worker/rotate-secret", { body: { overlap_seconds: 1 } });
  await eventually(() => Date.now() > Date.parse(rotated.json.overlap_until));
  await gateway.runCron();
  await gateway.stop();
  assert.match(stored(persist), /"retiring":null/);
});

test("credentials_do_not_follow_a_service_to_another_origin", async () => {
  const gateway = await startGateway();
  try {
    const credentials = { header: "X-Service-Key", value: "kept" };
    await register(gateway, "worker", serviceAt("https://service.example.com/a", [{}], { credentials }));
    const patch = (body: object) => gateway.request("PATCH", "/v1/services/worker", { body, ...match });
    const away = { transport: { url: "https://elsewhere.example.com/" } };
    assert.deepEqual(pointers(refused(await patch(away), 422, "validation_failed")), ["#/credentials"]);
    assert.equal(
      (await patch({ transport: { url: "https://service.example.com/b" } })).status,
      200,
      "it is the same origin",
    );
    assert.equal((await patch({ ...away, credentials })).status, 200);
    assert.equal((await patch({ transport: { url: "https://third.example.com/" }, credentials: null })).status, 200);
    assert.equal((await patch(away)).status, 200, "there is nothing to follow");
  } finally {
    await gateway.stop();
  }
});

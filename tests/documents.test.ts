// Documents of services: all faults at once, schemas that must compile, addresses that must be public.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, pointers, refused, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";

let gateway: Gateway;

before(async () => {
  // As in production: addresses on this machine cannot be registered.
  gateway = await startGateway({ vars: { ALLOW_LOOPBACK: "false" } });
});
after(() => gateway?.stop());

const put = (id: string, body: unknown) => gateway.request("PUT", `/v1/services/${id}`, { body });
const publicUrl = "https://service.example.com/run";

test("all_faults_of_a_document_are_reported_at_once", async () => {
  const answer = await put("faulty", {
    name: "",
    type: "robot",
    description: 7,
    tags: ["ok", "", 3],
    metadata: "x".repeat(9000),
    weight: 0,
    tier: 10,
    surprise: true,
    transport: { kind: "carrier pigeon", url: "ftp://example.com/", speed: 1 },
    credentials: { header: "Host", value: "line\nbreak" },
    signing_secret: "whsec_short",
    status: "sleeping",
    health: { path: "health", interval_seconds: 1 },
    limits: { max_concurrency: 0, max_queue: -1, max: 1 },
    retry: { max_attempts: 99, base_ms: 0, cap_ms: "long" },
    capabilities: [
      {
        name: "no spaces",
        version: "1",
        idempotent: "yes",
        durable: 1,
        timeout_seconds: 0,
        permissions: ["*", "a b"],
        colour: 1,
      },
      "work",
      { input_schema: { type: "strin" }, output_schema: { $ref: "https://example.com/schema.json" } },
      { name: "twice" },
      { name: "twice" },
    ],
  });
  const found = pointers(refused(answer, 422, "validation_failed"));
  for (const expected of [
    "#/name",
    "#/type",
    "#/description",
    "#/tags/1",
    "#/tags/2",
    "#/metadata",
    "#/weight",
    "#/tier",
    "#/surprise",
    "#/transport/kind",
    "#/transport/url",
    "#/transport/speed",
    "#/credentials/header",
    "#/credentials/value",
    "#/signing_secret",
    "#/status",
    "#/health/path",
    "#/health/interval_seconds",
    "#/limits/max_concurrency",
    "#/limits/max_queue",
    "#/limits/max",
    "#/retry/max_attempts",
    "#/retry/base_ms",
    "#/retry/cap_ms",
    "#/capabilities/0/name",
    "#/capabilities/0/version",
    "#/capabilities/0/idempotent",
    "#/capabilities/0/durable",
    "#/capabilities/0/timeout_seconds",
    "#/capabilities/0/permissions/0",
    "#/capabilities/0/permissions/1",
    "#/capabilities/0/colour",
    "#/capabilities/1",
    "#/capabilities/2/name",
    "#/capabilities/4/name",
  ]) {
    assert.ok(found.includes(expected), `${expected} is not among ${found.join(" ")}`);
  }
  assert.ok(found.some((pointer) => pointer.startsWith("#/capabilities/2/input_schema")));
  assert.ok(found.some((pointer) => pointer.startsWith("#/capabilities/2/output_schema")));
  refused(await gateway.request("GET", "/v1/services/faulty"), 404, "not_found");
});

test("an_empty_document_reports_the_required_members", async () => {
  assert.deepEqual(pointers(refused(await put("empty", {}), 422, "validation_failed")), [
    "#/capabilities",
    "#/name",
    "#/transport",
    "#/type",
  ]);
  for (const body of [[], 7, null])
    assert.deepEqual(pointers(refused(await put("empty", body), 422, "validation_failed")), ["#"]);
  refused(await put("empty", serviceAt(publicUrl, [])), 422, "validation_failed");
});

test("an_id_is_a_short_plain_name_and_is_the_one_in_the_path", async () => {
  for (const id of ["A", "a.b", "a%20b", "-a", "_a", "a".repeat(65), "%C3%A9", "a%2Fb", "%00"]) {
    assert.deepEqual(pointers(refused(await put(id, serviceAt(publicUrl)), 422, "validation_failed")), ["#/id"], id);
  }
  assert.deepEqual(
    pointers(refused(await put("one", { ...serviceAt(publicUrl), id: "two" }), 422, "validation_failed")),
    ["#/id"],
  );
  assert.equal((await put("a".repeat(64), serviceAt(publicUrl))).status, 201);
  assert.equal((await put("0-a_b", { ...serviceAt(publicUrl), id: "0-a_b" })).status, 201);
});

test("a_document_can_be_sent_back_as_returned", async () => {
  const { json: made } = await put(
    "mirror",
    serviceAt(publicUrl, [{ input_schema: { type: "object" }, permissions: ["reports:read"] }]),
  );
  const { signing_secret: _, ...document } = made;
  const answer = await gateway.request("PUT", "/v1/services/mirror", { body: document, headers: { "if-match": "*" } });
  assert.equal(answer.status, 200, answer.text);
  const { updated_at: __, ...after } = answer.json;
  const { updated_at: ___, ...before } = document;
  assert.deepEqual(after, before);
});

const nested = (depth: number): object => (depth === 0 ? {} : { items: nested(depth - 1) });

test("schemas_that_do_not_compile_are_refused", async () => {
  for (const [what, schema] of Object.entries<unknown>({
    "no schema": "object",
    "an unknown type": { type: "text" },
    "a broken keyword": { properties: [] },
    "a broken keyword inside": { properties: { a: { minLength: -1 } } },
    "a broken pattern": { pattern: "(" },
    "a reference outside": { $ref: "https://example.com/schema.json" },
    "a reference to a file": { $ref: "file:///etc/passwd" },
    "a reference to nothing": { $ref: "#/$defs/missing" },
    "an unknown dialect": { $schema: "https://example.com/dialect" },
    "too deep": nested(40),
    "too large": { description: "x".repeat(257 * 1024) },
    "too many subschemas": { properties: Object.fromEntries(Array.from({ length: 1100 }, (_, at) => [`p${at}`, {}])) },
  })) {
    for (const member of ["input_schema", "output_schema"]) {
      const problem = refused(
        await put("schemas", serviceAt(publicUrl, [{ [member]: schema }])),
        422,
        "validation_failed",
      );
      for (const pointer of pointers(problem))
        assert.ok(pointer.startsWith(`#/capabilities/0/${member}`), `${what}: ${pointer}`);
    }
  }
  for (const schema of [
    true,
    {},
    { $defs: { a: { type: "string" } }, $ref: "#/$defs/a" },
    { pattern: "^(a+)+$" },
    { $schema: "https://json-schema.org/draft/2020-12/schema", type: "null" },
  ]) {
    const answer = await put(`fine-${JSON.stringify(schema).length}`, serviceAt(publicUrl, [{ input_schema: schema }]));
    assert.equal(answer.status, 201, `${JSON.stringify(schema)}: ${answer.text}`);
  }
});

test("a_pattern_that_would_backtrack_forever_is_decided_at_once", async () => {
  await put(
    "patterns",
    serviceAt(publicUrl, [{ name: "patterns", input_schema: { type: "string", pattern: "^(a+)+$" } }]),
  );
  const began = Date.now();
  refused(
    await create(gateway, { capability: "patterns", parameters: `${"a".repeat(50_000)}b` }),
    422,
    "validation_failed",
  );
  assert.ok(Date.now() - began < 60_000);
});

test("hostile_addresses_are_refused", async () => {
  const { host } = new URL(gateway.url);
  for (const url of [
    "http://service.example.com/",
    "ftp://service.example.com/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "//service.example.com/",
    "https://",
    "not an address",
    "https://127.0.0.1/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://017700000001/",
    "https://10.0.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://192.168.1.1/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[fd00:ec2::254]/",
    "https://1.1.1.1/",
    "https://localhost/",
    "https://api.localhost/",
    "https://LOCALHOST./",
    "https://metadata.google.internal/",
    "https://printer.local/",
    "https://hidden.onion/",
    "https://redis/",
    "https://127.0.0.1.nip.io/",
    "https://app.localtest.me/",
    "https://user:pass@service.example.com/",
    "https://service.example.com:8443/",
    "https://service.example.com/#here",
    "https://service.example.com\\@127.0.0.1/",
    "https://service.example.com/\tx",
    "https://①②⑦.0.0.1/",
    "https://exa%6dple.com:443@127.0.0.1/",
    `http://${host}/v1/contexts`,
    `https://${host}/v1/contexts`,
    `https://service.example.com/${"a".repeat(2048)}`,
  ]) {
    assert.deepEqual(
      pointers(refused(await put("hostile", serviceAt(url)), 422, "validation_failed")),
      ["#/transport/url"],
      url,
    );
  }
  refused(await gateway.request("GET", "/v1/services/hostile"), 404, "not_found");
  const { json } = await put("fine", serviceAt(publicUrl));
  for (const url of ["https://169.254.169.254/", "http://service.example.com/"]) {
    const answer = await gateway.request("PATCH", "/v1/services/fine", {
      body: { transport: { url } },
      headers: { "if-match": "*" },
    });
    assert.deepEqual(pointers(refused(answer, 422, "validation_failed")), ["#/transport/url"]);
  }
  assert.equal((await gateway.request("GET", "/v1/services/fine")).json.transport.url, json.transport.url);
});

test("headers_that_are_not_the_services_to_set_are_refused", async () => {
  for (const header of [
    "Host",
    "content-length",
    "Cookie",
    "Transfer-Encoding",
    "webhook-signature",
    "CF-Connecting-IP",
    "traceparent",
    "X-Forwarded-For",
    "a b",
    "a:b",
    "é",
    "",
  ]) {
    const document = serviceAt(publicUrl, [{}], { credentials: { header, value: "v" } });
    assert.deepEqual(
      pointers(refused(await put("headers", document), 422, "validation_failed")),
      ["#/credentials/header"],
      header,
    );
  }
  for (const value of ["", "a\r\nx-evil: 1", "é", "\u0000"]) {
    const document = serviceAt(publicUrl, [{}], { credentials: { header: "X-Key", value } });
    assert.deepEqual(
      pointers(refused(await put("headers", document), 422, "validation_failed")),
      ["#/credentials/value"],
      value,
    );
  }
});

test("a_given_signing_secret_is_accepted_and_not_shown", async () => {
  const signing_secret = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;
  const answer = await put("own-secret", { ...serviceAt(publicUrl), signing_secret });
  assert.equal(answer.status, 201);
  const texts = [
    answer,
    await gateway.request("GET", "/v1/services/own-secret"),
    await gateway.request("GET", "/v1/services"),
  ];
  for (const { text } of texts) assert.equal(text.includes(signing_secret), false);
});

// Services that are other Workers, called through their service bindings.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Webhook } from "standardwebhooks";
import { accepted, create, ended, eventually, pointers, refused, register } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";

// It reports its requests; the parameters select its response.
const words = `
  const kept = new Map();
  export default {
    async fetch(request) {
      const { pathname, search, host } = new URL(request.url);
      if (request.method === "GET") return new Response(null, { status: pathname === "/well" ? 204 : 500 });
      const raw = await request.text();
      const body = JSON.parse(raw);
      if (request.method === "DELETE") {
        kept.set(body.context_id, { path: pathname + search, body });
        return new Response(null, { status: 204 });
      }
      const { parameters } = body;
      if (parameters.kept) return Response.json({ result: kept.get(parameters.kept) ?? null });
      if (parameters.throws) throw new Error("connection refused");
      if (parameters.redirects) return new Response(null, { status: 302, headers: { location: "https://example.com/" } });
      if (parameters.later) return new Response(null, { status: 202, headers: { location: "/jobs/7?x=1" } });
      const seen = { path: pathname + search, host, raw, headers: Object.fromEntries(request.headers) };
      return Response.json({ result: seen });
    },
  };`;

let gateway: Gateway;
before(async () => {
  gateway = await startGateway({ bound: { WORDS: words, OTHER: words } });
});
after(async () => {
  await gateway?.stop();
});

const document = (name: string, transport: object, more: object = {}) => ({
  name,
  type: "tool",
  transport: { kind: "binding", ...transport },
  capabilities: [{ name }],
  retry: { max_attempts: 2, base_ms: 1, cap_ms: 10 },
  ...more,
});

const ask = (capability: string, parameters: object = {}) => create(gateway, { capability, parameters });

test("another_worker_is_called_through_its_binding_as_over_http", async () => {
  const secret = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;
  const credentials = { header: "Authorization", value: "Bearer what-it-wants" };
  const made = await register(
    gateway,
    "words",
    document("words", { binding: "WORDS", path: "/work?fast=1" }, { signing_secret: secret, credentials }),
  );
  assert.deepEqual(made.transport, { kind: "binding", binding: "WORDS", path: "/work?fast=1" });
  const { json } = await ask("words", { text: "hi" });
  assert.equal(json.status, "completed", JSON.stringify(json.error));
  const { path, host, raw, headers } = json.result;
  assert.deepEqual([path, host], ["/work?fast=1", "narthex.internal"]);
  new Webhook(secret.slice("whsec_".length)).verify(raw, headers);
  assert.deepEqual([headers["idempotency-key"], headers["webhook-id"]], [json.id, json.id]);
  assert.match(headers.traceparent, /^00-/);
  const envelope = JSON.parse(raw);
  assert.deepEqual([envelope.context_id, envelope.parameters, envelope.attempt], [json.id, { text: "hi" }, 1]);
  assert.equal(headers.authorization, "Bearer what-it-wants");
  assert.ok(
    !Object.keys(headers).some((name) => name === "cookie" || name.startsWith("x-forwarded")),
    Object.keys(headers).join(),
  );
});

test("an_unknown_binding_is_refused_with_a_hint_where_it_is_configured", async () => {
  for (const binding of ["UNKNOWN", "ASSETS", "REGISTRY", "WORK", "ADMIN_KEY"]) {
    const answer = await gateway.request("PUT", "/v1/services/odd", { body: document("odd", { binding }) });
    const { errors } = refused(answer, 422, "validation_failed");
    assert.deepEqual(
      errors.map((fault: any) => fault.pointer),
      ["#/transport/binding"],
      binding,
    );
    assert.match(errors[0].detail, /wrangler\.toml lists under \[\[services\]\]/);
  }
  const wrong = await gateway.request("PUT", "/v1/services/odd", {
    body: document("odd", { path: "work", url: "https://example.com/" }),
  });
  assert.deepEqual(pointers(refused(wrong, 422, "validation_failed")), [
    "#/transport/binding",
    "#/transport/path",
    "#/transport/url",
  ]);
});

test("bindings_are_not_for_other_tenants", async () => {
  const made = await gateway.request("PUT", "/v1/tenants/acme", { body: { name: "Acme" } });
  assert.equal(made.status, 201, made.text);
  const { admin_key: key } = made.json;
  const answer = await gateway.request("PUT", "/v1/services/words", {
    body: document("words", { binding: "WORDS" }),
    key,
  });
  const { errors } = refused(answer, 422, "validation_failed");
  assert.match(errors[0].detail, /tenant default/);
});

test("credentials_do_not_move_to_another_worker", async () => {
  const credentials = { header: "Authorization", value: "Bearer secret" };
  await register(gateway, "moving", document("moving", { binding: "WORDS" }, { credentials }));
  const patch = (body: object) =>
    gateway.request("PATCH", "/v1/services/moving", { body, headers: { "if-match": "*" } });
  assert.equal((await patch({ transport: { path: "/elsewhere" } })).status, 200);
  refused(await patch({ transport: { binding: "OTHER" } }), 422, "validation_failed");
  assert.equal((await patch({ transport: { binding: "OTHER" }, credentials: null })).status, 200);
});

test("an_exception_of_a_bound_worker_does_not_mean_that_it_was_not_reached", async () => {
  await register(gateway, "throwing", document("throwing", { binding: "WORDS" }));
  const { json } = await ask("throwing", { throws: true });
  assert.deepEqual([json.status, json.attempts.length], ["failed", 1], JSON.stringify(json));
  const { json: redirected } = await ask("throwing", { redirects: true });
  assert.deepEqual([redirected.status, redirected.error.code], ["failed", "upstream_error"]);
});

test("work_in_the_background_is_cancelled_through_the_same_binding", async () => {
  await register(
    gateway,
    "later",
    document("later", { binding: "WORDS" }, { capabilities: [{ name: "later", timeout_seconds: 60 }] }),
  );
  const { id } = await accepted(gateway, { capability: "later", parameters: { later: true } });
  await eventually(async () => (await gateway.request("GET", `/v1/contexts/${id}`)).json.status === "executing");
  await eventually(async () => (await gateway.request("POST", `/v1/contexts/${id}/cancel`)).status !== 202);
  const cancellation = await eventually(async () => (await ask("later", { kept: id })).json.result);
  assert.deepEqual(cancellation, { path: "/jobs/7?x=1", body: { context_id: id, reason: "cancelled" } });
  assert.equal((await ended(gateway, id)).status, "cancelled");
});

test("a_bound_worker_is_probed_like_any_service", async () => {
  await register(
    gateway,
    "probed",
    document("probed", { binding: "WORDS" }, { health: { path: "/well", interval_seconds: 5 } }),
  );
  const check = await gateway.request("POST", "/v1/services/probed/check");
  assert.deepEqual([check.json.healthy, check.json.status_code], [true, 204]);
  await register(
    gateway,
    "unwell",
    document("unwell", { binding: "WORDS" }, { health: { path: "/ill", interval_seconds: 5 } }),
  );
  const ill = await gateway.request("POST", "/v1/services/unwell/check");
  assert.deepEqual([ill.json.healthy, ill.json.status_code], [false, 500]);
});

test("a_removed_binding_is_not_called", async () => {
  const persist = mkdtempSync(join(tmpdir(), "narthex-bindings-"));
  let own = await startGateway({ persist, bound: { WORDS: words } });
  try {
    await register(own, "bereft", document("bereft", { binding: "WORDS" }));
    await own.stop();
    own = await startGateway({ persist });
    const { json, text } = await create(own, { capability: "bereft" });
    assert.deepEqual([json.status, json.error?.code], ["failed", "address_refused"], text);
    assert.match(json.error.message, /no service binding with this name/);
    const check = await own.request("POST", "/v1/services/bereft/check");
    assert.deepEqual([check.json.healthy, check.json.error], [false, "address_refused"]);
  } finally {
    await own.stop();
    rmSync(persist, { recursive: true, force: true });
  }
});

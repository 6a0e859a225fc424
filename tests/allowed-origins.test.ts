// Origins that a deployment allows beside public ones: for what its principals register, and only while it allows them.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { create, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Pair, pair, seconds, sign } from "./support/issuer.ts";
import { echo, type Handler, json, type Service, startService } from "./support/service.ts";

const persist = mkdtempSync(join(tmpdir(), "narthex-allowed-origins-"));
const vars = { ADMIN_KEY: "a key that outlives the restart", ALLOW_LOOPBACK: "false", OAUTH: "true" };
let service: Service;
let neighbour: Service;
let gateway: Gateway;
let key: Pair;

/** A service, a model, a webhook's receiver, and a server of keys. */
const answers: Handler = (call, response) => {
  if (call.path === "/jwks") return json({ keys: [key.jwk] })(call, response);
  if (call.path.endsWith("/models")) return json({ data: [{ id: "small" }] })(call, response);
  const message = { role: "assistant", content: "from a private network" };
  if (call.path.endsWith("/chat/completions")) {
    return json({ id: "c", object: "chat.completion", model: "small", choices: [{ index: 0, message }] })(
      call,
      response,
    );
  }
  return echo(call, response);
};

before(async () => {
  key = await pair("ES256", "k");
  service = await startService(answers, { probe: answers });
  neighbour = await startService(echo);
  const origins = `https://internal.corp, http://127.0.0.1:${service.port}`;
  gateway = await startGateway({
    persist,
    vars: { ...vars, ALLOWED_ORIGINS: origins, OAUTH_REGISTRATION: "true" },
  });
});
after(async () => {
  await gateway?.stop();
  await Promise.all([service?.stop(), neighbour?.stop()]);
  rmSync(persist, { recursive: true, force: true });
});

const put = (path: string, body: object, at = gateway) => at.request("PUT", `/v1/${path}`, { body });

const issuerAt = (url: string) => ({
  issuer: "https://issuer.example.com",
  audience: "us",
  jwks_url: `${url}jwks`,
  algorithms: ["ES256"],
  role: "viewer",
});

const modelAt = (url: string) => ({
  name: "models",
  type: "llm",
  transport: { kind: "openai", url: `${url}v1` },
  models: [{ id: "small" }],
});

const token = () =>
  sign({ iss: "https://issuer.example.com", aud: "us", sub: "ada", exp: seconds() + 300, iat: seconds() }, key);

/** Asks a model, by the endpoint of its clients. */
const chat = (at: Gateway) =>
  at.request("POST", "/v1/chat/completions", {
    body: { model: "small", messages: [{ role: "user", content: "hi" }] },
  });

test("services_issuers_and_webhooks_may_be_at_an_allowed_origin", async () => {
  await register(gateway, "inside", serviceAt(service.url, [{ idempotent: true }], { health: { path: "/well" } }));
  const { json: context } = await create(gateway, { parameters: { a: 1 } });
  assert.deepEqual([context.status, context.result], ["completed", { a: 1 }], JSON.stringify(context));
  const check = await gateway.request("POST", "/v1/services/inside/check");
  assert.equal(check.json.healthy, true, check.text);

  assert.equal((await put("services/models", modelAt(service.url))).status, 201);
  const answered = await chat(gateway);
  assert.equal(answered.json.choices?.[0].message.content, "from a private network", answered.text);

  const made = await put("issuers/inside", issuerAt(service.url));
  assert.equal(made.status, 201, made.text);
  assert.equal((await gateway.request("GET", "/v1/whoami", { key: await token() })).status, 200);

  assert.equal((await put("webhooks/inside", { url: service.url, types: ["context.*"] })).status, 201);
  const tested = await gateway.request("POST", "/v1/webhooks/inside/test");
  assert.equal(tested.json.delivered, true, tested.text);
});

test("an_access_token_is_requested_at_an_allowed_origin", async () => {
  const client = { client_id: "us", client_secret: "a secret", token_url: `http://127.0.0.1:${service.port}/token` };
  const at = (id: string, token_url: string) =>
    put(`services/${id}`, {
      name: "tokens",
      type: "tool",
      transport: { kind: "mcp", url: service.url },
      credentials: { ...client, token_url },
    });
  assert.equal((await at("tokens", client.token_url)).status, 201);
  refused(await at("odd", `http://127.0.0.1:${neighbour.port}/token`), 422, "validation_failed");
});

test("the_neighbours_of_an_allowed_origin_are_refused_and_the_error_says_what_to_do", async () => {
  for (const url of [
    neighbour.url,
    service.url.replace("http:", "https:"),
    service.url.replace("127.0.0.1", "127.0.0.2"),
    service.url.replace("127.0.0.1", "localhost"),
    "https://internal.corp:8443/",
    "https://x.internal.corp/",
    "http://internal.corp/",
  ]) {
    const bad = refused(await put("services/bad", serviceAt(url)), 422, "validation_failed");
    assert.deepEqual(pointers(bad), ["#/transport/url"], url);
    const { detail } = bad.errors[0];
    assert.match(detail, /ALLOWED_ORIGINS \(`narthex serve --allow-origin`\)/, url);
    refused(await put("webhooks/bad", { url }), 422, "validation_failed");
    refused(await put("issuers/bad", issuerAt(url)), 422, "validation_failed");
  }
});

test("the_rules_of_form_and_of_the_gateway_itself_stay_for_an_allowed_origin", async () => {
  const at = `127.0.0.1:${service.port}`;
  for (const url of [`http://user@${at}/`, `http://${at}/#a`, `http://${at}/a b`, `http:${at}`, `http://${at}\\@x/`]) {
    refused(await put("services/bad", serviceAt(url)), 422, "validation_failed");
  }
  const { port } = new URL(gateway.url);
  const own = await startGateway({ vars: { ...vars, ALLOWED_ORIGINS: gateway.url, PUBLIC_URL: gateway.url } });
  try {
    const bad = refused(
      await put("services/bad", serviceAt(`http://127.0.0.1:${port}/`), own),
      422,
      "validation_failed",
    );
    assert.match(bad.errors[0].detail, /this gateway itself/);
  } finally {
    await own.stop();
  }
});

test("what_strangers_name_must_be_public", async () => {
  const before = service.probes.length;
  const registered = await gateway.request("POST", "/oauth/register", {
    key: null,
    body: {
      redirect_uris: ["https://app.example.com/done"],
      token_endpoint_auth_method: "private_key_jwt",
      jwks_uri: `${service.url}jwks`,
    },
  });
  assert.deepEqual([registered.status, registered.json.error], [400, "invalid_client_metadata"], registered.text);
  const query = new URLSearchParams({
    response_type: "code",
    client_id: `${service.url}client.json`,
    redirect_uri: "https://app.example.com/done",
    code_challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
    code_challenge_method: "S256",
  });
  const page = await gateway.request("GET", `/oauth/authorize?${query}`, { key: null, contract: false });
  assert.ok(page.status >= 400, page.text);
  assert.equal(service.probes.length, before);
  // The keys of a client that an administrator registers may be there.
  const client = {
    name: "A client",
    grant_types: ["client_credentials"],
    auth_method: "private_key_jwt",
    scope: "services:read",
    jwks_url: `${service.url}jwks`,
  };
  assert.equal((await put("clients/inside", client)).status, 201);
});

test("an_origin_that_is_no_longer_allowed_is_no_longer_called", async () => {
  await gateway.stop();
  gateway = await startGateway({ persist, vars });
  const [calls, probes] = [service.calls.length, service.probes.length];
  const { json: context } = await create(gateway);
  assert.deepEqual([context.status, context.error?.code], ["failed", "address_refused"], JSON.stringify(context));
  const check = await gateway.request("POST", "/v1/services/inside/check");
  assert.deepEqual([check.json.healthy, check.json.error], [false, "address_refused"], check.text);
  assert.notEqual((await chat(gateway)).status, 200);
  refused(await gateway.request("GET", "/v1/whoami", { key: await token() }), 401, "unauthenticated");
  const tested = await gateway.request("POST", "/v1/webhooks/inside/test");
  assert.deepEqual([tested.json.delivered, tested.json.attempt.error], [false, "refused"], tested.text);
  assert.deepEqual([service.calls.length, service.probes.length], [calls, probes]);
});

test("an_invalid_list_is_reported_like_any_invalid_variable", async () => {
  const odd = await startGateway({ vars: { ...vars, ALLOWED_ORIGINS: "http://a/b, https://internal.corp" } });
  try {
    const answer = refused(await odd.request("GET", "/v1/services"), 503, "not_configured");
    assert.match(answer.detail, /ALLOWED_ORIGINS must be at most 64 origins such as http:\/\/ollama:11434/);
  } finally {
    await odd.stop();
  }
});

// In the place of a network: it answers with what it was asked for.
const network = `
  export default {
    async fetch(request) {
      if (request.url.endsWith("/jwks")) return Response.json(KEYS);
      if (request.url.endsWith("/chat/completions")) {
        const message = { role: "assistant", content: request.url };
        return Response.json({ id: "c", object: "chat.completion", model: "small", choices: [{ index: 0, message }] });
      }
      return Response.json({ result: { url: request.url } });
    },
  };`;

test("allowed_origins_are_reached_through_the_private_network_where_the_deployment_has_one", async () => {
  const script = network.replace("KEYS", JSON.stringify({ keys: [key.jwk] }));
  const closed = "http://ollama:11434/";
  const inside = await startGateway({
    vars: { ...vars, ALLOW_LOOPBACK: "true", ALLOWED_ORIGINS: "http://ollama:11434" },
    bound: { PRIVATE: script, SELF: script, WORDS: script },
  });
  try {
    await register(inside, "inside", serviceAt(closed, [{ name: "inside" }], { health: { path: "/well" } }));
    await register(inside, "outside", serviceAt(service.url, [{ name: "outside" }]));
    const { json: context } = await create(inside, { capability: "inside" });
    assert.deepEqual(context.result, { url: closed }, JSON.stringify(context));
    const { json: other } = await create(inside, { capability: "outside", parameters: { a: 1 } });
    assert.deepEqual(other.result, { a: 1 }, JSON.stringify(other));
    const check = await inside.request("POST", "/v1/services/inside/check");
    assert.equal(check.json.healthy, true, check.text);
    assert.equal((await put("services/models", modelAt(closed), inside)).status, 201);
    assert.equal((await chat(inside)).json.choices?.[0].message.content, `${closed}v1/chat/completions`);
    assert.equal((await put("issuers/inside", issuerAt(closed), inside)).status, 201);
    assert.equal((await inside.request("GET", "/v1/whoami", { key: await token() })).status, 200);
    assert.equal((await put("webhooks/inside", { url: closed, types: ["context.*"] }, inside)).status, 201);
    assert.equal((await inside.request("POST", "/v1/webhooks/inside/test")).json.delivered, true);
    // These bindings are the gateway's own.
    const bound = (binding: string) => ({ ...serviceAt(closed), transport: { kind: "binding", binding } });
    for (const binding of ["PRIVATE", "SELF", "ASSETS"]) {
      const bad = refused(await put("services/odd", bound(binding), inside), 422, "validation_failed");
      assert.deepEqual(pointers(bad), ["#/transport/binding"], binding);
    }
    assert.equal((await put("services/words", bound("WORDS"), inside)).status, 201);
  } finally {
    await inside.stop();
  }
});

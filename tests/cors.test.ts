// Browsers: what other origins may send and read, and the spellings of MCP paths.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { makeKey, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;
const friend = "https://app.example.com";
const stranger = "https://stranger.example.com";

before(async () => {
  gateway = await startGateway({ vars: { OAUTH: "true", CORS_ORIGINS: friend } });
  service = await startService(echo);
  await register(gateway, "words", serviceAt(service.url));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

/** The response to a preflight: the permitted request headers, in lower case. */
async function preflight(path: string, origin: string, asked: string, method = "GET") {
  const headers = { origin, "access-control-request-method": method, "access-control-request-headers": asked };
  const answer = await gateway.open("OPTIONS", path, { key: null, headers });
  await answer.body?.cancel();
  const list = (name: string) => (answer.headers.get(name) ?? "").toLowerCase().split(/, */).filter(Boolean);
  return {
    status: answer.status,
    origin: answer.headers.get("access-control-allow-origin"),
    headers: list("access-control-allow-headers"),
    methods: list("access-control-allow-methods"),
  };
}

const documents = [
  "/openapi.json",
  "/asyncapi.json",
  "/.well-known/oauth-authorization-server",
  "/.well-known/oauth-protected-resource",
  "/.well-known/oauth-protected-resource/mcp",
  "/.well-known/oauth-protected-resource/mcp/words",
  "/.well-known/oauth-protected-resource/mcp/",
  "/.well-known/oauth-protected-resource/mcp/words/",
  "/oauth/jwks",
];

test("a_public_document_may_be_read_from_anywhere_with_any_header", async () => {
  for (const path of documents) {
    const allowed = await preflight(path, stranger, "mcp-protocol-version, authorization, x-anything");
    assert.deepEqual([allowed.status, allowed.origin], [204, "*"], path);
    for (const name of ["mcp-protocol-version", "authorization", "*"])
      assert.ok(allowed.headers.includes(name), `${path}: ${name}`);
    assert.deepEqual(allowed.methods, ["get", "head"]);
    const answer = await gateway.open("GET", path, {
      key: null,
      headers: { origin: stranger, "mcp-protocol-version": "2025-06-18" },
    });
    assert.deepEqual([answer.status, answer.headers.get("access-control-allow-origin")], [200, "*"], path);
    await answer.body?.cancel();
  }
});

test("everything_else_is_for_the_configured_origins", async () => {
  for (const path of [
    "/mcp",
    "/mcp/",
    "/mcp/words",
    "/v1/contexts",
    "/oauth/token",
    "/.well-known/else",
    "/v1/whoami",
  ]) {
    const strange = await preflight(path, stranger, "mcp-session-id", "POST");
    assert.deepEqual([strange.origin, strange.headers, strange.methods], [null, [], []], path);
    const allowed = await preflight(path, friend, "mcp-session-id", "POST");
    assert.equal(allowed.origin, friend, path);
    assert.ok(allowed.methods.includes("post") && allowed.methods.includes("delete"));
    for (const name of [
      "accept",
      "authorization",
      "content-type",
      "last-event-id",
      "mcp-method",
      "mcp-name",
      "mcp-protocol-version",
      "mcp-session-id",
    ]) {
      assert.ok(allowed.headers.includes(name), `${path}: ${name}`);
    }
    assert.ok(!allowed.headers.includes("*"));
  }
});

type Json = any;

/** The names of the headers in the contract, in lower case: those that clients send, and those of responses. */
async function headersOfTheContract(): Promise<{ sent: Set<string>; received: Set<string> }> {
  const openapi: Json = JSON.parse(await readFile(new URL("../console/openapi.json", import.meta.url), "utf8"));
  const found = { sent: new Set<string>(["authorization", "accept", "content-type"]), received: new Set<string>() };
  const walk = (value: Json) => {
    if (value === null || typeof value !== "object") return;
    if (value.in === "header") found.sent.add(value.name.toLowerCase());
    // A response; components/headers has the headers by names of its own.
    if (value.content || value.description) {
      for (const name of Object.keys(value.headers ?? {})) found.received.add(name.toLowerCase());
    }
    Object.values(value).forEach(walk);
  };
  walk({ paths: openapi.paths, components: openapi.components });
  return found;
}

test("every_relevant_request_header_may_be_sent_and_every_informative_response_header_read", async () => {
  // Headers that browsers set by themselves, that only they read, or that are of no use in them.
  const ofBrowsers = new Set([
    "accept",
    "authorization",
    "cache-control",
    "content-security-policy",
    "content-type",
    "referrer-policy",
    "sec-websocket-protocol",
    "vary",
    "x-content-type-options",
  ]);
  const { sent, received } = await headersOfTheContract();
  assert.ok(sent.has("idempotency-key") && sent.has("x-api-key"), [...sent].join());
  // Headers of families that CORS cannot name: those that a preflight asks for are allowed.
  const ofModels = [...sent].filter((name) => /^(anthropic-|x-narthex-|x-session-id$)/.test(name));
  assert.ok(ofModels.length >= 4, ofModels.join());
  for (const path of ["/mcp", "/mcp/words", "/v1/contexts", "/v1/chat/completions", "/v1/messages"]) {
    for (const asked of [[], ofModels]) {
      const { headers } = await preflight(path, friend, ["mcp-session-id", ...asked].join(", "), "POST");
      const missing = [...sent].filter((name) => name !== "sec-websocket-protocol" && !headers.includes(name));
      assert.deepEqual(missing, asked.length > 0 ? [] : ofModels, path);
    }
  }
  assert.ok(
    ["location", "etag", "retry-after"].every((name) => received.has(name)),
    [...received].join(),
  );
  const answer = await gateway.request("GET", "/v1/whoami", { headers: { origin: friend } });
  const exposed = answer.headers.get("access-control-expose-headers")!.toLowerCase().split(/, */);
  const hidden = [...received].filter(
    (name) => !ofBrowsers.has(name) && !name.startsWith("access-control-") && !exposed.includes(name),
  );
  assert.deepEqual(hidden, []);
});

test("headers_that_mirror_a_tools_parameters_are_allowed_on_request", async () => {
  const { headers } = await preflight(
    "/mcp/words",
    friend,
    "Mcp-Param-Region, mcp-param-tier,content-type, x-other, mcp-param-a b",
    "POST",
  );
  assert.ok(headers.includes("mcp-param-region") && headers.includes("mcp-param-tier"));
  assert.ok(!headers.includes("x-other") && !headers.some((name) => name.includes(" ")));
  const many = Array.from({ length: 500 }, (_, at) => `mcp-param-${at}`).join(",");
  assert.ok((await preflight("/mcp", friend, many, "POST")).headers.length < 130);
});

test("a_browser_reads_the_session_it_was_given", async () => {
  const body = {
    jsonrpc: "2.0",
    id: 1,
    method: "initialize",
    params: {
      protocolVersion: "2025-06-18",
      capabilities: { elicitation: {} },
      clientInfo: { name: "c", version: "1" },
    },
  };
  const headers = { origin: friend, accept: "application/json, text/event-stream" };
  const answer = await gateway.request("POST", "/mcp", { body, headers });
  assert.equal(answer.status, 200, answer.text);
  assert.ok(answer.headers.get("mcp-session-id"));
  const exposed = answer.headers.get("access-control-expose-headers")!.toLowerCase().split(/, */);
  for (const name of ["mcp-session-id", "mcp-protocol-version", "www-authenticate", "location", "retry-after"]) {
    assert.ok(exposed.includes(name), name);
  }
});

test("an_mcp_endpoint_may_have_a_trailing_slash", async () => {
  const { secret: key } = await makeKey(gateway, "caller");
  const body = { jsonrpc: "2.0", id: 1, method: "tools/list" };
  const headers = { accept: "application/json, text/event-stream" };
  for (const path of ["/mcp", "/mcp/", "/mcp/words", "/mcp/words/"]) {
    const listed = await gateway.request("POST", path, { key, body, headers, contract: false });
    assert.equal(listed.status, 200, `${path}: ${listed.text}`);
    assert.ok(listed.json.result.tools.length > 0, path);
    const without = await gateway.request("POST", path, { key: null, body, headers, contract: false });
    assert.equal(without.status, 401);
    const url = /resource_metadata="([^"]+)"/.exec(without.headers.get("www-authenticate")!)![1]!;
    const metadata = await gateway.request("GET", new URL(url).pathname, { key: null });
    assert.deepEqual([metadata.status, metadata.json.resource], [200, gateway.url + path.replace(/\/$/, "")], path);
  }
  for (const path of ["/mcp/No-Service", "/mcp/No-Service/"]) {
    const without = await gateway.request("POST", path, { key: null, body, headers, contract: false });
    const url = /resource_metadata="([^"]+)"/.exec(without.headers.get("www-authenticate")!)![1]!;
    assert.equal((await gateway.request("GET", new URL(url).pathname, { key: null })).status, 200, url);
  }
  for (const path of ["/mcp//", "/mcp/words//", "/mcp/words/more"]) {
    assert.ok(
      [401, 404].includes((await gateway.request("POST", path, { key: null, body, headers, contract: false })).status),
      path,
    );
  }
  refused(
    await gateway.request("GET", "/.well-known/oauth-protected-resource/mcp/words/more", {
      key: null,
      contract: false,
    }),
    404,
    "not_found",
  );
});

test("credentials_have_a_header_of_their_own", async () => {
  const put = (header: string) =>
    gateway.request("PUT", "/v1/services/headers", {
      body: { ...serviceAt(service.url), credentials: { header, value: "v-1" } },
      headers: { "if-match": "*" },
    });
  assert.equal(
    (await gateway.request("PUT", "/v1/services/headers", { body: serviceAt(service.url, [{ name: "shown" }]) }))
      .status,
    201,
  );
  for (const header of [
    "__proto__",
    "__PROTO__",
    "host",
    "Content-Length",
    "connection",
    "cf-ray",
    "Keep-Alive",
    "te",
    "expect",
    "Accept",
    "user-agent",
    "mcp-session-id",
    "Proxy-Authorization",
    "Forwarded",
    "x-forwarded-for",
    "webhook-id",
    "set-cookie",
    "a b",
    "é",
  ]) {
    assert.deepEqual(pointers(refused(await put(header), 422, "validation_failed")), ["#/credentials/header"], header);
  }
  const patched = await gateway.request("PATCH", "/v1/services/headers", {
    body: { credentials: { header: "__proto__", value: "v" } },
    headers: { "if-match": "*", "content-type": "application/merge-patch+json" },
  });
  refused(patched, 422, "validation_failed");
  for (const header of ["constructor", "toString", "X-API-Key", "anthropic-version"]) {
    assert.equal((await put(header)).status, 200, header);
    const before = service.calls.length;
    const made = await gateway.request("POST", "/v1/contexts", { body: { capability: "work", service: "headers" } });
    assert.equal(made.json.status, "completed", made.text);
    assert.equal(service.calls[before]!.headers[header.toLowerCase()], "v-1", `${header} is sent`);
  }
});

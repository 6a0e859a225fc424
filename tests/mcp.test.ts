// The Model Context Protocol at /mcp and /mcp/{service}: both revisions, by raw HTTP and by the official client.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ended, eventually, makeKey, obedient, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import {
  askLegacy,
  askModern,
  claim,
  errorOf,
  events,
  message,
  modernHeaders,
  openModern,
  resultOf,
} from "./support/mcp.ts";
import { echo, hold, json, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;

const capabilities = [
  {
    name: "echo",
    description: "Says it again.",
    input_schema: { type: "object", properties: { text: { type: "string" } }, required: ["text"], "x-own": [1.5] },
    idempotent: true,
  },
  { name: "slow", timeout_seconds: 60 },
  { name: "list", output_schema: { type: "array" } },
  { name: "odd.name" },
  {
    name: "regional",
    input_schema: { type: "object", properties: { region: { type: "string", "x-mcp-header": "Region" } } },
  },
];

before(async () => {
  gateway = await startGateway();
  service = await startService(echo);
  await register(gateway, "words", serviceAt(service.url, capabilities, { description: "Works on words." }));
  await register(gateway, "other", serviceAt(service.url, [{ name: "work" }]));
});
beforeEach(() => {
  service.handler = json({ result: { said: "hello" } });
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const names = (result: any): string[] => result.tools.map(({ name }: { name: string }) => name);

// The modern revision.

test("a_modern_client_discovers_the_gateway", async () => {
  const result = resultOf(await askModern(gateway, "server/discover"));
  assert.deepEqual(result.supportedVersions, ["2026-07-28"]);
  assert.deepEqual(Object.keys(result.capabilities), ["tools", "extensions"]);
  assert.equal(result.resultType, "complete");
  assert.equal(result.cacheScope, "private");
  assert.ok(result.ttlMs >= 0);
  assert.equal(result._meta["io.modelcontextprotocol/serverInfo"].name, "narthex");
  const one = resultOf(await askModern(gateway, "server/discover", {}, { path: "/mcp/words" }));
  assert.equal(one.instructions, "Works on words.");
});

test("tools_are_the_capabilities_with_unchanged_schemas", async () => {
  const result = resultOf(await askModern(gateway, "tools/list"));
  assert.deepEqual(names(result), [
    "context_status",
    "context_result",
    "context_cancel",
    "other__work",
    "words__echo",
    "words__list",
    names(result)[6]!,
    "words__regional",
    "words__slow",
  ]);
  assert.match(names(result)[6]!, /^words__odd_name_[0-9a-f]{8}$/);
  const tool = result.tools.find(({ name }: any) => name === "words__echo");
  assert.deepEqual(tool, {
    name: "words__echo",
    description: "Says it again.",
    inputSchema: capabilities[0]!.input_schema,
    annotations: { idempotentHint: true },
  });
  assert.equal(result.cacheScope, "private");
  const own = resultOf(await askModern(gateway, "tools/list", {}, { path: "/mcp/words" }));
  assert.deepEqual(names(own), ["echo", "list", "odd.name", "regional", "slow"]);
  assert.deepEqual(own.tools[1].outputSchema, { type: "array" });
});

test("a_list_shows_exactly_the_callable_tools", async () => {
  const key = (await makeKey(gateway, "bare", ["contexts:create:words.echo"])).secret;
  assert.deepEqual(names(resultOf(await askModern(gateway, "tools/list", {}, { key }))), ["words__echo"]);
  const called = await askModern(gateway, "tools/call", { name: "words__echo", arguments: { text: "a" } }, { key });
  assert.equal(resultOf(called).isError, false);
  const denied = await askModern(gateway, "tools/call", { name: "words__slow", arguments: {} }, { key });
  errorOf(denied, 403, 403);
  const challenge = 'Bearer error="insufficient_scope", scope="contexts:create:words.slow"';
  assert.equal(denied.headers.get("www-authenticate"), challenge);
});

test("a_call_is_a_context", async () => {
  const answer = await askModern(gateway, "tools/call", { name: "words__echo", arguments: { text: "a" } });
  const result = resultOf(answer);
  assert.deepEqual(result.structuredContent, { said: "hello" });
  assert.deepEqual(result.content, [{ type: "text", text: '{"said":"hello"}' }]);
  assert.equal(result.isError, false);
  assert.match(answer.headers.get("server-timing")!, /upstream/);
  const context = await ended(gateway, result._meta["narthex/context"]);
  assert.deepEqual([context.status, context.service, context.capability], ["completed", "words", "echo"]);
  assert.deepEqual(context.parameters, { text: "a" });
});

test("a_failure_is_a_result_with_an_error", async () => {
  service.handler = json({ error: { code: "too_odd", message: "It is odd.", retryable: false } });
  const failed = resultOf(await askModern(gateway, "tools/call", { name: "words__slow", arguments: {} }));
  assert.equal(failed.isError, true);
  assert.match(failed.content[0].text, /^upstream_error: /);
  const wrong = resultOf(await askModern(gateway, "tools/call", { name: "words__echo", arguments: { text: 1 } }));
  assert.equal(wrong.isError, true);
  assert.match(wrong.content[0].text, /\/text /);
});

test("an_unknown_tool_and_wrong_parameters_are_errors_of_the_call", async () => {
  for (const params of [
    { name: "nothing__there", arguments: {} },
    { name: "words__echo", arguments: [] },
  ]) {
    errorOf(await askModern(gateway, "tools/call", params), 200, -32602);
  }
  errorOf(await askModern(gateway, "tools/call", { arguments: {} }), 200, -32602);
  errorOf(await askModern(gateway, "tools/list", { cursor: "mine" }), 200, -32602);
});

test("modern_requests_are_refused_as_the_protocol_specifies", async () => {
  errorOf(await askModern(gateway, "ping"), 404, -32601);
  errorOf(await askModern(gateway, "initialize"), 404, -32601);
  errorOf(await askModern(gateway, "tools/list", {}, { headers: { "mcp-method": "TOOLS/LIST" } }), 400, -32020);
  errorOf(
    await askModern(gateway, "tools/list", {}, { headers: { "mcp-protocol-version": "2025-11-25" } }),
    400,
    -32020,
  );
  const call = { name: "words__echo", arguments: { text: "a" } };
  errorOf(await askModern(gateway, "tools/call", call, { headers: { "mcp-name": "other" } }), 400, -32020);
  const unknown = { "io.modelcontextprotocol/protocolVersion": "2099-01-01" };
  const headers = { "mcp-protocol-version": "2099-01-01" };
  const error = errorOf(await askModern(gateway, "tools/list", {}, { meta: unknown, headers }), 400, -32022);
  assert.deepEqual(error.data, { supported: ["2026-07-28"], requested: "2099-01-01" });
  const bare = await gateway.request("POST", "/mcp", {
    body: message("tools/list", {}),
    headers: modernHeaders("tools/list"),
  });
  errorOf(bare, 400, -32602);
  errorOf(
    await gateway.request("POST", "/mcp", { body: "{", headers: { "content-type": "application/json" } }),
    400,
    -32700,
  );
  errorOf(await gateway.request("POST", "/mcp", { body: { jsonrpc: "2.0", id: null, method: "ping" } }), 400, -32600);
});

test("arguments_that_a_schema_mirrors_are_checked_against_their_headers", async () => {
  const params = { name: "words__regional", arguments: { region: "Grün" } };
  const encoded = `=?base64?${Buffer.from("Grün").toString("base64")}?=`;
  const good = await askModern(gateway, "tools/call", params, { headers: { "mcp-param-region": encoded } });
  assert.equal(resultOf(good).isError, false);
  for (const headers of [{}, { "mcp-param-region": "other" }, { "mcp-param-region": "=?base64?!?=" }]) {
    errorOf(await askModern(gateway, "tools/call", params, { headers }), 400, -32020);
  }
});

test("a_notification_is_accepted_and_not_answered", async () => {
  const body = { jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 1 } };
  const answer = await gateway.request("POST", "/mcp", { body });
  assert.deepEqual([answer.status, answer.text], [202, ""]);
});

test("a_foreign_origin_is_refused_before_anything_else", async () => {
  for (const method of ["POST", "GET"]) {
    const answer = await gateway.request(method, "/mcp", {
      key: null,
      headers: { origin: "http://evil.example" },
      contract: method === "POST",
    });
    errorOf(answer, 403, 403);
    assert.ok(!("id" in answer.json));
  }
  const host = await gateway.request("POST", "/mcp", { body: message("ping"), headers: { host: "evil.example" } });
  errorOf(host, 403, 403);
  const own = await gateway.request("POST", "/mcp", { body: message("ping"), headers: { origin: gateway.url } });
  assert.deepEqual(resultOf(own), {});
});

test("without_credentials_there_is_a_challenge_but_no_metadata_without_an_authorization_server", async () => {
  const none = await askModern(gateway, "tools/list", {}, { key: null });
  errorOf(none, 401, 401);
  assert.equal(none.headers.get("www-authenticate"), "Bearer");
  const wrong = await askModern(gateway, "tools/list", {}, { key: "nonsense" });
  errorOf(wrong, 401, 401);
  assert.equal(wrong.headers.get("www-authenticate"), 'Bearer error="invalid_token"');
});

test("an_unknown_service_has_no_endpoint", async () => {
  errorOf(await askModern(gateway, "tools/list", {}, { path: "/mcp/nothing" }), 404, 404);
  errorOf(await askModern(gateway, "tools/call", { name: "a" }, { path: "/mcp/nothing" }), 404, 404);
});

test("progress_is_streamed_under_its_token_and_the_response_comes_last", async () => {
  service.handler = json({}, 202);
  const params = { name: "words__slow", arguments: { a: 1 } };
  const before = service.calls.length;
  const asked = askModern(gateway, "tools/call", params, { meta: { progressToken: "p1" } });
  const callback = (await service.call(before)).json.callback_url.replace(/^.*\/v1/, "/v1");
  const context = (await service.call(before)).json.context_id;
  const say = async (body: object) => {
    // A callback may arrive before the gateway has recorded that the service works in the background.
    await eventually(async () => (await gateway.request("POST", callback, { body, key: null })).status === 200);
  };
  for (const percent of [10, 60]) {
    await say({ progress: { percent } });
    await eventually(
      async () => (await gateway.request("GET", `/v1/contexts/${context}`)).json.progress?.data.percent === percent,
    );
  }
  await say({ result: "done" });
  const answer = await asked;
  assert.equal(answer.headers.get("content-type"), "text/event-stream");
  assert.equal(answer.headers.get("x-accel-buffering"), "no");
  const messages = events(answer.text);
  const progress = messages.slice(0, -1);
  assert.ok(progress.length >= 1, answer.text);
  assert.ok(
    progress.every(({ method, params }) => method === "notifications/progress" && params.progressToken === "p1"),
  );
  assert.deepEqual(progress.at(-1).params, {
    progressToken: "p1",
    progress: 60,
    total: 100,
    message: '{"percent":60}',
  });
  assert.deepEqual(messages.at(-1).result.content, [{ type: "text", text: "done" }]);
});

test("a_long_call_is_answered_with_a_stream_or_waited_for", async (t) => {
  const busy = hold(t, service, obedient);
  const before = service.calls.length;
  const params = { name: "words__slow", arguments: {} };
  const waited = askModern(gateway, "tools/call", params, { headers: { accept: "application/json" } });
  await service.call(before);
  // Once the stream of a later call has begun, both have taken long enough to be streamed.
  const streamed = await openModern(gateway, "tools/call", params);
  assert.equal(streamed.headers.get("content-type"), "text/event-stream");
  busy.open();
  const whole = await waited;
  assert.equal(whole.headers.get("content-type"), "application/json");
  for (const answer of [await streamed.whole(), whole]) assert.equal(resultOf(answer).isError, false);
});

/** Begins a streaming call and disconnects; returns the context's id. */
async function abandoned(headers: Record<string, string>, meta: object): Promise<string> {
  const before = service.calls.length;
  const body = message("tools/call", {
    name: "words__slow",
    arguments: { ms: 30_000 },
    _meta: { ...meta, progressToken: 1 },
  });
  const response = await gateway.open("POST", "/mcp", { body, headers });
  assert.equal(response.headers.get("content-type"), "text/event-stream");
  const { context_id } = (await service.call(before)).json;
  await response.body!.cancel();
  return context_id;
}

test("closing_the_stream_of_a_modern_call_cancels_it", async () => {
  service.handler = obedient;
  const id = await abandoned(modernHeaders("tools/call", { name: "words__slow" }), claim);
  assert.equal((await ended(gateway, id)).status, "cancelled");
});

test("the_three_plain_tools_inspect_and_cancel_a_call", async () => {
  service.handler = obedient;
  const before = service.calls.length;
  const made = await gateway.request("POST", "/v1/contexts", {
    body: { capability: "slow", service: "words", parameters: { ms: 30_000 } },
    headers: { prefer: "respond-async" },
  });
  const context_id = made.json.id;
  await service.call(before);
  const use = async (name: string, id = context_id) =>
    resultOf(await askModern(gateway, "tools/call", { name, arguments: { context_id: id } }));
  assert.equal((await use("context_status")).structuredContent.id, context_id);
  assert.equal((await use("context_cancel")).isError, false);
  const result = await use("context_result");
  assert.equal(result.isError, true);
  assert.match(result.content[0].text, /cancelled/);
  assert.equal((await use("context_cancel")).isError, true);
  assert.equal((await use("context_status", "ctx_nothing")).isError, true);
  const wrong = await askModern(gateway, "tools/call", { name: "context_status", arguments: { id: 1 } });
  assert.equal(resultOf(wrong).isError, true);
});

test("over_the_limit_a_call_is_refused_as_in_the_api", async () => {
  const { id, secret: key } = await makeKey(gateway, "caller");
  const limit = { kind: "requests", quota: 1, window_seconds: 3600, binds: { key: id } };
  assert.equal((await gateway.request("PUT", "/v1/limits/mcp", { body: limit })).status, 201);
  const params = { name: "words__echo", arguments: { text: "a" } };
  const answers = [];
  for (let at = 0; at < 3; at += 1) answers.push(await askModern(gateway, "tools/call", params, { key }));
  const refused = answers.at(-1)!;
  assert.equal(errorOf(refused, 429, 429).data.code, "rate_limited");
  assert.ok(Number(refused.headers.get("retry-after")) > 0);
  await gateway.request("DELETE", "/v1/limits/mcp");
});

// The legacy revision.

test("a_legacy_result_has_nothing_of_the_modern_revision", async () => {
  const list = resultOf(await askLegacy(gateway, "tools/list", {}, { path: "/mcp/words" }));
  assert.deepEqual(Object.keys(list), ["tools"]);
  assert.ok(!("outputSchema" in list.tools.find(({ name }: any) => name === "list")));
  service.handler = json({ result: [1, 2] });
  const result = resultOf(
    await askLegacy(gateway, "tools/call", { name: "list", arguments: {} }, { path: "/mcp/words" }),
  );
  assert.deepEqual(result.content, [{ type: "text", text: "[1,2]" }]);
  assert.ok(!("structuredContent" in result) && !("resultType" in result));
});

test("without_a_session_get_has_no_stream_and_delete_nothing_to_delete", async () => {
  for (const method of ["GET", "DELETE"]) {
    const answer = await gateway.request(method, "/mcp");
    assert.deepEqual([answer.status, answer.headers.get("allow")], [405, "POST"]);
  }
});

test("a_client_of_2024_is_answered_in_its_revision", async () => {
  const params = {
    protocolVersion: "2024-11-05",
    capabilities: { sampling: {} },
    clientInfo: { name: "tests", version: "1" },
  };
  const begun = await askLegacy(gateway, "initialize", params, { headers: { "mcp-protocol-version": "2024-11-05" } });
  assert.equal(resultOf(begun).protocolVersion, "2024-11-05");
  const session = { "mcp-session-id": begun.headers.get("mcp-session-id")! };
  const accept = "application/json, text/event-stream";
  // With and without a header for its revision.
  for (const more of [{}, { "mcp-protocol-version": "2024-11-05" }]) {
    const send = (body: object) => gateway.request("POST", "/mcp", { body, headers: { accept, ...session, ...more } });
    assert.equal((await send({ jsonrpc: "2.0", method: "notifications/initialized" })).status, 202);
    assert.ok(names(resultOf(await send(message("tools/list")))).includes("words__echo"));
    const called = resultOf(await send(message("tools/call", { name: "words__echo", arguments: { text: "a" } })));
    assert.equal(called.content[0].type, "text");
    const batch = await send([message("ping"), message("tools/list")]);
    assert.deepEqual(
      batch.json.map(({ result }: any) => Object.keys(result)),
      [[], ["tools"]],
    );
  }
});

test("a_legacy_client_that_disconnects_does_not_cancel", async () => {
  service.handler = obedient;
  const id = await abandoned({ accept: "application/json, text/event-stream" }, {});
  const still = await gateway.request("GET", `/v1/contexts/${id}`, { headers: { prefer: "wait=6" } });
  assert.equal(still.json.status, "executing");
  await gateway.request("POST", `/v1/contexts/${id}/cancel`);
});

test("the_official_client_lists_calls_and_receives_progress", async () => {
  const client = new Client({ name: "tests", version: "1" });
  const headers = { authorization: `Bearer ${gateway.adminKey}` };
  await client.connect(
    new StreamableHTTPClientTransport(new URL(`${gateway.url}/mcp/words`), { requestInit: { headers } }),
  );
  try {
    const { tools } = await client.listTools();
    assert.deepEqual(
      tools.map(({ name }) => name),
      ["echo", "list", "odd.name", "regional", "slow"],
    );
    const result = await client.callTool({ name: "echo", arguments: { text: "a" } });
    assert.deepEqual(result.structuredContent, { said: "hello" });
    const before = service.calls.length;
    service.handler = json({}, 202);
    const values: number[] = [];
    const asked = client.callTool({ name: "slow", arguments: {} }, undefined, {
      onprogress: ({ progress }) => void values.push(progress),
    });
    const callback = (await service.call(before)).json.callback_url.replace(/^.*\/v1/, "/v1");
    const say = (body: object) =>
      eventually(async () => (await gateway.request("POST", callback, { body, key: null })).status === 200);
    await say({ progress: { progress: 5, total: 10 } });
    await eventually(() => values.length > 0);
    await say({ result: { done: true } });
    assert.deepEqual((await asked).structuredContent, { done: true });
    assert.deepEqual(values, [5]);
  } finally {
    await client.close();
  }
});

// Sessions of legacy clients with elicitation: questions on the stream of a call, resumed streams, the end.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { ended, eventually, makeKey, obedient, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { askLegacy, errorOf, message, type McpOptions, resultOf } from "./support/mcp.ts";
import { json, type Service, startService } from "./support/service.ts";
import { next, streamed } from "./support/sse.ts";

let gateway: Gateway;
let service: Service;

const schema = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };
const asks: Service["handler"] = (one, response) =>
  one.json.input === undefined
    ? json({ input_required: { message: "Who are you?", schema } })(one, response)
    : json({ result: { hello: one.json.input.name } })(one, response);

before(async () => {
  gateway = await startGateway();
  service = await startService(asks);
  await register(gateway, "words", serviceAt(service.url, [{ name: "greet" }, { name: "slow", timeout_seconds: 60 }]));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const initialize = (capabilities: object, options: McpOptions = {}, protocolVersion = "2025-11-25") =>
  askLegacy(
    gateway,
    "initialize",
    { protocolVersion, capabilities, clientInfo: { name: "tests", version: "1" } },
    options,
  );

/** Begins a session; returns the headers of its further requests. */
async function begin(options: McpOptions = {}, version?: string) {
  const answer = await initialize({ elicitation: {} }, options, version);
  resultOf(answer);
  const id = answer.headers.get("mcp-session-id");
  assert.match(id ?? "", /^[\x21-\x7e]{40,}$/);
  return { accept: "application/json, text/event-stream", "mcp-session-id": id! };
}

const call = (headers: Record<string, string>, name = "words__greet", more: object = {}) =>
  gateway.open("POST", "/mcp", { body: message("tools/call", { name, arguments: { ms: 30_000 }, ...more }), headers });
const post = (headers: Record<string, string>, body: object) => gateway.request("POST", "/mcp", { body, headers });
const respond = (headers: Record<string, string>, id: string, more: object) =>
  post(headers, { jsonrpc: "2.0", id, ...more });
const accepted = { result: { action: "accept", content: { name: "Ada" } } };

test("only_a_client_with_elicitation_has_a_session", async () => {
  assert.equal((await initialize({})).headers.get("mcp-session-id"), null);
  assert.equal((await initialize({ experimental: {} })).headers.get("mcp-session-id"), null);
  for (const capabilities of [{ elicitation: {} }, { sampling: {} }, { roots: { listChanged: true } }]) {
    assert.ok((await initialize(capabilities)).headers.get("mcp-session-id"));
  }
});

test("a_question_is_asked_on_the_stream_of_the_call_and_answered_separately", async () => {
  const headers = await begin();
  const events = streamed(await call(headers));
  const primed = await next(events);
  assert.equal(primed.message, undefined);
  assert.ok(primed.id && Number(primed.retry) > 0);
  const asked = (await next(events)).message;
  assert.deepEqual([asked.method, asked.params.message], ["elicitation/create", "Who are you?"]);
  assert.deepEqual(asked.params.requestedSchema, schema);
  assert.deepEqual([(await respond(headers, asked.id, accepted)).status], [202]);
  const { id, message } = await next(events);
  assert.deepEqual(message.result.structuredContent, { hello: "Ada" });
  assert.ok(id!.endsWith(".end"));
  assert.equal((await events.next()).done, true);
  // A late answer is accepted, and changes nothing.
  assert.equal((await respond(headers, asked.id, accepted)).status, 202);
  assert.equal((await respond(headers, "q9.9.9", accepted)).status, 202);
});

test("declining_or_failing_ends_the_call", async () => {
  const headers = await begin();
  for (const response of [{ result: { action: "decline" } }, { error: { code: -32601, message: "no" } }]) {
    const events = streamed(await call(headers));
    await next(events);
    assert.equal((await respond(headers, (await next(events)).message.id, response)).status, 202);
    assert.equal((await next(events)).message.result.isError, true);
  }
  const events = streamed(await call(headers));
  await next(events);
  const wrong = await respond(headers, (await next(events)).message.id, {
    result: { action: "accept", content: { name: 7 } },
  });
  errorOf(wrong, 200, -32602);
  assert.equal((await next(events)).message.result.isError, true);
});

test("a_broken_stream_is_resumed_where_it_ended", async () => {
  const headers = await begin();
  const broken = await call(headers);
  const events = streamed(broken);
  const primed = await next(events);
  const asked = await next(events);
  await events.return(undefined);
  const resume = async (lastEvent: string) =>
    streamed(await gateway.open("GET", "/mcp", { headers: { ...headers, "last-event-id": lastEvent } }));
  // From the beginning: the question is sent again, unchanged.
  const again = await resume(primed.id!);
  assert.deepEqual(await next(again), asked);
  // From there: it does not. The earlier reader receives nothing more.
  const further = await resume(asked.id!);
  // A HEAD resumes nothing: the stream stays with its reader.
  for (const accept of ["text/event-stream", "*/*", "application/json"]) {
    await gateway.request("HEAD", "/mcp", { headers: { ...headers, accept, "last-event-id": primed.id! } });
  }
  assert.equal((await respond(headers, asked.message.id, accepted)).status, 202);
  const last = await next(further);
  assert.deepEqual(last.message.result.structuredContent, { hello: "Ada" });
  // The response has been delivered.
  assert.equal((await (await resume(last.id!)).next()).done, true);
  // The stream of another call is a different one.
  const other = streamed(await call(headers));
  const theirs = await next(other);
  assert.notEqual(theirs.id!.split(".")[0], primed.id!.split(".")[0]);
  const { id } = (await next(other)).message;
  await respond(headers, id, accepted);
  await next(other);
  for (const nothing of ["99.1", "nothing"]) {
    errorOf(await gateway.request("GET", "/mcp", { headers: { ...headers, "last-event-id": nothing } }), 404, 404);
  }
});

test("a_session_belongs_to_its_opener_and_endpoint_until_it_ends", async () => {
  const headers = await begin();
  const ping = message("ping");
  assert.equal((await post(headers, ping)).status, 200);
  const id = headers["mcp-session-id"];
  const key = (await makeKey(gateway, "caller")).secret;
  errorOf(await gateway.request("POST", "/mcp", { body: ping, headers, key }), 404, 404);
  errorOf(await gateway.request("POST", "/mcp/words", { body: ping, headers }), 404, 404);
  for (const wrong of [`${id}A`, id.slice(1), "made-up"]) {
    errorOf(await post({ ...headers, "mcp-session-id": wrong }, ping), 404, 404);
  }
  errorOf(await gateway.request("DELETE", "/mcp", { headers, key }), 404, 404);
  assert.equal((await gateway.request("DELETE", "/mcp", { headers })).status, 204);
  for (const method of ["DELETE", "GET"]) errorOf(await gateway.request(method, "/mcp", { headers }), 404, 404);
  errorOf(await post(headers, ping), 404, 404);
  const own = await begin({ path: "/mcp/words" });
  assert.equal((await gateway.request("DELETE", "/mcp/words", { headers: own })).status, 204);
});

test("earlier_revisions_get_no_event_without_a_message", async () => {
  const headers = { ...(await begin({}, "2025-06-18")), "mcp-protocol-version": "2025-06-18" };
  const events = streamed(await call(headers));
  const asked = (await next(events)).message;
  assert.equal(asked.method, "elicitation/create");
  await respond(headers, asked.id, accepted);
  await next(events);
});

test("a_request_that_is_cancelled_by_its_id_ends", async () => {
  service.handler = obedient;
  try {
    const headers = await begin();
    const before = service.calls.length;
    const body = message("tools/call", { name: "words__slow", arguments: { ms: 30_000 }, _meta: { progressToken: 1 } });
    const response = await gateway.open("POST", "/mcp", { body, headers });
    const { context_id } = (await service.call(before)).json;
    const notification = { jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: body.id } };
    assert.equal((await post(headers, notification)).status, 202);
    assert.equal((await ended(gateway, context_id)).status, "cancelled");
    await response.body!.cancel();
    const unknown = { ...notification, params: { requestId: "other" } };
    assert.equal((await post(headers, unknown)).status, 202);
  } finally {
    service.handler = asks;
  }
});

test("the_level_of_messages_is_kept_with_the_session", async () => {
  const headers = await begin();
  assert.deepEqual(resultOf(await post(headers, message("logging/setLevel", { level: "warning" }))), {});
});

test("the_official_client_is_asked", async () => {
  const client = new Client({ name: "tests", version: "1" }, { capabilities: { elicitation: {} } });
  const asked: string[] = [];
  client.setRequestHandler(ElicitRequestSchema, ({ params }) => {
    asked.push(params.message);
    return { action: "accept", content: { name: "Grace" } };
  });
  const headers = { authorization: `Bearer ${gateway.adminKey}` };
  const transport = new StreamableHTTPClientTransport(new URL(`${gateway.url}/mcp/words`), {
    requestInit: { headers },
  });
  await client.connect(transport);
  try {
    const result = await client.callTool({ name: "greet", arguments: {} });
    assert.deepEqual(result.structuredContent, { hello: "Grace" });
    assert.deepEqual(asked, ["Who are you?"]);
    await transport.terminateSession();
  } finally {
    await client.close();
  }
  await eventually(() => service.calls.length > 0);
});

test("a_legacy_client_is_answered_in_its_revision", async () => {
  for (const [asked, given] of [
    ["2025-11-25", "2025-11-25"],
    ["2025-06-18", "2025-06-18"],
    ["2025-03-26", "2025-03-26"],
    ["2024-11-05", "2024-11-05"],
    ["2024-10-07", "2025-11-25"],
    ["2031-01-01", "2025-11-25"],
    ["2026-07-28", "2025-11-25"],
    ["one", "2025-11-25"],
  ]) {
    const params = { protocolVersion: asked, capabilities: {}, clientInfo: { name: "tests", version: "1" } };
    const answer = await askLegacy(gateway, "initialize", params);
    const result = resultOf(answer);
    assert.equal(result.protocolVersion, given);
    assert.equal(result.serverInfo.name, "narthex");
    assert.equal(answer.headers.get("mcp-session-id"), null);
  }
  for (const path of ["/mcp", "/mcp/words"]) {
    const note = await gateway.request("POST", path, { body: { jsonrpc: "2.0", method: "notifications/initialized" } });
    assert.equal(note.status, 202, note.text);
  }
  assert.deepEqual(resultOf(await askLegacy(gateway, "ping")), {});
  assert.deepEqual(resultOf(await askLegacy(gateway, "logging/setLevel", { level: "info" })), {});
  errorOf(await askLegacy(gateway, "logging/setLevel", { level: "loud" }), 200, -32602);
  errorOf(await askLegacy(gateway, "resources/list"), 200, -32601);
  errorOf(await askLegacy(gateway, "ping", {}, { headers: { "mcp-protocol-version": "1999-01-01" } }), 400, -32600);
});

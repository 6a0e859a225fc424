// Contexts of services that list their models: the same names, permissions, tokens and prices as at the endpoints of
// models.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, eventually, makeKey, pointers, register } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Handler, json, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let openai: Service;
let anthropic: Service;

const talks: Handler = (call, response) =>
  json({
    id: "c",
    choices: [{ index: 0, message: { role: "assistant", content: "Hi" }, finish_reason: "stop" }],
    usage: { prompt_tokens: 100, completion_tokens: 10, prompt_tokens_details: { cached_tokens: 40 } },
    model: call.json.model,
  })(call, response);

const says: Handler = json({
  type: "message",
  content: [{ type: "text", text: "Hi" }],
  stop_reason: "end_turn",
  usage: { input_tokens: 60, cache_read_input_tokens: 40, output_tokens: 10 },
});

before(async () => {
  gateway = await startGateway();
  openai = await startService(talks, { probe: json({ data: [] }) });
  anthropic = await startService(says, { probe: json({ data: [] }) });
  const prices = { currency: "USD", input: "1", cached_input: "0.1", output: "10" };
  await register(gateway, "gpt", {
    name: "A provider",
    type: "llm",
    transport: { kind: "openai", url: `${openai.url}v1`, query: { "api-version": "2026-05-01" } },
    credentials: { headers: { "api-key": "a-key-of-the-provider" }, query: { token: "a-token-of-the-provider" } },
    models: [{ id: "small", upstream: "small-2026", prices }],
  });
  await register(gateway, "claude", {
    name: "A provider",
    type: "llm",
    transport: { kind: "anthropic", url: anthropic.url.replace(/\/$/, "") },
    credentials: { headers: { "x-api-key": "a-key-of-the-provider" } },
    models: [{ id: "haiku", prices }],
  });
});
after(async () => {
  await gateway?.stop();
  await openai?.stop();
  await anthropic?.stop();
});

const parameters = { model: "small", messages: [{ role: "user", content: "Hi" }] };
const tokens = {
  input_tokens: 100,
  cached_input_tokens: 40,
  cache_write_tokens: 0,
  output_tokens: 10,
  reasoning_tokens: 0,
  estimated: false,
};

test("a_context_is_named_counted_and_priced_as_a_call_of_its_model", async () => {
  const { json: context } = await create(gateway, { capability: "chat", service: "gpt", parameters });
  assert.deepEqual([context.status, context.model, context.finish_reason], ["completed", "small", "stop"]);
  assert.deepEqual(context.usage, tokens);
  assert.deepEqual(context.cost, { amount: "0.000164", currency: "USD", estimated: false });
  assert.deepEqual([context.content, context.result.model], [undefined, "small-2026"]);
});

test("headers_and_query_parameters_reach_the_provider", async () => {
  await create(gateway, { capability: "chat", service: "gpt", parameters });
  const call = openai.calls.at(-1);
  assert.equal(call?.headers["api-key"], "a-key-of-the-provider");
  assert.equal(call?.path, "/v1/chat/completions?api-version=2026-05-01&token=a-token-of-the-provider");
  const read = await gateway.request("GET", "/v1/services/gpt");
  assert.deepEqual(read.json.credentials, [{ header: "api-key" }, { query: "token" }]);
  // What was read can be written, and a null keeps what is stored.
  const kept = { headers: { "api-key": null, "x-more": "another-key-of-the-provider" } };
  const { id: _, ...document } = read.json;
  const put = await gateway.request("PUT", "/v1/services/gpt", {
    body: { ...document, credentials: kept, status: undefined },
    headers: { "if-match": read.headers.get("etag") as string },
  });
  assert.equal(put.status, 200, put.text);
  await create(gateway, { capability: "chat", service: "gpt", parameters });
  const again = openai.calls.at(-1);
  assert.deepEqual(
    [again?.headers["api-key"], again?.headers["x-more"], again?.path],
    ["a-key-of-the-provider", "another-key-of-the-provider", "/v1/chat/completions?api-version=2026-05-01"],
  );
});

test("a_service_with_anthropics_format_serves_contexts", async () => {
  const body = { model: "haiku", max_tokens: 9, messages: parameters.messages };
  const { json: context } = await create(gateway, { capability: "messages", parameters: body });
  assert.deepEqual([context.status, context.service, context.finish_reason], ["completed", "claude", "end_turn"]);
  assert.deepEqual(context.usage, tokens);
  const call = anthropic.calls.at(-1);
  assert.equal(call?.path, "/v1/messages");
  assert.equal(call?.headers["anthropic-version"], "2023-06-01");
  assert.equal(call?.headers["x-api-key"], "a-key-of-the-provider");
});

test("a_context_may_only_ask_for_a_model_that_is_listed_and_permitted", async () => {
  const other = await create(gateway, {
    capability: "chat",
    service: "gpt",
    parameters: { ...parameters, model: "large" },
  });
  assert.deepEqual([other.status, pointers(other.json)], [422, ["#/parameters/model"]]);
  const { model: _, ...without } = parameters;
  const none = await create(gateway, { capability: "chat", service: "gpt", parameters: without });
  assert.deepEqual([none.status, pointers(none.json)], [422, ["#/parameters/model"]]);
  const { secret: key } = await makeKey(gateway, "bare", ["contexts:create:*", "models:use:other"]);
  const refused = await create(gateway, { capability: "chat", service: "gpt", parameters }, { key });
  assert.deepEqual([refused.status, refused.json.permission], [403, "models:use:small"]);
});

async function mcp(method: string, params: object = {}) {
  const answer = await gateway.request("POST", "/mcp", {
    body: { jsonrpc: "2.0", id: 1, method, params },
    headers: { accept: "application/json, text/event-stream" },
  });
  return answer.text;
}

test("capabilities_for_clients_of_models_are_no_tools_unless_they_say_so", async () => {
  const list = await mcp("tools/list");
  assert.match(list, /gpt__chat/);
  assert.doesNotMatch(list, /claude__messages|count_tokens/);
  await register(gateway, "offered", {
    name: "A provider",
    type: "llm",
    transport: { kind: "anthropic", url: anthropic.url },
    capabilities: [
      { name: "messages", tool: true },
      { name: "models", tool: false },
    ],
    models: [{ id: "opus" }],
  });
  const { json: shown } = await gateway.request("GET", "/v1/services/offered");
  assert.deepEqual(
    shown.capabilities.map((capability: any) => [capability.name, capability.tool]),
    [
      ["messages", true],
      ["models", false],
    ],
  );
  await eventually(async () => /offered__messages/.test(await mcp("tools/list")));
  assert.doesNotMatch(await mcp("tools/list"), /offered__models/);
  const called = await mcp("tools/call", {
    name: "offered__messages",
    arguments: { model: "opus", max_tokens: 9, messages: parameters.messages },
  });
  assert.match(called, /end_turn/);
  assert.match(await mcp("tools/call", { name: "offered__models", arguments: {} }), /Unknown tool/);
});

test("a_check_lists_the_models_of_the_provider", async () => {
  const lists: Record<string, unknown> = {
    wrapped: { object: "list", data: [{ id: "org/b" }, { id: "a" }, { id: "not a name" }] },
    bare: [{ id: "a" }],
    none: { models: [] },
  };
  for (const [id, list] of Object.entries(lists)) {
    const provider = await startService(talks, { probe: json(list) });
    await register(gateway, id, {
      name: "A provider",
      type: "llm",
      transport: { kind: id === "bare" ? "anthropic" : "openai", url: `${provider.url}v1` },
      credentials: { headers: { "x-api-key": "a-key-of-the-provider" } },
    });
    const check = await gateway.request("POST", `/v1/services/${id}/check`);
    assert.equal(check.json.healthy, true, check.text);
    assert.deepEqual(check.json.models, { wrapped: ["a", "org/b"], bare: ["a"], none: undefined }[id], id);
    const asked = provider.probes.at(-1);
    assert.equal(asked?.headers["x-api-key"], "a-key-of-the-provider");
    assert.equal(asked?.path, `/v1/models${id === "bare" ? "?limit=1000" : ""}`);
    await provider.stop();
  }
  const { json: other } = await gateway.request("POST", "/v1/services/gpt/check");
  assert.deepEqual(other.models, []);
});

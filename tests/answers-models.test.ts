// What a model server's answers mean for its contexts: which are failures, and which are retried.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, register } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Handler, inTurn, json, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
const services: Service[] = [];

before(async () => {
  gateway = await startGateway();
});
after(async () => {
  await gateway?.stop();
  for (const service of services) await service.stop();
});

let number = 0;
const raw =
  (
    body: string | Buffer,
    headers: Record<string, string> = { "content-type": "application/json" },
    code = 200,
  ): Handler =>
  (_, response) =>
    void response.writeHead(code, headers).end(body);

const completion = {
  id: "c",
  object: "chat.completion",
  created: 1,
  model: "m",
  choices: [{ index: 0, message: { role: "assistant", content: "Hi" }, finish_reason: "stop" }],
};

async function chat(handler: Handler, body: object = {}) {
  const endpoint = await startService(handler, { probe: json([{ id: "a/b", object: "model" }]) });
  services.push(endpoint);
  const id = `llm${++number}`;
  const transport = { kind: "openai", url: `${endpoint.url}v1`, model: "m" };
  const retry = { max_attempts: 3, base_ms: 10, cap_ms: 1000 };
  await register(gateway, id, { name: "A model", type: "llm", transport, retry });
  const parameters = { messages: [{ role: "user", content: "Hi" }] };
  const { json: context } = await create(gateway, {
    capability: "chat",
    service: id,
    parameters,
    timeout_seconds: 20,
    ...body,
  });
  return { context, endpoint, calls: endpoint.calls.length };
}

for (const [what, first, status_, calls] of [
  [
    "overloaded",
    json({ type: "error", error: { type: "overloaded_error", message: "too busy now" } }, 529),
    "completed",
    2,
  ],
  ["origin_away", json({}, 530), "completed", 2],
  [
    "no_quota",
    json({ error: { message: "over it", type: "insufficient_quota", code: "insufficient_quota" } }, 429),
    "failed",
    1,
  ],
  ["unknown_key", json({ error: { message: "who?", code: "invalid_api_key" } }, 401), "failed", 1],
  ["too_long", json({ error: { message: "too many tokens", code: "context_length_exceeded" } }, 400), "failed", 1],
  [
    "bad_request_in_a_200",
    json({ error: { message: "longer than the model takes", type: "invalid_request_error", code: 400 } }),
    "failed",
    1,
  ],
  ["overloaded_in_a_200", json({ error: { message: "too busy now", type: "overloaded_error" } }), "completed", 2],
  ["empty_error", json({ ...completion, error: "" }), "completed", 1],
  ["half_a_character", raw(JSON.stringify({ ...completion, x: "X" }).replace('"X"', '"cut \\ud83d"')), "completed", 1],
  [
    "doubled_usage",
    raw(JSON.stringify(completion).replace("{", '{"usage":{"total_tokens":1},"usage":{"total_tokens":2},')),
    "completed",
    1,
  ],
  ["plain_text", raw(JSON.stringify(completion), { "content-type": "text/plain" }), "completed", 1],
] as [string, Handler, string, number][]) {
  test(`a_model_server_that_returns_${what}_is_called_${calls === 1 ? "once" : "again"}`, async () => {
    const { context, ...seen } = await chat(inTurn(first, json(completion)));
    assert.deepEqual([context.status, seen.calls], [status_, calls], JSON.stringify(context.error));
  });
}

test("models_may_be_a_bare_list", async () => {
  const { context } = await chat(json(completion), { capability: "models", parameters: {} });
  assert.deepEqual([context.status, context.result], ["completed", [{ id: "a/b", object: "model" }]]);
});

// Services of `transport.kind: "openai"`: a real HTTP server that speaks OpenAI's API stands behind the gateway.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { create, ended, eventually, pointers, refused, register } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Handler, inTurn, json, type Service, startService, status } from "./support/service.ts";

let gateway: Gateway;
let endpoint: Service;

const usage = { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 };

const completion = (content: string, model: string) => ({
  id: "chatcmpl-1",
  object: "chat.completion",
  created: 1,
  model,
  usage,
  choices: [{ index: 0, message: { role: "assistant", content }, finish_reason: "stop" }],
});

/** One chunk per word, each as an event after a pause. */
const streamed =
  (words: string[], { ms = 0, done = true, stop = true } = {}): Handler =>
  async (call, response) => {
    response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
    const chunk = (choices: object[], more: object = {}) =>
      response.write(
        `data: ${JSON.stringify({ id: "chatcmpl-1", object: "chat.completion.chunk", created: 1, model: call.json.model, choices, ...more })}\n\n`,
      );
    chunk([{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }]);
    for (const word of words) {
      await pause(ms);
      chunk([{ index: 0, delta: { content: word }, finish_reason: null }]);
    }
    if (stop) chunk([{ index: 0, delta: {}, finish_reason: "stop" }]);
    if (call.json.stream_options?.include_usage) chunk([], { usage });
    if (done) response.write("data: [DONE]\n\n");
    response.end();
  };

const talks: Handler = (call, response) => {
  if (call.path === "/v1/embeddings")
    return json({ object: "list", data: [{ index: 0, embedding: [0.5, -1] }], model: call.json.model })(call, response);
  if (call.json.stream) return streamed(["Hel", "lo"])(call, response);
  return json(completion("Hello", call.json.model))(call, response);
};

before(async () => {
  gateway = await startGateway();
  endpoint = await startService(talks, { probe: json({ object: "list", data: [{ id: "small", object: "model" }] }) });
  await register(gateway, "llm", {
    name: "A model",
    type: "llm",
    transport: { kind: "openai", url: `${endpoint.url}v1`, model: "small" },
    credentials: { header: "Authorization", value: "Bearer sk-of-the-service" },
    retry: { max_attempts: 2, base_ms: 1, cap_ms: 10 },
  });
});
after(async () => {
  await gateway.stop();
  await endpoint.stop();
});

const messages = [{ role: "user", content: "Say hello." }];

type StreamEvent = { event: string; data: any };

/** Creates a context and reads its stream to the end. */
async function listen(
  body: object,
  headers: Record<string, string> = {},
): Promise<{ events: StreamEvent[]; response: Response }> {
  const response = await gateway.open("POST", "/v1/contexts", {
    body: { capability: "chat", ...body },
    headers: { accept: "text/event-stream", ...headers },
  });
  return { response, events: read(await response.text()) };
}

const read = (text: string): StreamEvent[] =>
  text
    .split("\n\n")
    .filter((block) => block.startsWith("event:"))
    .map((block) => {
      const lines = block.split("\n");
      return {
        event: lines[0]!.slice("event: ".length),
        data: JSON.parse(
          lines
            .slice(1)
            .map((line) => line.slice("data: ".length))
            .join("\n"),
        ),
      };
    });

test("it_offers_chat_embeddings_and_models_by_default", async () => {
  const { json } = await gateway.request("GET", "/v1/services/llm");
  assert.deepEqual(
    json.capabilities.map(({ name }: { name: string }) => name),
    ["chat", "embed", "models"],
  );
  assert.equal(json.transport.model, "small");
  assert.ok(json.capabilities.every((one: any) => one.input_schema));
});

test("a_chat_is_passed_on_unchanged_and_its_response_is_the_result", async () => {
  endpoint.handler = talks;
  const from = endpoint.calls.length;
  const answer = await create(gateway, {
    capability: "chat",
    parameters: { messages, temperature: 0.5, stream: true },
  });
  assert.equal(answer.json.status, "completed", answer.text);
  assert.deepEqual(answer.json.result, completion("Hello", "small"));
  const call = endpoint.calls[from]!;
  assert.equal(call.path, "/v1/chat/completions");
  assert.deepEqual(call.json, { messages, temperature: 0.5, model: "small" });
  assert.equal(call.headers.authorization, "Bearer sk-of-the-service");
  assert.equal(call.headers["idempotency-key"], answer.json.id);
});

test("a_request_may_name_another_model", async () => {
  endpoint.handler = talks;
  const answer = await create(gateway, { capability: "chat", parameters: { messages, model: "large" } });
  assert.equal(answer.json.result.model, "large");
});

test("text_becomes_vectors_and_models_are_listed", async () => {
  endpoint.handler = talks;
  const embedded = await create(gateway, { capability: "embed", parameters: { input: "hello" } });
  assert.deepEqual(embedded.json.result.data[0].embedding, [0.5, -1], embedded.text);
  const models = await create(gateway, { capability: "models" });
  assert.deepEqual(models.json.result.data, [{ id: "small", object: "model" }], models.text);
});

test("parameters_are_checked_before_they_are_sent", async () => {
  const problem = refused(
    await create(gateway, { capability: "chat", parameters: { messages: [] } }),
    422,
    "validation_failed",
  );
  assert.deepEqual(pointers(problem), ["#/parameters/messages"]);
});

test("a_listener_gets_each_chunk_as_it_arrives_and_the_whole_at_the_end", async () => {
  endpoint.handler = streamed(["Hel", "lo"]);
  const { events, response } = await listen({ parameters: { messages } });
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type")!, /^text\/event-stream/);
  assert.equal(events[0]!.event, "context");
  const deltas = events
    .filter(({ event }) => event === "delta")
    .map(({ data }) => data.choices[0]?.delta.content ?? "");
  assert.equal(deltas.join(""), "Hello");
  const end = events.at(-1)!;
  assert.equal(end.event, "end");
  assert.equal(end.data.status, "completed");
  assert.deepEqual(end.data.result, completion("Hello", "small"));
  assert.deepEqual(endpoint.calls.at(-1)!.json, {
    messages,
    model: "small",
    stream: true,
    stream_options: { include_usage: true },
  });
  // It is on record like any other.
  const again = await gateway.request("GET", response.headers.get("location")!);
  assert.deepEqual(again.json.result, end.data.result);
});

test("chunks_arrive_while_the_endpoint_is_still_generating", async () => {
  let free = () => {};
  const held = new Promise<void>((resolve) => (free = resolve));
  endpoint.handler = async (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write('data: {"choices":[{"index":0,"delta":{"content":"first"}}]}\n\n');
    await held;
    response.end('data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n');
  };
  const response = await gateway.open("POST", "/v1/contexts", {
    body: { capability: "chat", parameters: { messages } },
    headers: { accept: "text/event-stream" },
  });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes("first")) text += (await reader.read()).value ?? assert.fail(`ended: ${text}`);
  assert.ok(!text.includes("event: end"));
  free();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    text += value;
  }
  assert.equal(read(text).at(-1)!.data.status, "completed");
});

test("a_stream_that_breaks_is_begun_again", async () => {
  const from = endpoint.calls.length;
  endpoint.handler = (call, response) =>
    endpoint.calls.length === from + 1
      ? streamed(["Hal"], { stop: false, done: false })(call, response)
      : streamed(["Hello"])(call, response);
  const { events } = await listen({ parameters: { messages } });
  const again = events.findIndex(({ event }) => event === "attempt");
  assert.ok(again > 0, JSON.stringify(events));
  assert.equal(events[again]!.data.number, 2);
  const after = events.slice(again).filter(({ event }) => event === "delta");
  assert.equal(after.map(({ data }) => data.choices[0]?.delta.content ?? "").join(""), "Hello");
  const end = events.at(-1)!.data;
  assert.equal(end.result.choices[0].message.content, "Hello");
  assert.equal(end.attempts.length, 2);
});

test("an_endpoints_error_is_in_the_details", async () => {
  const error = { message: "No such model.", type: "invalid_request_error", code: "model_not_found" };
  endpoint.handler = json({ error }, 404);
  const refusedThere = await create(gateway, { capability: "chat", parameters: { messages } });
  assert.equal(refusedThere.json.error.code, "upstream_error", refusedThere.text);
  assert.deepEqual(refusedThere.json.error.details, { error });
  endpoint.handler = async (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(`data: ${JSON.stringify({ error: { message: "overloaded" } })}\n\ndata: [DONE]\n\n`);
  };
  const { events } = await listen({ parameters: { messages } });
  assert.equal(events.at(-1)!.data.error.code, "upstream_error");
  assert.deepEqual(events.at(-1)!.data.error.details, { message: "overloaded" });
});

test("invalid_responses_are_refused", async () => {
  for (const handler of [
    json({ no: "choices" }),
    json([1]),
    streamed(["x"].concat(Array(1200).fill("y".repeat(10_000)))),
  ]) {
    endpoint.handler = handler;
    const { events } = await listen({ parameters: { messages } });
    assert.equal(events.at(-1)!.data.error?.code, "upstream_invalid_response", JSON.stringify(events.at(-1)));
  }
});

test("an_endpoint_that_does_not_stream_can_be_listened_to", async () => {
  endpoint.handler = (call, response) => json(completion("Whole", call.json.model))(call, response);
  const { events } = await listen({ parameters: { messages } });
  assert.deepEqual(
    events.map(({ event }) => event),
    ["context", "end"],
  );
  assert.equal(events.at(-1)!.data.result.choices[0].message.content, "Whole");
});

test("the_work_continues_when_a_listener_disconnects", async () => {
  endpoint.handler = streamed(Array(20).fill("word "), { ms: 50 });
  const leaving = new AbortController();
  const response = await gateway.open("POST", "/v1/contexts", {
    body: { capability: "chat", parameters: { messages } },
    headers: { accept: "text/event-stream" },
    signal: leaving.signal,
  });
  const id = response.headers.get("location")!.split("/").at(-1)!;
  leaving.abort();
  assert.equal((await ended(gateway, id)).result.choices[0].message.content, "word ".repeat(20));
});

test("a_cancelled_chat_is_aborted_at_the_endpoint", async () => {
  endpoint.handler = streamed(Array(400).fill("word "), { ms: 50 });
  const response = await gateway.open("POST", "/v1/contexts", {
    body: { capability: "chat", parameters: { messages } },
    headers: { accept: "text/event-stream" },
  });
  const id = response.headers.get("location")!.split("/").at(-1)!;
  const cancelled = await gateway.request("POST", `/v1/contexts/${id}/cancel`);
  assert.ok([200, 202].includes(cancelled.status), cancelled.text);
  const events = read(await response.text());
  assert.equal(events.at(-1)!.data.status, "cancelled");
  await eventually(() => endpoint.calls.at(-1)!.abandoned);
});

test("a_repeat_with_the_same_key_streams_the_same_context", async () => {
  endpoint.handler = talks;
  const headers = { "idempotency-key": "once" };
  const first = await listen({ parameters: { messages } }, headers);
  const calls = endpoint.calls.length;
  const second = await listen({ parameters: { messages } }, headers);
  assert.equal(second.events.at(-1)!.data.id, first.events.at(-1)!.data.id);
  assert.equal(second.events.at(-1)!.event, "end");
  assert.equal(endpoint.calls.length, calls);
});

test("a_listener_holds_its_place_in_a_limit_until_the_end", async () => {
  let free = () => {};
  const held = new Promise<void>((resolve) => (free = resolve));
  endpoint.handler = async (call, response) => {
    await held;
    await streamed(["x"])(call, response);
  };
  const limit = { kind: "concurrent", quota: 1, binds: { service: "llm" } };
  assert.equal((await gateway.request("PUT", "/v1/limits/one", { body: limit })).status, 201);
  const first = await gateway.open("POST", "/v1/contexts", {
    body: { capability: "chat", parameters: { messages } },
    headers: { accept: "text/event-stream" },
  });
  assert.equal(first.status, 200);
  refused(await create(gateway, { capability: "chat", parameters: { messages } }), 429, "rate_limited");
  free();
  assert.equal(read(await first.text()).at(-1)!.data.status, "completed");
  await eventually(
    async () => (await create(gateway, { capability: "chat", parameters: { messages } })).status === 200,
  );
  assert.equal((await gateway.request("DELETE", "/v1/limits/one", { headers: { "if-match": "*" } })).status, 204);
});

test("any_context_can_be_listened_to", async () => {
  const echo = await startService();
  try {
    await register(gateway, "echo", {
      name: "Echo",
      type: "tool",
      transport: { kind: "http", url: echo.url },
      capabilities: [{ name: "echo" }, { name: "quick", durable: false }],
    });
    for (const capability of ["echo", "quick"]) {
      const { events } = await listen({ capability, parameters: { a: 1 } });
      assert.deepEqual(
        events.map(({ event }) => event),
        ["context", "end"],
        JSON.stringify(events),
      );
      assert.deepEqual(events.at(-1)!.data.result, { a: 1 });
    }
  } finally {
    await echo.stop();
  }
});

test("its_document_is_checked", async () => {
  const put = (document: object) =>
    gateway.request("PUT", "/v1/services/other", { body: { name: "x", type: "llm", ...document }, contract: false });
  const transport = { kind: "openai", url: `${endpoint.url}v1` };
  const other = refused(await put({ transport, capabilities: [{ name: "sing" }] }), 422, "validation_failed");
  assert.deepEqual(pointers(other), ["#/capabilities/0/name"]);
  const query = refused(
    await put({ transport: { ...transport, url: `${endpoint.url}v1?a=b` } }),
    422,
    "validation_failed",
  );
  assert.deepEqual(pointers(query), ["#/transport/url"]);
  const none = refused(await put({ transport: { kind: "http", url: endpoint.url } }), 422, "validation_failed");
  assert.deepEqual(pointers(none), ["#/capabilities"]);
  const model = refused(
    await put({ transport: { kind: "http", url: endpoint.url, model: "x" }, capabilities: [{ name: "a" }] }),
    422,
    "validation_failed",
  );
  assert.deepEqual(pointers(model), ["#/transport/model"]);
  const some = await put({ transport, capabilities: [{ name: "chat", timeout_seconds: 20 }] });
  assert.equal(some.status, 201, some.text);
  assert.equal(some.json.capabilities[0].input_schema.required[0], "messages");
});

test("a_bare_list_of_models_is_a_result", async () => {
  const listed = await startService(undefined, { probe: json([{ id: "a/b", object: "model" }]) });
  try {
    const transport = { kind: "openai", url: `${listed.url}v1` };
    await register(gateway, "listed", { name: "Listed", type: "llm", transport });
    const { json: context } = await create(gateway, { capability: "models", service: "listed" });
    assert.deepEqual(context.result, [{ id: "a/b", object: "model" }], JSON.stringify(context));
  } finally {
    await listed.stop();
  }
});

test("a_declared_capability_keeps_defaults_it_does_not_override", async () => {
  const transport = { kind: "openai", url: `${endpoint.url}v1`, model: "small" };
  const document = {
    name: "Named",
    type: "llm",
    transport,
    retry: { max_attempts: 2, base_ms: 1, cap_ms: 10 },
    capabilities: [{ name: "chat" }, { name: "models", timeout_seconds: 5 }],
  };
  const { capabilities } = await register(gateway, "named", document);
  const all = (await gateway.request("GET", "/v1/services/llm")).json.capabilities;
  assert.deepEqual(capabilities, [all[0], { ...all[2], timeout_seconds: 5 }]);
  endpoint.handler = inTurn(status(500, {}), json(completion("Hi", "small")));
  const { json: context } = await create(gateway, { capability: "chat", service: "named", parameters: { messages } });
  assert.equal(context.status, "completed", JSON.stringify(context));
  assert.equal(Date.parse(context.expires_at) - Date.parse(context.created_at), 300_000);
  const patched = await gateway.request("PATCH", "/v1/services/named", {
    body: { capabilities: [{ name: "embed" }, { name: "chat", idempotent: false }] },
    headers: { "if-match": "*" },
  });
  assert.deepEqual(patched.json.capabilities, [all[1], { ...all[0], idempotent: false }], patched.text);
});

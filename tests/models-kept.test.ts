// Calls of models whose content is kept: stored before they are made, with the response in the client's format, and
// repeated under an idempotency key.
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { apart } from "./support/apart.ts";
import { ended, eventually, makeKey, refused, register } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { registerFormats } from "./support/model-providers.ts";
import { providerNames, startModelUpstream } from "./support/model-upstream.ts";
import { gate, hang, json, type Service, startService, status } from "./support/service.ts";

let gateway: Gateway;
let provider: Service;
/** A provider that does what a test says. */
let odd: Service;
let openai: OpenAI;
let anthropic: Anthropic;

const put = async (path: string, body: object) => {
  const answer = await gateway.request("PUT", path, { body });
  assert.equal(answer.status, 201, answer.text);
};
const route = (name: string, content: string, ...targets: [string, string][]) =>
  put(`/v1/model-routes/${name}`, {
    content,
    targets: targets.map(([service, model], tier) => ({ service, model, tier })),
  });

before(async () => {
  gateway = await startGateway();
  provider = await startModelUpstream();
  odd = await startService();
  await registerFormats(gateway, provider, {
    openai: [{ id: "small", upstream: providerNames.small }],
    anthropic: [{ id: "haiku", upstream: providerNames.haiku, max_output_tokens: 4_000 }],
    hasResponses: true,
  });
  const kept = { kind: "openai", url: `${odd.url}v1` };
  await register(gateway, "odd", {
    name: "Odd",
    type: "llm",
    transport: kept,
    models: [{ id: "odd" }],
    content: "full",
  });
  await route("kept-small", "full", ["openai", "small"]);
  await route("kept-haiku", "full", ["anthropic", "haiku"]);
  await route("kept-fallback", "full", ["odd", "odd"], ["openai", "small"]);
  await route("unkept", "none", ["odd", "odd"]);
  const { secret } = await makeKey(gateway, "caller", ["models:use:*"]);
  openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: secret, maxRetries: 0, fetch: apart });
  anthropic = new Anthropic({ baseURL: gateway.url, apiKey: secret, maxRetries: 0, fetch: apart });
});
after(async () => {
  await gateway?.stop();
  for (const service of [provider, odd]) await service?.stop();
});

const chat = (model: string, content = "Hi", more: object = {}): any => ({
  model,
  messages: [{ role: "user", content }],
  ...more,
});
const message = (model: string, content = "Hi", more: object = {}): any => ({
  ...chat(model, content),
  max_tokens: 500,
  ...more,
});
const CHAT = "/v1/chat/completions";
const post = (path: string, body: object, headers: Record<string, string> = {}) =>
  gateway.request("POST", path, { body, headers });
const contextOf = (answer: { headers: Headers }) => ended(gateway, answer.headers.get("x-narthex-context")!);
const said = { choices: [{ index: 0, message: { role: "assistant", content: "said" }, finish_reason: "stop" }] };

test("a_whole_response_is_kept_in_the_format_of_its_client", async () => {
  for (const [path, body] of [
    [CHAT, chat("kept-small")],
    [CHAT, chat("kept-haiku")],
    ["/v1/messages", message("kept-haiku")],
    ["/v1/messages", message("kept-small")],
    ["/v1/responses", { model: "kept-small", input: "Hi" }],
    ["/v1/responses", { model: "kept-haiku", input: "Hi" }],
    ["/v1/embeddings", { model: "kept-small", input: ["Hi"] }],
  ] as const) {
    const answer = await post(path, body);
    assert.equal(answer.status, 200, answer.text);
    const context = await contextOf(answer);
    assert.deepEqual([context.status, context.content], ["completed", undefined]);
    assert.deepEqual(context.parameters, body);
    assert.deepEqual(context.result, answer.json);
    assert.equal(context.model, body.model);
  }
});

test("a_stream_is_kept_as_the_whole_response", async () => {
  for (const model of ["kept-small", "kept-haiku"])
    for (const word of ["Hi", "tools", "parallel"]) {
      const whole = await openai.chat.completions.create(chat(model, word));
      const { data, response } = await openai.chat.completions
        .create(chat(model, word, { stream: true }))
        .withResponse();
      for await (const _ of data as any) continue;
      const { result } = await contextOf(response);
      assert.equal(result.choices[0].message.content || null, whole.choices[0]!.message.content, `${model} ${word}`);
      const names = (one: any) => (one.choices[0].message.tool_calls ?? []).map((call: any) => call.function);
      assert.deepEqual(names(result), names(whole), `${model} ${word}`);
      const same = await anthropic.messages.create(message(model, word));
      const stream = anthropic.messages.stream(message(model, word));
      const final = await stream.finalMessage();
      const kept = await contextOf((await stream.withResponse()).response);
      assert.deepEqual(kept.result.content, JSON.parse(JSON.stringify(final.content)), `${model} ${word}`);
      assert.deepEqual(kept.result.stop_reason, same.stop_reason);
      const asked = openai.responses.create({ model, input: word, stream: true });
      const { data: events, response: streamed } = await asked.withResponse();
      let last: any;
      for await (const event of events) if (event.type === "response.completed") last = event.response;
      const context = await contextOf(streamed);
      assert.deepEqual(context.result, JSON.parse(JSON.stringify(last)));
    }
});

test("the_call_is_stored_before_it_is_made", async () => {
  const held = gate(json(said));
  odd.handler = held.handler;
  const calls = odd.calls.length;
  const answer = post(CHAT, chat("odd"));
  await odd.call(calls);
  const { json: list } = await gateway.request("GET", "/v1/contexts?capability=chat&status=executing");
  assert.equal(list.data.length, 1);
  const { json: context } = await gateway.request("GET", `/v1/contexts/${list.data[0].id}`);
  assert.deepEqual(context.parameters, chat("odd"));
  held.open();
  assert.equal((await answer).headers.get("x-narthex-context"), context.id);
  assert.deepEqual((await ended(gateway, context.id)).result, said);
});

test("a_repeated_request_gets_the_first_response", async () => {
  for (const [path, body] of [
    [CHAT, chat("kept-small", "tools")],
    ["/v1/messages", message("kept-haiku", "tools")],
    ["/v1/responses", { model: "kept-small", input: "tools" }],
    ["/v1/embeddings", { model: "kept-small", input: ["Hi"] }],
  ] as const) {
    const headers = { "idempotency-key": `whole-${path}` };
    const first = await post(path, body, headers);
    const calls = provider.calls.length;
    const again = await post(path, body, headers);
    assert.deepEqual([again.status, again.json, provider.calls.length], [200, first.json, calls]);
    assert.equal(again.headers.get("idempotency-replayed"), "true");
    assert.equal(again.headers.get("x-narthex-context"), first.headers.get("x-narthex-context"));
    const other = await post(path, { ...body, user: "x" }, headers);
    assert.equal(other.status, 422, other.text);
    assert.match(other.text, /idempotency_key_reused|different body/);
  }
});

test("a_repeated_request_for_a_stream_gets_a_stream", async () => {
  for (const word of ["Hi", "tools", "parallel"]) {
    const headers = { "idempotency-key": `stream-${word}` };
    const asked = chat("kept-small", word, { stream_options: { include_usage: true } });
    const [first, again] = await Promise.all(
      [0, 1].map((wait) =>
        new Promise((go) => setTimeout(go, wait * 300)).then(() =>
          openai.chat.completions.stream(asked, { headers }).finalChatCompletion(),
        ),
      ),
    );
    assert.deepEqual(again, first);
    const messages = [];
    for (const _ of [0, 1])
      messages.push(await anthropic.messages.stream(message("kept-haiku", word), { headers }).finalMessage());
    assert.deepEqual(messages[1], messages[0]);
    const responses = [];
    for (const _ of [0, 1])
      responses.push(await openai.responses.stream({ model: "kept-small", input: word }, { headers }).finalResponse());
    assert.deepEqual(responses[1]!.output, responses[0]!.output);
  }
});

test("a_repeated_request_waits_for_the_first_and_gets_its_failure", async () => {
  const held = gate(status(500, { error: { message: "No.", type: "server_error" } }));
  odd.handler = held.handler;
  const calls = odd.calls.length;
  const headers = { "idempotency-key": "fails" };
  const first = post(CHAT, chat("odd"), headers);
  await odd.call(calls);
  const again = post(CHAT, chat("odd"), headers);
  held.open();
  const [one, other] = await Promise.all([first, again]);
  assert.deepEqual([one.status, other.status, odd.calls.length], [500, 500, calls + 1]);
  assert.equal(other.headers.get("idempotency-replayed"), "true");
  assert.equal(other.headers.get("x-should-retry"), "false");
});

test("failed_targets_are_attempts_of_the_same_context", async () => {
  odd.handler = status(503);
  const answer = await post(CHAT, chat("kept-fallback"));
  assert.equal(answer.status, 200, answer.text);
  const context = await contextOf(answer);
  assert.deepEqual(
    context.attempts.map((attempt: any) => [attempt.service, attempt.outcome, attempt.status_code]),
    [
      ["odd", "failed", 503],
      ["openai", "succeeded", 200],
    ],
  );
  const { json: list } = await gateway.request("GET", `/v1/contexts/${context.id}/events`);
  const attempts = list.data.filter((event: any) => event.type === "context.attempt");
  assert.deepEqual(
    attempts.map((event: any) => event.data.service),
    ["odd", "openai"],
  );
});

test("failures_and_refusals_end_the_context", async () => {
  odd.handler = status(400, { error: { message: "No.", type: "invalid_request_error" } });
  const failed = await contextOf(await post(CHAT, chat("odd")));
  assert.deepEqual([failed.status, failed.error.code, failed.result], ["failed", "upstream_error", null]);
  // It cannot be converted.
  const before = (await gateway.request("GET", "/v1/contexts?limit=1")).json.data[0].id;
  const refusal = await post("/v1/messages", message("kept-small", "Hi", { container: "x" }));
  assert.equal(refusal.status, 400, refusal.text);
  const last = await eventually(async () => {
    const { json: list } = await gateway.request("GET", "/v1/contexts?limit=1");
    return list.data[0].id === before ? undefined : ended(gateway, list.data[0].id);
  });
  assert.deepEqual([last.status, last.capability], ["failed", "messages"]);
});

test("a_cancelled_context_ends_its_call", async () => {
  odd.handler = hang;
  for (const stream of [false, true]) {
    if (stream)
      odd.handler = async (_, response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.write('data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n');
      };
    const calls = odd.calls.length;
    const answer = post(CHAT, chat("odd", "Hi", { stream }));
    await odd.call(calls);
    const { json: list } = await gateway.request("GET", "/v1/contexts?capability=chat&status=executing");
    const { id } = list.data[0];
    assert.equal((await gateway.request("POST", `/v1/contexts/${id}/cancel`)).status, 202);
    const { status: code, text } = await answer;
    assert.deepEqual([code, /cancelled/.test(text)], [stream ? 200 : 409, true], text);
    assert.equal((await ended(gateway, id)).status, "cancelled");
  }
});

test("a_client_that_leaves_ends_its_call", async () => {
  odd.handler = async (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (; !response.destroyed; await pause(20))
      response.write('data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n');
  };
  const controller = new AbortController();
  const response = await gateway.open("POST", CHAT, {
    body: chat("odd", "Hi", { stream: true }),
    signal: controller.signal,
  });
  await response.body!.getReader().read();
  controller.abort();
  const { status: state, result } = await contextOf(response);
  assert.deepEqual([state, result], ["cancelled", null]);
});

test("large_requests_are_refused_and_large_results_are_not_kept", async () => {
  const large = await post(CHAT, chat("kept-small", "x".repeat(700_000)));
  assert.equal(large.status, 413, large.text);
  assert.match(large.json.error.message, /content: full.*655360 bytes/);
  const huge = {
    ...said,
    choices: [{ ...said.choices[0], message: { role: "assistant", content: "y".repeat(11_000_000) } }],
  };
  odd.handler = json(huge);
  const headers = { "idempotency-key": "huge" };
  const answer = await post(CHAT, chat("odd"), headers);
  assert.equal(answer.json.choices[0].message.content.length, 11_000_000);
  const context = await contextOf(answer);
  assert.deepEqual([context.status, context.result], ["completed", null]);
  assert.match((await post(CHAT, chat("odd"), headers)).json.error.message, /too large to be kept/);
});

test("what_is_not_kept_cannot_be_repeated", async () => {
  const calls = odd.calls.length;
  for (const headers of [
    { "idempotency-key": "one" },
    { prefer: "respond-async" },
    { "idempotency-key": "one", prefer: "respond-async" },
  ]) {
    const answer = await post(CHAT, chat("unkept"), headers);
    assert.deepEqual([answer.status, answer.json.error.code], [422, "content_not_kept"], answer.text);
    for (const name of Object.keys(headers))
      assert.match(answer.json.error.message, new RegExp(name === "prefer" ? "respond-async" : name, "i"));
  }
  const kept = await post(CHAT, chat("odd"), { prefer: "respond-async" });
  assert.equal(kept.status, 400, kept.text);
  assert.equal(odd.calls.length, calls);
});

test("the_narrowest_says_what_is_kept", async () => {
  odd.handler = json(said);
  const provide = (id: string, more: object, transport: object = {}, chatMore: object = {}) =>
    register(gateway, id, {
      name: id,
      type: "llm",
      transport: { kind: "openai", url: `${odd.url}v1`, ...transport },
      models: [{ id: `m-${id}` }],
      capabilities: [{ name: "chat", ...chatMore }],
      ...more,
    });
  await provide("by-service", { content: "full" });
  await provide("by-capability", { content: "none" }, {}, { content: "full" });
  await provide("by-transport", { content: "full" }, { content: "none" }, { content: "full" });
  await provide("by-default", {});
  await route("by-route", "none", ["by-service", "m-by-service"]);
  await put("/v1/model-routes/mixed", {
    targets: ["by-service", "by-default"].map((service) => ({ service, model: `m-${service}` })),
  });
  await put("/v1/model-routes/agreed", {
    targets: ["by-service", "by-capability"].map((service) => ({ service, model: `m-${service}` })),
  });
  const expected = {
    "m-by-service": undefined,
    "m-by-capability": undefined,
    "m-by-transport": "none",
    "m-by-default": "none",
    "by-route": "none",
    mixed: "none",
    agreed: undefined,
  };
  for (const [model, content] of Object.entries(expected)) {
    const context = await eventually(async () => {
      const { headers } = await post(CHAT, chat(model));
      return contextOf({ headers });
    });
    assert.deepEqual([model, context.content], [model, content]);
  }
});

test("a_kept_call_is_replayed_as_a_context", async () => {
  for (const [path, body] of [
    [CHAT, chat("kept-small", "Hi", { stream: true })],
    ["/v1/messages", message("kept-haiku")],
  ] as const) {
    const first = await contextOf(await post(path, body));
    const { status: code, json: again, text } = await gateway.request("POST", `/v1/contexts/${first.id}/replay`);
    assert.equal(code, 200, text);
    assert.deepEqual([again.status, again.replay_of, again.service], ["completed", first.id, first.service]);
    assert.deepEqual(
      again.result.choices?.[0].message.content ?? again.result.content,
      first.result.choices?.[0].message.content ?? first.result.content,
    );
  }
  const across = await contextOf(await post("/v1/messages", message("kept-small")));
  refused(await gateway.request("POST", `/v1/contexts/${across.id}/replay`), 409, "conflict");
});

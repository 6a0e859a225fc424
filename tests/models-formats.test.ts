// Programs with the official libraries of one format, and models whose providers speak the other: what the programs see
// is what the provider said, whole and streamed, with tools, pictures, schemas and errors.
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { apart } from "./support/apart.ts";
import { contextOf, makeKey, register } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { registerFormats } from "./support/model-providers.ts";
import { providerKeys, providerNames, startModelUpstream, text } from "./support/model-upstream.ts";
import type { Service } from "./support/service.ts";

let gateway: Gateway;
let provider: Service;
let openai: OpenAI;
let anthropic: Anthropic;

const prices = { currency: "USD", input: "1", cached_input: "0.1", cache_write: "1.25", output: "4" };

before(async () => {
  gateway = await startGateway();
  provider = await startModelUpstream();
  await registerFormats(gateway, provider, {
    openai: [{ id: "small", upstream: providerNames.small, prices }],
    anthropic: [{ id: "haiku", upstream: providerNames.haiku, max_output_tokens: 4_000, prices }],
    hasResponses: false,
  });
  const { secret } = await makeKey(gateway, "caller", ["models:use:*"]);
  openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: secret, maxRetries: 0, fetch: apart });
  anthropic = new Anthropic({ baseURL: gateway.url, apiKey: secret, maxRetries: 0, fetch: apart });
});
after(async () => {
  await gateway.stop();
  await provider.stop();
});

const chat = (content: any, more: object = {}): any => ({
  model: "haiku",
  messages: [{ role: "user", content }],
  ...more,
});
const message = (content: any, more: object = {}): any => ({
  model: "small",
  max_tokens: 500,
  messages: [{ role: "user", content }],
  ...more,
});
const city = { city: "Zürich", error: { usage: 1 } };
const cityOfOpenAi = { city: "Zürich", error: { usage: null } };
/** A schema whose members are not in the order of the alphabet. */
const schema = {
  type: "object",
  properties: { zeta: { type: "string" }, alpha: { type: "number" } },
  required: ["zeta", "alpha"],
  additionalProperties: false,
};
const lastSent = () => provider.calls.at(-1)!;

test("a_chat_with_a_model_of_anthropics_format", async () => {
  const { data, response } = await openai.chat.completions.create(chat("Hi")).withResponse();
  assert.equal(data.object, "chat.completion");
  assert.deepEqual([data.choices[0]!.message.content, data.choices[0]!.finish_reason], [text, "stop"]);
  assert.equal(data.usage?.prompt_tokens, 8_310);
  assert.equal(data.usage?.prompt_tokens_details?.cached_tokens, 8_000);
  assert.equal(data.usage?.completion_tokens, 57);
  assert.equal(lastSent().path, "/v1/messages");
  assert.deepEqual(lastSent().json, {
    model: providerNames.haiku,
    max_tokens: 4_000,
    messages: [{ role: "user", content: [{ type: "text", text: "Hi" }] }],
  });
  assert.equal(lastSent().headers["anthropic-version"], "2023-06-01");
  assert.equal(lastSent().headers["x-api-key"], providerKeys.anthropic);
  const context = await contextOf(gateway, response.headers);
  assert.deepEqual([context.status, context.capability, context.service], ["completed", "chat", "anthropic"]);
  assert.deepEqual(
    [context.usage.input_tokens, context.usage.cached_input_tokens, context.usage.output_tokens, context.finish_reason],
    [8_310, 8_000, 57, "end_turn"],
  );
});

test("a_streamed_chat_with_a_model_of_anthropics_format", async () => {
  for (const word of ["Hi", "tools", "parallel"]) {
    const whole = await openai.chat.completions.create(chat(word));
    const stream = openai.chat.completions.stream(chat(word, { stream_options: { include_usage: true } }));
    const streamed = await stream.finalChatCompletion();
    const [one, other] = [whole.choices[0]!, streamed.choices[0]!];
    assert.equal(other.message.content, one.message.content, word);
    assert.equal(other.finish_reason, one.finish_reason, word);
    const calls = (message: any) => (message.tool_calls ?? []).map((call: any) => [call.id, call.function.name]);
    assert.deepEqual(calls(other.message), calls(one.message), word);
    for (const [at, call] of (other.message.tool_calls ?? []).entries()) {
      const expected: any = one.message.tool_calls![at];
      assert.deepEqual(JSON.parse((call as any).function.arguments), JSON.parse(expected.function.arguments), word);
    }
    assert.deepEqual(streamed.usage, whole.usage, word);
  }
});

test("a_loop_of_tools_with_a_model_of_anthropics_format", async () => {
  const tools: any = [{ type: "function", function: { name: "get_weather", description: "d", parameters: schema } }];
  const first = await openai.chat.completions.create(chat("tools", { tools, tool_choice: "required" }));
  const call: any = first.choices[0]!.message.tool_calls![0];
  assert.deepEqual([first.choices[0]!.finish_reason, call.function.name], ["tool_calls", "get_weather"]);
  assert.deepEqual(JSON.parse(call.function.arguments), city);
  assert.deepEqual(lastSent().json.tool_choice, { type: "any" });
  // Models write members in the order of the schema.
  assert.ok(
    lastSent()
      .raw.toString()
      .includes(`"input_schema":${JSON.stringify(schema)}`),
  );
  await openai.chat.completions.create({
    model: "haiku",
    tools,
    messages: [
      { role: "system", content: "Be brief." },
      { role: "user", content: "tools" },
      first.choices[0]!.message,
      { role: "tool", tool_call_id: call.id, content: "-3 degrees" },
    ],
  });
  const sent = lastSent().json;
  assert.equal(JSON.stringify(sent.system).includes("Be brief."), true);
  const [, asked, result] = sent.messages;
  assert.deepEqual(asked.content.find((block: any) => block.type === "tool_use").input, city);
  assert.equal(result.content[0].tool_use_id, call.id);
  assert.equal(result.content[0].type, "tool_result");
});

test("a_picture_larger_than_what_is_read_reaches_a_model_of_the_other_format_unchanged", async () => {
  const data = Buffer.alloc(3_000_000, "picture ").toString("base64");
  const picture = [
    { type: "image_url", image_url: { url: `data:image/png;base64,${data}` } },
    { type: "text", text: "What is it?" },
  ];
  await openai.chat.completions.create(chat(picture));
  const source = lastSent().json.messages[0].content[0].source;
  assert.deepEqual([source.type, source.media_type, source.data === data], ["base64", "image/png", true]);
  const image = { type: "image", source: { type: "base64", media_type: "image/png", data } };
  await anthropic.messages.create(message([image, { type: "text", text: "What is it?" }]));
  assert.ok(lastSent().json.messages[0].content[0].image_url.url === `data:image/png;base64,${data}`);
});

test("a_message_to_a_model_of_openais_format", async () => {
  const { data, response } = await anthropic.messages.create(message("Hi", { system: "Be brief." })).withResponse();
  assert.deepEqual([data.type, data.role, data.stop_reason], ["message", "assistant", "end_turn"]);
  assert.deepEqual(
    data.content.map((block: any) => block.text),
    [text],
  );
  assert.deepEqual(
    [data.usage.input_tokens, data.usage.cache_read_input_tokens, data.usage.output_tokens],
    [19, 1_000, 110],
  );
  const sent = lastSent();
  assert.equal(sent.path, "/v1/chat/completions");
  assert.equal(sent.headers.authorization, `Bearer ${providerKeys.openai}`);
  assert.deepEqual([sent.json.model, sent.json.messages.length], [providerNames.small, 2]);
  const context = await contextOf(gateway, response.headers);
  assert.deepEqual([context.status, context.capability, context.service], ["completed", "messages", "openai"]);
  assert.deepEqual([context.usage.input_tokens, context.usage.cached_input_tokens], [1_019, 1_000]);
  assert.equal(context.finish_reason, "stop");
});

test("a_streamed_message_to_a_model_of_openais_format", async () => {
  for (const word of ["Hi", "tools", "parallel"]) {
    const whole: any = await anthropic.messages.create(message(word));
    const streamed: any = await anthropic.messages.stream(message(word)).finalMessage();
    assert.deepEqual(streamed.content, whole.content, word);
    assert.deepEqual(streamed.stop_reason, whole.stop_reason, word);
    assert.equal(streamed.usage.output_tokens, 110, word);
    assert.equal(lastSent().json.stream_options.include_usage, true);
  }
});

test("a_loop_of_tools_with_a_model_of_openais_format", async () => {
  const tools: any = [{ name: "get_weather", input_schema: schema }];
  const first: any = await anthropic.messages.create(message("tools", { tools, tool_choice: { type: "any" } }));
  const call = first.content.find((block: any) => block.type === "tool_use");
  assert.deepEqual([first.stop_reason, call.name, call.input], ["tool_use", "get_weather", cityOfOpenAi]);
  assert.ok(
    lastSent()
      .raw.toString()
      .includes(`"parameters":${JSON.stringify(schema)}`),
  );
  const result = { type: "tool_result", tool_use_id: call.id, content: "-3 degrees" };
  await anthropic.messages.create({
    ...message("tools", { tools }),
    messages: [
      { role: "user", content: "tools" },
      { role: "assistant", content: first.content },
      { role: "user", content: [result] },
    ],
  });
  const [, asked, answered] = lastSent().json.messages;
  assert.deepEqual(JSON.parse(asked.tool_calls[0].function.arguments), cityOfOpenAi);
  assert.deepEqual([answered.role, answered.tool_call_id], ["tool", call.id]);
});

test("responses_of_models_that_have_no_responses", async () => {
  for (const model of ["small", "haiku"]) {
    for (const word of ["Hi", "tools"]) {
      const tools: any = [{ type: "function", name: "get_weather", parameters: schema, strict: true }];
      const body: any = { model, input: word, store: false, tools };
      const whole = await openai.responses.create(body);
      assert.deepEqual([whole.object, whole.status], ["response", "completed"]);
      assert.deepEqual((whole.tools[0] as any).parameters, schema);
      assert.ok(lastSent().raw.toString().includes(JSON.stringify(schema)), "the order of members");
      const stream = openai.responses.stream(body);
      const numbers: number[] = [];
      for await (const event of stream) numbers.push(event.sequence_number);
      assert.deepEqual(numbers, [...numbers.keys()]);
      const streamed = await stream.finalResponse();
      const said = (output: any[]) => output.map(({ type, name, content }) => [type, name, content?.[0]?.text]);
      assert.deepEqual(said(streamed.output), said(whole.output));
      assert.equal(whole.output_text, word === "Hi" || model === "haiku" ? text : "");
      assert.deepEqual(streamed.usage, whole.usage);
    }
  }
});

test("what_codex_says_about_itself_is_left_out", async () => {
  for (const model of ["small", "haiku"]) {
    const body: any = { model, input: "Hi", store: false, client_metadata: { session_id: "01a23150", turn_id: "1" } };
    assert.equal((await openai.responses.create(body)).output_text, text);
    assert.ok(!lastSent().raw.toString().includes("01a23150"));
  }
});

test("what_the_other_format_cannot_express_is_refused_and_named", async () => {
  const refused = openai.chat.completions.create(chat("Hi", { seed: 7, logit_bias: { 1: 2 } }));
  await assert.rejects(refused, (error: any) => {
    assert.deepEqual([error.status, error.constructor.name], [400, "BadRequestError"]);
    assert.match(error.message, /seed.*logit_bias|logit_bias.*seed/);
    return true;
  });
  await assert.rejects(Promise.resolve(anthropic.messages.create(message("Hi", { top_k: 5 }))), (error: any) => {
    assert.deepEqual([error.status, error.error.error.type], [400, "invalid_request_error"]);
    assert.match(error.message, /top_k/);
    return true;
  });
  const embedded = openai.embeddings.create({ model: "haiku", input: "x" });
  await assert.rejects(embedded, /"haiku" does not have \/v1\/embeddings; it has .*\/v1\/messages/);
});

test("errors_come_in_the_format_of_the_client", async () => {
  for (const [status, name] of [
    [400, "BadRequestError"],
    [404, "NotFoundError"],
    [429, "RateLimitError"],
    [529, "InternalServerError"],
  ] as const) {
    await assert.rejects(openai.chat.completions.create(chat(`error ${status}`)), (error: any) => {
      assert.deepEqual([error.status, error.constructor.name], [status, name]);
      assert.deepEqual(Object.keys(error.error).sort().slice(0, 2), ["code", "message"]);
      assert.match(error.message, new RegExp(`No \\(${status}\\)`));
      return true;
    });
    await assert.rejects(Promise.resolve(anthropic.messages.create(message(`error ${status}`))), (error: any) => {
      const own = status === 529 ? "OverloadedError" : name;
      assert.deepEqual([error.status, error.constructor.name, error.error.type], [status, own, "error"]);
      assert.match(error.message, new RegExp(`No \\(${status}\\)`));
      return true;
    });
  }
});

test("a_stream_that_fails_or_breaks_raises_in_the_format_of_the_client", async () => {
  for (const word of ["late-error", "cut", "early-error"]) {
    const chunks = async () => {
      for await (const _ of openai.chat.completions.stream(chat(word)));
    };
    await assert.rejects(chunks(), OpenAI.APIError, word);
    const events = async () => {
      for await (const _ of anthropic.messages.stream(message(word)));
    };
    await assert.rejects(events(), Anthropic.APIError, word);
  }
});

test("a_route_falls_back_to_a_model_of_the_other_format", async () => {
  await register(gateway, "away", {
    name: "Away",
    type: "llm",
    transport: { kind: "openai", url: "http://127.0.0.1:9/v1" },
    models: [{ id: "away" }],
  });
  const anthropics = (await gateway.request("GET", "/v1/services/anthropic")).json;
  const { name, type, transport, models } = anthropics;
  const credentials = { header: "X-API-Key", value: providerKeys.anthropic };
  await register(gateway, "fallback", { name, type, transport, models, credentials });
  const targets = [
    { service: "away", model: "away" },
    { service: "fallback", model: "haiku", tier: 1 },
  ];
  assert.equal((await gateway.request("PUT", "/v1/model-routes/both", { body: { targets } })).status, 201);
  const { data, response } = await openai.chat.completions.create(chat("Hi", { model: "both" })).withResponse();
  assert.equal(data.choices[0]!.message.content, text);
  assert.deepEqual(
    ["service", "model"].map((one) => response.headers.get(`x-narthex-${one}`)),
    ["fallback", providerNames.haiku],
  );
  const message = await openai.chat.completions.stream(chat("Hi", { model: "both" })).finalMessage();
  assert.equal(message.content, text);
});

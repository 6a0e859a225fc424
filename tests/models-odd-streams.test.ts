// Odd streams of providers in use, through the endpoints of models: in the provider's format they pass byte by byte,
// and to clients of the other formats they say what the provider meant.
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { apart } from "./support/apart.ts";
import { contextOf, register } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { saidByMessage, saidByResponse } from "./support/model-answers.ts";
import { failingStreams, type Meaning, type OddStream, oddStreams, sending, sentBy } from "./support/odd-streams.ts";
import { json, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let provider: Service;
/** The headers of the last response to a library. */
let lastHeaders: Headers;
let anthropic: Anthropic;
let openai: OpenAI;

before(async () => {
  gateway = await startGateway();
  provider = await startService(json({}), { probe: json({ object: "list", data: [] }) });
  const noted: typeof fetch = async (url, init) => {
    const response = await apart(url, init);
    lastHeaders = response.headers;
    return response;
  };
  const options = { apiKey: gateway.adminKey, maxRetries: 0, fetch: noted };
  anthropic = new Anthropic({ baseURL: gateway.url, ...options });
  openai = new OpenAI({ baseURL: `${gateway.url}/v1`, ...options });
});
after(async () => {
  await gateway?.stop();
  await provider?.stop();
});

let number = 0;
const messages = [{ role: "user" as const, content: "Hi" }];

/** A service of its own for each case, whose provider streams this: what one does must not affect the others. */
async function modelThatStreams(stream: OddStream): Promise<string> {
  const model = `odd-${++number}`;
  await register(gateway, model, {
    name: stream.name,
    type: "llm",
    transport: { kind: "openai", url: `${provider.url}v1` },
    models: [{ id: model, upstream: "m" }],
  });
  provider.handler = sending(stream);
  provider.calls.length = 0;
  return model;
}

/** Asserts what the provider was sent, once; returns it. */
function sentOnce(): any {
  assert.deepEqual(
    provider.calls.map(({ method, path }) => [method, path]),
    [["POST", "/v1/chat/completions"]],
  );
  const { json: sent } = provider.calls[0]!;
  assert.deepEqual([sent.model, sent.stream, sent.stream_options], ["m", true, { include_usage: true }]);
  return sent;
}

/** Asserts the record of a response that says this. */
async function recorded(headers: Headers, { usage, finish }: Meaning): Promise<void> {
  const context = await contextOf(gateway, headers);
  assert.deepEqual([context.status, context.error ?? null, context.content], ["completed", null, "none"]);
  assert.equal(context.finish_reason, finish);
  assert.deepEqual(
    context.attempts.map(({ outcome, status_code }: any) => [outcome, status_code ?? 200]),
    [["succeeded", 200]],
  );
  const { input_tokens, output_tokens, estimated } = context.usage;
  if (usage) assert.deepEqual([input_tokens, output_tokens, estimated], [...usage, false]);
  else assert.deepEqual([input_tokens > 0, output_tokens > 0, estimated], [true, true, true]);
}

/** Asserts the record of a response that failed. */
async function recordedFailure(headers: Headers, { fails }: OddStream): Promise<void> {
  const context = await contextOf(gateway, headers);
  assert.deepEqual([context.status, context.error?.code], ["failed", fails?.code ?? "upstream_error"]);
  assert.equal(context.attempts.length, 1);
  assert.equal(context.attempts[0].outcome, "failed");
  const text = JSON.stringify(context);
  assert.ok(!fails?.words || !text.includes(fails.words), "the provider's words are not kept");
}

async function chat(model: string, stream_options?: object) {
  const body = { model, messages, stream: true, ...(stream_options && { stream_options }) };
  const response = await gateway.open("POST", "/v1/chat/completions", { body });
  const bytes = Buffer.from(await response.arrayBuffer());
  return { status: response.status, headers: response.headers, bytes, text: bytes.toString() };
}

for (const stream of oddStreams) {
  test(`a_stream_${stream.name}_passes_byte_by_byte`, async () => {
    const answer = await chat(await modelThatStreams(stream), { include_usage: true });
    assert.equal(answer.status, 200, answer.text);
    assert.equal(answer.headers.get("content-type"), stream.type ?? "text/event-stream");
    assert.ok(answer.bytes.equals(sentBy(stream)), answer.text.slice(0, 2_000));
    assert.deepEqual(sentOnce().messages, messages);
    await recorded(answer.headers, stream.means!);
  });
}

test("usage_that_only_the_gateway_asked_for_is_counted_and_does_not_pass", async () => {
  for (const [name, passes] of [
    ["that_is_ordinary", (text: string) => text.replace(/data: \{[^\n]*"choices":\[\],"usage"[^\n]*\n\n/, "")],
    // It belongs to chunks with something else.
    ["that_reports_usage_in_each_chunk", (text: string) => text],
  ] as const) {
    const stream = oddStreams.find((one) => one.name === name)!;
    const answer = await chat(await modelThatStreams(stream));
    assert.equal(answer.text, passes(sentBy(stream).toString()), name);
    sentOnce();
    await recorded(answer.headers, stream.means!);
  }
});

for (const stream of failingStreams) {
  const { fails } = stream;
  test(`a_stream_${stream.name}_is_a_failure_with_the_providers_words`, async () => {
    const answer = await chat(await modelThatStreams(stream), { include_usage: true });
    if (fails?.status) {
      assert.equal(answer.status, fails.status, answer.text);
      const { error } = JSON.parse(answer.text);
      assert.ok(error.message.includes(fails.words ?? "provider"), answer.text);
    } else {
      assert.equal(answer.status, 200, answer.text);
      const passes = fails?.passes ?? sentBy(stream).toString();
      assert.ok(answer.text.startsWith(passes), answer.text);
      const last = answer.text.slice(passes.length);
      if (fails?.isCut)
        assert.equal(JSON.parse(/^data: (.*)\n\n$/.exec(last)?.[1] ?? "{}").error?.code, "upstream_error");
      else assert.equal(last, "", "the provider's own error is the end");
    }
    sentOnce();
    await recordedFailure(answer.headers, stream);
  });
}

const asMessage = async (model: string) =>
  saidByMessage(await anthropic.messages.stream({ model, max_tokens: 500, messages }).finalMessage());
/** Reads the events of a response; rejects where the last one is an error. */
async function asResponse(model: string): Promise<Meaning> {
  let last: any;
  for await (const event of await openai.responses.create({ model, input: "Hi", stream: true })) last = event;
  const error = last?.type === "error" ? last : last?.response?.error;
  if (error) throw new OpenAI.APIError(undefined, undefined, error.message, lastHeaders);
  assert.ok(["response.completed", "response.incomplete"].includes(last?.type), JSON.stringify(last));
  return saidByResponse(last.response);
}

for (const [format, ask] of [
  ["message", asMessage],
  ["response", asResponse],
] as [string, (model: string) => Promise<Meaning>][]) {
  for (const stream of oddStreams) {
    test(`a_stream_${stream.name}_says_the_same_as_a_${format}`, async () => {
      const { usage, ...meant } = stream.means!;
      const { usage: reported, ...said } = await ask(await modelThatStreams(stream));
      assert.deepEqual(said, { thinking: "", text: "", calls: [], ...meant });
      if (usage) assert.deepEqual(reported, usage);
      const asked = sentOnce().messages;
      assert.deepEqual([asked.length, asked[0].role], [1, "user"]);
      assert.match(JSON.stringify(asked[0].content), /"Hi"/);
      await recorded(lastHeaders, stream.means!);
    });
  }

  for (const stream of failingStreams) {
    test(`a_stream_${stream.name}_is_raised_as_a_${format}`, async () => {
      const model = await modelThatStreams(stream);
      const error: any = await ask(model).then(
        (said) => assert.fail(`it says ${JSON.stringify(said)}`),
        (error) => error,
      );
      assert.ok(error instanceof Anthropic.APIError || error instanceof OpenAI.APIError, `${error}`);
      assert.equal(error.status, stream.fails?.status, `${error}`);
      assert.ok(`${error.message}`.includes(stream.fails?.words ?? "provider"), `${error}`);
      sentOnce();
      await recordedFailure(lastHeaders, stream);
    });
  }
}

test("a_chunk_that_is_not_json_is_not_left_out_of_a_converted_stream", async () => {
  const piece = (content: string) => `data: {"choices":[{"index":0,"delta":{"content":"${content}"}}]}\n\n`;
  const parts = [piece("one "), piece("two ").replace("}]}", ""), piece("three"), "data: [DONE]\n\n"];
  for (const ask of [asMessage, asResponse]) {
    await assert.rejects(async () => ask(await modelThatStreams({ name: "broken", parts })), /provider/);
    assert.equal((await contextOf(gateway, lastHeaders)).status, "failed");
  }
});

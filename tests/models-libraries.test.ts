// Programs written with the official libraries of OpenAI and Anthropic, each run twice: against a provider, and, with
// only the address and the key changed, against the gateway. What the programs see must be the same.
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { apart } from "./support/apart.ts";
import { contextOf, eventually, makeKey } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { asChanged, asReceived } from "./support/model-calls.ts";
import { registerFormats } from "./support/model-providers.ts";
import { providerKeys, providerNames, startModelUpstream, text } from "./support/model-upstream.ts";
import type { Recorded, Service } from "./support/service.ts";

let gateway: Gateway;
let provider: Service;
let direct: Clients;
let through: Clients;

type Clients = { openai: OpenAI; anthropic: Anthropic };

const clients = (url: string, keys: { openai: string; anthropic: string }): Clients => ({
  openai: new OpenAI({ baseURL: `${url}/v1`, apiKey: keys.openai, maxRetries: 0, fetch: apart }),
  anthropic: new Anthropic({ baseURL: url, apiKey: keys.anthropic, maxRetries: 0, fetch: apart }),
});
const throughWith = (key: string) => clients(gateway.url, { openai: key, anthropic: key });

const prices = {
  currency: "USD",
  input: "1",
  cached_input: "0.1",
  cache_write: "1.25",
  cache_write_1h: "2",
  output: "4",
};
/** More models than fit on a page. */
const others = Array.from({ length: 25 }, (_, at) => ({ id: `other-${at + 10}` }));
const named = [{ id: "small", upstream: providerNames.small, prices }, { id: "vendor/large:free" }];
const haiku = { id: "haiku", upstream: providerNames.haiku, prices };

before(async () => {
  gateway = await startGateway();
  provider = await startModelUpstream();
  await registerFormats(gateway, provider, {
    openai: [...named, ...others],
    anthropic: [haiku],
    hasResponses: true,
  });
  direct = clients(provider.url.slice(0, -1), providerKeys);
  through = throughWith((await makeKey(gateway, "caller", ["models:use:*"])).secret);
});
after(async () => {
  await gateway.stop();
  await provider.stop();
});

type Program<T> = (clients: Clients) => Promise<T>;

/** What a program saw, and the calls that the provider got. */
async function run<T>(program: Program<T>, clients: Clients): Promise<{ saw: T; calls: Recorded[] }> {
  const from = provider.calls.length;
  const saw = await program(clients);
  return { saw, calls: provider.calls.slice(from) };
}

/** Runs a program both ways, and compares; returns what it saw through the gateway. */
async function same<T>(program: Program<T>): Promise<T> {
  const expected = await run(program, direct);
  const found = await run(program, through);
  assert.deepEqual(found.saw, expected.saw);
  assert.deepEqual(found.calls.map(asReceived), expected.calls.map(asChanged));
  return found.saw;
}

/** What a program sees of a failure. */
async function failure(promise: PromiseLike<unknown>) {
  try {
    await promise;
  } catch (error: any) {
    const { status, message, error: body, code, param, type, apiMessage, errorCode, headers } = error;
    const later = ["retry-after", "retry-after-ms", "x-should-retry"].map((name) => headers?.get(name) ?? null);
    return { name: error.constructor.name, status, message, body, code, param, type, apiMessage, errorCode, later };
  }
  return assert.fail("it did not fail");
}

async function all<T>(stream: PromiseLike<AsyncIterable<T>> | AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of await stream) items.push(item);
  return items;
}

/** The record of a context, once it is there. */
const recorded = (response: Response) => contextOf(gateway, response.headers);

const say = (content: string) => [{ role: "user" as const, content }];
const chat = (content: string) => ({ model: "small", messages: say(content) });
const chatStream = (content: string) => ({ ...chat(content), stream: true as const });
const usageToo = { stream_options: { include_usage: true } };
const message = (content: string) => ({ model: "haiku", max_tokens: 1_000, messages: say(content) });
const schema = {
  type: "object",
  properties: {
    city: { type: "string" },
    degrees: { type: "number" },
    tags: { type: "array", items: { type: "string" } },
  },
  required: ["city", "degrees", "tags"],
  additionalProperties: false,
};
const cityAlone = { type: "object" as const, properties: { city: { type: "string" } }, required: ["city"] };
const functions = ["get_weather", "get_time"].map((name) => ({
  type: "function" as const,
  function: { name, parameters: cityAlone },
}));
const responseTools = [{ type: "function" as const, name: "get_weather", parameters: cityAlone, strict: false }];
const tools = ["get_weather", "get_time"].map((name) => ({ name, input_schema: cityAlone }));
const jsonSchema = { type: "json_schema" as const, json_schema: { name: "weather", strict: true, schema } };

/** Chunks without what only usage that the gateway asked for adds to them. */
const plainly = (chunks: OpenAI.ChatCompletionChunk[]) =>
  chunks.map(({ usage, ...chunk }) => (usage ? { ...chunk, usage } : chunk));

/** A conversation with a tool: its call, and what came of it. */
async function toolConversation({ openai }: Clients) {
  const first = await openai.chat.completions.create({ ...chat("tools"), tools: functions });
  const said = first.choices[0]!.message;
  const results = said.tool_calls!.map(({ id }) => ({ role: "tool" as const, tool_call_id: id, content: "-3.5 °C" }));
  const messages = [...say("tools"), said, ...results, ...say("And now?")];
  return [first, await openai.chat.completions.create({ model: "small", messages, tools: functions })];
}

const openai: Record<string, Program<unknown>> = {
  a_plain_chat: ({ openai }) => openai.chat.completions.create(chat("Hi")),
  a_streamed_chat: async ({ openai }) => plainly(await all(openai.chat.completions.create(chatStream("Hi")))),
  a_streamed_chat_with_usage: ({ openai }) => all(openai.chat.completions.create({ ...chatStream("Hi"), ...usageToo })),
  tools: toolConversation,
  streamed_tools: ({ openai }) =>
    all(openai.chat.completions.create({ ...chatStream("tools"), ...usageToo, tools: functions })),
  two_tools_at_once: ({ openai }) => openai.chat.completions.create({ ...chat("parallel"), tools: functions }),
  two_tools_interleaved: async ({ openai }) =>
    plainly(await all(openai.chat.completions.create({ ...chatStream("parallel"), tools: functions }))),
  a_helper_for_streams: async ({ openai }) => {
    const stream = openai.chat.completions.stream({ ...chat("parallel"), tools: functions });
    const deltas: unknown[] = [];
    stream.on("tool_calls.function.arguments.delta", (delta) => void deltas.push({ ...delta }));
    return [deltas, await stream.finalMessage(), await stream.totalUsage()];
  },
  structured_output: async ({ openai }) => {
    const parsed = await openai.chat.completions.parse({ ...chat("json"), response_format: jsonSchema });
    return [parsed, parsed.choices[0]!.message.parsed];
  },
  two_choices: ({ openai }) => openai.chat.completions.create({ ...chat("Hi"), n: 2 }),
  two_streamed_choices: ({ openai }) => all(openai.chat.completions.create({ ...chatStream("Hi"), ...usageToo, n: 2 })),
  a_compressed_response: ({ openai }) => openai.chat.completions.create(chat("zipped")),
  a_second_try: ({ openai }) => openai.chat.completions.create(chat("busy-at-first chat"), { maxRetries: 1 }),
  an_error_in_a_stream: ({ openai }) => failure(all(openai.chat.completions.create(chatStream("late-error")))),
  embeddings: ({ openai }) => openai.embeddings.create({ model: "small", input: "Hi" }),
  embeddings_as_numbers: ({ openai }) =>
    openai.embeddings.create({ model: "small", input: ["a", "b"], encoding_format: "float" }),
  embeddings_of_2048_texts: async ({ openai }) => {
    const input = Array.from({ length: 2_048 }, (_, at) => `Text ${at}: ${text}`);
    const { data, ...rest } = await openai.embeddings.create({ model: "small", input });
    const hash = createHash("sha256").update(JSON.stringify(data.map(({ embedding }) => Array.from(embedding))));
    return [data.length, hash.digest("hex"), rest];
  },
  a_response: ({ openai }) => openai.responses.create({ model: "small", input: "Hi", instructions: "Be kind." }),
  a_response_with_tools: ({ openai }) =>
    openai.responses.create({ model: "small", input: say("tools"), tools: responseTools, store: false }),
  a_structured_response: ({ openai }) =>
    openai.responses.parse({
      model: "small",
      input: "json",
      text: { format: { type: "json_schema", name: "weather", strict: true, schema } },
    }),
  a_streamed_response: ({ openai }) => all(openai.responses.create({ model: "small", input: "Hi", stream: true })),
  a_streamed_response_with_tools: ({ openai }) =>
    all(openai.responses.create({ model: "small", input: "tools", tools: responseTools, stream: true })),
  an_incomplete_response: ({ openai }) =>
    all(openai.responses.create({ model: "small", input: "incomplete", stream: true })),
  a_failed_response: ({ openai }) => all(openai.responses.create({ model: "small", input: "failed", stream: true })),
  a_helper_for_streamed_responses: ({ openai }) =>
    openai.responses.stream({ model: "small", input: "Hi" }).finalResponse(),
  an_error_in_a_streamed_response: ({ openai }) =>
    all(openai.responses.create({ model: "small", input: "late-error", stream: true })),
};

for (const [name, program] of Object.entries(openai)) {
  test(`the_openai_library_gets_the_same_answer_for_${name}`, async () => void (await same(program)));
}

/** A conversation with thinking: its blocks are sent back as they came. */
async function thinkingConversation({ anthropic }: Clients) {
  const thinking = { type: "enabled" as const, budget_tokens: 1_024 };
  const first = await anthropic.messages.create({ ...message("thinking"), max_tokens: 2_000, thinking });
  const messages = [...say("thinking"), { role: "assistant" as const, content: first.content }, ...say("And now?")];
  return [first, await anthropic.messages.create({ ...message(""), messages })];
}

async function helped({ anthropic }: Clients, word: string) {
  const stream = anthropic.messages.stream({ ...message(word), tools });
  const events: unknown[] = [];
  stream.on("streamEvent", (event) => void events.push(structuredClone(event)));
  return [await stream.finalMessage(), events];
}

const cached = [{ type: "text" as const, text: "Be kind.", cache_control: { type: "ephemeral" as const } }];

const anthropic: Record<string, Program<unknown>> = {
  a_message: ({ anthropic }) => anthropic.messages.create(message("Hi")),
  a_streamed_message: ({ anthropic }) => all(anthropic.messages.create({ ...message("Hi"), stream: true })),
  a_helper_for_streams: (clients) => helped(clients, "Hi"),
  tools: ({ anthropic }) => anthropic.messages.create({ ...message("tools"), tools }),
  streamed_tools: (clients) => helped(clients, "tools"),
  two_tools_at_once: (clients) => helped(clients, "parallel"),
  thinking: thinkingConversation,
  streamed_thinking: (clients) => helped(clients, "thinking"),
  structured_output: ({ anthropic }) =>
    anthropic.messages.create({ ...message("json"), output_config: { format: { type: "json_schema", schema } } }),
  cached_prompts: ({ anthropic }) => anthropic.messages.create({ ...message("Hi"), system: cached }),
  beta_features: ({ anthropic }) =>
    anthropic.beta.messages.create({ ...message("Hi"), betas: ["context-1m-2025-08-07", "files-api-2025-04-14"] }),
  counted_tokens: ({ anthropic }) =>
    anthropic.messages.countTokens({ model: "haiku", system: cached, messages: say("Hi"), tools }),
  a_second_try: ({ anthropic }) => anthropic.messages.create(message("busy-at-first message"), { maxRetries: 1 }),
  an_error_in_a_stream: ({ anthropic }) =>
    failure(all(anthropic.messages.create({ ...message("late-error"), stream: true }))),
};

for (const [name, program] of Object.entries(anthropic)) {
  test(`the_anthropic_library_gets_the_same_answer_for_${name}`, async () => void (await same(program)));
}

// Failures of a server and others take turns: five of a server in a row would open the breaker of the service.
for (const status of [400, 500, 403, 503, 404, 529, 409, 422, 429]) {
  test(`the_openai_library_gets_the_same_error_for_${status}`, async () => {
    const saw = await same(({ openai }) => failure(openai.chat.completions.create(chat(`error ${status}`))));
    assert.equal(saw.status, status);
    await same(({ openai }) => failure(openai.responses.create({ model: "small", input: `error ${status}` })));
    await same(({ openai }) => failure(openai.embeddings.create({ model: "small", input: `error ${status}` })));
    await same(({ openai }) => failure(all(openai.chat.completions.create(chatStream(`error ${status}`)))));
  });

  test(`the_anthropic_library_gets_the_same_error_for_${status}`, async () => {
    const saw = await same(({ anthropic }) => failure(anthropic.messages.create(message(`error ${status}`))));
    assert.equal(saw.status, status);
    await same(({ anthropic }) => failure(anthropic.messages.stream(message(`error ${status}`)).finalMessage()));
    await same(({ anthropic }) => failure(anthropic.messages.countTokens(message(`error ${status}`))));
  });
}

// Large requests and long streams.

/** 5 MiB that do not repeat, as a picture would be. */
const picture = (() => {
  const bytes = Buffer.alloc(5 * 1024 * 1024);
  for (let at = 0, state = 1; at < bytes.length; at += 4)
    bytes.writeUInt32LE((state = (state * 48_271) % 2_147_483_647), at);
  return bytes.toString("base64");
})();
const pictureFor = {
  openai: [
    { type: "text" as const, text: "Hi" },
    { type: "image_url" as const, image_url: { url: `data:image/png;base64,${picture}` } },
  ],
  anthropic: [
    { type: "text" as const, text: "Hi" },
    { type: "image" as const, source: { type: "base64" as const, media_type: "image/png" as const, data: picture } },
  ],
};
const seen = { model: "small", messages: [{ role: "user" as const, content: pictureFor.openai }] };
const seenToo = {
  model: "haiku",
  max_tokens: 99,
  messages: [{ role: "user" as const, content: pictureFor.anthropic }],
};

/** With the members in the order in which Anthropic's library for Python sends them: that of the alphabet. */
const inOrder = <T extends { messages: unknown; model: string }>({ messages, model, ...rest }: T) =>
  ({ ...rest, messages, model }) as unknown as T;

const large: Record<string, Program<unknown>> = {
  a_picture: ({ openai }) => openai.chat.completions.create(seen),
  a_streamed_answer_to_a_picture: async ({ openai }) =>
    plainly(await all(openai.chat.completions.create({ stream: true, ...seen }))),
  a_streamed_answer_that_is_asked_for_behind_a_picture: async ({ openai }) =>
    plainly(await all(openai.chat.completions.create({ ...seen, stream: true }))),
  a_picture_before_the_model: ({ openai }) => openai.chat.completions.create(inOrder(seen)),
  a_picture_for_anthropic: ({ anthropic }) => anthropic.messages.create(seenToo),
  a_streamed_answer_to_a_picture_for_anthropic: ({ anthropic }) => anthropic.messages.stream(seenToo).finalMessage(),
  a_picture_before_the_model_for_anthropic: ({ anthropic }) => anthropic.messages.create(inOrder(seenToo)),
  a_response_to_a_picture: ({ openai }) =>
    openai.responses.create({
      model: "small",
      input: [
        {
          role: "user",
          content: [{ type: "input_image", detail: "auto", image_url: pictureFor.openai[1]!.image_url!.url }],
        },
      ],
      store: false,
    }),
  a_stream_of_50_000_pieces: async ({ openai }) => {
    const hash = createHash("sha256");
    let count = 0;
    for await (const chunk of await openai.chat.completions.create({ ...chatStream("many 50000"), ...usageToo })) {
      hash.update(JSON.stringify(chunk));
      count += 1;
    }
    assert.ok(count > 50_000);
    return [count, hash.digest("hex")];
  },
};

for (const [name, program] of Object.entries(large))
  test(`the_libraries_get_the_same_answer_for_${name}`, async () => void (await same(program)));

// Failures.

const openaiFails = (content: string, clients = through) =>
  failure(clients.openai.chat.completions.create(chat(content)));
const anthropicFails = (content: string, clients = through) =>
  failure(clients.anthropic.messages.create(message(content)));

test("options_of_a_stream_stay_as_they_are_but_for_usage", async () => {
  for (const stream_options of [
    { include_usage: false, include_obfuscation: false },
    { include_obfuscation: true },
    {},
  ]) {
    const body = { stream_options, ...chatStream("Hi") };
    const { saw, calls } = await run(({ openai }) => all(openai.chat.completions.create(body)), through);
    const asked = { ...body, model: providerNames.small, stream_options: { ...stream_options, include_usage: true } };
    assert.deepEqual(calls[0]!.json, asked);
    assert.deepEqual(plainly(saw), await all(direct.openai.chat.completions.create(chatStream("Hi"))));
  }
});

test("a_provider_that_refuses_the_gateways_key_is_no_matter_of_the_clients_key", async () => {
  const [one, other] = [await openaiFails("error 401"), await anthropicFails("error 401")];
  for (const { status, name, later } of [one, other]) {
    assert.deepEqual([status, name, later], [502, "InternalServerError", [null, null, "false"]]);
  }
  const said = "The provider refused the gateway's credentials. No (401).";
  assert.deepEqual([one.body.message, one.code], [said, "upstream_unauthenticated"]);
  assert.deepEqual([other.apiMessage, other.type], [said, "api_error"]);
});

test("libraries_know_the_gateways_own_refusals", async () => {
  const none = throughWith("not-a-key");
  const bare = throughWith((await makeKey(gateway, "bare")).secret);
  const { openai, anthropic } = through;
  const unauthenticated = ["AuthenticationError", 401, "invalid_request_error", "invalid_api_key"];
  const unauthenticatedToo = ["AuthenticationError", 401, "authentication_error", undefined];
  const unknown = ["NotFoundError", 404, "invalid_request_error", "model_not_found"];
  const unknownToo = ["NotFoundError", 404, "not_found_error", undefined];
  const cases: [() => ReturnType<typeof failure>, unknown[]][] = [
    [() => openaiFails("Hi", none), unauthenticated],
    [() => anthropicFails("Hi", none), unauthenticatedToo],
    [() => failure(none.openai.models.list()), unauthenticated],
    [() => failure(none.anthropic.models.list()), unauthenticatedToo],
    [() => failure(none.anthropic.messages.countTokens(message("Hi"))), unauthenticatedToo],
    [() => openaiFails("Hi", bare), ["PermissionDeniedError", 403, "permission_error", "permission_denied"]],
    [() => anthropicFails("Hi", bare), ["PermissionDeniedError", 403, "permission_error", undefined]],
    [() => failure(openai.chat.completions.create({ ...chat("Hi"), model: "none" })), unknown],
    [() => failure(openai.embeddings.create({ model: "none", input: "Hi" })), unknown],
    [() => failure(openai.models.retrieve("none")), unknown],
    [() => failure(anthropic.messages.create({ ...message("Hi"), model: "none" })), unknownToo],
    [() => failure(anthropic.models.retrieve("none")), unknownToo],
  ];
  for (const [act, expected] of cases) {
    const saw = await act();
    assert.deepEqual([saw.name, saw.status, saw.type, saw.code], expected, JSON.stringify(saw));
  }
});

test("a_model_that_does_not_exist_is_refused_with_the_nearest_names", async () => {
  const saw = await failure(through.openai.chat.completions.create({ ...chat("Hi"), model: "smal" }));
  assert.match(saw.message, /The nearest names: small/);
  assert.equal(saw.param, "model");
});

test("libraries_see_that_the_gateway_lacks_an_endpoint", async () => {
  const { openai, anthropic } = through;
  for (const call of [
    () => openai.moderations.create({ input: "Hi" }),
    () => openai.files.list(),
    () => openai.images.generate({ prompt: "Hi" }),
    () => openai.completions.create({ model: "small", prompt: "Hi" }),
    () => openai.responses.retrieve("resp_1"),
    () => openai.batches.list(),
    () => anthropic.messages.batches.list(),
  ]) {
    const saw = await failure(call());
    assert.deepEqual([saw.name, saw.status], ["NotFoundError", 404], JSON.stringify(saw));
    assert.match(saw.message, /\/v1\/chat\/completions/);
  }
});

const STATE = [{ store: true }, { background: true }, { previous_response_id: "resp_1" }];
for (const [size, input] of [
  ["", "Hi"],
  ["_of_large_requests", "Hi ".repeat(2_000_000)],
] as const) {
  test(`the_gateway_keeps_no_responses${size}`, async () => {
    for (const state of STATE) {
      const saw = await failure(through.openai.responses.create({ model: "small", input, ...state }));
      assert.deepEqual([saw.name, saw.param], ["BadRequestError", Object.keys(state)[0]], JSON.stringify(saw));
    }
  });
}

test("a_page_of_a_proxy_becomes_an_error_of_the_format", async () => {
  const [one, other] = [await openaiFails("web-page"), await anthropicFails("web-page")];
  assert.deepEqual([one.status, one.name, one.code], [502, "InternalServerError", "upstream_error"]);
  assert.deepEqual([other.status, other.name, other.type], [502, "InternalServerError", "api_error"]);
});

test("an_error_before_the_first_piece_of_a_stream_has_its_status", async () => {
  const one = await failure(all(through.openai.chat.completions.create(chatStream("early-error"))));
  assert.deepEqual([one.status, one.name, one.body.message], [500, "InternalServerError", "The server had an error."]);
  const other = await failure(all(through.anthropic.messages.create({ ...message("early-error"), stream: true })));
  assert.deepEqual([other.status, other.name, other.apiMessage], [529, "OverloadedError", "Overloaded"]);
});

test("an_error_before_the_first_piece_of_a_streamed_response_has_its_status", async () => {
  for (const input of ["early-error", "early-failure"]) {
    const saw = await failure(all(through.openai.responses.create({ model: "small", input, stream: true })));
    assert.deepEqual([saw.status, saw.name], [500, "InternalServerError"]);
    assert.match(saw.message, /^500 The (server had an error|model failed)\.$/);
  }
});

test("a_streamed_response_may_have_any_text", async () => {
  await same(({ openai }) => all(openai.responses.create({ model: "small", input: "delta", stream: true })));
});

test("a_stream_that_breaks_off_ends_with_an_error", async () => {
  const said = "The provider's stream ended before its end.";
  const one = await failure(all(through.openai.chat.completions.create(chatStream("cut"))));
  assert.deepEqual([one.name, one.message, one.code], ["APIError", said, "upstream_error"]);
  const other = await failure(all(through.anthropic.messages.create({ ...message("cut"), stream: true })));
  assert.deepEqual([other.name, other.apiMessage, other.type], ["APIError", said, "api_error"]);
  // Its library passes this event on.
  const events = await all(through.openai.responses.create({ model: "small", input: "cut", stream: true }));
  const { type, message: words } = events.at(-1) as OpenAI.Responses.ResponseErrorEvent;
  assert.deepEqual([type, words], ["error", said]);
});

// Clients that leave.

/** Runs a program both ways that leaves before the end; its call must be abandoned. */
async function leaving<T>(program: Program<T>) {
  for (const clients of [direct, through]) {
    const { calls } = await run(program, clients);
    assert.equal(calls.length, 1);
    await eventually(() => calls[0]!.abandoned);
  }
}

/** Reads some items of a stream. */
async function some(stream: AsyncIterable<unknown>, leave: () => void) {
  let count = 0;
  for await (const _ of stream) {
    count += 1;
    if (count === 20) leave();
    if (count === 25) break;
  }
  assert.ok(count >= 20);
}
const nothing = () => {};

test("leaving_a_stream_abandons_the_call", () =>
  leaving(async ({ openai }) => some(await openai.chat.completions.create(chatStream("endless")), nothing)));

test("aborting_a_stream_abandons_the_call", () =>
  leaving(async ({ openai }) => {
    const stream = await openai.chat.completions.create(chatStream("endless"));
    await some(stream, () => stream.controller.abort());
  }));

test("leaving_a_streamed_response_abandons_the_call", () =>
  leaving(async ({ openai }) => {
    const stream = await openai.responses.create({ model: "small", input: "endless", stream: true });
    await some(stream, () => stream.controller.abort());
  }));

test("leaving_a_streamed_message_abandons_the_call", () =>
  leaving(async ({ anthropic }) => {
    const stream = anthropic.messages.stream(message("endless"));
    await some(stream, () => stream.abort()).catch(() => {});
  }));

const silent: Program<string[]> = async ({ openai, anthropic }) => {
  const timeout = 300;
  return [
    (await failure(openai.chat.completions.create(chat("silent"), { timeout }))).name,
    (await failure(openai.chat.completions.create(chatStream("silent"), { timeout }))).name,
    (await failure(anthropic.messages.create(message("silent"), { timeout }))).name,
  ];
};

test("a_client_that_does_not_wait_longer_sees_its_own_time_out", async () => {
  const { saw } = await run(silent, direct);
  assert.deepEqual(saw, Array(3).fill("APIConnectionTimeoutError"));
  assert.deepEqual((await run(silent, through)).saw, saw);
});

test("a_stream_that_its_client_left_is_on_record", async () => {
  const { data, response } = await through.openai.chat.completions.create(chatStream("endless")).withResponse();
  await some(data, nothing);
  const context = await recorded(response);
  assert.deepEqual(
    [context.status, context.error?.code, context.usage.estimated],
    ["cancelled", "cancelled", true],
    JSON.stringify(context),
  );
});

// Models.

test("the_openai_library_lists_the_models", async () => {
  const models = await all(through.openai.models.list());
  const ids = [...named, ...others, haiku].map(({ id }) => id).sort();
  assert.deepEqual(
    models.map(({ id }) => id),
    ids,
  );
  const small = models.find(({ id }) => id === "small")!;
  assert.deepEqual(await through.openai.models.retrieve("small"), small);
  assert.deepEqual([small.object, small.owned_by], ["model", "openai"]);
  assert.ok(Math.abs(small.created - Date.now() / 1_000) < 600);
  assert.equal((await through.openai.models.retrieve("vendor/large:free")).id, "vendor/large:free");
});

test("the_anthropic_library_lists_the_models_page_by_page", async () => {
  const { anthropic } = through;
  const models = await all(anthropic.models.list());
  const ids = [...named, ...others, haiku].map(({ id }) => id).sort();
  assert.deepEqual(
    models.map(({ id }) => id),
    ids,
  );
  assert.deepEqual(
    (await all(anthropic.models.list({ limit: 3 }))).map(({ id }) => id),
    ids,
  );
  const last = await anthropic.models.list({ limit: 3, before_id: "small" });
  assert.deepEqual([last.data.map(({ id }) => id), last.has_more], [ids.slice(-5, -2), true]);
  const one = models.find(({ id }) => id === "haiku")!;
  assert.deepEqual(await anthropic.models.retrieve("haiku"), one);
  assert.deepEqual([one.type, one.display_name], ["model", "haiku"]);
  assert.ok(Math.abs(Date.parse(one.created_at) - Date.now()) < 600_000);
  assert.equal((await anthropic.models.retrieve("vendor/large:free")).id, "vendor/large:free");
});

test("only_models_that_a_key_may_use_are_listed", async () => {
  const { openai, anthropic } = throughWith((await makeKey(gateway, "bare", ["models:use:other-1*"])).secret);
  const ids = others.slice(0, 10).map(({ id }) => id);
  assert.deepEqual(
    (await all(openai.models.list())).map(({ id }) => id),
    ids,
  );
  assert.deepEqual(
    (await all(anthropic.models.list({ limit: 4 }))).map(({ id }) => id),
    ids,
  );
  assert.equal((await failure(openai.models.retrieve("small"))).status, 404);
});

test("the_tokens_of_a_model_without_a_counter_are_estimated", async () => {
  const asked = { ...message("Hi".repeat(200)), model: "small" };
  const { data, response } = await through.anthropic.messages.countTokens(asked).withResponse();
  assert.equal(response.headers.get("x-narthex-estimated"), "true");
  assert.ok(data.input_tokens >= 100 && data.input_tokens < 200, String(data.input_tokens));
});

test("a_model_without_an_endpoint_is_refused_with_its_endpoints", async () => {
  const one = await failure(through.openai.embeddings.create({ model: "haiku", input: "Hi" }));
  assert.match(one.message, /"haiku" does not have \/v1\/embeddings; it has .*\/v1\/messages/);
  assert.equal(one.name, "BadRequestError");
});

// Keys.

test("a_key_may_come_in_either_header", async () => {
  const { secret } = await makeKey(gateway, "bare", ["models:use:*"]);
  const options = { baseURL: gateway.url, maxRetries: 0, fetch: apart };
  const expected = await direct.anthropic.messages.create(message("Hi"));
  for (const client of [
    new Anthropic({ ...options, apiKey: secret }),
    new Anthropic({ ...options, authToken: secret }),
    new Anthropic({ ...options, apiKey: null, authToken: null, defaultHeaders: { "X-Api-Key": secret } }),
    new Anthropic({ ...options, authToken: secret, defaultHeaders: { "X-Api-Key": secret } }),
  ]) {
    assert.deepEqual(await client.messages.create(message("Hi")), expected);
    assert.ok((await client.models.list()).data.length > 0);
  }
  const inOther = {
    ...options,
    baseURL: `${gateway.url}/v1`,
    apiKey: "unused",
    defaultHeaders: { Authorization: null, "X-Api-Key": secret },
  };
  const chatted = await new OpenAI(inOther).chat.completions.create(chat("Hi"));
  assert.deepEqual(chatted, await direct.openai.chat.completions.create(chat("Hi")));
});

test("the_provider_gets_its_own_key_only", () => {
  const ours = [direct, through].map(({ openai }) => openai.apiKey);
  const sent = provider.calls.map(({ headers }) => JSON.stringify(headers));
  assert.ok(!sent.some((headers) => headers.includes(ours[1]!) || headers.includes(gateway.adminKey)));
  const narthex = provider.calls.filter(({ headers }) => headers["user-agent"]?.startsWith("narthex"));
  assert.ok(narthex.length > 50);
  for (const { headers, path } of narthex) {
    const isAnthropic = path.startsWith("/v1/messages");
    const expected = isAnthropic ? [undefined, providerKeys.anthropic] : [`Bearer ${providerKeys.openai}`, undefined];
    assert.deepEqual([headers.authorization, headers["x-api-key"]], expected);
    assert.deepEqual(
      Object.keys(headers).filter((name) => /stainless|cookie|narthex|forwarded/.test(name)),
      [],
    );
  }
});

// What is recorded.

const spent = (context: any) => [context.status, context.capability, context.model, context.usage, context.cost];
const tokens = (input: number, cached: number, written: number, output: number, reasoning: number) => ({
  input_tokens: input,
  cached_input_tokens: cached,
  cache_write_tokens: written,
  output_tokens: output,
  reasoning_tokens: reasoning,
  estimated: false,
});
const usd = (amount: string) => ({ amount, currency: "USD", estimated: false });

test("usage_and_cost_of_every_endpoint_are_on_record", async () => {
  const { openai, anthropic } = through;
  const chatted = tokens(1_019, 1_000, 0, 110, 64);
  const responded = tokens(21, 5, 0, 30, 12);
  const wrote = tokens(8_310, 8_000, 300, 57, 0);
  for (const [promise, capability, usage, cost] of [
    // 19 + 1,000 × 0.1 + 110 × 4 = 559
    [openai.chat.completions.create(chat("Hi")), "chat", chatted, "0.000559"],
    [openai.chat.completions.create(chatStream("Hi")), "chat", chatted, "0.000559"],
    [openai.chat.completions.create({ ...chatStream("Hi"), ...usageToo }), "chat", chatted, "0.000559"],
    [openai.embeddings.create({ model: "small", input: ["a", "b"] }), "embed", tokens(6, 0, 0, 0, 0), "0.000006"],
    // 16 + 5 × 0.1 + 30 × 4 = 136.5
    [openai.responses.create({ model: "small", input: "Hi" }), "respond", responded, "0.0001365"],
    [openai.responses.create({ model: "small", input: "Hi", stream: true }), "respond", responded, "0.0001365"],
    // 10 + 8,000 × 0.1 + 100 × 1.25 + 200 × 2 + 57 × 4 = 1,563
    [anthropic.messages.create(message("Hi")), "messages", wrote, "0.001563"],
    [anthropic.messages.create({ ...message("Hi"), stream: true }), "messages", wrote, "0.001563"],
  ] as const) {
    const { data, response } = await (promise as any).withResponse();
    if (Symbol.asyncIterator in data) await all(data);
    const context = await recorded(response);
    const model = capability === "messages" ? "haiku" : "small";
    assert.deepEqual(spent(context), ["completed", capability, model, usage, usd(cost)]);
    const names = ["x-narthex-model", "x-narthex-service"].map((name) => response.headers.get(name));
    assert.deepEqual(names, model === "haiku" ? [providerNames.haiku, "anthropic"] : [providerNames.small, "openai"]);
  }
});

test("failures_are_on_record_without_usage", async () => {
  const error = await through.openai.chat.completions.create(chat("error 429")).catch((error) => error);
  const context = await recorded(error);
  assert.deepEqual(
    [context.status, context.error.code, context.attempts[0].status_code, context.usage.output_tokens, context.cost],
    ["failed", "service_unavailable", 429, 0, null],
  );
});

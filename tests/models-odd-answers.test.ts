// Odd answers of providers in use, in one piece, through the endpoints of models: what clients of each format get, what
// is recorded, and which provider is asked next.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { contextOf, eventually, register } from "./support/arrange.ts";
import { type Answer, type Gateway, startGateway } from "./support/gateway.ts";
import { saidByMessage, saidByResponse } from "./support/model-answers.ts";
import { type Meaning, oddStreams, sending } from "./support/odd-streams.ts";
import { type Handler, hang, inTurn, json, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
const services: Service[] = [];

before(async () => {
  gateway = await startGateway();
});
after(async () => {
  await gateway?.stop();
  for (const service of services) await service.stop();
});

const CHAT = "/v1/chat/completions";
const raw =
  (
    body: string | Buffer,
    status = 200,
    headers: Record<string, string> = { "content-type": "application/json" },
  ): Handler =>
  (_, response) =>
    void response.writeHead(status, headers).end(body);

let number = 0;

/** A model of a provider with this handler; returns its name, which is also that of its service. */
async function modelOf(handler: Handler, more: object = {}, probe = json({ object: "list", data: [] })) {
  const provider = await startService(handler, { probe });
  services.push(provider);
  const model = `odd-${++number}`;
  await register(gateway, model, {
    name: "A provider",
    type: "llm",
    transport: { kind: "openai", url: `${provider.url}v1` },
    models: [{ id: model, upstream: "m" }],
    ...more,
  });
  return { model, provider };
}

/** A route over two such models, the second in a tier of its own. */
async function routeOver(first: Handler, second: Handler, settings: object = {}) {
  const both = [await modelOf(first), await modelOf(second)];
  const targets = both.map(({ model }, tier) => ({ service: model, model, tier }));
  const route = `${both[0]!.model}-or-${both[1]!.model}`;
  const made = await gateway.request("PUT", `/v1/model-routes/${route}`, { body: { targets, ...settings } });
  assert.equal(made.status, 201, made.text);
  const calls = () => both.map(({ provider }) => provider.calls.length);
  return { route, calls, first: both[0]!.model, last: both[1]!.model };
}

const messages = [{ role: "user", content: "Hi" }];
const post = (path: string, body: object): Promise<Answer> => gateway.request("POST", path, { body });
const chat = (model: string, more: object = {}) => post(CHAT, { model, messages, ...more });
const asMessage = async (model: string) => post("/v1/messages", { model, messages, max_tokens: 500 });
const asResponse = (model: string) => post("/v1/responses", { model, input: "Hi" });

const completion = {
  id: "chatcmpl-1",
  object: "chat.completion",
  created: 1,
  model: "m",
  choices: [{ index: 0, message: { role: "assistant", content: "Hi" }, finish_reason: "stop" }],
  usage: { prompt_tokens: 12, completion_tokens: 3, total_tokens: 15 },
};
const well = json(completion);
const whole = JSON.stringify(completion);
const errorOf = (message: string, code: string | null = null) => ({
  error: { message, type: "invalid_request_error", code },
});
const hi: Meaning = { text: "Hi", finish: "stop", usage: [12, 3] };
const filtered = { hate: { filtered: false, severity: "safe" } };

for (const [what, body, means, type] of [
  ["that_is_ordinary", whole, hi],
  ["as_plain_text", whole, hi, "text/plain"],
  ["with_white_space_around_it", `\n\n  ${whole}\r\n`, hi],
  ["with_usage_twice", whole.replace("{", '{"usage":{"prompt_tokens":1,"completion_tokens":1},'), hi],
  ["with_an_empty_error", whole.replace("{", '{"error":"",'), hi],
  [
    "with_results_of_filters",
    whole.replace("{", `{"prompt_filter_results":[{"content_filter_results":${JSON.stringify(filtered)}}],`),
    hi,
  ],
  ["without_usage", JSON.stringify({ ...completion, usage: undefined }), { text: "Hi", finish: "stop" }],
  ["with_a_byte_order_mark", `\ufeff${whole}`, hi],
  [
    "with_half_a_character",
    whole.replace('"Hi"', '"cut \\ud83d"').replace('"stop"', '"length"'),
    { ...hi, text: "cut \ufffd", finish: "length" },
  ],
] as [string, string, Meaning, string?][]) {
  const { usage, ...meant } = means;
  const recorded = async (headers: Headers) => {
    const context = await contextOf(gateway, headers);
    assert.deepEqual([context.status, context.attempts.length, context.finish_reason], ["completed", 1, means.finish]);
    const { input_tokens, output_tokens, estimated } = context.usage;
    assert.deepEqual(estimated ? undefined : [input_tokens, output_tokens], usage);
  };

  test(`an_answer_${what}_passes_byte_by_byte`, async () => {
    const { model, provider } = await modelOf(raw(body, 200, { "content-type": type ?? "application/json" }));
    const response = await gateway.open("POST", CHAT, { body: { model, messages } });
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("content-type"), type ?? "application/json");
    assert.ok(Buffer.from(await response.arrayBuffer()).equals(Buffer.from(body)));
    assert.deepEqual(
      provider.calls.map((call) => call.json),
      [{ model: "m", messages }],
    );
    await recorded(response.headers);
  });

  for (const [format, ask, read] of [
    ["message", asMessage, saidByMessage],
    ["response", asResponse, saidByResponse],
  ] as const) {
    test(`an_answer_${what}_says_the_same_as_a_${format}`, async () => {
      const { model, provider } = await modelOf(raw(body, 200, { "content-type": type ?? "application/json" }));
      const answer = await ask(model);
      assert.equal(answer.status, 200, answer.text);
      const { usage: reported, ...said } = read(answer.json);
      assert.deepEqual(said, { thinking: "", calls: [], ...meant });
      if (usage) assert.deepEqual(reported, usage);
      assert.deepEqual(
        provider.calls.map(({ path, json }) => [path, json.model, json.stream ?? false]),
        [[CHAT, "m", false]],
      );
      await recorded(answer.headers);
    });
  }
}

for (const [what, handler, status, words] of [
  [
    "overloaded",
    json({ type: "error", error: { type: "overloaded_error", message: "too busy now" } }, 529),
    529,
    "too busy now",
  ],
  ["without_credit", json(errorOf("no credit"), 402), 402, "no credit"],
  ["without_the_model", json(errorOf("there is no such model", "model_not_found"), 404), 404, "there is no such model"],
  [
    "that_finds_the_request_too_long",
    json(errorOf("too many tokens", "context_length_exceeded"), 400),
    400,
    "too many tokens",
  ],
  [
    "that_answers_in_plain_text",
    raw("the prompt has 5000 tokens, 4096 fit", 400, { "content-type": "text/plain" }),
    400,
    "4096 fit",
  ],
  ["behind_a_proxy_that_times_out", raw("<html>524</html>", 524, { "content-type": "text/html" }), 524, ""],
] as [string, Handler, number, string][]) {
  test(`an_error_of_a_provider_${what}_reaches_clients_of_each_format`, async () => {
    for (const [path, ask] of [
      [CHAT, chat],
      ["/v1/messages", asMessage],
      ["/v1/responses", asResponse],
    ] as const) {
      const { model, provider } = await modelOf(handler);
      const answer = await ask(model);
      assert.equal(answer.status, status, `${path}: ${answer.text}`);
      const error = answer.json.error;
      assert.ok(error.message.includes(words) && error.message !== "", `${path}: ${answer.text}`);
      assert.equal(answer.json.type, path === "/v1/messages" ? "error" : answer.json.type);
      assert.equal(provider.calls.length, 1, "a target is called once");
      const context = await contextOf(gateway, answer.headers);
      assert.deepEqual([context.status, context.error.code, context.attempts.length], ["failed", "upstream_error", 1]);
      assert.equal(context.attempts[0].status_code, status);
      assert.ok(words === "" || !JSON.stringify(context).includes(words), "the provider's words are not kept");
    }
  });
}

for (const [what, first, settings, code] of [
  ["has_no_credit", json(errorOf("no credit"), 402), {}, "upstream_error"],
  ["is_overloaded", json(errorOf("too busy"), 529), {}, "upstream_error"],
  ["does_not_have_the_model", json(errorOf("no such model"), 404), { fallback_on: ["not_found"] }, "upstream_error"],
  [
    "finds_the_request_too_long",
    json(errorOf("too many tokens", "context_length_exceeded"), 400),
    { fallback_on: ["context_length"] },
    "upstream_error",
  ],
  ["limits_the_rate", json(errorOf("slow down"), 429, { "retry-after": "20" }), {}, "service_unavailable"],
  ["never_answers", hang, { first_piece_seconds: 1 }, "upstream_timeout"],
] as [string, Handler, object, string][]) {
  test(`a_provider_that_${what}_is_left_for_the_next`, async () => {
    for (const stream of [false, true]) {
      const answers = stream ? sending(oddStreams[0]!) : well;
      const { route, calls, last } = await routeOver(first, answers, settings);
      const answer = await chat(route, { stream });
      assert.equal(answer.status, 200, answer.text);
      assert.match(answer.text, stream ? /"content":"Hel"/ : /"content":"Hi"/);
      assert.equal(answer.headers.get("x-narthex-service"), last);
      assert.deepEqual(calls(), [1, 1]);
      const context = await contextOf(gateway, answer.headers);
      assert.deepEqual([context.status, context.service, context.usage.input_tokens], ["completed", last, 12]);
      assert.deepEqual(
        context.attempts.map((attempt: any) => attempt.code ?? null),
        [code, null],
      );
    }
  });
}

// The lower bound only: how much later it is tried again, the machine decides.
for (const [form, headers, least] of [
  ["as_a_date", () => ({ "retry-after": new Date(Date.now() + 4_000).toUTCString() }), 2_900],
  ["in_seconds", () => ({ "retry-after": "2" }), 1_900],
  ["in_milliseconds", () => ({ "retry-after-ms": "2000" }), 1_900],
] as [string, () => Record<string, string>, number][]) {
  test(`a_provider_that_asks_to_wait_${form}_is_asked_again_only_then`, async () => {
    let refusedAt = 0;
    const limited: Handler = (call, response) => {
      refusedAt = Date.now();
      return json(errorOf("slow down"), 429, headers())(call, response);
    };
    const { route, calls } = await routeOver(inTurn(limited, well), well);
    assert.equal((await chat(route)).status, 200);
    const asked = await eventually(async () => {
      assert.equal((await chat(route)).status, 200);
      return calls()[0] === 2 ? Date.now() : undefined;
    });
    assert.ok(asked - refusedAt >= least, `after ${asked - refusedAt} ms`);
  });
}

test("a_single_provider_says_itself_when_to_come_back", async () => {
  const date = new Date(Date.now() + 9_000).toUTCString();
  for (const headers of [{ "retry-after": date }, { "retry-after": "9" }, { "retry-after-ms": "8500" }] as Record<
    string,
    string
  >[]) {
    const { model } = await modelOf(json(errorOf("slow down"), 429, headers));
    for (const ask of [chat, asMessage, asResponse]) {
      const answer = await ask(model);
      assert.equal(answer.status, 429, answer.text);
      for (const name of ["retry-after", "retry-after-ms"])
        assert.equal(answer.headers.get(name), headers[name] ?? null);
    }
  }
});

test("when_all_providers_ask_to_wait_the_soonest_says_when_to_come_back", async () => {
  const limited = (ms: string) => json(errorOf("slow down"), 429, { "retry-after-ms": ms });
  // Each is put aside only while another one is free.
  const [one, other] = [await routeOver(limited("50000"), well), await routeOver(limited("30000"), well)];
  for (const { route } of [one, other]) assert.equal((await chat(route)).status, 200);
  const targets = [one, other].map(({ first }) => ({ service: first, model: first }));
  assert.equal((await gateway.request("PUT", "/v1/model-routes/both-limited", { body: { targets } })).status, 201);
  const answer = await chat("both-limited");
  assert.deepEqual([answer.status, answer.json.error.type], [429, "rate_limit_error"], answer.text);
  assert.deepEqual(
    [one.calls(), other.calls()],
    [
      [1, 1],
      [1, 1],
    ],
  );
  const seconds = Number(answer.headers.get("retry-after"));
  assert.ok(seconds > 0 && seconds <= 30, `${seconds}`);
});

test("a_provider_that_only_streams_serves_clients_that_stream", async () => {
  const late = raw("<html>524</html>", 524, { "content-type": "text/html" });
  const streams = sending(oddStreams[0]!);
  const { model } = await modelOf((call, response) => (call.json.stream ? streams : late)(call, response));
  const refused = await chat(model);
  assert.deepEqual([refused.status, refused.json.error.code], [524, "upstream_error"]);
  const answer = await chat(model, { stream: true });
  assert.equal((await contextOf(gateway, answer.headers)).status, "completed");
});

test("long_streams_open_no_breaker", async () => {
  const long = sending(oddStreams.find(({ name }) => name === "of_3600_large_chunks")!);
  const { model, provider } = await modelOf(inTurn(long, long, long, long, long, well));
  for (let count = 0; count < 5; count++) {
    const response = await gateway.open("POST", CHAT, { body: { model, messages, stream: true } });
    assert.match(await response.text(), / w3599.*\[DONE\]\n\n$/s);
    assert.equal((await contextOf(gateway, response.headers)).status, "completed");
  }
  const answer = await chat(model);
  assert.deepEqual([answer.status, answer.json.choices[0].message.content, provider.calls.length], [200, "Hi", 6]);
});

test("naming_a_capability_changes_nothing_of_a_call", async () => {
  const { model, provider } = await modelOf(inTurn(json(errorOf("broken"), 500), well), {
    capabilities: [{ name: "chat" }],
  });
  const broken = await chat(model);
  assert.deepEqual([broken.status, broken.json], [500, errorOf("broken")]);
  const answer = await chat(model);
  assert.deepEqual([answer.status, provider.calls.length], [200, 2]);
  const context = await contextOf(gateway, answer.headers);
  assert.equal((Date.parse(context.expires_at) - Date.parse(context.created_at)) / 1_000, 600);
  const other = await post("/v1/embeddings", { model, input: "x" });
  assert.equal(other.status, 400, other.text);
  assert.match(other.json.error.message, /does not have \/v1\/embeddings/);
});

test("a_batch_of_large_embeddings_passes_byte_by_byte", async () => {
  const embedding = `[${Array.from({ length: 1_536 }, () => "-0.012345678901234567").join()}]`;
  const items = Array.from({ length: 40 }, () => `{"object":"embedding","index":0,"embedding":${embedding}}`);
  const body = `{"object":"list","model":"m","data":[${items.join()}],"usage":{"prompt_tokens":40,"total_tokens":40}}`;
  const { model, provider } = await modelOf(raw(body));
  const input = Array.from({ length: 40 }, () => "a");
  const answer = await post("/v1/embeddings", { model, input });
  assert.deepEqual([answer.status, answer.text === body], [200, true]);
  assert.deepEqual([provider.calls[0]?.path, provider.calls[0]?.json], ["/v1/embeddings", { model: "m", input }]);
  const { status, capability, usage } = await contextOf(gateway, answer.headers);
  assert.deepEqual([status, capability, usage.input_tokens, usage.output_tokens], ["completed", "embed", 40, 0]);
  assert.equal(usage.estimated, false);
});

test("a_picture_of_300_kilobytes_reaches_the_provider_from_each_format", async () => {
  const url = `data:image/png;base64,${"A".repeat(300_000)}`;
  const source = { type: "base64", media_type: "image/png", data: "A".repeat(300_000) };
  const { model, provider } = await modelOf(well);
  const inChat = {
    role: "user",
    content: [
      { type: "text", text: "What?" },
      { type: "image_url", image_url: { url } },
    ],
  };
  const inMessage = {
    role: "user",
    content: [
      { type: "text", text: "What?" },
      { type: "image", source },
    ],
  };
  const inInput = {
    role: "user",
    content: [
      { type: "input_text", text: "What?" },
      { type: "input_image", image_url: url, detail: "auto" },
    ],
  };
  for (const answer of [
    await post(CHAT, { model, messages: [inChat] }),
    await post("/v1/messages", { model, max_tokens: 9, messages: [inMessage] }),
    await post("/v1/responses", { model, input: [inInput] }),
  ]) {
    assert.equal(answer.status, 200, answer.text);
    assert.equal((await contextOf(gateway, answer.headers)).status, "completed");
  }
  for (const { json } of provider.calls) {
    const [said, picture] = json.messages[0].content;
    assert.deepEqual([said.text, picture.type, picture.image_url.url === url], ["What?", "image_url", true]);
  }
  assert.equal(provider.calls.length, 3);
});

test("a_provider_that_lists_its_models_without_an_object_around_them_is_healthy", async () => {
  const { model, provider } = await modelOf(well, {}, json([{ id: "a/b", object: "model", type: "chat" }]));
  const checked = await gateway.request("POST", `/v1/services/${model}/check`);
  assert.deepEqual([checked.status, checked.json.healthy, checked.json.error], [200, true, null], checked.text);
  assert.equal(provider.probes.at(-1)?.path, "/v1/models");
});

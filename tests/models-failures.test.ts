// What comes of a request for a model whose provider fails: which target is tried next, what the client sees, and what
// its context says.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { contextOf, eventually, makeKey, register } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Handler, hang, html, json, reset, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
const services: Service[] = [];

before(async () => {
  gateway = await startGateway({ vars: { BODY_TIMEOUT_MS: "1500" } });
});
after(async () => {
  await gateway?.stop();
  for (const service of services) await service.stop();
});

const usage = { prompt_tokens: 30, completion_tokens: 5, total_tokens: 35 };
const completion = (text: string) => ({
  id: "c",
  object: "chat.completion",
  created: 1,
  model: "m",
  choices: [{ index: 0, message: { role: "assistant", content: text }, finish_reason: "stop" }],
  usage,
});
const event = (value: unknown) => `data: ${JSON.stringify(value)}\n\n`;
const delta = (content: string) => event({ choices: [{ index: 0, delta: { content }, finish_reason: null }] });
const FINISH = event({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] });
const DONE = "data: [DONE]\n\n";

/** Writes these pieces; a number is a pause in milliseconds, `null` cuts the connection. */
const pieces =
  (...parts: (string | number | null)[]): Handler =>
  async (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.flushHeaders();
    for (const part of parts) {
      if (part === null) return void response.destroy();
      if (typeof part === "number") await pause(part);
      else await new Promise((resolve) => response.write(part, resolve));
    }
    response.end();
  };

let number = 0;

type Setup = { handlers: Handler[]; route?: object; transport?: object; service?: object };

/** A route over providers with these handlers, each in a tier of its own. */
async function arranged({ handlers, route = {}, transport = {}, service = {} }: Setup) {
  const name = `model${++number}`;
  const providers: Service[] = [];
  const targets: object[] = [];
  for (const [tier, handler] of handlers.entries()) {
    const provider = await startService(handler, { probe: json({ object: "list", data: [] }) });
    services.push(provider);
    providers.push(provider);
    const id = `${name}-${tier}`;
    await register(gateway, id, {
      name: "A provider",
      type: "llm",
      transport: { kind: "openai", url: `${provider.url}v1`, ...transport },
      credentials: { headers: { authorization: "Bearer sk-of-the-provider-1234" } },
      models: [{ id: name, upstream: `real-${tier}`, prices: { currency: "USD", input: "10", output: "20" } }],
      ...service,
    });
    targets.push({ service: id, model: name, tier });
  }
  const put = await gateway.request("PUT", `/v1/model-routes/${name}-route`, { body: { targets, ...route } });
  assert.equal(put.status, 201, put.text);
  return { name: `${name}-route`, providers };
}

async function chat(model: string, body: object = {}, headers: Record<string, string> = {}) {
  const response = await gateway.open("POST", "/v1/chat/completions", {
    body: { model, messages: [{ role: "user", content: "Hi" }], ...body },
    headers,
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, json: parsed(text) };
}

function parsed(text: string): any {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The context of a response, once it is recorded. */
const context = (headers: Headers) => contextOf(gateway, headers);

const well = json(completion("second"));
const openaiError = (code: string, type = "invalid_request_error") => ({ error: { message: "no", type, code } });

for (const [what, first, moves, code] of [
  ["a_connection_that_is_cut", reset, true, "upstream_error"],
  ["a_408", json(openaiError("x"), 408), true, "upstream_timeout"],
  ["a_429", json(openaiError("rate_limit_exceeded"), 429), true, "service_unavailable"],
  ["an_empty_account", json(openaiError("insufficient_quota"), 429), true, "upstream_error"],
  ["a_402", json(openaiError("x"), 402), true, "upstream_error"],
  ["a_500", json(openaiError("x"), 500), true, "upstream_error"],
  ["a_524", html524(), true, "upstream_error"],
  ["a_529", json({ type: "error", error: { type: "overloaded_error", message: "busy" } }, 529), true, "upstream_error"],
  ["a_web_page", html, true, "upstream_invalid_response"],
  ["an_error_with_status_200", json({ error: { message: "busy", type: "overloaded_error" } }), true, "upstream_error"],
  ["a_400", json(openaiError("invalid_value"), 400), false, "upstream_error"],
  ["a_401", json(openaiError("invalid_api_key"), 401), false, "upstream_error"],
  ["a_404", json(openaiError("model_not_found"), 404), false, "upstream_error"],
  ["a_request_that_is_too_long", json(openaiError("context_length_exceeded"), 400), false, "upstream_error"],
] as [string, Handler, boolean, string][]) {
  test(`${what}_${moves ? "leads_to_the_next_target" : "is_the_end"}`, async () => {
    const { name, providers } = await arranged({ handlers: [first, well] });
    const answer = await chat(name);
    const recorded = await context(answer.headers);
    assert.deepEqual(
      providers.map((provider) => provider.calls.length),
      moves ? [1, 1] : [1, 0],
    );
    assert.equal(recorded.attempts[0].code, code);
    assert.equal(recorded.attempts.length, moves ? 2 : 1);
    assert.equal(recorded.status, moves ? "completed" : "failed");
    assert.equal(answer.status === 200, moves, answer.text);
    if (moves) assert.equal(answer.json.choices[0].message.content, "second");
  });
}

function html524(): Handler {
  return (_, response) => void response.writeHead(524, { "content-type": "text/html" }).end("<html>524</html>");
}

for (const [kind, first] of [
  ["auth", json(openaiError("invalid_api_key"), 401)],
  ["not_found", json(openaiError("model_not_found"), 404)],
  ["context_length", json(openaiError("context_length_exceeded"), 400)],
  ["content_filter", json(openaiError("content_filter"), 400)],
] as [string, Handler][]) {
  test(`a_route_may_fall_back_on_${kind}`, async () => {
    const { name, providers } = await arranged({ handlers: [first, well], route: { fallback_on: [kind] } });
    assert.equal((await chat(name)).status, 200);
    assert.deepEqual(
      providers.map((provider) => provider.calls.length),
      [1, 1],
    );
  });
}

test("a_provider_that_never_begins_is_left_for_the_next", async () => {
  const { name } = await arranged({
    handlers: [hang, pieces(delta("a"), FINISH, DONE)],
    route: { first_piece_seconds: 1 },
  });
  const answer = await chat(name, { stream: true });
  assert.equal(answer.text, delta("a") + FINISH + DONE);
  const recorded = await context(answer.headers);
  assert.deepEqual(
    recorded.attempts.map((attempt: any) => [attempt.outcome, attempt.code ?? null]),
    [
      ["timed_out", "upstream_timeout"],
      ["succeeded", null],
    ],
  );
});

test("comments_and_errors_before_the_first_piece_are_no_piece", async () => {
  const busy = event({ error: { message: "busy", type: "overloaded_error" } });
  const { name } = await arranged({
    handlers: [pieces(": processing\n\n", 20, busy), pieces(delta("a"), FINISH, DONE)],
  });
  assert.equal((await chat(name, { stream: true })).text, delta("a") + FINISH + DONE);
});

test("the_last_failure_is_the_response", async () => {
  const limited = json(openaiError("rate_limit_exceeded"), 429, { "retry-after": "7", "x-should-retry": "true" });
  const { name } = await arranged({ handlers: [json({}, 500), limited] });
  const answer = await chat(name);
  assert.equal(answer.status, 429);
  assert.deepEqual(answer.json, openaiError("rate_limit_exceeded"));
  assert.equal(answer.headers.get("retry-after"), "7");
  assert.equal(answer.headers.get("x-should-retry"), "true");
});

test("refused_credentials_of_the_gateway_are_no_fault_of_the_client", async () => {
  for (const [quoted, words] of [
    ["sk-of-the-provider-1234", /refused the gateway's credentials\.$/],
    ["sk-of-t********1234", /refused the gateway's credentials\. Incorrect API key: …$/],
  ] as const) {
    const body = { error: { message: `Incorrect API key: ${quoted}.`, code: "invalid_api_key" } };
    const { name } = await arranged({ handlers: [json(body, 401)] });
    const answer = await chat(name);
    assert.equal(answer.status, 502);
    assert.equal(answer.headers.get("x-should-retry"), "false");
    assert.match(answer.json.error.message, words);
    assert.ok(!answer.text.includes(quoted));
  }
});

test("a_provider_that_asks_to_wait_is_put_aside_while_another_is_free", async () => {
  const limited = json(openaiError("rate_limit_exceeded"), 429, { "retry-after": "30" });
  const { name, providers } = await arranged({ handlers: [limited, well] });
  for (const _ of [1, 2, 3]) assert.equal((await chat(name)).status, 200);
  assert.deepEqual(
    providers.map((provider) => provider.calls.length),
    [1, 3],
  );
});

test("the_only_provider_is_always_tried", async () => {
  const limited = json(openaiError("rate_limit_exceeded"), 429, { "retry-after": "30" });
  const { name, providers } = await arranged({ handlers: [limited] });
  for (const _ of [1, 2]) assert.equal((await chat(name)).status, 429);
  assert.equal(providers[0]?.calls.length, 2);
});

const whole = [delta("a"), delta("b"), FINISH, DONE];

test("a_stream_that_breaks_anywhere_ends_with_an_error_and_a_failed_context", async () => {
  const text = whole.join("");
  // The first event is there, so that the response has begun; then each place in what follows.
  const first = delta("a").length;
  const places = [first, first + 1, first + 20, first + delta("b").length - 1, first + delta("b").length, first + 130];
  for (const place of places) {
    const { name } = await arranged({ handlers: [pieces(text.slice(0, place), 30, null)] });
    const answer = await chat(name, { stream: true });
    const events = answer.text.split("\n\n").filter(Boolean);
    assert.match(events.at(-1) as string, /^data: \{"error":/, `cut at ${place}`);
    for (const one of events) JSON.parse(one.slice("data: ".length));
    const recorded = await context(answer.headers);
    assert.deepEqual([recorded.status, recorded.error.code], ["failed", "upstream_error"]);
    assert.equal(recorded.usage.estimated, true);
  }
});

test("a_stream_without_an_end_marker_is_whole_with_its_finish_reason", async () => {
  const { name } = await arranged({ handlers: [pieces(delta("a"), FINISH.trimEnd())] });
  const answer = await chat(name, { stream: true });
  assert.equal(answer.text, delta("a") + FINISH.trimEnd());
  assert.equal((await context(answer.headers)).status, "completed");
});

test("an_error_in_the_middle_of_a_stream_passes_and_fails_the_context", async () => {
  const error = event({ error: { message: "busy", type: "server_error" } });
  const { name } = await arranged({ handlers: [pieces(delta("a"), 20, error)] });
  const answer = await chat(name, { stream: true });
  assert.equal(answer.text, delta("a") + error);
  assert.deepEqual((await context(answer.headers)).status, "failed");
});

test("a_converted_bound_of_the_output_has_the_name_that_the_provider_knows", async () => {
  const { name, providers } = await arranged({ handlers: [well], service: { models: undefined } });
  const provider = providers[0]!;
  const targets = ["llama-3", "gpt-5-mini"].map((model) => ({ service: `${name.replace("-route", "")}-0`, model }));
  for (const target of targets) {
    const model = `${target.service}/${target.model}`;
    const body = { model, max_tokens: 9, messages: [{ role: "user", content: "Hi" }] };
    assert.equal((await gateway.open("POST", "/v1/messages", { body })).status, 200);
    const { max_tokens, max_completion_tokens } = provider.calls.at(-1)?.json;
    assert.deepEqual([max_tokens, max_completion_tokens], target.model === "llama-3" ? [9, undefined] : [undefined, 9]);
  }
});

test("an_error_in_a_stream_that_shows_the_gateways_credentials_does_not_pass", async () => {
  const words = "the key sk-of-the-provider-1234 has no credit";
  // The second error, in the same piece, does not make up for the first.
  const errors = [words, "busy"].map((message) => event({ error: { message, type: "server_error" } })).join("");
  const failing = pieces(delta("Hel"), delta("lo"), errors, DONE);
  const { name } = await arranged({ handlers: [failing] });
  const messages = [{ role: "user", content: "Hi" }];
  for (const path of ["/v1/chat/completions", "/v1/messages", "/v1/responses"]) {
    const body = { model: name, messages, max_tokens: 9, stream: true };
    const sent = path === "/v1/responses" ? { model: name, input: "Hi", stream: true } : body;
    const response = await gateway.open("POST", path, { body: sent });
    const text = await response.text();
    assert.match(text, /Hel[^]*lo/, path);
    assert.match(text, /busy/, path);
    assert.doesNotMatch(text, /sk-of-the-provider|no credit/, path);
    assert.equal((await context(response.headers)).status, "failed", path);
  }
  const only = pieces(delta("Hello"), event({ error: { message: words, type: "server_error" } }), DONE);
  const { name: second } = await arranged({ handlers: [only] });
  const { text } = await chat(second, { stream: true });
  assert.match(text, /Hello[^]*The provider reported an error/);
  assert.doesNotMatch(text, /sk-of-the-provider|no credit/);
});

test("a_silent_stream_is_ended", async () => {
  const { name } = await arranged({ handlers: [pieces(delta("a"), 60_000)], route: { stream_idle_seconds: 1 } });
  const answer = await chat(name, { stream: true });
  assert.match(answer.text, /"code":"upstream_timeout"/);
  const recorded = await context(answer.headers);
  assert.deepEqual([recorded.status, recorded.error.code], ["failed", "upstream_timeout"]);
});

test("a_client_may_shorten_the_time", async () => {
  const { name } = await arranged({ handlers: [hang] });
  const answer = await chat(name, {}, { "x-narthex-timeout": "0.5" });
  assert.deepEqual([answer.status, answer.json.error.code], [504, "deadline_exceeded"]);
  assert.equal((await context(answer.headers)).status, "timed_out");
  for (const wrong of ["0", "-1", "soon"])
    assert.equal((await chat(name, {}, { "x-narthex-timeout": wrong })).status, 400);
});

/** Leaves after the first piece. */
async function leaves(model: string) {
  const controller = new AbortController();
  const response = await gateway.open("POST", "/v1/chat/completions", {
    body: { model, messages: [], stream: true },
    signal: controller.signal,
  });
  await response.body?.getReader().read();
  controller.abort();
  return response.headers;
}

const endless: Handler = async (_, response) => {
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (let at = 0; at < 200 && !response.destroyed; at++) {
    response.write(delta(` w${at}`));
    await pause(20);
  }
  response.end(FINISH + event({ choices: [], usage }) + DONE);
};

test("the_call_of_a_client_that_leaves_is_ended_within_a_second_and_estimated", async () => {
  const { name, providers } = await arranged({ handlers: [endless] });
  const headers = await leaves(name);
  const left = Date.now();
  await eventually(() => providers[0]?.calls[0]?.abandoned);
  assert.ok(Date.now() - left < 1_000);
  const recorded = await context(headers);
  assert.deepEqual([recorded.status, recorded.error.code, recorded.usage.estimated], ["cancelled", "cancelled", true]);
  assert.ok(recorded.usage.output_tokens >= 1 && recorded.usage.output_tokens < 60, JSON.stringify(recorded.usage));
});

test("a_route_may_read_on_for_the_usage_of_clients_that_left", async () => {
  const { name, providers } = await arranged({ handlers: [endless], route: { on_disconnect: "drain" } });
  const headers = await leaves(name);
  const recorded = await context(headers);
  assert.equal(providers[0]?.calls[0]?.abandoned, false);
  assert.deepEqual([recorded.status, recorded.usage.estimated], ["completed", false]);
  assert.equal(recorded.usage.output_tokens, usage.completion_tokens);
});

test("a_stream_ends_with_the_key_that_opened_it", async () => {
  const { name } = await arranged({ handlers: [endless] });
  const key = await makeKey(gateway, "caller");
  const response = await gateway.open("POST", "/v1/chat/completions", {
    body: { model: name, messages: [], stream: true },
    key: key.secret,
  });
  const reader = response.body?.getReader();
  await reader?.read();
  assert.equal((await gateway.request("DELETE", `/v1/keys/${key.id}`)).status, 204);
  let text = "";
  for (;;) {
    const piece = await reader?.read();
    if (!piece || piece.done) break;
    text += Buffer.from(piece.value).toString();
  }
  assert.match(text, /"code":"invalid_api_key"/);
});

test("what_is_no_body_for_a_model_is_refused_by_its_fault", async () => {
  const { name } = await arranged({ handlers: [well] });
  const post = async (body: string, headers: Record<string, string> = {}) => {
    const response = await fetch(`${gateway.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${gateway.adminKey}`, "content-type": "application/json", ...headers },
      body,
    });
    return [response.status, ((await response.json()) as any).error?.param];
  };
  assert.deepEqual(await post("{"), [400, null]);
  assert.deepEqual(await post("[]"), [400, null]);
  assert.deepEqual(await post("{}"), [400, "model"]);
  assert.deepEqual(await post(`{"model":"${name}","model":"x"}`), [400, "model"]);
  assert.deepEqual(await post(`{"model":"${name}","stream":"yes"}`), [400, "stream"]);
  assert.deepEqual(await post(`{"model":"${name}"}`, { "content-type": "text/plain" }), [415, null]);
  assert.deepEqual(await post(`{"model":"${name}","messages":[],"novel":{"member":1}}`), [200, undefined]);
});

test("a_body_that_does_not_arrive_is_refused_in_the_format", async () => {
  const body = new ReadableStream({
    start(controller) {
      controller.enqueue(Buffer.from('{"model":"x","mess'));
    },
  });
  const response = await fetch(`${gateway.url}/v1/messages`, {
    method: "POST",
    headers: { authorization: `Bearer ${gateway.adminKey}`, "content-type": "application/json" },
    body,
    duplex: "half",
  } as RequestInit);
  const problem = (await response.json()) as any;
  assert.deepEqual([response.status, problem.type, problem.error.type], [408, "error", "timeout_error"]);
});

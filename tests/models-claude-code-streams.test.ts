// What the published guide for gateways of Claude Code (code.claude.com/docs/en/llm-gateway-protocol) requires of
// streams and of errors, row by row, in our own words. The other rows: models-claude-code.test.ts.
import Anthropic from "@anthropic-ai/sdk";
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { apart } from "./support/apart.ts";
import { contextOf, eventually, makeKey, refusedAt } from "./support/arrange.ts";
import * as claudeCode from "./support/claude-code.ts";
import { anthropicProvider, answer, BETA, openaiProvider, own, request } from "./support/claude-code.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { gate, type Handler, json, type Service } from "./support/service.ts";

let gateway: Gateway;
let anthropic: Service;
let openai: Service;
let key: string;
const services: Service[] = [];

async function provider(id: string, models: object[], handler?: Handler): Promise<Service> {
  const service = await anthropicProvider(gateway, id, models, handler);
  services.push(service);
  return service;
}

before(async () => {
  // Silences are broken sooner, too.
  gateway = await startGateway({ timeScale: 0.05 });
  anthropic = await provider("claude", [{ id: "claude-sonnet-4-6" }]);
  openai = await openaiProvider(gateway, "other", [{ id: "claude-elsewhere" }]);
  services.push(openai);
  key = (await makeKey(gateway, "bare", ["models:use:*"])).secret;
});
after(async () => {
  await gateway?.stop();
  for (const service of services) await service.stop();
});

const post = (path: string, body: unknown) => claudeCode.post(gateway, path, key, body);

// Streams.

const event = (type: string, more: object = {}) => `event: ${type}\ndata: ${JSON.stringify({ type, ...more })}\n\n`;
const delta = (text: string) => event("content_block_delta", { index: 0, delta: { type: "text_delta", text } });
const START =
  event("message_start", { message: { ...answer, content: [], stop_reason: null } }) +
  event("content_block_start", { index: 0, content_block: { type: "text", text: "" } });
const STOP =
  event("content_block_stop", { index: 0 }) +
  event("message_delta", { delta: { stop_reason: "end_turn", stop_sequence: null }, usage: { output_tokens: 2 } }) +
  event("message_stop");

const asStream = { "content-type": "text/event-stream; charset=utf-8" };

/** Reads a response until it has this text; returns all that came. */
async function readUntil(reader: ReadableStreamDefaultReader<Uint8Array>, text: string, seen = ""): Promise<string> {
  while (!seen.includes(text)) {
    const { done, value } = await reader.read();
    assert.ok(!done, `it ended before ${text}: ${seen}`);
    seen += Buffer.from(value).toString();
  }
  return seen;
}

test("events_pings_and_comments_are_relayed_as_they_come", async () => {
  const parts = [
    START,
    event("ping"),
    ": a comment\n\n",
    delta("one"),
    event("event_of_tomorrow", { a: 1 }),
    delta("two"),
    STOP,
  ];
  const gates = parts.map(() => gate(() => {}));
  const original = anthropic.handler;
  anthropic.handler = async (call, response) => {
    response.writeHead(200, asStream);
    for (const [at, part] of parts.entries()) {
      await gates[at]!.handler(call, response);
      response.write(part);
    }
    response.end();
  };
  for (const at of [0, 1]) gates[at]!.open();
  const options = { key, body: request("claude-sonnet-4-6", { stream: true }), headers: own };
  const response = await gateway.open("POST", BETA, options);
  anthropic.handler = original;
  assert.match(response.headers.get("content-type")!, /^text\/event-stream/);
  const reader = response.body!.getReader();
  // The provider sends a part only once the client has the one before.
  let seen = await readUntil(reader, parts[1]!);
  for (const [at, part] of parts.entries()) {
    if (at < 2) continue;
    gates[at]!.open();
    seen = await readUntil(reader, part, seen);
  }
  assert.equal(seen, parts.join(""));
  assert.equal((await reader.read()).done, true);
});

test("silences_are_broken_by_pings_also_where_the_provider_has_none", async () => {
  const chunk = (delta: object, finish_reason: string | null = null) =>
    `data: ${JSON.stringify({ id: "c", choices: [{ index: 0, delta, finish_reason }] })}\n\n`;
  for (const [service, model, first, rest] of [
    [anthropic, "claude-sonnet-4-6", START + delta("one"), delta("two") + STOP],
    [openai, "claude-elsewhere", chunk({ content: "one" }), `${chunk({ content: "two" }, "stop")}data: [DONE]\n\n`],
  ] as const) {
    const original = service.handler;
    const silence = gate(() => {});
    service.handler = async (call, response) => {
      response.writeHead(200, asStream);
      response.write(first);
      await silence.handler(call, response);
      response.end(rest);
    };
    const plain = { model, max_tokens: 9, stream: true, messages: [{ role: "user", content: "Hi" }] };
    const reader = (await gateway.open("POST", BETA, { key, body: plain, headers: own })).body!.getReader();
    const seen = await readUntil(reader, "event: ping\n");
    silence.open();
    const all = await readUntil(reader, "event: message_stop\n", seen);
    assert.ok(
      all.indexOf('"one"') < all.indexOf("event: ping") && all.indexOf("event: ping") < all.indexOf('"two"'),
      all,
    );
    service.handler = original;
  }
});

test("the_official_library_streams_with_betas", async () => {
  const original = anthropic.handler;
  anthropic.handler = (_, response) => void response.writeHead(200, asStream).end(START + delta("connected") + STOP);
  const client = new Anthropic({ baseURL: gateway.url, apiKey: null, authToken: key, maxRetries: 0, fetch: apart });
  const messages = [{ role: "user" as const, content: "Hi" }];
  const asked = {
    model: "claude-sonnet-4-6",
    max_tokens: 9,
    messages,
    betas: ["context-1m-2025-08-07" as const, "of-tomorrow"],
  };
  const message = await client.beta.messages.stream(asked).finalMessage();
  anthropic.handler = original;
  assert.deepEqual([message.stop_reason, (message.content[0] as any).text], ["end_turn", "connected"]);
  assert.equal(anthropic.calls.at(-1)!.headers["anthropic-beta"], "context-1m-2025-08-07,of-tomorrow");
});

// Errors: the client recovers by their wording.

for (const [status, about, type, message] of [
  [400, "thinking", "invalid_request_error", "thinking.type: Input tag 'adaptive' found using 'type' does not match"],
  [400, "signatures", "invalid_request_error", "messages.1.content.0: Invalid `signature` in `thinking` block"],
  [
    400,
    "roles_of_messages",
    "invalid_request_error",
    'messages.2.role: Unexpected role "system"; cache_control: Extra inputs are not permitted',
  ],
  [400, "its_length", "invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"],
  [403, "permission", "permission_error", "not for you"],
  [404, "the_model", "not_found_error", "model: claude-of-old"],
  [413, "its_size", "request_too_large", "Request exceeds the maximum size"],
  [429, "its_rate", "rate_limit_error", "This request would exceed your rate limit"],
  [500, "the_server", "api_error", "Internal server error"],
  [529, "overload", "overloaded_error", "Overloaded"],
] as [number, string, string, string][]) {
  test(`an_error_${status}_about_${about}_is_forwarded_unmodified`, async () => {
    const body = ` {"type":"error", "error":{"type":"${type}","message":${JSON.stringify(message)},"x":1.0}, "request_id":"req_p"}\n`;
    const headers = {
      "content-type": "application/json",
      "request-id": "req_p",
      "retry-after": "7",
      "x-should-retry": "true",
      "anthropic-ratelimit-requests-limit": "5",
    };
    // Each has a provider of its own: failures of one must not affect the others.
    const id = `failing-${about.replaceAll("_", "-")}`;
    await provider(id, [{ id }], (_, response) => void response.writeHead(status, headers).end(body));
    for (const stream of [false, true]) {
      const reply = await post(BETA, request(id, { stream }));
      assert.deepEqual([reply.status, reply.text], [status, body]);
      assert.equal(reply.headers.get("content-type"), "application/json");
      assert.deepEqual(
        ["retry-after", "x-should-retry"].map((name) => reply.headers.get(name)),
        ["7", "true"],
      );
      assert.ok(reply.headers.get("request-id")?.startsWith("req_"));
      assert.equal(reply.headers.get("x-narthex-upstream-request-id"), "req_p");
      assert.equal(reply.headers.get("anthropic-ratelimit-requests-limit"), null, "the account is the gateway's");
    }
  });
}

test("refused_credentials_of_the_gateway_do_not_look_like_those_of_the_client", async () => {
  await provider(
    "locked",
    [{ id: "claude-locked" }],
    json({ type: "error", error: { type: "authentication_error", message: "invalid x-api-key" } }, 401),
  );
  const reply = await post(BETA, request("claude-locked"));
  assert.deepEqual(
    [reply.status, reply.json.error.type, reply.headers.get("x-should-retry")],
    [502, "api_error", "false"],
  );
});

test("an_error_within_a_stream_is_forwarded_unmodified", async () => {
  const error = event("error", {
    error: { type: "overloaded_error", message: "Overloaded", details: null },
    request_id: "req_p",
  });
  const broken = gate(() => {});
  await provider("stumbling", [{ id: "claude-stumbling" }], async (call, response) => {
    response.writeHead(200, asStream).write(START + delta("one"));
    await broken.handler(call, response);
    response.end(error);
  });
  const options = { key, body: request("claude-stumbling", { stream: true }), headers: own };
  const response = await gateway.open("POST", BETA, options);
  const reader = response.body!.getReader();
  const seen = await readUntil(reader, delta("one"));
  broken.open();
  assert.equal(await readUntil(reader, "req_p", seen), START + delta("one") + error);
  assert.equal((await contextOf(gateway, response.headers)).status, "failed");
});

test("a_limit_of_the_gateway_is_a_429_that_says_when_to_retry", async () => {
  await provider("limited", [{ id: "claude-limited" }]);
  const limit = { kind: "requests", quota: 1, window_seconds: 3_600, binds: { service: "limited" } };
  assert.equal((await gateway.request("PUT", "/v1/limits/one", { body: limit })).status, 201);
  const refused = await eventually(async () => {
    const reply = await post(BETA, request("claude-limited"));
    return reply.status === 200 ? undefined : reply;
  });
  refusedAt("/v1/messages", refused, 429, "rate_limited");
  assert.ok(Number(refused.headers.get("retry-after")) > 0);
});

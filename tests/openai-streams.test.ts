// Streams of services of `transport.kind: "openai"`, as real servers send them: what is kept, what ends them, and when
// they are requested.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accepted, create, ended, eventually, register } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Handler, json, type Service, startService, status } from "./support/service.ts";

let gateway: Gateway;
let endpoint: Service;

const messages = [{ role: "user", content: "Say hello." }];
const retry = { max_attempts: 2, base_ms: 1, cap_ms: 10 };
const whole = (content: string) => ({
  id: "c",
  object: "chat.completion",
  created: 1,
  model: "m",
  choices: [{ index: 0, message: { role: "assistant", content }, finish_reason: "stop" }],
});

before(async () => {
  gateway = await startGateway();
  endpoint = await startService();
  const transport = { kind: "openai", url: `${endpoint.url}v1`, model: "m" };
  await register(gateway, "llm", { name: "A model", type: "llm", transport, retry });
});
after(async () => {
  await gateway.stop();
  await endpoint.stop();
});

/** A response of these pieces, the last of which may cut the connection. */
const pieces =
  (
    texts: (string | Buffer | "destroy")[],
    headers: Record<string, string> = { "content-type": "text/event-stream" },
  ): Handler =>
  async (_, response) => {
    response.writeHead(200, headers);
    response.on("error", () => {});
    for (const text of texts) {
      if (text === "destroy") return void response.destroy();
      if (!response.write(text)) await new Promise<void>((go) => response.once("drain", go).once("close", go));
      if (response.destroyed) return;
    }
    response.end();
  };

const event = (data: unknown) => `data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`;
const delta = (delta: object, finish: string | null = null, more: object = {}) =>
  event({ id: "c", object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason: finish }], ...more });
const done = "data: [DONE]\n\n";

type StreamEvent = { event: string; data: any };

async function listen(body: object = {}): Promise<StreamEvent[]> {
  const response = await gateway.open("POST", "/v1/contexts", {
    body: { capability: "chat", service: "llm", parameters: { messages }, ...body },
    headers: { accept: "text/event-stream" },
  });
  assert.equal(response.status, 200);
  return (await response.text())
    .split("\n\n")
    .filter((block) => block.startsWith("event:"))
    .map((block) => {
      const [name = "", ...lines] = block.split("\n");
      return {
        event: name.slice("event: ".length),
        data: JSON.parse(lines.map((line) => line.slice("data: ".length)).join("\n")),
      };
    });
}

/** The context that results from a stream of these pieces, with its events. */
async function streamed(texts: Parameters<typeof pieces>[0], headers?: Record<string, string>, service = "llm") {
  endpoint.handler = pieces(texts, headers);
  const from = endpoint.calls.length;
  const events = await listen({ service });
  const context = events.at(-1)!.data;
  return { context, events, calls: endpoint.calls.length - from, message: context.result?.choices[0]?.message };
}

test("padding_and_framing_do_not_count_towards_the_size_limit", async () => {
  const padded = delta({ content: "ab" }, null, { obfuscation: "x".repeat(2000) });
  const texts = Array.from({ length: 3000 }, () => `: ${"c".repeat(500)}\n${padded}`);
  const { message, calls } = await streamed([...texts, delta({}, "stop"), done]);
  assert.equal(message?.content, "ab".repeat(3000));
  assert.equal(calls, 1);
});

test("the_result_and_a_single_event_are_bounded", async () => {
  const large = "x".repeat(1024 * 1024);
  const kept = await streamed([...Array(12).fill(delta({ content: large })), delta({}, "stop"), done]);
  assert.equal(kept.context.error?.code, "upstream_invalid_response", JSON.stringify(kept.context).slice(0, 300));
  const single = await streamed(["data: ", ...Array(12).fill(large), "\n\n", done]);
  assert.equal(single.context.error?.code, "upstream_invalid_response");
});

test("a_silent_stream_ends_at_the_contexts_deadline", async () => {
  endpoint.handler = async (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.on("error", () => {});
    while (!response.destroyed) {
      response.write(event({ choices: [], obfuscation: "x".repeat(10_000) }));
      await new Promise((go) => setTimeout(go, 5));
    }
  };
  const end = (await listen({ timeout_seconds: 2 })).at(-1)!.data;
  assert.equal(end.status, "timed_out");
  assert.equal(end.error.code, "deadline_exceeded");
});

test("an_endless_stream_ends_at_the_contexts_deadline_too", async () => {
  const padding = event({ choices: [], obfuscation: "x".repeat(60_000) });
  let last = 0;
  endpoint.handler = async (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.on("error", () => {});
    response.setMaxListeners(0);
    while (!response.destroyed) {
      last = Date.now();
      if (!response.write(padding)) await new Promise<void>((go) => response.once("drain", go).once("close", go));
    }
  };
  const began = Date.now();
  const { id } = await accepted(gateway, {
    capability: "chat",
    service: "llm",
    parameters: { messages },
    timeout_seconds: 2,
  });
  assert.equal((await ended(gateway, id)).status, "timed_out");
  // Reading it has stopped, too.
  await eventually(() => Date.now() - last > 2_000);
  assert.ok(last - began < 45_000, `read for ${last - began} ms`);
});

test("a_complete_response_does_not_wait_for_an_open_connection", async () => {
  endpoint.handler = (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(delta({ content: "Hi" }) + delta({}, "stop"));
  };
  const began = Date.now();
  const end = (await listen({ timeout_seconds: 100 })).at(-1)!.data;
  assert.equal(end.result?.choices[0].message.content, "Hi");
  assert.ok(Date.now() - began < 60_000);
});

test("errors_in_a_stream_are_failures_and_are_retried_only_where_that_helps", async () => {
  const begun = delta({ role: "assistant", content: "Hi" });
  for (const [what, texts, code, calls, detail] of [
    ["plain text", [begun, "event: error\ndata: too busy now\n\n"], "upstream_error", 2, "too busy now"],
    ["words without a type", [begun, event("upstream connect error")], "upstream_error", 2, "upstream connect error"],
    [
      "an object alone",
      [event({ object: "error", message: "4096 fit", type: "BadRequestError", code: 400 }), done],
      "upstream_error",
      1,
      "4096 fit",
    ],
    [
      "of the request",
      [
        begun,
        event({ error: { message: "longer", type: "invalid_request_error", code: "context_length_exceeded" } }),
        done,
      ],
      "upstream_error",
      1,
      "longer",
    ],
    [
      "of the server",
      [begun, event({ error: { message: "crashed", code: 500 } }), done],
      "upstream_error",
      2,
      "crashed",
    ],
    [
      "overloaded",
      [event({ type: "error", error: { type: "overloaded_error", message: "later" } })],
      "upstream_error",
      2,
      "later",
    ],
    ["by finish_reason", [begun, delta({}, "error"), done], "upstream_error", 2, "finish_reason"],
    ["no chunk", [begun, event('{"choices": [')], "upstream_invalid_response", 1, ""],
    ["nothing but its end", [done], "service_unavailable", 2, ""],
    ["no content", [delta({ role: "assistant", content: "" }), done], "service_unavailable", 2, ""],
    [
      "cut, finish_reason empty",
      [delta({ content: "Half" }, ""), delta({ content: " of" }, "")],
      "service_unavailable",
      2,
      "",
    ],
    ["torn", [begun, "destroy"], "service_unavailable", 2, ""],
  ] as const) {
    // Each has a separate service: one that keeps failing is called less often.
    const id = what.replaceAll(/\W+/g, "-");
    await register(gateway, id, {
      name: what,
      type: "llm",
      transport: { kind: "openai", url: `${endpoint.url}v1` },
      retry,
    });
    const seen = await streamed([...texts], undefined, id);
    assert.equal(seen.context.status, "failed", `${what}: ${JSON.stringify(seen.context)}`);
    assert.equal(seen.context.error.code, code, `${what}: ${JSON.stringify(seen.context.error)}`);
    assert.equal(seen.calls, calls, what);
    assert.ok(
      JSON.stringify(seen.context.error.details ?? null).includes(detail) || detail === "",
      `${what}: ${JSON.stringify(seen.context.error)}`,
    );
    // A listener is notified of another attempt, and of errors only at the end.
    assert.equal(seen.events.filter(({ event }) => event === "attempt").length, calls - 1, what);
    assert.ok(
      seen.events.filter(({ event }) => event === "delta").every(({ data }) => data.choices),
      what,
    );
  }
});

test("members_that_look_like_errors_are_not_mistaken_for_errors", async () => {
  for (const error of ["", null, {}, { message: "", code: 0 }, false, []]) {
    const seen = await streamed([delta({ content: "Hi" }, null, { error }), delta({}, "stop", { error }), done]);
    assert.equal(seen.message?.content, "Hi", JSON.stringify([error, seen.context.error]));
    assert.equal(seen.calls, 1);
  }
});

test("a_stream_is_read_however_it_is_framed", async () => {
  const hi = [delta({ content: "H" }), delta({ content: "i" })];
  const end = delta({}, "stop");
  const crlf = (text: string) => text.replaceAll("\n", "\r\n");
  for (const [what, texts, headers] of [
    ["as text/plain", [...hi, end, done], { "content-type": "text/plain; charset=utf-8" }],
    ["without a type", [...hi, end, done], {}],
    ["as JSON", [...hi, end, done], { "content-type": "application/json" }],
    ["with a byte order mark", ["\ufeff", ...hi, end, done]],
    ["CRLF", [...hi, end, done].map(crlf)],
    ["CR", [...hi, end].map((text) => text.replaceAll("\n", "\r"))],
    ["no space after the colon", [...hi, end, done].map((text) => text.replace("data: ", "data:"))],
    ["no end of the last line", [...hi, end.trimEnd()]],
    [
      "signs of life",
      [
        hi[0]!,
        ': ping\n\ndata: \n\nevent: ping\ndata: {"type": "ping"}\n\n',
        hi[1]!,
        "event: keepalive\ndata:\n\n",
        end,
        done,
      ],
    ],
    ["several lines of data", [...hi.map((text) => text.replace('"object"', '\ndata: "object"')), end, done]],
    ["byte by byte", [...Buffer.from(hi.join("") + end + done)].map((byte) => Buffer.from([byte]))],
    ["whole after all", [JSON.stringify(whole("Hi"), null, 2)]],
    ["whole as JSON", [JSON.stringify(whole("Hi"))], { "content-type": "application/json" }],
  ] as [string, (string | Buffer)[], Record<string, string>?][]) {
    const seen = await streamed(texts, headers);
    assert.equal(seen.message?.content, "Hi", `${what}: ${JSON.stringify(seen.context)}`);
  }
});

test("an_unrequested_stream_is_assembled", async () => {
  for (const type of ["text/event-stream", "application/json", "text/plain"]) {
    endpoint.handler = pieces([delta({ content: "Hi" }), delta({}, "stop"), done], { "content-type": type });
    const { json: context } = await create(gateway, { capability: "chat", service: "llm", parameters: { messages } });
    assert.equal(context.result?.choices[0].message.content, "Hi", JSON.stringify(context));
  }
});

test("the_result_equals_the_endpoints_response_in_one_piece", async () => {
  const call = (index: number, id: string, name: string, args: string) =>
    delta({ tool_calls: [{ index, id, type: "function", function: { name, arguments: args } }] });
  const { context } = await streamed([
    delta({ role: "assistant" }),
    delta({ content: [{ type: "thinking", thinking: [{ type: "text", text: "Hm" }] }] }),
    delta({ content: [{ type: "thinking", thinking: [{ type: "text", text: "!" }] }] }),
    delta({ content: "Hel" }),
    delta({ content: "lo" }),
    call(0, "call_1", "add", "{"),
    call(0, "", "", "}"),
    call(0, "call_2", "sub", "{"),
    call(0, "call_2", "sub", "}"),
    delta({}, "tool_calls", { obfuscation: "xyz" }),
    event({ id: "", choices: [], usage: { total_tokens: 5 } }),
    done,
  ]);
  const tool = (id: string, name: string) => ({ id, type: "function", function: { name, arguments: "{}" } });
  assert.deepEqual(context.result, {
    id: "c",
    object: "chat.completion",
    usage: { total_tokens: 5 },
    choices: [
      {
        index: 0,
        finish_reason: "tool_calls",
        message: {
          role: "assistant",
          tool_calls: [tool("call_1", "add"), tool("call_2", "sub")],
          content: [
            { type: "thinking", thinking: [{ type: "text", text: "Hm!" }] },
            { type: "text", text: "Hello" },
          ],
        },
      },
    ],
  });
});

test("asynchronous_contexts_are_streamed_and_awaited_ones_are_not", async () => {
  endpoint.handler = (call, response) =>
    call.json.stream
      ? pieces([delta({ content: "Hi" }), delta({}, "stop"), done])(call, response)
      : status(524)(call, response);
  const from = endpoint.calls.length;
  const { id } = await accepted(gateway, {
    capability: "chat",
    service: "llm",
    parameters: { messages, stream: false },
  });
  const context = await ended(gateway, id);
  assert.equal(context.result?.choices[0].message.content, "Hi", JSON.stringify(context));
  assert.deepEqual(
    endpoint.calls.slice(from).map(({ json }) => [json.stream, json.stream_options]),
    [[true, { include_usage: true }]],
  );
  endpoint.handler = json(whole("Hi"));
  const waited = await create(gateway, { capability: "chat", service: "llm", parameters: { messages, stream: true } });
  assert.equal(waited.json.status, "completed");
  assert.deepEqual(endpoint.calls.at(-1)!.json, { messages, model: "m" });
});

test("an_endpoint_that_refuses_to_stream_is_called_without_and_that_is_remembered", async () => {
  const asked = async (model: string, parameters: object = {}, service = "llm") => {
    const from = endpoint.calls.length;
    const { id } = await accepted(gateway, {
      capability: "chat",
      service,
      parameters: { messages, model, ...parameters },
    });
    const context = await ended(gateway, id);
    return [
      context.status,
      ...endpoint.calls.slice(from).map(({ json }) => [json.stream ?? false, json.stream_options]),
    ];
  };
  const usage = { include_usage: true };
  const hi = pieces([delta({ content: "Hi" }), delta({}, "stop"), done]);
  endpoint.handler = (call, response) =>
    call.json.stream_options
      ? status(400, { error: { message: "Unrecognized request argument: stream_options" } })(call, response)
      : hi(call, response);
  assert.deepEqual(await asked("no-options"), ["completed", [true, usage], [true, undefined]]);
  assert.deepEqual(await asked("no-options"), ["completed", [true, undefined]]);
  // Stream options of the caller are not dropped.
  const own = { include_usage: false };
  assert.deepEqual(await asked("others", { stream_options: own }), ["failed", [true, own]]);

  endpoint.handler = (call, response) =>
    call.json.stream
      ? status(400, { error: { param: "stream", code: "unsupported_value" } })(call, response)
      : json(whole("Hi"))(call, response);
  assert.deepEqual(await asked("no-streams"), ["completed", [true, usage], [false, undefined]]);
  assert.deepEqual(await asked("no-streams"), ["completed", [false, undefined]]);

  endpoint.handler = status(400, { error: { message: "too long" } });
  assert.deepEqual(await asked("others"), ["failed", [true, usage]]);
  endpoint.handler = json(whole("Hi"));
  const transport = { kind: "openai", url: `${endpoint.url}v1`, stream: false };
  const { transport: shown } = await register(gateway, "whole", { name: "Whole", type: "llm", transport });
  assert.deepEqual(shown, transport);
  assert.deepEqual(await asked("m", {}, "whole"), ["completed", [false, undefined]]);
  assert.deepEqual(
    (await listen({ service: "whole" })).map(({ event }) => event),
    ["context", "end"],
  );
});

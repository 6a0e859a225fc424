// A provider of models with OpenAI's API and Anthropic's API, as theirs respond. The first word of the last text of a
// request says what it does: it answers to `tools`, `parallel`, `many 50000`, `error 429` … the same to everyone.
import type { ServerResponse } from "node:http";
import { setImmediate as turn, setTimeout as pause } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { type Handler, json, type Recorded, type Service, startService } from "./service.ts";

/** The keys that it accepts, and its own names of its models; it also knows the names that clients ask for. */
export const providerKeys = { openai: "sk-of-the-provider", anthropic: "sk-ant-of-the-provider" };
export const providerNames = { small: "small-2026-07-23", haiku: "haiku-2026-07-23" };

/** A text that holds what readers of streams look for. */
export const text = 'Grüße, 世界 👋: "usage": {"error": 1}, data: [DONE]\n\nevent: error, response.completed.';

/** A text in pieces of a few characters. */
const pieces = (whole = text) => [...whole.matchAll(/.{1,5}/gsu)].map(([piece]) => piece);

export const startModelUpstream = (): Promise<Service> => startService(answer, { probe: models });

const answer: Handler = (call, response) => {
  const path = new URL(call.path, "http://provider").pathname;
  const endpoint = endpoints[path];
  if (!endpoint) return openaiError(404, response, `Invalid URL (POST ${path})`);
  const isAnthropic = path.startsWith("/v1/messages");
  const key = (isAnthropic && call.headers["x-api-key"]) || call.headers.authorization?.replace("Bearer ", "");
  const refuse = isAnthropic ? anthropicError : openaiError;
  if (key !== providerKeys[isAnthropic ? "anthropic" : "openai"])
    return refuse(401, response, `Incorrect API key provided: ${key}.`);
  const asked = lastText(call);
  const [word, number] = asked.split(" ");
  if (word === "error") return refuse(Number(number), response);
  if (word === "web-page") return void response.writeHead(502, { "content-type": "text/html" }).end("<h1>Oh no</h1>");
  if (word === "silent") return undefined;
  if (word === "busy-at-first" && !refusedOnce.delete(asked)) {
    refusedOnce.add(asked);
    return refuse(429, response, "Try again.", { "retry-after-ms": "1" });
  }
  response.setHeader("x-request-id", "req_of_the_provider");
  return endpoint(call, response, word ?? "", Number(number));
};
/** Requests that were refused once. */
const refusedOnce = new Set<string>();

/** The last text of a request, which says what to do. */
function lastText({ json: body }: Recorded): string {
  const last = body.messages?.at(-1) ?? (Array.isArray(body.input) ? body.input.at(-1) : body.input);
  const content = last?.content ?? last;
  return typeof content === "string" ? content : (content?.find((part: any) => part.text)?.text ?? "");
}

const isModel = (name: string) => /^(small|haiku|vendor)/.test(name);

const models: Handler = (call, response) => {
  const name = decodeURIComponent(call.path.split("/")[3] ?? "");
  const shape = (id: string) => ({ id, object: "model", created: 1_767_225_600, owned_by: "provider" });
  if (name && !isModel(name)) return openaiError(404, response, `The model '${name}' does not exist`);
  return json(name ? shape(name) : { object: "list", data: Object.values(providerNames).map(shape) })(call, response);
};

const openaiTypes: Record<number, [string, string | null]> = {
  400: ["invalid_request_error", "invalid_value"],
  401: ["invalid_request_error", "invalid_api_key"],
  403: ["invalid_request_error", "unsupported_country_region_territory"],
  404: ["invalid_request_error", "model_not_found"],
  409: ["conflict_error", null],
  422: ["unprocessable_entity_error", null],
  429: ["requests", "rate_limit_exceeded"],
};

function openaiError(status: number, response: ServerResponse, message = `No (${status}).`, more = {}) {
  const [type, code] = openaiTypes[status] ?? ["server_error", null];
  const headers = { "content-type": "application/json", "x-request-id": "req_failed", ...later(status), ...more };
  response.writeHead(status, headers).end(JSON.stringify({ error: { message, type, param: null, code } }, null, 2));
}

const anthropicTypes: Record<number, string> = {
  400: "invalid_request_error",
  401: "authentication_error",
  402: "billing_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  422: "invalid_request_error",
  429: "rate_limit_error",
  529: "overloaded_error",
};

function anthropicError(status: number, response: ServerResponse, message = `No (${status}).`, more = {}) {
  const error = {
    type: anthropicTypes[status] ?? "api_error",
    message,
    details: { error_code: "image_dimensions_too_large" },
  };
  const headers = { "content-type": "application/json", "request-id": "req_failed", ...later(status), ...more };
  response.writeHead(status, headers).end(JSON.stringify({ type: "error", error, request_id: "req_failed" }));
}

/** When to try again, as a provider says it. */
const later = (status: number): Record<string, string> =>
  status === 429 ? { "retry-after": "7", "retry-after-ms": "7001" } : status === 503 ? { "retry-after": "3" } : {};

/** Writes a stream of events in pieces that are cut anywhere, also within characters; returns whether it can go on. */
async function write(response: ServerResponse, events: string) {
  const bytes = Buffer.from(events);
  for (let at = 0, size = 7; at < bytes.length && !response.destroyed; at += size, size = (size * 31) % 4099) {
    response.write(bytes.subarray(at, at + size));
    await turn();
  }
  return !response.destroyed;
}

type Endpoint = (call: Recorded, response: ServerResponse, word: string, number: number) => void | Promise<void>;

/** Sends events, and what the word wants of a stream: an endless one, one that breaks off, one with an error. */
async function stream(response: ServerResponse, word: string, events: string[], error: string) {
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache" });
  const first = events.slice(0, 4).join("");
  if (word === "early-error") return void response.end(error);
  if (word === "late-error") {
    await write(response, first);
    // Otherwise it may be read together with what came before it.
    await pause(250);
    return void response.end(error);
  }
  if (word === "cut")
    return void ((await write(response, first)) && response.write("data: {", () => response.destroy()));
  if (word === "endless") {
    response.write(first);
    while (await write(response, events[3]!)) await pause(5, undefined, { ref: false });
    return;
  }
  if (await write(response, events.join(""))) response.end();
}

// OpenAI's chat.

const openaiUsage = {
  prompt_tokens: 1_019,
  completion_tokens: 110,
  total_tokens: 1_129,
  prompt_tokens_details: { cached_tokens: 1_000, audio_tokens: 0 },
  completion_tokens_details: {
    reasoning_tokens: 64,
    audio_tokens: 0,
    accepted_prediction_tokens: 0,
    rejected_prediction_tokens: 0,
  },
};
const calling = (number: number, name: string, value: object) => ({
  id: `call_${number}`,
  type: "function",
  function: { name, arguments: JSON.stringify(value) },
});
const weather = calling(1, "get_weather", { city: "Zürich", error: { usage: null } });
const time = calling(2, "get_time", { zone: "Europe/Zurich", "[DONE]": true });

/** What a chat says: its texts, or its calls of tools. */
function said(word: string, n: number): { contents: string[]; calls: object[] } {
  if (word === "tools") return { contents: [], calls: [weather] };
  if (word === "parallel") return { contents: [], calls: [weather, time] };
  if (word === "json")
    return { contents: [JSON.stringify({ city: "Zürich", degrees: -3.5, tags: ["a", "b"] })], calls: [] };
  return { contents: Array.from({ length: n }, (_, index) => (index ? `${index}: ${text}` : text)), calls: [] };
}

const chat: Endpoint = (call, response, word, number) => {
  const { contents, calls } = said(word, call.json.n ?? 1);
  if (call.json.stream) return stream(response, word, chunks(call, word, number), openaiStreamError);
  const choice = (message: object, index: number, finish_reason: string) => ({
    index,
    message: { role: "assistant", ...message, refusal: null, annotations: [] },
    logprobs: null,
    finish_reason,
  });
  const choices = calls.length
    ? [choice({ content: null, tool_calls: calls }, 0, "tool_calls")]
    : contents.map((content, index) => choice({ content }, index, "stop"));
  const whole = { ...chatHead(call, "chat.completion"), choices, usage: openaiUsage, service_tier: "default" };
  return word === "zipped" ? zipped(whole, response) : json(whole)(call, response);
};
const chatHead = (call: Recorded, object: string) => ({
  id: "chatcmpl-1",
  object,
  created: 1_767_225_600,
  model: providerNames.small,
  system_fingerprint: "fp_1",
});
const openaiStreamError = `data: ${JSON.stringify({
  error: { message: "The server had an error.", type: "server_error", param: null, code: null },
})}\n\n`;

function zipped(value: object, response: ServerResponse) {
  response.writeHead(200, { "content-type": "application/json", "content-encoding": "gzip" });
  response.end(gzipSync(JSON.stringify(value)));
}

/** The events of a streamed chat. With usage asked for, every chunk has the member. */
function chunks(call: Recorded, word: string, number: number): string[] {
  const asksUsage = call.json.stream_options?.include_usage === true;
  const chunk = (choices: object[], usage: object | null = null) =>
    `data: ${JSON.stringify({
      ...chatHead(call, "chat.completion.chunk"),
      service_tier: "default",
      choices,
      ...(asksUsage && { usage }),
    })}\n\n`;
  const delta = (delta: object, index = 0, finish_reason: string | null = null) =>
    chunk([{ index, delta, logprobs: null, finish_reason }]);
  const { contents, calls } = said(word, call.json.n ?? 1);
  const texts =
    word === "many" ? [Array.from({ length: number }, (_, at) => `${at} `)] : contents.map((one) => pieces(one));
  const indexes = calls.length ? [0] : texts.map((_, index) => index);
  return [
    ": the provider is thinking\n\n",
    ...indexes.map((index) => delta({ role: "assistant", content: calls.length ? null : "", refusal: null }, index)),
    ...interleaved(texts.map((texts, index) => texts.map((content) => delta({ content }, index)))),
    ...interleaved(calls.map((call, index) => callDeltas(call, index).map((one) => delta({ tool_calls: [one] })))),
    ...indexes.map((index) => delta({}, index, calls.length ? "tool_calls" : "stop")),
    ...(asksUsage ? [chunk([], openaiUsage)] : []),
    "data: [DONE]\n\n",
  ];
}

function callDeltas(call: any, index: number): object[] {
  const { name, arguments: text } = call.function;
  const first = { index, id: call.id, type: "function", function: { name, arguments: "" } };
  return [first, ...pieces(text).map((piece) => ({ index, function: { arguments: piece } }))];
}

/** One of each list after the other. */
function interleaved<T>(lists: T[][]): T[] {
  const longest = Math.max(0, ...lists.map((list) => list.length));
  return Array.from({ length: longest }, (_, at) => lists.flatMap((list) => list.slice(at, at + 1))).flat();
}

const embeddings: Endpoint = (call, response) => {
  const texts: string[] = [call.json.input].flat();
  const vector = (index: number) => Float32Array.from({ length: 64 }, (_, at) => (index + at) / 128);
  const data = texts.map((_, index) => ({
    object: "embedding",
    index,
    embedding:
      call.json.encoding_format === "base64"
        ? Buffer.from(vector(index).buffer).toString("base64")
        : Array.from(vector(index)),
  }));
  const usage = { prompt_tokens: 3 * texts.length, total_tokens: 3 * texts.length };
  json({ object: "list", data, model: "embedding-2026", usage })(call, response);
};

// OpenAI's responses.

const responsesUsage = {
  input_tokens: 21,
  input_tokens_details: { cached_tokens: 5 },
  output_tokens: 30,
  output_tokens_details: { reasoning_tokens: 12 },
  total_tokens: 51,
};

const responses: Endpoint = (call, response, word) => {
  if (call.json.stream) {
    const events = responseEvents(call, word);
    return stream(response, word, word === "early-failure" ? events.slice(-1) : events, responseStreamError);
  }
  const output = word === "tools" ? [callItem("completed")] : [messageItem(textOf(word))];
  return json(responseOf(call, { status: "completed", output, usage: responsesUsage }))(call, response);
};
const responseStreamError = `event: error\ndata: ${JSON.stringify({
  type: "error",
  code: "server_error",
  message: "The server had an error.",
  param: null,
  sequence_number: 4,
})}\n\n`;
const textOf = (word: string) =>
  word === "json" ? said("json", 1).contents[0]! : word === "delta" ? "Call it.delta" : text;
const messageItem = (text: string) => ({
  id: "msg_1",
  type: "message",
  status: "completed",
  role: "assistant",
  content: [{ type: "output_text", text, annotations: [], logprobs: [] }],
});
const callItem = (status: string, text: string = weather.function.arguments) => ({
  id: "fc_1",
  type: "function_call",
  status,
  call_id: "call_1",
  name: weather.function.name,
  arguments: text,
});
const responseOf = (call: Recorded, more: object) => ({
  id: "resp_1",
  object: "response",
  created_at: 1_767_225_600,
  error: null,
  incomplete_details: null,
  instructions: null,
  model: providerNames.small,
  output: [],
  parallel_tool_calls: true,
  previous_response_id: null,
  service_tier: "default",
  // Clients that did not ask for it would see that nothing is stored: the one difference.
  store: true,
  text: call.json.text ?? { format: { type: "text" } },
  tools: call.json.tools ?? [],
  usage: null,
  ...more,
});

/** The events of a streamed response. */
function responseEvents(call: Recorded, word: string): string[] {
  const events: string[] = [];
  const add = (type: string, more: object) => {
    const data = JSON.stringify({ type, sequence_number: events.length, ...more });
    events.push(`event: ${type}\ndata: ${data}\n\n`);
  };
  const started = { response: responseOf(call, { status: "in_progress" }) };
  add("response.created", started);
  add("response.in_progress", started);
  const item = word === "tools" ? addCall(add) : addMessage(add, textOf(word));
  const status = word === "incomplete" ? "incomplete" : /^failed|failure$/.test(word) ? "failed" : "completed";
  const more = {
    incomplete_details: status === "incomplete" ? { reason: "max_output_tokens" } : null,
    error: status === "failed" ? { code: "server_error", message: "The model failed." } : null,
  };
  add(`response.${status}`, {
    response: responseOf(call, { status, output: [item], usage: responsesUsage, ...more }),
  });
  return events;
}
type Add = (type: string, more: object) => void;

function addMessage(add: Add, whole: string) {
  const place = { item_id: "msg_1", output_index: 0, content_index: 0 };
  const item = messageItem(whole);
  const part = item.content[0]!;
  add("response.output_item.added", { output_index: 0, item: { ...item, status: "in_progress", content: [] } });
  add("response.content_part.added", { ...place, part: { ...part, text: "" } });
  for (const delta of pieces(whole)) add("response.output_text.delta", { ...place, delta, logprobs: [] });
  add("response.output_text.done", { ...place, text: whole, logprobs: [] });
  add("response.content_part.done", { ...place, part });
  add("response.output_item.done", { output_index: 0, item });
  return item;
}

function addCall(add: Add) {
  const place = { item_id: "fc_1", output_index: 0 };
  const item = callItem("completed");
  add("response.output_item.added", { output_index: 0, item: callItem("in_progress", "") });
  for (const delta of pieces(item.arguments)) add("response.function_call_arguments.delta", { ...place, delta });
  add("response.function_call_arguments.done", { ...place, name: item.name, arguments: item.arguments });
  add("response.output_item.done", { output_index: 0, item });
  return item;
}

// Anthropic's messages.

const anthropicUsage = {
  input_tokens: 10,
  cache_creation_input_tokens: 300,
  cache_read_input_tokens: 8_000,
  cache_creation: { ephemeral_5m_input_tokens: 100, ephemeral_1h_input_tokens: 200 },
  output_tokens: 1,
  service_tier: "standard",
  inference_geo: "global",
};
const anthropicTotals = {
  input_tokens: 10,
  cache_creation_input_tokens: 300,
  cache_read_input_tokens: 8_000,
  output_tokens: 57,
};
const toolUse = {
  type: "tool_use",
  id: "toolu_1",
  name: "get_weather",
  input: { city: "Zürich", error: { usage: 1 } },
};
const otherToolUse = { type: "tool_use", id: "toolu_2", name: "get_time", input: { zone: "Europe/Zurich" } };

function blocks(word: string): any[] {
  const words = { type: "text", text };
  if (word === "tools") return [words, toolUse];
  if (word === "parallel") return [toolUse, otherToolUse];
  if (word === "thinking")
    return [
      { type: "thinking", thinking: `Hm. ${text}`, signature: "EqQBCgIYAhIM+/=" },
      { type: "redacted_thinking", data: "EmwKAhgBEgy3va3p" },
      words,
    ];
  if (word === "json") return [{ type: "text", text: said("json", 1).contents[0] }];
  return [words];
}

const messageHead = {
  id: "msg_1",
  type: "message",
  role: "assistant",
  model: providerNames.haiku,
  stop_sequence: null,
};
const stopReason = (word: string) => (["tools", "parallel"].includes(word) ? "tool_use" : "end_turn");

const messages: Endpoint = (call, response, word) => {
  response.setHeader("request-id", "req_of_the_provider");
  if (call.json.stream) return stream(response, word, messageEvents(word), anthropicStreamError);
  const usage = { ...anthropicUsage, ...anthropicTotals };
  const whole = { ...messageHead, content: blocks(word), stop_reason: stopReason(word), usage };
  return json(whole)(call, response);
};
const anthropicStreamError = `event: error\ndata: ${JSON.stringify({
  type: "error",
  error: { type: "overloaded_error", message: "Overloaded", details: null },
  request_id: "req_failed",
})}\n\n`;

function messageEvents(word: string): string[] {
  const event = (type: string, more: object = {}) => `event: ${type}\ndata: ${JSON.stringify({ type, ...more })}\n\n`;
  const start = { ...messageHead, content: [], stop_reason: null, usage: anthropicUsage };
  return [
    event("message_start", { message: start }),
    event("ping"),
    ...blocks(word).flatMap((block, index) => {
      const [empty, deltas] = parts(block);
      return [
        event("content_block_start", { index, content_block: empty }),
        ...deltas.map((delta) => event("content_block_delta", { index, delta })),
        event("content_block_stop", { index }),
      ];
    }),
    event("message_delta", {
      delta: { stop_reason: stopReason(word), stop_sequence: null },
      usage: anthropicTotals,
    }),
    event("message_stop"),
  ];
}

/** A content block as it begins, and what comes of it. */
function parts(block: any): [object, object[]] {
  switch (block.type) {
    case "text":
      return [{ type: "text", text: "" }, pieces(block.text).map((text) => ({ type: "text_delta", text }))];
    case "thinking": {
      const deltas = pieces(block.thinking).map((thinking) => ({ type: "thinking_delta", thinking }));
      const signature = { type: "signature_delta", signature: block.signature };
      return [{ ...block, thinking: "", signature: "" }, [...deltas, signature]];
    }
    case "tool_use": {
      const whole = pieces(JSON.stringify(block.input));
      const deltas = ["", ...whole].map((partial_json) => ({ type: "input_json_delta", partial_json }));
      return [{ ...block, input: {} }, deltas];
    }
    default:
      return [block, []];
  }
}

const countTokens: Endpoint = (call, response) =>
  json({ input_tokens: 14 + call.json.messages.length })(call, response);

const endpoints: Record<string, Endpoint> = {
  "/v1/chat/completions": chat,
  "/v1/embeddings": embeddings,
  "/v1/responses": responses,
  "/v1/messages": messages,
  "/v1/messages/count_tokens": countTokens,
};

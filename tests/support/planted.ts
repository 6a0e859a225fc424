// Secrets planted wherever a request for a model, or a provider's response, can hold content; and the search for them.
import { randomBytes } from "node:crypto";
import type { ServerResponse } from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import { filesOf } from "./disk.ts";
import { type Handler, hang, json, reset } from "./service.ts";

/** In each secret of this process, and nowhere else. */
const MARK = `e${randomBytes(8).toString("hex")}`;

/** A secret for a place, by which a leak names its source. */
export const planted = (place: string): string => `planted-${place}-${MARK}`;

/** A picture: its bytes, and as requests hold it. */
const pictureBytes = randomBytes(3_000);
export const picture = pictureBytes.toString("base64");

/** What is searched for: the mark as it is, in capitals and in base64, and parts of the picture. */
const needles: Buffer[] = [
  MARK,
  MARK.toUpperCase(),
  // Wherever it begins in what is encoded, these characters do not depend on its neighbours.
  ...[0, 1, 2].map((lead) =>
    Buffer.from("x".repeat(lead) + MARK)
      .toString("base64")
      .slice(4, 20),
  ),
  picture.slice(100, 130),
].map((text) => Buffer.from(text));
needles.push(pictureBytes.subarray(300, 330));

/** What of a text or of bytes is around a secret in it; nothing if there is none. */
export function secretIn(where: string | Buffer): string | undefined {
  const bytes = Buffer.from(where);
  const at = needles.map((needle) => bytes.indexOf(needle)).find((at) => at >= 0);
  return at === undefined ? undefined : bytes.subarray(Math.max(0, at - 60), at + 40).toString("latin1");
}

/** The files of a folder that have a secret, with what is around it. */
export const filesWithSecrets = (folder: string): string[] =>
  filesOf(folder).flatMap(([name, bytes]) => {
    const found = secretIn(bytes);
    return found === undefined ? [] : [`${name}: ${found}`];
  });

/** Whether some file of a folder has this text. */
export const isOnDisk = (folder: string, text: string): boolean =>
  filesOf(folder).some(([, bytes]) => bytes.includes(text));

// Requests.

const schema = {
  type: "object",
  properties: { [planted("property")]: { type: "string", description: planted("schema") } },
};
const asked = JSON.stringify({ [planted("property")]: planted("asked") });

/** A request of Chat Completions; `more` may replace members. */
export const chatBody = (model: string, more: object = {}): object => ({
  model,
  messages: [
    { role: "system", content: planted("system") },
    {
      role: "user",
      content: [
        { type: "text", text: planted("prompt") },
        { type: "image_url", image_url: { url: `data:image/png;base64,${picture}` } },
      ],
    },
    {
      role: "assistant",
      content: null,
      tool_calls: [{ id: "call_1", type: "function", function: { name: "look", arguments: asked } }],
    },
    { role: "tool", tool_call_id: "call_1", content: planted("result") },
    { role: "user", content: planted("turn") },
  ],
  tools: [{ type: "function", function: { name: "look", description: planted("tool"), parameters: schema } }],
  ...more,
});

/** Members that only a provider of the same format knows. */
export const unknown = {
  user: planted("user"),
  prompt_cache_key: planted("cache-key"),
  metadata: { note: planted("metadata") },
  [planted("member")]: { deep: [planted("unknown")] },
};

/** A request of Messages. */
export const messageBody = (model: string, more: object = {}): object => ({
  model,
  max_tokens: 100,
  system: [{ type: "text", text: planted("system"), cache_control: { type: "ephemeral" } }],
  messages: [
    {
      role: "user",
      content: [
        { type: "image", source: { type: "base64", media_type: "image/png", data: picture } },
        { type: "text", text: planted("prompt") },
      ],
    },
    { role: "assistant", content: [{ type: "tool_use", id: "toolu_1", name: "look", input: JSON.parse(asked) }] },
    { role: "user", content: [{ type: "tool_result", tool_use_id: "toolu_1", content: planted("result") }] },
  ],
  tools: [{ name: "look", description: planted("tool"), input_schema: schema }],
  ...more,
});

/** A request of Responses. */
export const responseBody = (model: string, more: object = {}): object => ({
  model,
  instructions: planted("system"),
  input: [
    {
      role: "user",
      content: [
        { type: "input_text", text: planted("prompt") },
        { type: "input_image", image_url: `data:image/png;base64,${picture}` },
      ],
    },
    { type: "function_call", call_id: "call_1", name: "look", arguments: asked },
    { type: "function_call_output", call_id: "call_1", output: planted("result") },
  ],
  tools: [{ type: "function", name: "look", description: planted("tool"), parameters: schema, strict: false }],
  ...more,
});

// Providers.

const event = (data: object, name = "") => `${name && `event: ${name}\n`}data: ${JSON.stringify(data)}\n\n`;
const answered = {
  role: "assistant",
  content: planted("answer"),
  reasoning_content: planted("reasoning"),
  refusal: planted("refusal"),
  tool_calls: [
    {
      index: 0,
      id: planted("call-id"),
      type: "function",
      function: { name: "look", arguments: `{"q":"${planted("arguments")}"}` },
    },
  ],
};
const usage = { prompt_tokens: 100, completion_tokens: 20, total_tokens: 120 };
const named = { id: planted("id"), system_fingerprint: planted("fingerprint"), service_tier: planted("tier") };
const chunk = (delta: object, finish_reason: string | null = null) =>
  event({ ...named, choices: [{ index: 0, delta, finish_reason }] });
const deltas = Object.entries(answered).map(([name, value]) => chunk({ [name]: value }));
const refusal = (code: string, type = "invalid_request_error") => ({
  error: { message: `Not ${planted("words")}`, type, code, param: planted("param") },
});

async function begin(response: ServerResponse, events: string[]) {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.on("error", () => {});
  for (const one of events) await new Promise((written) => response.write(one, written));
}

const streams =
  (events: string[], last: string | null = ""): Handler =>
  async (_, response) => {
    await begin(response, events);
    if (last === null) return void response.destroy();
    // Otherwise it may be read together with what came before it.
    if (last !== "") await pause(20);
    response.end(last);
  };

/** Streams until its caller leaves. */
const lasts =
  (events: string[]): Handler =>
  async (_, response) => {
    await begin(response, events);
    while (!response.destroyed) {
      response.write(events.at(-1));
      await pause(25, undefined, { ref: false });
    }
  };

const FINISH = chunk({}, planted("finish")) + event({ ...named, choices: [], usage }) + "data: [DONE]\n\n";

/** What a provider of OpenAI's format does, by the model. */
export const openaiBehaviours: Record<string, Handler> = {
  completes: json({ ...named, choices: [{ index: 0, message: answered, finish_reason: planted("finish") }], usage }),
  embeds: json({
    object: "list",
    data: [{ index: 0, embedding: [0.5] }],
    note: planted("answer"),
    usage: { prompt_tokens: 3, total_tokens: 3 },
  }),
  streams: streams([...deltas, FINISH]),
  lasts: lasts(deltas),
  hangs: hang,
  stalls: async (_, response) => void (await begin(response, deltas)),
  breaks: streams(deltas, null),
  errs: streams(deltas, event({ error: { message: planted("words"), type: planted("type"), code: planted("code") } })),
  mutters: streams(deltas, `event: error\ndata: ${planted("words")}\n\n`),
  stumbles: streams([event({ error: { message: planted("words"), code: planted("code") } })]),
  cuts: reset,
  refuses: json(refusal("invalid_value"), 400),
  grumbles: (_, response) => void response.writeHead(400, { "content-type": "text/plain" }).end(planted("words")),
  locks: json(refusal("invalid_api_key"), 401),
  charges: json(refusal("billing"), 402),
  misses: json(refusal("model_not_found"), 404),
  limits: json(refusal("rate_limit_exceeded"), 429, { "retry-after": "1" }),
  overflows: json(refusal("context_length_exceeded"), 400),
  filters: json(refusal("content_filter"), 400),
  fails: json(refusal(planted("code"), planted("type")), 500),
  shows: (_, response) =>
    void response.writeHead(502, { "content-type": "text/html" }).end(`<p>${planted("page")}</p>`),
  babbles: (_, response) =>
    void response.writeHead(200, { "content-type": "text/html" }).end(`<p>${planted("page")}</p>`),
};

const block = (at: number, block: object, ...parts: object[]) => [
  event({ type: "content_block_start", index: at, content_block: block }, "content_block_start"),
  ...parts.map((delta) => event({ type: "content_block_delta", index: at, delta }, "content_block_delta")),
  event({ type: "content_block_stop", index: at }, "content_block_stop"),
];
const tokens = { input_tokens: 100, output_tokens: 20 };
const message = { id: planted("id"), type: "message", role: "assistant", model: "m", stop_sequence: planted("stop") };
const blocks = [
  event(
    { type: "message_start", message: { ...message, content: [], stop_reason: null, usage: tokens } },
    "message_start",
  ),
  ...block(
    0,
    { type: "thinking", thinking: "", signature: "" },
    { type: "thinking_delta", thinking: planted("reasoning") },
  ),
  ...block(1, { type: "text", text: "" }, { type: "text_delta", text: planted("answer") }),
  ...block(
    2,
    { type: "tool_use", id: planted("call-id"), name: "look", input: {} },
    { type: "input_json_delta", partial_json: `{"q":"${planted("arguments")}"}` },
  ),
];
const stopped =
  event({ type: "message_delta", delta: { stop_reason: "tool_use" }, usage: tokens }, "message_delta") +
  event({ type: "message_stop" }, "message_stop");
const problem = { type: "error", error: { type: "overloaded_error", message: planted("words") } };

/** What a provider of Anthropic's format does, by the model. */
export const anthropicBehaviours: Record<string, Handler> = {
  "says-whole": json({
    ...message,
    content: [{ type: "text", text: planted("answer") }],
    stop_reason: "end_turn",
    usage: tokens,
  }),
  "says-in-pieces": streams([...blocks, stopped]),
  "says-forever": lasts([
    ...blocks.slice(0, 3),
    event(
      { type: "content_block_delta", index: 0, delta: { type: "thinking_delta", thinking: planted("reasoning") } },
      "content_block_delta",
    ),
  ]),
  "says-error": streams(blocks, event(problem, "error")),
  "says-half": streams(blocks, null),
  "says-no": json({ type: "error", error: { type: "invalid_request_error", message: planted("words") } }, 400),
  "says-later": json(problem, 529),
  counts: json({ input_tokens: 7 }),
};

// Streams of Chat Completions as providers in use send them, each with an oddity, and what the provider means by it.
import type { Handler } from "./service.ts";

/** A piece that is written by itself: text, bytes, a text that repeats with its number for `$i`, or a cut. */
export type Part = string | Uint8Array | { repeat: number; text: string };
/** Cuts the connection. */
const TEAR = "destroy";

export type ToolCall = { id: string; name: string; arguments: string };

/** What a response says, in whatever format. */
export type Meaning = {
  thinking?: string;
  text?: string;
  calls?: ToolCall[];
  /** The finish reason of the provider, as its format names it. */
  finish: "stop" | "length" | "tool_calls" | "content_filter";
  /** Input and output tokens, if the provider reports them. */
  usage?: [input: number, output: number];
};

/** How a response fails. */
export type Failure = {
  /** The status, if it fails before its first piece. */
  status?: number;
  /** The provider's own words; none if the gateway has to find some. */
  words?: string;
  /** The gateway adds an error at the end: the provider only stops. */
  isCut?: boolean;
  /** What of the pieces passes, if not all of it. */
  passes?: string;
  code?: string;
};

export type OddStream = {
  /** As a part of the names of tests. */
  name: string;
  parts: Part[];
  /** The content type; `text/event-stream` by default. */
  type?: string;
  means?: Meaning;
  fails?: Failure;
};

const bytesOf = (part: Part): Buffer[] => {
  if (part === TEAR) return [];
  if (typeof part === "string") return [Buffer.from(part)];
  if (part instanceof Uint8Array) return [Buffer.from(part)];
  return Array.from({ length: part.repeat }, (_, at) => Buffer.from(part.text.replaceAll("$i", String(at))));
};

/** All that a stream sends. */
export const sentBy = ({ parts }: OddStream): Buffer => Buffer.concat(parts.flatMap(bytesOf));

/** Sends a stream, piece by piece. */
export const sending =
  (stream: OddStream): Handler =>
  async (_, response) => {
    response.writeHead(200, { "content-type": stream.type ?? "text/event-stream" });
    response.on("error", () => {});
    for (const part of stream.parts) {
      for (const bytes of bytesOf(part)) {
        await new Promise<unknown>((written) => response.write(bytes, written));
        if (response.destroyed) return;
      }
      if (part === TEAR) return void response.destroy();
    }
    response.end();
  };

const event = (data: unknown) => `data: ${JSON.stringify(data)}\n\n`;
const head = { id: "chatcmpl-1", object: "chat.completion.chunk", created: 1, model: "m" };
const choice = (delta: object, finish_reason: string | null = null, more: object = {}) => ({
  ...head,
  choices: [{ index: 0, finish_reason, delta, ...more }],
});
const chunk = (delta: object, finish: string | null = null, more: object = {}) =>
  event({ ...choice(delta, finish), ...more });
const say = (content: unknown) => chunk({ content });
const call = (given: object) => chunk({ tool_calls: [{ index: 0, ...given }] });

const START = chunk({ role: "assistant", content: "" });
const HI = say("Hi");
const STOP = chunk({}, "stop");
const DONE = "data: [DONE]\n\n";
const CALLED = chunk({}, "tool_calls");
const tokens = (prompt_tokens: number, completion_tokens: number) => ({
  usage: { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens },
});
const USAGE = event({ ...head, choices: [], ...tokens(12, 3) });
const framed = (change: (text: string) => string) => [START, HI, STOP, DONE].map(change);
const hi: Meaning = { text: "Hi", finish: "stop" };
const calc = { id: "call_1", name: "calc", arguments: '{"a":1}' };
const calls = (...calls: ToolCall[]): Meaning => ({ calls, finish: "tool_calls" });

/** A chunk of today's usual size. */
const LONG = event({
  id: `chatcmpl-${"0".repeat(27)}`,
  object: "chat.completion.chunk",
  created: 1_700_000_000,
  model: "a-model-with-a-usual-name",
  service_tier: "default",
  system_fingerprint: "fp_0000000000",
  choices: [{ index: 0, delta: { content: " w$i" }, logprobs: null, finish_reason: null }],
  obfuscation: "abcdefg",
});
const longText = Array.from({ length: 3_600 }, (_, at) => ` w${at}`).join("");
/** A character of four bytes, in two pieces. */
const [halfOfIt, restOfIt] = ((bytes) => {
  const at = bytes.indexOf(0xf0) + 2;
  return [bytes.subarray(0, at), bytes.subarray(at)];
})(Buffer.from(say("Hi 👋")));
const mebibyte = "y".repeat(1024 * 1024);
const thinking = (text: string) => say([{ type: "thinking", thinking: [{ type: "text", text }] }]);
/** A chunk that has all so far as `message`, too. */
const both = (all: string, content: string, finish: string | null = null) =>
  event(choice({ role: "assistant", content }, finish, { message: { role: "assistant", content: all } }));

export const oddStreams: OddStream[] = [
  {
    name: "that_is_ordinary",
    parts: [START, say("Hel"), say("lo"), STOP, USAGE, DONE],
    means: { text: "Hello", finish: "stop", usage: [12, 3] },
  },
  {
    name: "of_3600_large_chunks",
    parts: [START, { repeat: 3_600, text: LONG }, STOP, DONE],
    means: { text: longText, finish: "stop" },
  },
  {
    name: "with_a_string_of_a_mebibyte",
    parts: [START, say(mebibyte), STOP, DONE],
    means: { text: mebibyte, finish: "stop" },
  },
  // Padding is a member of the chunk, not of the response.
  {
    name: "with_padding_in_each_chunk",
    parts: [
      chunk({ content: "a" }, null, { obfuscation: "XYZ" }),
      chunk({ content: "b" }, null, { obfuscation: "Q" }),
      chunk({}, "stop", { obfuscation: "LAST" }),
      DONE,
    ],
    means: { text: "ab", finish: "stop" },
  },
  {
    name: "with_events_without_data",
    parts: [START, "data: \n\n", HI, "event: keepalive\ndata:\n\n", STOP, DONE],
    means: hi,
  },
  {
    name: "with_comments_and_pings",
    parts: [
      ": hello\n\n",
      START,
      HI,
      'event: ping\ndata: {"type": "ping"}\n\n',
      "event: ping\ndata: ping\n\n",
      STOP,
      DONE,
    ],
    means: hi,
  },
  { name: "whose_last_chunk_has_no_line_end", parts: [START, HI, STOP.trimEnd()], means: hi },
  { name: "without_an_end_marker", parts: [START, HI, STOP], means: hi },
  { name: "whose_end_marker_has_no_empty_line", parts: [START, HI, STOP, "data: [DONE]"], means: hi },
  { name: "without_a_blank_after_the_colon", parts: framed((text) => text.replace("data: ", "data:")), means: hi },
  { name: "with_a_byte_order_mark", parts: ["\ufeff", START, HI, STOP, DONE], means: hi },
  { name: "with_carriage_returns", parts: framed((text) => text.replaceAll("\n", "\r\n")), means: hi },
  {
    name: "with_events_of_several_lines",
    parts: framed((text) => text.replace('"choices"', '\ndata: "choices"')),
    means: hi,
  },
  { name: "as_plain_text", type: "text/plain; charset=utf-8", parts: [START, HI, STOP, DONE], means: hi },
  {
    name: "cut_within_a_character",
    parts: [START, halfOfIt!, restOfIt!, STOP, DONE],
    means: { text: "Hi 👋", finish: "stop" },
  },
  // Text that was cut off by a limit of tokens.
  {
    name: "with_half_a_character",
    parts: [START, say("cut X").replace("X", "\\ud83d"), chunk({}, "length"), DONE],
    means: { text: "cut \ufffd", finish: "length" },
  },
  {
    name: "with_an_empty_error_in_each_chunk",
    parts: [chunk({ content: "Hi" }, null, { error: "" }), chunk({}, "stop", { error: "" }), DONE],
    means: hi,
  },
  {
    name: "with_an_error_of_null_in_each_chunk",
    parts: [chunk({ content: "Hi" }, null, { error: null }), chunk({}, "stop", { error: null }), DONE],
    means: hi,
  },
  {
    name: "whose_finish_reason_is_empty_until_the_end",
    parts: [chunk({ content: "H" }, ""), chunk({ content: "i" }, ""), STOP, DONE],
    means: hi,
  },
  {
    name: "that_reports_usage_in_each_chunk",
    parts: [
      chunk({ content: "H" }, null, tokens(12, 1)),
      chunk({ content: "i" }, null, tokens(12, 2)),
      chunk({}, "stop", tokens(12, 3)),
      DONE,
    ],
    means: { ...hi, usage: [12, 3] },
  },
  {
    name: "with_usage_and_an_empty_finish_reason_in_each_chunk",
    parts: [
      chunk({ content: "H" }, "", tokens(12, 1)),
      chunk({ content: "i" }, "", tokens(12, 2)),
      chunk({}, "stop", tokens(12, 3)),
      DONE,
    ],
    means: { ...hi, usage: [12, 3] },
  },
  // The new piece as `delta`, and all so far as `message`.
  {
    name: "with_message_and_delta",
    parts: [
      both("Grass", "Grass"),
      both("Grass is", " is"),
      both("Grass is green", " green"),
      both("Grass is green", "", "stop"),
      DONE,
    ],
    means: { text: "Grass is green", finish: "stop" },
  },
  {
    name: "whose_content_is_a_list_of_thinking",
    parts: [START, thinking("Hm"), thinking(", so"), say("Hello"), say("!"), STOP, DONE],
    means: { thinking: "Hm, so", text: "Hello!", finish: "stop" },
  },
  {
    name: "with_a_call_and_no_content",
    parts: [
      chunk({
        role: "assistant",
        tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: "calc", arguments: "{}" } }],
      }),
      CALLED,
      DONE,
    ],
    means: calls({ ...calc, arguments: "{}" }),
  },
  {
    name: "whose_later_pieces_of_a_call_have_an_empty_id_and_name",
    parts: [
      START,
      call({ id: "call_1", type: "function", function: { name: "calc", arguments: "{" } }),
      call({ id: "", type: "function", function: { name: "", arguments: '"a":' } }),
      call({ id: "", type: "function", function: { name: "", arguments: "1}" } }),
      CALLED,
      DONE,
    ],
    means: calls(calc),
  },
  {
    name: "that_repeats_the_name_in_each_piece_of_a_call",
    parts: [
      START,
      ...["{", '"a":', "1}"].map((text) =>
        call({ id: "call_1", type: "function", function: { name: "calc", arguments: text } }),
      ),
      CALLED,
      DONE,
    ],
    means: calls(calc),
  },
  {
    name: "whose_two_calls_have_the_same_index",
    parts: [
      START,
      call({ id: "call_1", type: "function", function: { name: "weather", arguments: '{"city":"A"}' } }),
      call({ id: "call_2", type: "function", function: { name: "clock", arguments: '{"city":"B"}' } }),
      CALLED,
      DONE,
    ],
    means: calls(
      { id: "call_1", name: "weather", arguments: '{"city":"A"}' },
      { id: "call_2", name: "clock", arguments: '{"city":"B"}' },
    ),
  },
];

const cut: Failure = { isCut: true };

export const failingStreams: OddStream[] = [
  {
    name: "that_is_cut_and_has_empty_finish_reasons",
    parts: [chunk({ role: "assistant", content: "Half" }, ""), chunk({ content: " of" }, "")],
    fails: cut,
  },
  {
    name: "that_is_cut_and_reports_usage_in_each_chunk",
    parts: [chunk({ content: "Half" }, "", tokens(12, 1)), chunk({ content: " of" }, "", tokens(12, 2))],
    fails: cut,
  },
  { name: "that_is_torn", parts: [chunk({ content: "Hal" }), TEAR], fails: cut },
  {
    name: "that_is_torn_within_an_event",
    parts: [HI, say("there").slice(0, 40), TEAR],
    fails: { ...cut, passes: HI },
  },
  { name: "that_is_nothing_but_its_end", parts: [DONE], fails: { status: 502, code: "upstream_invalid_response" } },
  { name: "that_is_empty", parts: [], fails: { status: 502, code: "upstream_invalid_response" } },
  {
    name: "that_begins_with_an_error_without_the_member_error",
    parts: [
      event({ object: "error", message: "longer than 4096 tokens", type: "BadRequestError", param: null, code: 400 }),
      DONE,
    ],
    fails: { status: 400, words: "longer than 4096 tokens" },
  },
  {
    name: "that_begins_with_an_error",
    parts: [event({ error: { message: "too busy now", type: "server_error", code: 503 } }), DONE],
    fails: { status: 500, words: "too busy now" },
  },
  {
    name: "that_ends_with_an_error_in_plain_text",
    parts: [START, HI, "event: error\ndata: too busy now\n\n"],
    fails: { words: "too busy now" },
  },
  {
    name: "with_an_error_of_the_request_in_its_middle",
    parts: [
      START,
      HI,
      event({ error: { message: "longer than the model takes", type: "invalid_request_error", code: 400 } }),
      DONE,
    ],
    fails: { words: "longer than the model takes" },
  },
  {
    name: "that_ends_with_an_error_without_the_member_error",
    parts: [
      START,
      HI,
      event({ object: "error", message: "the worker died", type: "InternalServerError", code: 500 }),
      DONE,
    ],
    fails: { words: "the worker died" },
  },
];

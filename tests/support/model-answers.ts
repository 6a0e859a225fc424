// What a response of a model says, whichever format it has.
import type Anthropic from "@anthropic-ai/sdk";
import type { Meaning } from "./odd-streams.ts";

/** What a message says. */
export function saidByMessage({ content, stop_reason, usage }: Anthropic.Message): Meaning {
  const joined = (type: string) => content.flatMap((block: any) => (block.type === type ? [block[type]] : [])).join("");
  const uses = content.filter((block) => block.type === "tool_use");
  const finish = { end_turn: "stop", max_tokens: "length", tool_use: "tool_calls" } as Record<
    string,
    Meaning["finish"]
  >;
  return {
    thinking: joined("thinking"),
    text: joined("text"),
    calls: uses.map(({ id, name, input }) => ({ id, name, arguments: JSON.stringify(input) })),
    finish: finish[stop_reason ?? ""]!,
    usage: [usage.input_tokens, usage.output_tokens],
  };
}

/** What a response of the Responses API says. */
export function saidByResponse({ output, incomplete_details, usage }: any): Meaning {
  const of = (type: string) => output.filter((item: any) => item.type === type);
  const joined = (parts: any[]) => parts.map((part) => part.text).join("");
  const calls = of("function_call").map((call: any) => ({
    id: call.call_id,
    name: call.name,
    arguments: call.arguments,
  }));
  const isCut = incomplete_details?.reason === "max_output_tokens";
  return {
    thinking: joined(of("reasoning").flatMap((item: any) => item.summary)),
    text: joined(of("message").flatMap((item: any) => item.content)),
    calls,
    finish: isCut ? "length" : calls.length > 0 ? "tool_calls" : "stop",
    ...(usage && { usage: [usage.input_tokens, usage.output_tokens] as [number, number] }),
  };
}

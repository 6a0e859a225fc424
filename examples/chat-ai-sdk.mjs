// A chat through the gateway with Vercel's AI SDK: only the base URL and the key are the gateway's.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { streamText } from "ai";

const narthex = createOpenAICompatible({
  name: "narthex",
  baseURL: `${process.env.NARTHEX}/v1`,
  apiKey: process.env.KEY ?? "",
  includeUsage: true,
  supportsStructuredOutputs: true,
});
// Errors come as parts of the stream; without `onError` they would also be printed.
const { fullStream } = streamText({ model: narthex("demo"), prompt: "Good morning", onError() {} });
for await (const part of fullStream) {
  if (part.type === "error") throw part.error;
  if (part.type === "text-delta") process.stdout.write(part.text);
}
console.log();

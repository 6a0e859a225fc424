// A chat through the gateway with Anthropic's library: only the base URL and the key are the gateway's.
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: process.env.NARTHEX, apiKey: process.env.KEY });
const message = await client.messages.create({
  model: "demo",
  max_tokens: 200,
  messages: [{ role: "user", content: "Good morning" }],
});
for (const block of message.content) if (block.type === "text") console.log(block.text);

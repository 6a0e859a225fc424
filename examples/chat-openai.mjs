// A chat through the gateway with OpenAI's library: only the base URL and the key are the gateway's.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.env.NARTHEX}/v1`, apiKey: process.env.KEY });
const stream = await client.chat.completions.create({
  model: "demo",
  messages: [{ role: "user", content: "Good morning" }],
  stream: true,
});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta.content ?? "");
console.log();

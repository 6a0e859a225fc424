// A chat through the gateway with LangChain: only the base URL and the key are the gateway's.
import { ChatOpenAI } from "@langchain/openai";

const model = new ChatOpenAI({
  model: "demo",
  apiKey: process.env.KEY,
  configuration: { baseURL: `${process.env.NARTHEX}/v1` },
});
for await (const piece of await model.stream("Good morning")) process.stdout.write(piece.text);
console.log();

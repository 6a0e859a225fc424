// With a client from @hey-api/openapi-ts: registers the service at SERVICE, runs a context and watches its events.
//
//   npx @hey-api/openapi-ts -i "$NARTHEX/openapi.json" -o narthex
import { createContext, getContext, putService, streamEvents } from "./narthex/index.ts";
import { client } from "./narthex/client.gen.ts";

const { NARTHEX, KEY, SERVICE } = process.env as Record<string, string>;
client.setConfig({ baseUrl: NARTHEX!, auth: () => KEY! });

const registered = await putService({
  path: { id: "words-hey" },
  body: {
    name: "Words",
    type: "tool",
    transport: { kind: "http", url: SERVICE! },
    capabilities: [{ name: "word_count" }],
  },
});
if (registered.error) throw new Error(registered.error.detail);

const made = await createContext({
  headers: { Prefer: "respond-async" },
  body: { capability: "word_count", service: "words-hey", parameters: { text: "one front door" } },
});
if (made.error) throw new Error(`${made.error.code}: ${made.error.detail}`);
const { id } = made.data;

const { data: ended } = await getContext({ path: { id }, headers: { Prefer: "wait=10" } });
console.log(ended?.status, JSON.stringify(ended?.result));

// All its events, from the beginning of the log, as a stream. The operation has two response types, of which the
// generator uses the page, so the stream is requested through the client itself.
const { stream } = await client.sse.get({
  url: "/v1/events",
  query: { subject: id, after: 0 },
  security: [{ scheme: "bearer", type: "http" }],
});
for await (const event of stream) {
  const { type } = event as { type: string };
  console.log(type);
  if (type === "context.completed") break;
}

const page = await streamEvents({ query: { subject: id }, headers: { Accept: "application/json" } });
console.log(page.data?.data.length);

const refused = await createContext({ body: { capability: "nothing_like_it" } });
console.log(refused.error?.code);
process.exit();

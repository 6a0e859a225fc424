// With types from openapi-typescript: registers the service at SERVICE, runs a context and reads its events.
//
//   npx openapi-typescript "$NARTHEX/openapi.json" -o narthex.d.ts
import createClient from "openapi-fetch";
import type { components, paths } from "./narthex.d.ts";

const { NARTHEX, KEY, SERVICE } = process.env as Record<string, string>;

// Responses and problems have different media types: naming both gives `data` and `error` their types.
const client = createClient<paths, "application/json" | "application/problem+json">({
  baseUrl: NARTHEX!,
  headers: { Authorization: `Bearer ${KEY}` },
});

const service: components["schemas"]["NewService"] = {
  name: "Words",
  type: "tool",
  transport: { kind: "http", url: SERVICE! },
  capabilities: [{ name: "word_count" }],
};
const registered = await client.PUT("/v1/services/{id}", { params: { path: { id: "words-fetch" } }, body: service });
if (registered.error) throw new Error(registered.error.detail);

const context = { capability: "word_count", service: "words-fetch", parameters: { text: "one front door" } };
const made = await client.POST("/v1/contexts", { params: { header: { Prefer: "respond-async" } }, body: context });
if (made.error) throw new Error(`${made.error.code}: ${made.error.detail}`);

const { data: ended } = await client.GET("/v1/contexts/{id}", {
  params: { path: { id: made.data.id }, header: { Prefer: "wait=10" } },
});
console.log(ended?.status, JSON.stringify(ended?.result));

const { data: events } = await client.GET("/v1/contexts/{id}/events", { params: { path: { id: made.data.id } } });
// A list is not a string; a stream of Server-Sent Events would be.
if (typeof events === "object") {
  for (const event of events.data) {
    if (event.type === "context.attempt") console.log(event.type, event.data.outcome);
    else console.log(event.type);
  }
}

const refused = await client.POST("/v1/contexts", { body: { capability: "nothing_like_it" } });
console.log(refused.error?.code);

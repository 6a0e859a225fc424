// Streams of one context end with the credentials they were opened with; the work continues.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accepted, makeKey, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { hang, type Service, startService } from "./support/service.ts";
import { openStream } from "./support/stream.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway();
  service = await startService(hang);
  await register(gateway, "worker", serviceAt(service.url, [{ timeout_seconds: 300, idempotent: true }]));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

/** Creates a context and listens to it; returns its id, and the text of the stream once it has ended. */
async function listen(
  key: string,
  headers: Record<string, string> = {},
): Promise<{ id: string; heard: Promise<string> }> {
  const response = await gateway.open("POST", "/v1/contexts", {
    key,
    headers: { accept: "text/event-stream", ...headers },
    body: { capability: "work" },
  });
  assert.equal(response.status, 200);
  return { id: response.headers.get("location")!.split("/").at(-1)!, heard: response.text() };
}

const ways: [string, (id: string) => Promise<unknown>][] = [
  ["is_revoked", (id) => gateway.request("DELETE", `/v1/keys/${id}`)],
  ["expires", (id) => gateway.request("POST", `/v1/keys/${id}/rotate`, { body: { overlap_seconds: 8 } })],
];

for (const [how, end] of ways) {
  test(`a_contexts_stream_of_events_ends_when_its_key_${how}`, async () => {
    const { id, secret: key } = await makeKey(gateway, "caller");
    const { id: context } = await accepted(gateway, {}, { key });
    if (how === "expires") await end(id);
    const stream = await openStream(gateway, { key, path: `/v1/contexts/${context}/events` });
    const other = await openStream(gateway, { path: `/v1/contexts/${context}/events` });
    if (how !== "expires") await end(id);
    await stream.ended;
    await gateway.request("POST", `/v1/contexts/${context}/cancel`);
    await other.next(({ type }) => type === "context.cancelled");
    other.close();
  });

  test(`a_stream_opened_with_the_context_ends_when_its_key_${how}`, async () => {
    const { id, secret: key } = await makeKey(gateway, "caller");
    // A rotation ends streams opened with the old secret.
    if (how === "expires") await end(id);
    const [first, second] = [await listen(key), await listen(key, { "idempotency-key": `of-${how}` })];
    const replayed = await listen(key, { "idempotency-key": `of-${how}` });
    const others = await listen(gateway.adminKey);
    if (how !== "expires") await end(id);
    for (const { id: context, heard } of [first, second, replayed]) {
      const text = await heard;
      assert.match(text, /event: context\n/);
      assert.ok(!text.includes("event: end"), text);
      const { json } = await gateway.request("GET", `/v1/contexts/${context}`);
      assert.ok(["executing", "queued"].includes(json.status), `the work continues: ${json.status}`);
    }
    // Two of them belong to one context.
    for (const { id: context } of [first, second, others])
      await gateway.request("POST", `/v1/contexts/${context}/cancel`);
    assert.match(await others.heard, /event: end\n/);
  });
}

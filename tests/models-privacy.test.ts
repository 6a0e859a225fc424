// With `content: none`, which is how models are called, nothing of a request or a response is kept or sent anywhere.
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { eventually, register } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Handler, json, reset, type Service, startService } from "./support/service.ts";

const SECRET = "planted-secret-7f3a9";

let gateway: Gateway;
let folder: string;
const services: Service[] = [];

const event = (value: unknown) => `data: ${JSON.stringify(value)}\n\n`;
const delta = (content: string) => event({ choices: [{ index: 0, delta: { content }, finish_reason: null }] });

/** What providers do: each of these has the secret wherever a provider can put it. */
const behaviours: Record<string, Handler> = {
  completes: json({ choices: [{ message: { content: SECRET }, finish_reason: "stop" }], usage: { prompt_tokens: 1 } }),
  refuses: json({ error: { message: `Bad value: ${SECRET}`, type: "invalid_request_error", code: "x" } }, 400),
  fails: json({ error: { message: SECRET, type: "server_error", code: SECRET } }, 500),
  cuts: reset,
  streams: async (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (let at = 0; at < 5; at++) response.write(delta(SECRET));
    response.end(`${event({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] })}data: [DONE]\n\n`);
  },
  breaks: async (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(delta(SECRET));
    await pause(10);
    response.destroy();
  },
  errs: async (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(delta(SECRET));
    await pause(10);
    response.end(event({ error: { message: SECRET, type: SECRET } }));
  },
  lasts: async (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (let at = 0; at < 100 && !response.destroyed; at++) {
      response.write(delta(SECRET));
      await pause(10);
    }
    response.end();
  },
};

before(async () => {
  gateway = await startGateway();
  folder = gateway.persist;
  const hook = await startService(json({}));
  services.push(hook);
  const webhook = { url: hook.url, types: ["context.*"] };
  assert.equal((await gateway.request("PUT", "/v1/webhooks/all", { body: webhook })).status, 201);
  for (const [name, handler] of Object.entries(behaviours)) {
    const provider = await startService(handler, { probe: json({ object: "list", data: [] }) });
    services.push(provider);
    await register(gateway, name, {
      name: "A provider",
      type: "llm",
      transport: { kind: "openai", url: `${provider.url}v1` },
      models: [{ id: name }],
    });
  }
});
after(async () => {
  await gateway?.stop();
  for (const service of services) await service.stop();
});

async function call(model: string, leaves: boolean): Promise<string> {
  const controller = new AbortController();
  const stream = !["completes", "refuses", "fails", "cuts"].includes(model);
  const response = await gateway.open("POST", "/v1/chat/completions", {
    body: { model, stream, messages: [{ role: "user", content: SECRET }], user: SECRET },
    signal: controller.signal,
  });
  if (leaves) {
    await response.body?.getReader().read();
    controller.abort();
  } else await response.text().catch(() => "");
  return response.headers.get("x-narthex-context") as string;
}

function* filesBelow(path: string): Generator<string> {
  for (const name of readdirSync(path)) {
    const inside = join(path, name);
    if (statSync(inside).isDirectory()) yield* filesBelow(inside);
    else yield inside;
  }
}

test("nothing_of_a_call_of_a_model_is_kept_or_sent", async () => {
  const ids: string[] = [];
  for (const model of Object.keys(behaviours))
    for (let round = 0; round < 5; round++) ids.push(await call(model, model === "lasts"));
  for (const id of ids) {
    const context = await eventually(async () => {
      const answer = await gateway.request("GET", `/v1/contexts/${id}`);
      return answer.status === 200 ? answer : undefined;
    });
    assert.equal(context.json.content, "none");
    assert.ok(!context.text.includes(SECRET), context.text);
  }
  for (const id of ids) {
    const events = await eventually(async () => {
      const answer = await gateway.request("GET", `/v1/contexts/${id}/events`);
      return answer.json.data.length >= 6 ? answer.text : undefined;
    });
    assert.ok(!events.includes(SECRET), events);
  }
  const hook = services[0] as Service;
  await eventually(() => hook.calls.length >= ids.length);
  assert.ok(hook.calls.every((sent) => !sent.raw.includes(SECRET)));
  assert.ok(!gateway.logs.join("\n").includes(SECRET));
  const files = [...filesBelow(folder)];
  assert.ok(
    files.some((file) => readFileSync(file).includes(ids[0] as string)),
    "the contexts are in some file",
  );
  for (const file of files) assert.ok(!readFileSync(file).includes(SECRET), file);
});

test("a_context_without_content_is_not_replayed", async () => {
  const id = await call("completes", false);
  await eventually(async () => (await gateway.request("GET", `/v1/contexts/${id}`)).status === 200);
  const replay = await gateway.request("POST", `/v1/contexts/${id}/replay`);
  assert.deepEqual([replay.status, replay.json.code], [422, "content_not_kept"]);
});

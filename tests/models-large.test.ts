// Large requests and responses of models: they pass without being held in the Worker's memory.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { eventually, register } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Handler, huge, json, type Service, startService } from "./support/service.ts";

const MIB = 1024 * 1024;

/** A server that tells of bytes as they arrive. */
async function startServer(arrived: (bytes: number) => void) {
  const server = createServer((request, response) => {
    request.on("data", (piece: Buffer) => arrived(piece.length));
    request.on("end", () => {
      response.writeHead(200, { "content-type": "application/json" });
      response.end('{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const stop = () => new Promise<unknown>((resolve) => server.closeAllConnections() ?? server.close(resolve));
  return { port: (server.address() as AddressInfo).port, stop };
}

let gateway: Gateway;
let provider: Service;

const usage = { prompt_tokens: 7, completion_tokens: 5, total_tokens: 12 };
const well: Handler = (call, response) =>
  json({ bytes: call.raw.length, choices: [{ message: { content: "Hi" }, finish_reason: "stop" }], usage })(
    call,
    response,
  );

before(async () => {
  gateway = await startGateway();
  provider = await startService(well, { probe: json({ object: "list", data: [] }) });
  await register(gateway, "llm", {
    name: "A provider",
    type: "llm",
    transport: { kind: "openai", url: `${provider.url}v1` },
    models: [{ id: "big", upstream: "a-model-with-a-longer-name" }],
  });
});
after(async () => {
  await gateway?.stop();
  await provider?.stop();
});

const head = '{"model":"big","stream":false,"messages":[{"role":"user","content":"';
const tail = '"}]}';
const body = (bytes: number) => head + "x".repeat(bytes - head.length - tail.length) + tail;

function post(content: BodyInit, headers: Record<string, string> = {}, path = "/v1/chat/completions") {
  return fetch(gateway.url + path, {
    method: "POST",
    headers: { authorization: `Bearer ${gateway.adminKey}`, "content-type": "application/json", ...headers },
    body: content,
    duplex: "half",
  } as RequestInit);
}

/** A body without a declared length. */
const chunked = (content: string) =>
  new ReadableStream({
    start(controller) {
      const bytes = Buffer.from(content);
      for (let at = 0; at < bytes.length; at += 300_000) controller.enqueue(bytes.subarray(at, at + 300_000));
      controller.close();
    },
  });

const digest = (content: string | Buffer) => createHash("sha256").update(content).digest("hex");
const renamed = (content: string) => content.replace('"big"', '"a-model-with-a-longer-name"');

for (const megabytes of [1, 5, 20])
  for (const declared of [true, false])
    test(`a_body_of_${megabytes}_mib_${declared ? "with" : "without"}_a_length_arrives_whole`, async () => {
      const content = `${body(megabytes * MIB)}\n `;
      const response = await post(declared ? content : chunked(content));
      assert.equal(response.status, 200, await response.clone().text());
      const call = provider.calls.at(-1);
      assert.equal(digest(call?.raw as Buffer), digest(renamed(content)));
      assert.equal(call?.headers["content-length"] !== undefined, declared || megabytes <= 4);
    });

test("members_that_decide_may_come_last_in_a_large_body", async () => {
  const late = `{"messages":"${"x".repeat(5 * MIB)}","stream":false,"model":"big"}`;
  assert.equal((await post(late)).status, 200);
  assert.equal(digest(provider.calls.at(-1)?.raw as Buffer), digest(renamed(late)));
});

test("a_large_body_is_sent_on_while_it_comes", async () => {
  let arrived = 0;
  const early = await startServer((bytes) => (arrived += bytes));
  await register(gateway, "early", {
    name: "A provider",
    type: "llm",
    transport: { kind: "openai", url: `http://127.0.0.1:${early.port}/v1` },
    models: [{ id: "early" }],
  });
  let finish = () => {};
  const waits = new Promise<void>((resolve) => (finish = resolve));
  const content = body(8 * MIB).replace('"big"', '"early"');
  const slow = new ReadableStream({
    async start(controller) {
      controller.enqueue(Buffer.from(content.slice(0, 6 * MIB)));
      await waits;
      controller.enqueue(Buffer.from(content.slice(6 * MIB)));
      controller.close();
    },
  });
  const response = post(slow);
  await eventually(() => arrived > 4 * MIB);
  finish();
  assert.equal((await response).status, 200);
  assert.equal(arrived, Buffer.byteLength(content));
  await early.stop();
});

test("bodies_that_are_sent_on_while_they_come_leave_room_for_others", async () => {
  const uploads = 12;
  let arrived = 0;
  const busy = await startServer((bytes) => (arrived += bytes));
  await register(gateway, "busy", {
    name: "A provider",
    type: "llm",
    transport: { kind: "openai", url: `http://127.0.0.1:${busy.port}/v1` },
    models: [{ id: "busy" }],
  });
  let finish = () => {};
  const waits = new Promise<void>((resolve) => (finish = resolve));
  const content = body(30 * MIB).replace('"big"', '"busy"');
  const slow = () =>
    new ReadableStream({
      async start(controller) {
        controller.enqueue(Buffer.from(content.slice(0, 5 * MIB)));
        await waits;
        controller.close();
      },
    });
  const sent = Array.from({ length: uploads }, () => post(slow()).catch((error: Error) => error));
  // Each has been sent on as far as it has come; their beginnings alone are all that may be held at once.
  await eventually(() => arrived > uploads * 4 * MIB);
  assert.equal((await post(body(20 * MIB))).status, 200);
  finish();
  await Promise.all(sent);
  await busy.stop();
});

test("a_body_beyond_the_bound_is_refused_in_the_format", async () => {
  const content = body(32 * MIB + 1);
  const declared = await post(content, {}, "/v1/messages").catch((error) => error);
  const read = await post(chunked(content)).catch((error) => error);
  for (const [response, type] of [
    [declared, "request_too_large"],
    [read, "invalid_request_error"],
  ]) {
    // The connection may be closed before all of the body was sent.
    if (response instanceof Error) continue;
    const refused = (await response.json()) as any;
    assert.deepEqual([response.status, refused.error.type], [413, type]);
  }
});

test("a_member_that_decides_twice_is_refused_before_the_last_byte_is_sent", async () => {
  const before = provider.calls.length;
  const doubled = body(6 * MIB).replace(/\}$/, ',"model":"other"}');
  const response = await post(doubled);
  assert.deepEqual([response.status, ((await response.json()) as any).error.param], [400, "model"]);
  await pause(100);
  // A call is recorded once its body is complete.
  assert.equal(provider.calls.length, before);
});

test("a_body_that_is_no_json_at_its_end_is_refused", async () => {
  const response = await post(`${body(6 * MIB)}}`);
  assert.equal(response.status, 400);
});

test("the_memory_of_the_worker_does_not_grow_with_bodies", async () => {
  const memory = () => {
    const lines = gateway.logs.flatMap((line) => line.split("\n")).filter((line) => line.includes("/v1/chat/"));
    return JSON.parse(lines.at(-1) as string).memory_bytes as number;
  };
  const measured: number[] = [];
  for (const bytes of [1024, MIB, 4 * MIB, 8 * MIB, 32 * MIB]) {
    const seen = gateway.logs.length;
    assert.equal((await post(body(bytes))).status, 200);
    await eventually(() => gateway.logs.length > seen);
    measured.push(memory());
  }
  assert.equal(measured.at(-1), measured[0], `${measured}`);
});

test("a_large_response_passes_as_it_comes", async () => {
  provider.handler = huge(20 * MIB);
  const response = await post('{"model":"big","input":["a"]}', {}, "/v1/embeddings");
  const bytes = Buffer.from(await response.arrayBuffer());
  assert.deepEqual([response.status, bytes.length], [200, 20 * MIB]);
  provider.handler = well;
});

test("what_is_held_at_once_is_bounded", async () => {
  const slow = (bytes: number) =>
    new ReadableStream({
      async start(controller) {
        controller.enqueue(Buffer.from(head));
        await pause(600);
        controller.enqueue(Buffer.from("x".repeat(bytes - head.length - tail.length) + tail));
        controller.close();
      },
    });
  const length = 3 * MIB;
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => post(slow(length), { "content-length": String(length) })),
  );
  const statuses = answers.map((answer) => answer.status);
  assert.ok(statuses.filter((status) => status === 200).length >= 10, `${statuses}`);
  const refused = answers.filter((answer) => answer.status === 503);
  assert.ok(refused.length > 0, `${statuses}`);
  assert.equal(refused[0]?.headers.get("retry-after"), "1");
  // Nothing is held any longer.
  assert.equal((await post(body(4 * MIB))).status, 200);
});

test("a_hundred_streams_at_once_pass_in_one_isolate", async () => {
  provider.handler = async (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (let at = 0; at < 50; at++) {
      response.write(`data: {"choices":[{"index":0,"delta":{"content":" w${at}"},"finish_reason":null}]}\n\n`);
      if (at % 10 === 0) await pause(5);
    }
    response.end('data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n');
  };
  const texts = await Promise.all(
    Array.from({ length: 100 }, async () => (await post('{"model":"big","stream":true,"messages":[]}')).text()),
  );
  assert.equal(new Set(texts).size, 1);
  assert.ok(texts[0]?.endsWith("data: [DONE]\n\n"));
  provider.handler = well;
});

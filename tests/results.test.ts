// Results of up to ten mebibytes: stored and returned in full by every route, and deleted with their context. A row
// holds two megabytes, so a large one is stored in pieces.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { accepted, create, ended, eventually, inThreeTries, refused, register, serviceAt } from "./support/arrange.ts";
import { databases } from "./support/disk.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { askModern, resultOf } from "./support/mcp.ts";
import { type Handler, json, type Recorded, type Service, startService, status } from "./support/service.ts";
import { openEvents } from "./support/socket.ts";
import { type SmallUpstream, startSmallUpstream } from "./support/upstream.ts";

const MIB = 1024 * 1024;
const MAX_RESULT_BYTES = 10 * MIB;
const folder = mkdtempSync(join(tmpdir(), "narthex-results-"));
const settings = {
  persist: folder,
  vars: {
    ADMIN_KEY: "a key that outlives the restart",
    CONTEXT_SHARDS: "1",
    CONTEXT_RETENTION_DAYS: "7",
    COUNT_COSTS: "true",
  },
};

let gateway: Gateway;
let service: Service;
let upstream: SmallUpstream;

const shape = { type: "object", required: ["text"], properties: { text: { type: "string" } } };
const deep = {
  ...shape,
  properties: { ...shape.properties, all: { type: "array", items: { type: ["object", "integer"] } } },
};

before(async () => {
  gateway = await startGateway(settings);
  service = await startService();
  const offers = [
    { idempotent: true },
    { name: "quick", durable: false },
    { name: "typed", output_schema: shape },
    { name: "deep", output_schema: deep },
  ];
  await register(
    gateway,
    "large",
    serviceAt(
      service.url,
      offers.map((offer) => ({ ...offer, timeout_seconds: 300 })),
    ),
  );
  upstream = await startSmallUpstream({ picture: { run: () => picture } });
  await register(gateway, "tools", { name: "Tools", type: "tool", transport: { kind: "mcp", url: upstream.url } });
});

after(async () => {
  await gateway?.stop();
  await service?.stop();
  await upstream?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** A string of exactly `bytes` bytes as JSON, with characters of one to four bytes and with escapes. */
function textOf(bytes: number): string {
  const units = ["plain ", "\\n", "é", "€", "🌊", '\\"', "x"];
  let text = "";
  for (let at = 0; text.length < 8192; at += 1) text += units[at % units.length];
  const size = Buffer.byteLength(text);
  const whole = text.repeat(Math.floor((bytes - 2) / size));
  return `"${whole}${"x".repeat(bytes - 2 - Buffer.byteLength(whole))}"`;
}

/** Responds with this text as its result, byte for byte. */
const gives =
  (result: string): Handler =>
  (_, response) => {
    const body = Buffer.from(`{"result":${result}}`);
    response.writeHead(200, { "content-type": "application/json", "content-length": String(body.length) }).end(body);
  };
const AROUND = '{"result":}'.length;
const largest = textOf(MAX_RESULT_BYTES - AROUND);
const picture = {
  content: [{ type: "image", data: Buffer.alloc(7 * MIB, 251).toString("base64"), mimeType: "image/png" }],
};

/** Asserts that a context has this result, byte for byte. */
function has(text: string, result: string, what = "the result"): void {
  const from = text.indexOf('"result":') + '"result":'.length;
  const given = text.slice(from, text.lastIndexOf("}"));
  assert.equal(given.length, result.length, what);
  assert.ok(given === result, `${what} differs`);
}

const waiting = { prefer: "wait=60" };
const asked = { timeout_seconds: 60 };

test("a_result_of_the_maximum_size_is_returned_byte_for_byte_everywhere", async () => {
  service.handler = gives(largest);
  const headers = { ...waiting, "idempotency-key": "once" };
  const made = await create(gateway, asked, { headers });
  assert.equal(made.status, 200, made.text.slice(0, 300));
  has(made.text, largest, "the answer");
  assert.equal(Number(made.headers.get("content-length")), Buffer.byteLength(made.text));
  const path = `/v1/contexts/${made.json.id}`;

  const read = await gateway.request("GET", path);
  has(read.text, largest, "what is read");
  assert.equal(Number(read.headers.get("content-length")), Buffer.byteLength(read.text));
  const again = await create(gateway, asked, { headers });
  assert.equal(again.headers.get("idempotency-replayed"), "true");
  has(again.text, largest, "the repeat");
  assert.equal(service.calls.length, 1);

  // Lists and events link to it, and do not contain it.
  const list = await gateway.request("GET", "/v1/contexts?limit=200");
  assert.ok(list.text.length < 100_000 && list.text.includes(made.json.id));
  const events = await gateway.request("GET", `${path}/events`);
  assert.equal(events.status, 200, events.text.slice(0, 300));
  const last = events.json.data.at(-1);
  assert.deepEqual([last.type, last.data.result, last.data.result_url], ["context.completed", undefined, path]);

  // From disk only.
  await gateway.stop();
  gateway = await startGateway(settings);
  has((await gateway.request("GET", path)).text, largest, "what is read after a restart");
  const tool = await askModern(gateway, "tools/call", {
    name: "context_result",
    arguments: { context_id: made.json.id },
  });
  assert.ok(resultOf(tool).structuredContent === JSON.parse(largest), "the tool's result differs");
});

test("a_result_that_is_a_byte_too_large_fails_and_is_reported", async () => {
  service.handler = gives(textOf(MAX_RESULT_BYTES - AROUND + 1));
  const { json: context } = await create(gateway, asked, { headers: waiting });
  assert.equal(context.error?.code, "upstream_invalid_response");
  assert.match(context.error.message, /larger than 10485760 bytes/);
  assert.equal(context.attempts.length, 1);
});

test("a_result_costs_one_row_per_piece", async () => {
  const rows = async () => (await gateway.request("GET", "/v1/costs", { contract: false })).json.rows_written.store;
  /** The rows once there are at least this many, and no more are written. */
  const settled = async (least: number) => {
    await eventually(async () => (await rows()) >= least);
    let before = await rows();
    await eventually(async () => {
      await new Promise((resolve) => setTimeout(resolve, 300));
      const now = await rows();
      const still = now === before;
      before = now;
      return still;
    });
    return before;
  };
  service.handler = gives("1");
  const before = await rows();
  await create(gateway, asked, { headers: waiting });
  await settled(before + 2);
  for (const [bytes, pieces] of [
    [100, 0],
    [MIB, 0],
    [MIB + 1, 2],
    [3 * MIB - 5, 3],
  ] as const) {
    const result = textOf(bytes);
    service.handler = gives(result);
    // An alarm that rings in between writes a row, and so does a reservation of event numbers.
    await inThreeTries(async () => {
      const before = await rows();
      const made = await create(gateway, asked, { headers: waiting });
      has(made.text, result, `${bytes} bytes`);
      has((await gateway.request("GET", `/v1/contexts/${made.json.id}`)).text, result, `${bytes} bytes, read`);
      return (await settled(before + 2 + pieces)) - before === 2 + pieces;
    });
  }
});

test("a_large_result_passes_through_the_queue_too", async () => {
  service.handler = gives(largest);
  const { id } = await accepted(gateway, { timeout_seconds: 120 });
  await ended(gateway, id);
  has((await gateway.request("GET", `/v1/contexts/${id}`)).text, largest);
});

test("a_large_result_of_a_non_durable_context_is_stored_in_full", async () => {
  const result = textOf(4 * MIB);
  service.handler = gives(result);
  const made = await create(gateway, { capability: "quick", ...asked }, { headers: waiting });
  has(made.text, result, "the answer");
  const read = await eventually(async () => {
    const answer = await gateway.request("GET", `/v1/contexts/${made.json.id}`);
    return answer.status === 200 ? answer : undefined;
  });
  has(read.text, result, "what is read");
});

test("a_stream_of_one_context_ends_with_its_large_result", async () => {
  service.handler = gives(largest);
  const stream = await gateway.open("POST", "/v1/contexts", {
    body: { capability: "work", ...asked },
    headers: { accept: "text/event-stream" },
  });
  const text = await stream.text();
  const end = text.split("\n\n").find((event) => event.startsWith("event: end\n"));
  assert.ok(end, text.slice(0, 300));
  has(end.slice("event: end\ndata: ".length), largest);
});

test("a_callback_may_have_a_large_result_but_not_one_that_is_too_large", async () => {
  service.handler = status(202);
  const calls = service.calls.length;
  const { id } = await accepted(gateway, asked);
  const call: Recorded = await service.call(calls);
  const { pathname } = new URL(call.json.callback_url);
  const say = (body: string) =>
    gateway.request("POST", pathname, { body, key: null, headers: { "content-type": "application/json" } });
  refused(await say(`{"result":${textOf(MAX_RESULT_BYTES - AROUND + 1)}}`), 413, "payload_too_large");
  const said = await say(`{"result":${largest}}`);
  assert.deepEqual([said.status, said.json], [200, { id, status: "completed" }]);
  has((await gateway.request("GET", `/v1/contexts/${id}`)).text, largest);
});

test("a_tool_of_an_mcp_server_returns_a_large_image", async () => {
  const called = await askModern(gateway, "tools/call", { name: "tools__picture", arguments: {} });
  const result = resultOf(called);
  assert.ok(result.content[0].data === picture.content[0]!.data, "the picture differs");
  const kept = await gateway.request("GET", `/v1/contexts/${result._meta["narthex/context"]}`);
  assert.ok(kept.json.result.content[0].data === picture.content[0]!.data, "the picture that is kept differs");
});

test("a_large_result_is_checked_against_its_schema_unless_it_has_too_many_parts", async () => {
  const text = "x".repeat(9 * MIB);
  service.handler = json({ result: { text } });
  const fits = await create(gateway, { capability: "typed", ...asked }, { headers: waiting });
  assert.equal(fits.json.status, "completed");
  service.handler = json({ result: { texts: text } });
  const other = await create(gateway, { capability: "typed", ...asked }, { headers: waiting });
  assert.equal(other.json.error.code, "upstream_invalid_response");
  assert.deepEqual(
    other.json.error.details.map((fault: any) => fault.pointer),
    ["#"],
  );
  service.handler = gives(`{"text":"a","all":[${'{"a":1},'.repeat(MIB)}1]}`);
  // A schema that checks only the top level needs no tree of the members.
  const shallow = await create(gateway, { capability: "typed", ...asked }, { headers: waiting });
  assert.equal(shallow.json.status, "completed");
  const many = await create(gateway, { capability: "deep", ...asked }, { headers: waiting });
  assert.equal(many.json.error.code, "upstream_invalid_response");
  assert.match(many.json.error.message, /too many parts/);
});

test("json_that_its_service_formatted_in_lines_is_one_event", async () => {
  const laid = '{\n  "text": "a\\nb",\r\n  "more": [\r    1\n  ]\n}';
  service.handler = gives(laid);
  const stream = await openEvents(gateway);
  const sse = await gateway.open("GET", "/v1/events", { headers: { accept: "text/event-stream" } });
  const reader = sse.body!.getReader();
  const made = await create(gateway, asked, { headers: waiting });
  has(made.text, laid);
  await stream.next((event) => event.type === "context.completed");
  stream.close();
  let text = "";
  while (!text.includes("context.completed")) text += new TextDecoder().decode((await reader.read()).value);
  await reader.cancel();
  const event = text.split("\n\n").find((event) => event.includes("context.completed"))!;
  const data = event.split("\n").filter((line) => line.startsWith("data: "));
  assert.equal(data.length, 1, event);
  assert.deepEqual(JSON.parse(data[0]!.slice(6)).data.result, JSON.parse(laid));
});

test("eight_of_the_largest_at_once_are_all_kept", async () => {
  service.handler = gives(largest);
  const made = await Promise.all(
    Array.from({ length: 8 }, () =>
      create(gateway, { timeout_seconds: 120 }, { headers: { prefer: "wait=110" }, contract: false }),
    ),
  );
  for (const answer of made) {
    assert.equal(answer.status, 200, answer.text.slice(0, 300));
    has(answer.text, largest);
  }
  const read = await Promise.all(
    made.map((answer) => gateway.request("GET", `/v1/contexts/${answer.json.id}`, { contract: false })),
  );
  for (const answer of read) has(answer.text, largest);
});

test("only_the_pieces_of_a_deleted_context_are_deleted", async () => {
  const result = textOf(2 * MIB + 7);
  service.handler = gives(result);
  const { id } = (await create(gateway, asked, { headers: waiting })).json;
  await gateway.stop();
  // As if they had been made 8 days ago, each with its pieces, and the hub had all their events: a key is 41 bits of
  // milliseconds and 22 of the id.
  const shift = String(-((8n * 86_400_000n) << 22n));
  let contexts = 0;
  databases(folder, "ContextStore", "pieces", (database) => {
    database.exec(`UPDATE pieces SET key = key + ${shift} WHERE key NOT IN (SELECT key FROM done WHERE id = '${id}')`);
    database.exec(`UPDATE done SET key = key + ${shift} WHERE id <> '${id}'`);
    database.exec("DELETE FROM live");
    contexts += Number(database.prepare("SELECT COUNT(*) AS n FROM done").get()!.n);
  });
  assert.ok(contexts > 10);
  gateway = await startGateway(settings);
  const left = () => {
    let [contexts, pieces] = [0, 0];
    databases(folder, "ContextStore", "pieces", (database) => {
      const count = (table: string) => Number(database.prepare(`SELECT COUNT(*) AS n FROM ${table}`).get()!.n);
      contexts += count("done");
      pieces += count("pieces");
    });
    return `${contexts} ${pieces}`;
  };
  // In several rounds, because so many pieces are much work. The ids have other dates, so no alarm is set for the rest.
  await eventually(async () => {
    await gateway.runCron();
    return left() === "1 3";
  }).catch((error) => assert.fail(`${left()}: ${error} ${gateway.logs.filter((line) => line.includes("sweep"))}`));
  has((await gateway.request("GET", `/v1/contexts/${id}`)).text, result);
});

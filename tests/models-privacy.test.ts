// With `content: none`, which is how models are called, nothing of a request or a response is kept or sent anywhere:
// secrets are planted in 1,000 calls of every kind, and searched for.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { create, eventually } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { chatBody, filesWithSecrets, isOnDisk, picture, planted, secretIn } from "./support/planted.ts";
import { kinds, makeCall, type Outcome, registerProviders } from "./support/private-calls.ts";
import { children } from "./support/processes.ts";
import { json, type Service, startService } from "./support/service.ts";
import { type Events, openEvents } from "./support/socket.ts";
import { openStream, type Stream } from "./support/stream.ts";

const CALLS = 1_000;
/** How many calls are made at once. */
const AT_ONCE = 24;
const ENDS = ["completed", "failed", "cancelled", "timed_out"].map((status) => `context.${status}`);

const folder = mkdtempSync(join(tmpdir(), "narthex-private-"));
const gateways: Gateway[] = [];
const watched: { socket: Events; stream: Stream }[] = [];
const outcomes: Outcome[] = [];
let gateway: Gateway;
/** The process of the gateway. */
let workerd: number;
let hook: Service;
let providers: Service[] = [];

async function start(): Promise<void> {
  const vars = { ADMIN_KEY: "a key that outlives the restart", CONTEXT_SHARDS: "1" };
  gateway = await startGateway({ persist: folder, vars, dataset: true, crashes: true });
  gateways.push(gateway);
  [workerd] = children(process.pid, "workerd") as [number];
  // Thousands of events: other tests check them against the contract.
  const socket = await openEvents(gateway, { contract: false });
  watched.push({ socket, stream: await openStream(gateway, { query: { types: ENDS.join() } }) });
}

before(async () => {
  hook = await startService(json({}));
  await start();
  const webhook = { url: hook.url, types: ENDS };
  assert.equal((await gateway.request("PUT", "/v1/webhooks/all", { body: webhook })).status, 201);
  providers = await registerProviders(gateway);
});
after(async () => {
  await gateway?.stop();
  for (const service of [hook, ...providers]) await service?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Makes so many calls, of one kind after the other. */
async function makeCalls(count: number): Promise<void> {
  let next = 0;
  const work = async () => {
    while (next < count) {
      const kind = kinds[next++ % kinds.length]!;
      const outcome = await makeCall(gateway, kind);
      const what = `kind ${kinds.indexOf(kind)}: ${outcome.status} ${outcome.text}`;
      assert.ok(kind.status.includes(outcome.status), what);
      if (kind.shows) assert.ok(secretIn(outcome.text), what);
      outcomes.push(outcome);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

/** Waits until all calls from this one on are recorded, and reads one record of each kind. */
async function allRecorded(from = 0): Promise<void> {
  const made = outcomes.slice(from).filter(({ context }) => context !== null);
  await eventually(async () => {
    const left = new Set(made.map(({ context }) => context));
    for (let cursor = ""; cursor !== null;) {
      const { json, text } = await gateway.request("GET", `/v1/contexts?limit=200${cursor && `&cursor=${cursor}`}`);
      assert.equal(secretIn(text), undefined);
      for (const { id } of json.data) left.delete(id);
      cursor = json.next_cursor;
    }
    return left.size === 0;
  });
  for (const { context } of new Map(made.map((outcome) => [outcome.kind, outcome])).values()) {
    const { text, json } = await gateway.request("GET", `/v1/contexts/${context}`);
    assert.deepEqual([json.content, secretIn(text)], ["none", undefined]);
  }
}

/** Makes calls that do not end by themselves, in the middle of their streams or without a response. */
async function callsInFlight(count: number): Promise<{ ended: Promise<unknown> }> {
  const bodies = ["lasts", "hangs"].map((model) => chatBody(model, { stream: true }));
  const earlier = providers[0]!.calls.length;
  const calls = Array.from({ length: count }, (_, at) =>
    gateway.open("POST", "/v1/chat/completions", { body: bodies[at % 2] }).then((response) => response.text()),
  );
  const ended = Promise.allSettled(calls);
  await eventually(() => providers[0]!.calls.length >= earlier + count);
  return { ended };
}

test("calls_of_every_kind_leave_nothing_on_disk", async () => {
  await makeCalls(CALLS / 2);
  await allRecorded();
  assert.deepEqual(filesWithSecrets(folder), []);
});

test("calls_whose_wasm_instance_panics_leave_nothing_on_disk_or_in_the_log", async () => {
  const { ended } = await callsInFlight(30);
  assert.equal((await gateway.request("POST", "/panic/worker", { contract: false })).status, 500);
  await ended;
  assert.deepEqual(filesWithSecrets(folder), []);
  assert.ok(gateway.logs.some((line) => line.startsWith("panicked at")));
  assert.equal(secretIn(gateway.logs.join("\n")), undefined);
});

test("calls_whose_process_is_killed_leave_nothing_on_disk", async () => {
  const made = outcomes.length;
  const { ended } = await callsInFlight(60);
  process.kill(workerd, "SIGKILL");
  await ended;
  assert.deepEqual(filesWithSecrets(folder), []);
  await gateway.stop();
  await start();
  await makeCalls(CALLS - made);
  await allRecorded(made);
  assert.deepEqual(filesWithSecrets(folder), []);
  assert.equal(outcomes.length, CALLS);
});

test("events_webhooks_logs_and_figures_have_no_secret", async () => {
  const last = await makeCall(gateway, kinds[0]!);
  const id = last.context;
  // The events of all calls come before its last one.
  const { socket, stream } = watched.at(-1)!;
  for (const watcher of [socket, stream])
    await watcher.next(({ type, subject }) => type === "context.completed" && subject === id);
  await eventually(() => hook.calls.some(({ json }) => json.subject === id && json.type === "context.completed"));
  const messages = watched.flatMap(({ socket, stream }) => [socket.messages, stream.events]);
  for (const events of messages) {
    assert.ok(events.length > CALLS / 4, `${events.length}`);
    assert.equal(secretIn(JSON.stringify(events)), undefined);
  }
  await eventually(() => hook.calls.length > CALLS / 2);
  for (const { raw, headers } of hook.calls)
    assert.equal(secretIn(raw) ?? secretIn(JSON.stringify(headers)), undefined);
  const logs = gateways.map((one) => one.logs.join("\n")).join("\n");
  assert.match(logs, /^point: /m);
  assert.match(logs, /"call failed"/);
  assert.equal(secretIn(logs), undefined);
  const groups = "group_by=service,capability,principal";
  const paths = [
    "/v1/contexts",
    "/v1/services",
    "/v1/model-routes",
    "/v1/models",
    "/v1/audit",
    `/v1/usage?${groups}`,
    "/metrics",
  ];
  for (const path of paths) {
    const { status, text } = await gateway.request("GET", path);
    assert.deepEqual([status, secretIn(text)], [200, undefined], path);
  }
});

test("calls_of_every_outcome_were_made", async () => {
  const { errors, ...counts } = (await gateway.request("GET", "/v1/usage")).json.data[0];
  for (const status of ["completed", "failed", "cancelled", "timed_out"]) assert.ok(counts[status] > 0, status);
  for (const code of [
    "cancelled",
    "deadline_exceeded",
    "service_unavailable",
    "upstream_error",
    "upstream_invalid_response",
    "upstream_timeout",
  ])
    assert.ok(errors[code] > 0, `${code} of ${JSON.stringify(errors)}`);
});

test("the_search_finds_content_that_is_kept", async () => {
  const parameters = chatBody("kept") as Record<string, unknown>;
  const { json: context, text } = await create(gateway, { capability: "chat", service: "well", parameters });
  assert.equal(context.status, "completed", text);
  assert.ok(secretIn(text), "in its response");
  await eventually(() => filesWithSecrets(folder).length > 0);
  for (const secret of [planted("prompt"), planted("answer"), picture.slice(100, 130)])
    assert.ok(isOnDisk(folder, secret), secret);
});

test("a_context_without_content_is_not_replayed", async () => {
  const { context } = await makeCall(gateway, kinds[0]!);
  await eventually(async () => (await gateway.request("GET", `/v1/contexts/${context}`)).status === 200);
  const replay = await gateway.request("POST", `/v1/contexts/${context}/replay`);
  assert.deepEqual([replay.status, replay.json.code], [422, "content_not_kept"]);
});

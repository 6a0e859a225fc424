// Deliberate panics in every component: the caller gets an error soon, no request hangs, and later requests work.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import {
  accepted,
  create,
  ended,
  eventually,
  finalStates,
  obedient,
  refused,
  refusedAt,
  register,
  serviceAt,
} from "./support/arrange.ts";
import { root } from "./support/configuration.ts";
import { type Answer, type Gateway, startGateway } from "./support/gateway.ts";
import { slowness } from "./support/patience.ts";
import { hang, type Service, startService } from "./support/service.ts";
import { openEvents } from "./support/socket.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway({ crashes: true, timeScale: 0.2, vars: { CONTEXT_SHARDS: "1" } });
  service = await startService(obedient);
  await register(gateway, "worker", serviceAt(service.url, [{ idempotent: true, timeout_seconds: 60 }]));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

// These paths are not in the contract: they exist only in tests.
const panic = (place: string, signal = AbortSignal.timeout(10_000)): Promise<Answer> =>
  gateway.request("POST", `/panic/${place}`, { contract: false, signal });

async function works(): Promise<void> {
  const { json: context, text } = await create(gateway, { parameters: { a: 1 } });
  assert.equal(context.status, "completed", text);
  assert.deepEqual(context.result, { a: 1 });
  assert.equal((await gateway.request("GET", `/v1/contexts/${context.id}`)).status, 200);
}

// Whatever crashed: the gateway serves, and a new socket receives events.
afterEach(async () => {
  await works();
  const events = await openEvents(gateway, { query: { types: "context.completed" } });
  const { json: context } = await create(gateway);
  await events.next((event) => event.subject === context.id);
  events.close();
});

for (const place of ["worker", "object"]) {
  test(`a_panic_in_the_${place}_is_a_500_within_a_second_and_the_next_request_works`, async () => {
    await works();
    for (let time = 0; time < 3; time++) {
      const began = Date.now();
      const problem = refused(await panic(place), 500, "internal");
      assert.ok(Date.now() - began < 1000 * slowness(), `${Date.now() - began} ms`);
      assert.equal(/panick|unreachable|wasm|RuntimeError/i.test(problem.detail), false, problem.detail);
      await works();
    }
  });

  test(`a_panic_in_the_${place}_hangs_no_request_that_is_in_flight`, async () => {
    const calls = service.calls.length;
    const slow = Array.from({ length: 6 }, () =>
      create(gateway, { parameters: { ms: 1500 } }, { signal: AbortSignal.timeout(20_000) }),
    );
    await service.call(calls + slow.length - 1);
    const quick = Array.from({ length: 10 }, () =>
      gateway.request("GET", "/v1/contexts", { signal: AbortSignal.timeout(10_000) }),
    );
    const died = panic(place);
    // Each is answered: with its result, or with a problem stating that it was not served.
    for (const answer of await Promise.all([...slow, ...quick])) {
      assert.ok([200, 202, 500].includes(answer.status), answer.text);
      if (answer.status === 500) refused(answer, 500, "internal");
    }
    refused(await died, 500, "internal");
  });

  test(`a_context_admitted_before_a_panic_in_the_${place}_still_ends`, async () => {
    const calls = service.calls.length;
    const contexts = await Promise.all(Array.from({ length: 4 }, () => accepted(gateway, { parameters: { ms: 700 } })));
    await service.call(calls + contexts.length - 1);
    refused(await panic(place), 500, "internal");
    const events = await openEvents(gateway);
    for (const { id } of contexts) {
      const context = await ended(gateway, id);
      // Idempotent: its worker is gone, so it runs again.
      assert.equal(context.status, "completed", JSON.stringify(context.error));
      assert.equal(context.history.filter(({ status }: any) => finalStates.includes(status)).length, 1);
    }
    events.close();
  });
}

test("a_panic_breaks_off_event_streams_whose_services_are_silent", async () => {
  const calls = service.calls.length;
  const headers = { accept: "text/event-stream" };
  const streams = Array.from({ length: 3 }, async () => {
    const body = { capability: "work", parameters: { ms: 60_000 } };
    const response = await gateway.open("POST", "/v1/contexts", { body, headers });
    return response.text().catch(() => "");
  });
  await service.call(calls + streams.length - 1);
  refused(await panic("worker"), 500, "internal");
  const late = setTimeout(() => assert.fail("the streams are still open"), 20_000);
  for (const text of await Promise.all(streams)) assert.doesNotMatch(text, /event: end/);
  clearTimeout(late);
});

test("a_panic_refuses_calls_of_models_in_their_formats", async () => {
  const provider = await startService(hang);
  const transport = { kind: "openai", url: `${provider.url}v1` };
  await register(gateway, "model", { name: "A model", type: "llm", transport, models: [{ id: "m" }] });
  const body = { model: "m", max_tokens: 9, messages: [{ role: "user", content: "Hi" }] };
  const paths = ["/v1/chat/completions", "/v1/messages"];
  const asked = paths.map((path) => gateway.request("POST", path, { body, contract: false }));
  await provider.call(paths.length - 1);
  refused(await panic("worker"), 500, "internal");
  const answers = await Promise.all(asked);
  await provider.stop();
  for (const [at, answer] of answers.entries()) refusedAt(paths[at]!, answer, 500, "internal");
});

test("the_deployed_worker_has_no_way_to_panic_on_purpose", async () => {
  // The bundle of the tests has it, so the name is the right one.
  const deployed = readFileSync(join(root, "build/worker.mjs"), "utf8");
  assert.doesNotMatch(deployed, /panicOnPurpose/);
  assert.match(readFileSync(join(root, "build/index.js"), "utf8"), /panicOnPurpose/);
});

test("a_panic_in_an_alarm_is_retried_and_its_object_works", async () => {
  const panics = () => gateway.logs.filter((line) => line.startsWith("panicked at")).length;
  for (let time = 0; time < 2; time++) {
    const before = panics();
    const answer = await panic("alarm");
    assert.equal(answer.status, 200, answer.text);
    await eventually(() => panics() > before);
    await works();
  }
});

test("starts_in_the_future_survive_a_panic_in_the_object", async () => {
  const contexts = await Promise.all(
    Array.from({ length: 6 }, (_, at) =>
      accepted(gateway, { run_at: new Date(Date.now() + 1500 + at * 100).toISOString() }),
    ),
  );
  refused(await panic("object"), 500, "internal");
  for (const { id } of contexts) assert.equal((await ended(gateway, id)).status, "completed");
});

test("a_message_that_kills_the_hub_leaves_the_stream_whole", async () => {
  const watching = await openEvents(gateway);
  const killer = await openEvents(gateway);
  const { json: before } = await create(gateway);
  await watching.next((event) => event.subject === before.id && event.type === "context.completed");
  killer.send("die");
  await eventually(
    async () => (await gateway.request("GET", "/v1/whoami", { signal: AbortSignal.timeout(5000) })).status === 200,
  );
  await works();
  const last = watching.messages.at(-1).sequence;
  const resumed = await openEvents(gateway, { query: { after: last } });
  const { json: context } = await create(gateway);
  await resumed.next((event) => event.subject === context.id && event.type === "context.completed");
  const sequences = resumed.messages.map(({ sequence }) => Number(sequence));
  assert.deepEqual(
    sequences,
    sequences.map((_, at) => Number(last) + 1 + at),
  );
  for (const events of [watching, killer, resumed]) events.socket.terminate();
});

test("a_socket_that_was_open_during_a_panic_continues_or_is_closed", async () => {
  const events = await openEvents(gateway, { query: { types: "context.completed" } });
  let closed = false;
  void events.closed.then(() => (closed = true));
  refused(await panic("object"), 500, "internal");
  const { json: context } = await create(gateway);
  // It must not become silent: a client could not distinguish that from a quiet gateway.
  await eventually(() => closed || events.messages.some((event) => event.subject === context.id));
  events.socket.terminate();
});

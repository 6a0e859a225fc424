// Watchers that do not read: they are disconnected and can resume, without any effect on others.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, eventually, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { json, type Service, startService } from "./support/service.ts";
import { openEvents } from "./support/socket.ts";
import { openStream } from "./support/stream.ts";

let gateway: Gateway;
let service: Service;

/** Contexts whose events exceed the unread limit; events carry results of up to 16 KiB. */
const MANY = 640;

before(async () => {
  gateway = await startGateway({ contract: false });
  service = await startService(json({ result: "x".repeat(15_000) }));
  await register(gateway, "worker", serviceAt(service.url, [{ idempotent: true }]));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

test(
  "a_watcher_that_does_not_read_is_disconnected_and_resumes_while_others_miss_nothing",
  { timeout: 120_000 },
  async () => {
    const query = { types: "context.completed" };
    const slow = await openEvents(gateway, { query, contract: false });
    const steady = await openEvents(gateway, { query, contract: false });
    slow.socket.pause();
    steady.socket.on("message", (data) => {
      if (data.toString() !== "pong") steady.send("ping");
    });
    await Promise.all(
      Array.from({ length: 16 }, async () => {
        for (let at = 0; at < MANY / 16; at++) await create(gateway);
      }),
    );
    const events = ({ messages }: { messages: any[] }) => messages.filter((message) => message.specversion);
    await eventually(() => events(steady).length === MANY);
    slow.socket.resume();
    assert.equal((await slow.closed).code, 1013);
    const got = events(slow);
    assert.ok(got.length > 400 && got.length < MANY, `${got.length} events`);
    const resumed = await openEvents(gateway, { query: { ...query, after: got.at(-1).sequence }, contract: false });
    await eventually(() => events(resumed).length >= MANY - got.length);
    assert.deepEqual([...got, ...events(resumed)], events(steady));
    for (const socket of [resumed, steady]) socket.close();
  },
);

test("a_watcher_that_pings_catches_up_with_any_backlog", async () => {
  const events = await openEvents(gateway, { query: { after: "0", types: "context.completed" }, contract: false });
  let read = 0;
  events.socket.on("message", (data) => {
    if (data.toString() !== "pong" && ++read % 20 === 0) events.send("ping");
  });
  await eventually(() => read === MANY);
  events.close();
});

test("a_stream_that_is_read_gets_the_whole_backlog_and_one_that_is_not_is_ended", async () => {
  const whole = await openStream(gateway, { query: { after: "0", types: "context.completed" } });
  await eventually(() => whole.events.length === MANY);
  whole.close();
  const stuck = await gateway.open("GET", "/v1/events?after=0&types=context.completed", {
    headers: { accept: "text/event-stream" },
  });
  // The object must release it by itself: then it can be evicted at once.
  await eventually(() =>
    gateway.evict("EventHub", "default").then(
      () => true,
      () => false,
    ),
  );
  await stuck.body?.cancel();
});

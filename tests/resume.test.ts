// Resuming the event stream: no event is lost or repeated across disconnects, hibernation, evictions and restarts.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { accepted, create, ended, makeKey, obedient, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { hold, type Service, startService } from "./support/service.ts";
import { openEvents } from "./support/socket.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway();
  service = await startService(obedient);
  await register(gateway, "worker", serviceAt(service.url, [{ idempotent: true }]));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

/** Asserts that these sequences follow each other without gap or repeat. */
function contiguous(sequences: string[]): void {
  const first = Number(sequences[0]);
  assert.deepEqual(
    sequences,
    sequences.map((_, at) => String(first + at).padStart(16, "0")),
  );
}

/** The same choices in every run. */
function dice(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % below;
  };
}

test("a_client_that_resumes_at_random_receives_every_event_once", async () => {
  const roll = dice(20261122);
  let producing = true;
  const made: string[] = [];
  const producers = Array.from({ length: 4 }, async () => {
    while (producing) made.push((await create(gateway, { parameters: { ms: roll(20) } })).json.id);
  });
  const seen: any[] = [];
  for (let time = 0; time < 25; time++) {
    const query: Record<string, string> = { after: seen.at(-1)?.sequence ?? "0" };
    const events = await openEvents(gateway, { query });
    const wanted = roll(60);
    for (let at = 0; at < wanted; at++) await events.next();
    // Events that arrived count, awaited or not; those in transit are lost with the socket.
    if (roll(2)) events.socket.terminate();
    else events.close();
    const { length } = events.messages;
    seen.push(...events.messages.slice(0, length));
    await pause(roll(60));
  }
  producing = false;
  await Promise.all(producers);
  const events = await openEvents(gateway, { query: { after: seen.at(-1).sequence } });
  const left = new Set(made);
  for (const event of seen) if (event.type === "context.completed") left.delete(event.subject);
  while (left.size > 0) left.delete((await events.next((event) => event.type === "context.completed")).subject);
  seen.push(...events.messages);
  events.close();
  contiguous(seen.map(({ sequence }) => sequence));
  assert.equal(new Set(seen.map(({ id }) => id)).size, seen.length);
  assert.ok(made.length > 20, `${made.length} contexts`);
});

test("a_client_far_behind_catches_up_while_events_continue", async () => {
  for (let round = 0; round < 6; round++) await Promise.all(Array.from({ length: 25 }, () => create(gateway)));
  const clients = await Promise.all(Array.from({ length: 5 }, () => openEvents(gateway, { query: { after: "0" } })));
  await Promise.all(Array.from({ length: 25 }, () => create(gateway)));
  const { json: last } = await create(gateway);
  for (const events of clients) {
    await events.next((event) => event.subject === last.id && event.type === "context.completed");
    const sequences = events.messages.map(({ sequence }) => sequence);
    assert.equal(Number(sequences[0]), 1);
    contiguous(sequences);
    events.close();
  }
});

test("a_filter_applies_while_a_client_catches_up_and_can_be_changed_then", async () => {
  const events = await openEvents(gateway, { query: { after: "0", types: "key.*" } });
  events.send({ subscribe: { types: ["context.completed"] } });
  const { json: context } = await create(gateway);
  await events.next((event) => event.subject === context.id);
  const sequences = events.messages.map(({ sequence }) => sequence);
  assert.deepEqual(sequences, [...new Set(sequences)].toSorted());
  for (const { type } of events.messages) assert.ok(type === "context.completed" || type.startsWith("key."), type);
  events.close();
});

test("a_sequence_from_the_future_begins_at_the_end", async () => {
  const events = await openEvents(gateway, { query: { after: "9007199254740000" } });
  const { json: context } = await create(gateway);
  await events.next((event) => event.subject === context.id && event.type === "context.completed");
  contiguous(events.messages.map(({ sequence }) => sequence));
  assert.ok(Number(events.messages[0].sequence) > 100, "not from the beginning");
  events.close();
});

test("sockets_and_their_filters_outlive_hibernation", async () => {
  const caller = await makeKey(gateway, "caller");
  const all = await openEvents(gateway);
  const completed = await openEvents(gateway, { query: { types: "context.completed" } });
  const changed = await openEvents(gateway, { query: { types: "key.*" } });
  const own = await openEvents(gateway, { key: caller.secret });
  changed.send({ subscribe: { types: ["context.executing"] } });
  changed.send("{}");
  await changed.next((message) => message.errors);
  for (let time = 0; time < 3; time++) {
    await gateway.evict("EventHub", "default");
    const { json: context } = await create(gateway);
    await all.next((event) => event.subject === context.id && event.type === "context.completed");
    await completed.next(({ subject, type }) => subject === context.id && type === "context.completed");
    await changed.next(({ subject, type }) => subject === context.id && type === "context.executing");
  }
  assert.deepEqual(new Set(completed.messages.map(({ type }) => type)), new Set(["context.completed"]));
  assert.deepEqual(new Set(changed.messages.map(({ type }) => type)), new Set([undefined, "context.executing"]));
  contiguous(all.messages.map(({ sequence }) => sequence));
  await gateway.evict("EventHub", "default");
  completed.send({ subscribe: { types: ["context.created"] } });
  completed.send("{}");
  await completed.next((message) => message.errors);
  const { json: mine } = await create(gateway, {}, { key: caller.secret });
  await completed.next(({ subject, type }) => subject === mine.id && type === "context.created");
  assert.equal((await own.next()).subject, mine.id, "its owner's events alone");
  await gateway.evict("EventHub", "default");
  await gateway.request("DELETE", `/v1/keys/${caller.id}`);
  assert.equal((await own.closed).code, 4401, "revocation finds a socket that slept");
  for (const events of [all, completed, changed]) events.close();
});

test("sockets_opened_at_once_let_the_hub_hibernate", async () => {
  for (let time = 0; time < 20; time++) {
    const opened = await Promise.all(Array.from({ length: 3 }, () => openEvents(gateway)));
    // Rejects while anything keeps the hub awake, and billed.
    await gateway.evict("EventHub", "default");
    for (const events of opened) events.close();
  }
});

test("a_client_that_was_catching_up_continues_after_hibernation", async () => {
  const events = await openEvents(gateway, { query: { after: "0" } });
  await gateway.evict("EventHub", "default");
  const { json: context } = await create(gateway);
  await events.next((event) => event.subject === context.id && event.type === "context.completed");
  contiguous(events.messages.map(({ sequence }) => sequence));
  events.close();
});

test("a_store_evicted_between_admit_and_completion_loses_no_event", async (t) => {
  const events = await openEvents(gateway);
  const calls = service.calls.length;
  const busy = hold(t, service, obedient);
  const contexts = await Promise.all(Array.from({ length: 8 }, () => accepted(gateway)));
  await service.call(calls + contexts.length - 1);
  service.handler = obedient;
  const stores = new Set(contexts.map(({ id }) => `default/${id.slice(4, 8)}`));
  for (const store of stores) await gateway.evict("ContextStore", store);
  busy.open();
  for (const { id } of contexts) assert.equal((await ended(gateway, id)).status, "completed");
  for (const store of stores) await gateway.evict("ContextStore", store);
  const left = new Set(contexts.map(({ id }) => id));
  while (left.size > 0) left.delete((await events.next((event) => event.type === "context.completed")).subject);
  contiguous(events.messages.map(({ sequence }) => sequence));
  for (const { id } of contexts) {
    const types = events.messages.filter(({ subject }) => subject === id).map(({ type }) => type);
    assert.deepEqual(types, [
      "context.created",
      "context.validated",
      "context.queued",
      "context.executing",
      "context.attempt",
      "context.completed",
    ]);
  }
  assert.equal(service.calls.length, calls + contexts.length, "nothing ran twice");
  events.close();
});

/** The object's database that has this table, in a stopped gateway's folder. */
function databaseWith(table: string, folder: string): DatabaseSync {
  for (const entry of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    if (!entry.endsWith(".sqlite")) continue;
    const database = new DatabaseSync(join(folder, entry));
    if (database.prepare("SELECT 1 FROM sqlite_master WHERE name = ?").get(table)) return database;
    database.close();
  }
  throw new Error(`no database has a table ${table}`);
}

test("resuming_before_the_retained_events_reports_the_gap_and_where_to_continue", async () => {
  const persist = mkdtempSync(join(tmpdir(), "narthex-gap-"));
  const vars = { ADMIN_KEY: "a key that outlives the restart" };
  try {
    const first = await startGateway({ persist, vars });
    await register(first, "worker", serviceAt(service.url, [{}]));
    const events = await openEvents(first, { query: { after: "0" } });
    for (let time = 0; time < 6; time++) {
      const { id } = await accepted(first);
      await events.next((event) => event.subject === id && event.type === "context.completed");
    }
    events.close();
    await first.stop();
    const database = databaseWith("log", persist);
    const rows = database.prepare("SELECT first FROM log ORDER BY first").all() as { first: number }[];
    const kept = rows[rows.length >> 1]!.first;
    database.prepare("DELETE FROM log WHERE first < ?").run(kept);
    database.close();
    assert.ok(kept > 2, `${rows.length} rows`);

    const second = await startGateway({ persist, vars });
    try {
      // At once: the platform ends a connection a while after its closing frame.
      await Promise.all(
        [0, 1, kept - 2].map(async (after) => {
          const resumed = await openEvents(second, { query: { after: String(after) } });
          const gap = await resumed.next();
          assert.equal(gap.type, "stream.gap");
          assert.equal(gap.specversion, "1.0");
          assert.equal((await resumed.closed).code, 4410);
          assert.equal(resumed.messages.length, 1);
          const onwards = await openEvents(second, { query: { after: gap.sequence } });
          assert.equal(Number((await onwards.next()).sequence), kept);
          onwards.close();
        }),
      );
      const { json: context } = await create(second);
      const whole = await openEvents(second, { query: { after: String(kept - 1) } });
      await whole.next((event) => event.subject === context.id && event.type === "context.completed");
      const sequences = whole.messages.map(({ sequence }) => sequence);
      assert.equal(Number(sequences[0]), kept);
      contiguous(sequences);
      whole.close();
    } finally {
      await second.stop();
    }
  } finally {
    rmSync(persist, { recursive: true, force: true });
  }
});

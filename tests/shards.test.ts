// A tenant's sockets on several objects: each receives every event once and in order, on any object.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, eventually, makeKey, obedient, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Service, startService } from "./support/service.ts";
import { type Events, type EventsOptions, openEvents } from "./support/socket.ts";
import { openStream } from "./support/stream.ts";

let gateway: Gateway;
let service: Service;

/** A gateway with room for three sockets at the hub, and three at each shard. */
const ROOM = 3;

before(async () => {
  gateway = await startGateway({ vars: { HUB_SOCKETS: String(ROOM), SOCKET_CHECK_MS: "1" } });
  service = await startService(obedient);
  await register(gateway, "worker", serviceAt(service.url, [{ idempotent: true }]));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const open = (options: EventsOptions = {}) => openEvents(gateway, options);
const completed = (id: string) => (event: any) => event.subject === id && event.type === "context.completed";

/** Opens `count` sockets, one after the other, so that the first ones fill the hub. */
async function openMany(count: number, options: EventsOptions = {}): Promise<Events[]> {
  const all: Events[] = [];
  for (let at = 0; at < count; at++) all.push(await open(options));
  return all;
}

async function closeAll(sockets: Events[]): Promise<void> {
  for (const socket of sockets) socket.close();
  await Promise.all(sockets.map(({ closed }) => closed));
}

/** Asserts that the events follow each other without gap or repeat. */
function contiguous(events: { sequence: string }[]): void {
  const first = Number(events[0]?.sequence);
  assert.deepEqual(
    events.map(({ sequence }) => sequence),
    events.map((_, at) => String(first + at).padStart(16, "0")),
  );
}

test("every_socket_gets_every_event_once_on_any_object", async () => {
  const sockets = await openMany(3 * ROOM + 1);
  const made = await Promise.all(Array.from({ length: 20 }, () => create(gateway)));
  for (const socket of sockets) {
    const left = new Set(made.map(({ json }) => json.id));
    while (left.size > 0) left.delete((await socket.next(({ type }) => type === "context.completed")).subject);
    contiguous(socket.messages);
  }
  await closeAll(sockets);
});

test("a_client_that_resumes_at_a_shard_receives_every_event_once", async () => {
  const fill = await openMany(ROOM);
  for (let round = 0; round < 4; round++) {
    await Promise.all(Array.from({ length: 10 }, () => create(gateway)));
    const beginning = await open({ query: { after: "0" } });
    const { json: one } = await create(gateway);
    await beginning.next(completed(one.id));
    assert.equal(Number(beginning.messages[0].sequence), 1);
    contiguous(beginning.messages);
    const { sequence } = beginning.messages.at(-3);
    beginning.close();
    // Right after the end of another, and from the future.
    const [resumed, future] = [
      await open({ query: { after: sequence } }),
      await open({ query: { after: "9007199254740000" } }),
    ];
    const { json: two } = await create(gateway);
    for (const socket of [resumed, future]) {
      await socket.next(completed(two.id));
      contiguous(socket.messages);
    }
    assert.equal(Number(resumed.messages[0].sequence), Number(sequence) + 1);
    assert.ok(Number(future.messages[0].sequence) > Number(sequence));
    await closeAll([resumed, future]);
  }
  await closeAll(fill);
});

test("hub_and_shards_hibernate_without_any_effect_on_sockets", async () => {
  const sockets = await openMany(2 * ROOM + 1);
  for (let time = 0; time < 4; time++) {
    await gateway.evict("EventHub", "default");
    if (time % 2 === 0) await gateway.evict("EventShard", "default/1");
    await gateway.evict("EventShard", "default/2");
    const { json: context } = await create(gateway);
    for (const socket of sockets) await socket.next(completed(context.id));
  }
  for (const socket of sockets) contiguous(socket.messages);
  await closeAll(sockets);
});

test("an_empty_shard_accepts_sockets_again", async () => {
  for (let round = 0; round < 3; round++) {
    const sockets = await openMany(2 * ROOM);
    const { json: one } = await create(gateway);
    for (const socket of sockets) await socket.next(completed(one.id));
    for (const socket of sockets) contiguous(socket.messages);
    await closeAll(sockets);
    // The shards receive an event, and report that they have no sockets.
    await create(gateway);
  }
});

test("at_a_shard_filters_messages_and_streams_are_as_at_the_hub", async () => {
  const fill = await openMany(ROOM);
  const { secret: key } = await makeKey(gateway, "caller");
  const some = await open({ query: { types: "key.*" } });
  const stream = await openStream(gateway, { key });
  some.send({ subscribe: { types: ["context.completed"] } });
  some.send("{}");
  await some.next((message) => message.errors);
  const { json: foreign } = await create(gateway);
  const { json: mine } = await create(gateway, {}, { key });
  await some.next(completed(foreign.id));
  await some.next(completed(mine.id));
  await stream.next(completed(mine.id));
  assert.deepEqual(new Set(stream.events.map(({ subject }) => subject)), new Set([mine.id]));
  stream.close();
  await closeAll([...fill, some]);
});

test("revoking_a_key_closes_its_sockets_at_every_object", async () => {
  const { id, secret: key } = await makeKey(gateway, "caller");
  const sockets = await openMany(2 * ROOM + 1, { key });
  const others = await openMany(1);
  const answer = await gateway.request("DELETE", `/v1/keys/${id}`);
  assert.equal(answer.status, 204);
  for (const { closed } of sockets) assert.equal((await closed).code, 4401);
  await others[0]!.next(({ type, subject }) => type === "key.revoked" && subject === id);
  await closeAll(others);
});

test("credentials_that_end_close_their_sockets_in_time_without_any_event", async () => {
  const { id, secret: key } = await makeKey(gateway, "caller");
  const sockets = await openMany(2 * ROOM, { key });
  const { json: made } = await gateway.request("POST", `/v1/keys/${id}/rotate`, { body: { overlap_seconds: 12 } });
  const began = Date.now();
  const old = await openMany(ROOM, { key });
  const fresh = await open({ key: made.secret });
  for (const { closed } of old) assert.equal((await closed).code, 4401);
  assert.ok(Date.now() - began < 60_000, `after ${Date.now() - began} ms`);
  await closeAll([fresh, ...sockets]);
});

test("a_permission_removed_from_a_role_closes_sockets_at_every_object", async () => {
  const permissions = ["events:read", "contexts:read:*"];
  const put = (list: string[], condition: Record<string, string>) =>
    gateway.request("PUT", "/v1/roles/watcher", { body: { permissions: list }, headers: condition });
  assert.equal((await put(permissions, { "if-none-match": "*" })).status, 201);
  const { secret: key } = await makeKey(gateway, "watcher");
  const sockets = await openMany(2 * ROOM, { key });
  assert.equal((await put(["events:read"], { "if-match": "*" })).status, 200);
  for (const { closed } of sockets) assert.equal((await closed).code, 4401);
});

test("a_hub_that_missed_a_revocation_detects_it_by_itself", async () => {
  const { id, secret: key } = await makeKey(gateway, "caller");
  const steady = await openMany(ROOM + 1, { key });
  // As if the message had been lost: viewers of a key that is gone, and of one that may not see everybody's contexts.
  const lost = await Promise.all(
    [
      { principal: "key:default-000000000000", sees_all: false },
      { principal: `key:${id}`, sees_all: true },
    ].map((viewer) => openPastTheGate({ tenant: "default", ...viewer })),
  );
  await eventually(async () => {
    // Checked together with an event, not before it.
    await create(gateway, {}, { key });
    return lost.every(({ code }) => code !== undefined);
  });
  for (const { code } of lost) assert.equal(code, 4401);
  const { json: context } = await create(gateway, {}, { key });
  for (const socket of steady) await socket.next(completed(context.id));
  await closeAll(steady);
});

/** Opens a socket at the hub's first shard, for a viewer that the Worker authorized earlier. */
async function openPastTheGate(viewer: object): Promise<{ code?: number }> {
  // miniflare's types depend on a package that is not installed.
  const shards = (await gateway.mf.getDurableObjectNamespace("SHARDS")) as any;
  const open = { viewer, filter: {}, shard: 1, headers: "" };
  const answer = await shards
    .get(shards.idFromName("default/1"))
    .fetch(`https://object/?${encodeURIComponent(JSON.stringify(open))}`, { headers: { Upgrade: "websocket" } });
  const seen: { code?: number } = {};
  answer.webSocket.addEventListener("close", ({ code }: { code: number }) => {
    seen.code = code;
  });
  answer.webSocket.accept();
  return seen;
}

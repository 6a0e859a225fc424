// The event stream as Server-Sent Events: the twin of the WebSocket, resumed by Last-Event-ID.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  accepted,
  create,
  ended,
  makeKey,
  obedient,
  pointers,
  refused,
  register,
  serviceAt,
} from "./support/arrange.ts";
import { Contract } from "./support/contract.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Service, startService } from "./support/service.ts";
import { openEvents } from "./support/socket.ts";
import { openStream, StreamRefused } from "./support/stream.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway({ timeScale: 0.2 });
  service = await startService(obedient);
  await register(gateway, "worker", serviceAt(service.url, [{ idempotent: true }]));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const completed = (id: string) => (event: any) => event.subject === id && event.type === "context.completed";

test("a_stream_has_the_same_events_as_a_socket_with_sequences_as_ids", async () => {
  const [socket, stream] = [await openEvents(gateway), await openStream(gateway)];
  assert.equal(stream.headers.get("content-type"), "text/event-stream");
  assert.equal(stream.headers.get("cache-control"), "no-store, no-transform");
  assert.ok(stream.headers.get("x-request-id"));
  Contract.load()?.checkAnswer("GET", "/v1/events", 200, stream.headers, "");
  const { json: context } = await create(gateway);
  await socket.next(completed(context.id));
  await stream.next(completed(context.id));
  const from = stream.events[0].sequence;
  assert.deepEqual(
    stream.events,
    socket.messages.filter(({ sequence }) => sequence >= from),
  );
  assert.deepEqual(
    stream.ids,
    stream.events.map(({ sequence }) => sequence),
  );
  socket.close();
  stream.close();
});

test("a_stream_resumes_at_last_event_id_whatever_its_query", async () => {
  const first = await openStream(gateway, { query: { after: "0" } });
  const { json: one } = await create(gateway);
  await first.next(completed(one.id));
  first.close();
  const { json: two } = await create(gateway);
  const middle = first.ids.at(-3)!;
  const resumed = await openStream(gateway, { query: { after: "0" }, headers: { "last-event-id": middle } });
  await resumed.next(completed(two.id));
  const begin = Number(middle) + 1;
  assert.deepEqual(
    resumed.ids,
    resumed.ids.map((_, at) => String(begin + at).padStart(16, "0")),
  );
  resumed.close();
});

test("filters_and_visibility_are_as_for_a_socket", async () => {
  const { secret: key } = await makeKey(gateway, "caller");
  const own = await openStream(gateway, { key, query: { types: "context.completed", owner: "*" } });
  await create(gateway);
  const { json: mine } = await create(gateway, {}, { key });
  await own.next(completed(mine.id));
  assert.deepEqual(
    own.events.map(({ subject }) => subject),
    [mine.id],
  );
  own.close();
});

test("a_ticket_opens_a_stream_once", async () => {
  const { json: made } = await gateway.request("POST", "/v1/tickets");
  const stream = await openStream(gateway, { ticket: made.ticket });
  const { json: context } = await create(gateway);
  await stream.next(completed(context.id));
  stream.close();
  await assert.rejects(
    openStream(gateway, { ticket: made.ticket }),
    (refused: StreamRefused) => refused.status === 401,
  );
});

test("a_contexts_events_are_a_stream_on_request", async () => {
  const context = await accepted(gateway, { parameters: { ms: 300 } });
  const path = `/v1/contexts/${context.id}/events`;
  const stream = await openStream(gateway, { path, query: { after: "0" } });
  Contract.load()?.checkAnswer("GET", path, 200, stream.headers, "");
  await create(gateway);
  await stream.next(completed(context.id));
  assert.deepEqual(new Set(stream.events.map(({ subject }) => subject)), new Set([context.id]));
  assert.equal(stream.events[0].type, "context.created");
  stream.close();
  const list = await gateway.request("GET", path, { headers: { accept: "application/json, text/event-stream;q=0" } });
  assert.equal(list.json.data.length, stream.events.length);
  const { secret: key } = await makeKey(gateway, "caller");
  await assert.rejects(openStream(gateway, { path, key }), (refused: StreamRefused) => refused.status === 404);
});

test("an_impossible_stream_is_a_problem", async () => {
  const asked = (path: string, headers: Record<string, string> = {}, key?: string | null) =>
    gateway.request("GET", path, {
      headers: { accept: "text/event-stream", ...headers },
      ...(key !== undefined && { key }),
    });
  refused(await asked("/v1/events", {}, null), 401, "unauthenticated");
  const { secret } = await makeKey(gateway, "bare");
  refused(await asked("/v1/events", {}, secret), 403, "permission_denied");
  for (const name of ["after", "colour"]) {
    const answer = await asked(`/v1/events?${name}=x`);
    refused(answer, 422, "validation_failed");
    assert.deepEqual(pointers(answer.json), [`?${name}`]);
  }
  refused(await asked("/v1/events", { "last-event-id": "x" }), 400, "invalid_request");
});

test("a_stream_ends_when_its_key_is_revoked_after_all_earlier_events", async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  const stream = await openStream(gateway, { key: secret });
  const { json: context } = await create(gateway, {}, { key: secret });
  await stream.next(completed(context.id));
  await gateway.request("DELETE", `/v1/keys/${id}`);
  await stream.ended;
});

test("a_silent_stream_is_kept_alive_by_comments", async () => {
  const { secret: key } = await makeKey(gateway, "caller");
  const stream = await openStream(gateway, { key, query: { subject: "nothing" } });
  await stream.comment(2);
  stream.close();
});

test("events_are_a_stream_by_default_and_a_page_as_json", async () => {
  const { json: context } = await create(gateway);
  for (const headers of [
    {},
    { accept: "*/*" },
    { accept: "text/event-stream" },
    { accept: "text/html,*/*;q=0.8" },
  ] as Record<string, string>[]) {
    const stop = new AbortController();
    const answer = await gateway.open("GET", "/v1/events", { headers, signal: stop.signal });
    assert.deepEqual(
      [answer.status, answer.headers.get("content-type")],
      [200, "text/event-stream"],
      JSON.stringify(headers),
    );
    stop.abort();
    await answer.text().catch(() => {});
  }
  const page = (query: string, key = gateway.adminKey) =>
    gateway.request("GET", `/v1/events?${query}`, { key, headers: { accept: "application/json" } });
  // A context's own events are a list, unless a stream is requested explicitly.
  const list = (await gateway.request("GET", `/v1/contexts/${context.id}/events`)).json.data;
  assert.deepEqual((await page(`subject=${context.id}`)).json.data, list);
  const seen: any[] = [];
  let next = (await page("types=context.*&limit=3")).json;
  for (;;) {
    seen.push(...next.data);
    if (next.next_cursor === null) break;
    next = (await page(`types=context.*&limit=50&cursor=${next.next_cursor}`)).json;
  }
  const sequences = seen.map(({ sequence }) => sequence);
  assert.deepEqual(sequences, [...new Set(sequences)].sort());
  assert.ok(
    seen.every(({ type }) => type.startsWith("context.")) && seen.some(({ subject }) => subject === context.id),
  );
  const rest = (await page(`types=context.*&after=${sequences.at(-2)}`)).json.data;
  assert.deepEqual(
    rest.map(({ sequence }: any) => sequence),
    sequences.slice(-1),
  );
  // Callers who see only their own contexts see no more here.
  const mine = await makeKey(gateway, "caller");
  const { json: own } = await create(gateway, {}, { key: mine.secret });
  await ended(gateway, own.id, { key: mine.secret });
  for (const query of ["", "owner=*", "owner=key:admin"]) {
    const { data } = (await page(`types=context.*&${query}`, mine.secret)).json;
    assert.ok(
      data.every(({ data }: any) => data.owner === `key:${mine.id}`),
      query,
    );
  }
  refused(await page("", (await makeKey(gateway, "bare")).secret), 403, "permission_denied");
  refused(await page("types=context.*&cursor=nonsense"), 400, "invalid_request");
});

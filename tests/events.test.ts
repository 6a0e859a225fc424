// The event stream as clients see it: CloudEvents in order, filters, tickets, visibility, a context's own events.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  accepted,
  create,
  ended,
  eventually,
  makeKey,
  obedient,
  pointers,
  refused,
  register,
  serviceAt,
} from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { inTurn, json, type Service, startService, status } from "./support/service.ts";
import { type Events, type EventsOptions, openEvents, UpgradeRefused } from "./support/socket.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway();
  service = await startService(obedient);
  await register(gateway, "worker", serviceAt(service.url, [{ idempotent: true }]));
  await register(gateway, "second", serviceAt(service.url, [{ name: "rest" }]));
  // The status is measured and published now, so that the first call of a service causes no event.
  const seen = await open({ query: { types: "service.status" } });
  for (const id of ["worker", "second"]) {
    await gateway.request("POST", `/v1/services/${id}/check`);
    await seen.next(({ subject }) => subject === id);
  }
  seen.close();
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const open = (options: EventsOptions = {}) => openEvents(gateway, options);
const types = (messages: any[], subject?: string) =>
  messages.filter((event) => subject === undefined || event.subject === subject).map(({ type }) => type);

async function refusedUpgrade(options: EventsOptions, status: number, code: string): Promise<any> {
  const error = await open(options).then(
    () => assert.fail(`the socket was opened: ${JSON.stringify(options)}`),
    (reason) => reason,
  );
  assert.ok(error instanceof UpgradeRefused, String(error));
  assert.deepEqual([error.status, error.json?.code], [status, code], error.text);
  return error.json;
}

const whole = [
  "context.created",
  "context.validated",
  "context.queued",
  "context.executing",
  "context.attempt",
  "context.completed",
];

test("events_are_cloudevents_in_one_contiguous_sequence", async () => {
  const events = await open();
  assert.equal(events.socket.protocol, "cloudevents.json");
  service.handler = inTurn(status(503), obedient);
  const ids = (await Promise.all(Array.from({ length: 20 }, () => create(gateway, { parameters: { ms: 5 } })))).map(
    ({ json }) => json.id,
  );
  const left = new Set(ids);
  while (left.size > 0) left.delete((await events.next((event) => event.type === "context.completed")).subject);
  const sequences = events.messages.map((event) => event.sequence);
  const first = Number(sequences[0]);
  assert.deepEqual(
    sequences,
    sequences.map((_, at) => String(first + at).padStart(16, "0")),
  );
  assert.equal(new Set(events.messages.map((event) => event.id)).size, events.messages.length);
  for (const event of events.messages) {
    assert.equal(event.specversion, "1.0");
    assert.equal(event.source, "/tenants/default");
    assert.equal(event.datacontenttype, "application/json");
    assert.match(event.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    assert.equal(event.correlationid, event.subject);
    assert.equal(event.data.id, event.subject);
    for (const name of Object.keys(event)) assert.match(name, /^[a-z0-9]{1,20}$/);
  }
  for (const id of ids) {
    const own = events.messages.filter(({ subject }) => subject === id);
    own.forEach((event, at) => assert.equal(event.causationid, own[at - 1]?.id, `what caused ${event.type}`));
    const { json: context } = await gateway.request("GET", `/v1/contexts/${id}`);
    const statuses = own.filter(({ type }) => type !== "context.attempt").map(({ data }) => data.status);
    assert.deepEqual(
      statuses,
      context.history.map((step: any) => step.status),
    );
    assert.equal(own.filter(({ type }) => type === "context.attempt").length, context.attempts.length);
    assert.deepEqual(own.at(-1).data.result, context.result);
  }
  events.close();
});

test("the_registrys_changes_are_published_too", async () => {
  const events = await open({ query: { types: "service.*,key.*" } });
  await register(gateway, "announced", serviceAt(service.url, [{ name: "announced" }]));
  await gateway.request("PATCH", "/v1/services/announced", { headers: { "if-match": "*" }, body: { weight: 2 } });
  await gateway.request("DELETE", "/v1/services/announced", { headers: { "if-match": "*" } });
  const key = await makeKey(gateway, "viewer");
  await gateway.request("DELETE", `/v1/keys/${key.id}`);
  for (const [type, subject] of [
    ["service.registered", "announced"],
    ["service.updated", "announced"],
    ["service.deregistered", "announced"],
    ["key.created", key.id],
    ["key.revoked", key.id],
  ]) {
    const event = await events.next();
    assert.deepEqual([event.type, event.subject], [type, subject]);
  }
  assert.equal(JSON.stringify(events.messages).includes(key.secret), false);
  events.close();
});

test("each_filter_passes_exactly_the_matching_events", async () => {
  const caller = await makeKey(gateway, "caller", ["contexts:read:*"]);
  const { id } = await accepted(gateway, { run_at: new Date(Date.now() + 700).toISOString() });
  const queries: [Record<string, string>, (event: any) => boolean][] = [
    [{ types: "context.completed" }, ({ type }) => type === "context.completed"],
    [{ types: "context.c*,context.attempt" }, ({ type }) => type.startsWith("context.c") || type === "context.attempt"],
    [{ subject: id }, ({ subject }) => subject === id],
    [{ service: "second" }, ({ data, subject }) => data.service === "second" || subject === "second"],
    [{ owner: "me" }, ({ data }) => data.owner === "key:admin"],
    [{ owner: `key:${caller.id}` }, ({ data }) => data.owner === `key:${caller.id}`],
    [
      { types: "context.completed", service: "worker", owner: "me" },
      (event) =>
        event.type === "context.completed" && event.data.service === "worker" && event.data.owner === "key:admin",
    ],
    [{ subject: "ctx_unknown" }, () => false],
  ];
  // Published before the first socket opens: they open one after the other.
  const first = await open({ query: { subject: id, after: "0" } });
  await first.next(({ type }) => type === "context.queued");
  first.close();
  const all = await open();
  const filtered = await Promise.all(queries.map(([query]) => open({ query })));
  const made = [
    await create(gateway, { capability: "rest" }),
    await create(gateway, { capability: "rest" }, { key: caller.secret }),
    await create(gateway, {}, { key: caller.secret }),
  ];
  const left = new Set([id, ...made.map(({ json }) => json.id)]);
  while (left.size > 0) left.delete((await all.next((event) => event.type === "context.completed")).subject);
  const sequences = (events: any[]) => events.map(({ sequence }) => sequence);
  for (const [at, [query, fits]] of queries.entries()) {
    const expected = all.messages.filter(fits);
    const { messages } = filtered[at]!;
    await eventually(() => messages.length >= expected.length);
    assert.deepEqual(sequences(messages), sequences(expected), JSON.stringify(query));
    assert.equal(expected.length === 0, "subject" in query && query.subject !== id);
  }
  for (const events of [all, ...filtered]) events.close();
});

/** The response to a bad message, which shows that all messages before it have been processed. */
async function settled(events: Events): Promise<any> {
  events.send("{}");
  return events.next((message) => message.errors);
}

test("a_subscribe_message_changes_the_filter", async () => {
  // A caller sees only its own contexts: leftovers of other tests do not appear here.
  const { secret: key } = await makeKey(gateway, "caller");
  const all = await open({ key });
  const run = async () => {
    const { json: context } = await create(gateway, {}, { key });
    await all.next((event) => event.subject === context.id && event.type === "context.completed");
    return context.id;
  };
  const events = await open({ key, query: { types: "key.*" } });
  await run();
  events.send({ subscribe: { types: ["context.completed"], owner: "me" } });
  await settled(events);
  const completed = await run();
  events.send({ subscribe: { subject: "ctx_other" } });
  await settled(events);
  await run();
  events.send({ subscribe: {} });
  await settled(events);
  const last = await run();
  await events.next((event) => event.subject === last && event.type === "context.completed");
  const received = events.messages.filter((message) => message.type).map(({ type, subject }) => [type, subject]);
  assert.deepEqual(received, [["context.completed", completed], ...whole.map((type) => [type, last])]);
  for (const socket of [all, events]) socket.close();
});

test("a_bad_message_is_answered_with_its_fault_and_changes_nothing", async () => {
  const { secret: key } = await makeKey(gateway, "caller");
  const events = await open({ key, query: { types: "context.completed" } });
  for (const [message, pointer] of [
    ["nonsense", "#"],
    ["[]", "#"],
    ["{}", "#/subscribe"],
    ['{"subscribe":[]}', "#/subscribe"],
    ['{"subscribe":{"types":"all"}}', "#/subscribe/types"],
    ['{"subscribe":{"types":["A b"]}}', "#/subscribe/types"],
    ['{"subscribe":{"colour":1}}', "#/subscribe/colour"],
    ['{"subscribe":{},"more":1}', "#/more"],
    ['{"subscribe":{},"subscribe":{}}', "#/subscribe"],
    [`${"[".repeat(1000)}`, undefined],
  ] as const) {
    events.send(message);
    const answer = await events.next();
    if (pointer) assert.deepEqual(pointers(answer), [pointer], message);
    else assert.equal(answer.errors.length, 1);
  }
  const { json: context } = await create(gateway, {}, { key });
  const { type, subject } = await events.next();
  assert.deepEqual([type, subject], ["context.completed", context.id]);
  events.close();
});

test("a_message_that_is_too_long_or_binary_closes_the_socket", async () => {
  for (const [message, code] of [
    [`{"subscribe":{"subject":"${"x".repeat(70 * 1024)}"}}`, 1009],
    ["é".repeat(33 * 1024), 1009],
    ["x".repeat(900 * 1024), 1009],
    [Buffer.from('{"subscribe":{}}'), 1008],
  ] as const) {
    const events = await open();
    events.socket.send(message);
    assert.equal((await events.closed).code, code);
  }
  // A message of the maximum length is read.
  const events = await open();
  events.send(`{"subscribe":{}}${" ".repeat(64 * 1024 - 16)}`);
  events.send("nothing");
  assert.equal((await events.next()).errors.length, 1);
  events.close();
});

test("a_caller_without_permission_is_refused_before_the_socket_opens", async () => {
  await refusedUpgrade({ key: null }, 401, "unauthenticated");
  await refusedUpgrade({ key: "wrong" }, 401, "unauthenticated");
  const { secret } = await makeKey(gateway, "bare");
  await refusedUpgrade({ key: secret }, 403, "permission_denied");
  for (const query of [
    { types: "A b" },
    { after: "-1" },
    { after: "x" },
    { colour: "red" },
    { subject: "x".repeat(300) },
  ] as Record<string, string>[]) {
    const problem = await refusedUpgrade({ query }, 422, "validation_failed");
    assert.deepEqual(pointers(problem), [`?${Object.keys(query)[0]}`]);
  }
  refused(await gateway.request("GET", "/v1/events", { key: null }), 401, "unauthenticated");
});

test("a_ticket_opens_one_socket_for_its_owner", async () => {
  const caller = await makeKey(gateway, "caller");
  const made = await gateway.request("POST", "/v1/tickets", { body: {}, key: caller.secret });
  assert.equal(made.status, 201);
  const { ticket, expires_at } = made.json;
  const seconds = (Date.parse(expires_at) - Date.now()) / 1000;
  assert.ok(seconds > 50 && seconds <= 60.5, `${seconds} s`);
  const events = await open({ ticket });
  await create(gateway);
  const { json: mine } = await create(gateway, {}, { key: caller.secret });
  assert.equal((await events.next()).subject, mine.id, "as the caller, who sees its own alone");
  await refusedUpgrade({ ticket }, 401, "unauthenticated");
  events.close();
  for (const wrong of [
    "",
    "tkt_default_x",
    ticket.slice(0, -1),
    ticket.replace("default", "other"),
    gateway.adminKey,
    caller.secret,
  ]) {
    await refusedUpgrade({ ticket: wrong }, 401, "unauthenticated");
  }
  refused(await gateway.request("GET", `/v1/contexts?ticket=${ticket}`, { key: null }), 401, "unauthenticated");
  refused(await gateway.request("POST", "/v1/tickets", { body: { forever: true } }), 422, "validation_failed");
});

test("only_one_of_many_concurrent_uses_of_a_ticket_succeeds", async () => {
  const { json: made } = await gateway.request("POST", "/v1/tickets");
  const tries = await Promise.allSettled(Array.from({ length: 6 }, () => open({ ticket: made.ticket })));
  const opened = tries.filter((one) => one.status === "fulfilled");
  assert.equal(opened.length, 1);
  opened[0]!.value.close();
});

test("a_ticket_ends_with_the_key_that_created_it", async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  const { json: made } = await gateway.request("POST", "/v1/tickets", { key: secret });
  await gateway.request("DELETE", `/v1/keys/${id}`);
  await refusedUpgrade({ ticket: made.ticket }, 401, "unauthenticated");
});

test("a_caller_sees_only_its_own_contexts_whatever_its_filter", async () => {
  const [mine, theirs] = [await makeKey(gateway, "caller"), await makeKey(gateway, "caller")];
  const { json: foreign } = await create(gateway, {}, { key: theirs.secret });
  const sockets = await Promise.all(
    (
      [
        {},
        { owner: "*" },
        { owner: `key:${theirs.id}` },
        { after: "0" },
        { subject: foreign.id, after: "0" },
      ] as Record<string, string>[]
    ).map((query) => open({ query, key: mine.secret })),
  );
  const asking = await open({ key: mine.secret });
  asking.send({ subscribe: { owner: `key:${theirs.id}` } });
  await create(gateway, {}, { key: theirs.secret });
  await makeKey(gateway, "viewer");
  const { json: own } = await create(gateway, {}, { key: mine.secret });
  const seeing = [sockets[0]!, sockets[1]!, sockets[2]!, sockets[3]!, asking];
  for (const events of seeing)
    await events.next((event) => event.subject === own.id && event.type === "context.completed");
  for (const { messages } of [...seeing, sockets[4]!]) {
    for (const { type, data } of messages) {
      assert.ok(type.startsWith("service.") || data.owner === `key:${mine.id}`, `${type} of ${data.owner}`);
    }
  }
  for (const events of [...sockets, asking]) events.close();
});

test("a_contexts_events_are_a_paged_list", async () => {
  service.handler = inTurn(status(503), json({ result: "x".repeat(40_000) }));
  const { json: context } = await create(gateway);
  service.handler = obedient;
  const path = `/v1/contexts/${context.id}/events`;
  const { json: list } = await gateway.request("GET", path);
  const expected = [
    ...whole.slice(0, 5),
    "context.queued",
    "context.executing",
    "context.attempt",
    "context.completed",
  ];
  assert.deepEqual(types(list.data), expected);
  assert.equal(list.next_cursor, null);
  const last = list.data.at(-1).data;
  assert.deepEqual(
    [last.result, last.result_url],
    [undefined, `/v1/contexts/${context.id}`],
    "a large result is linked",
  );
  const found = [];
  let next: string | null = `${path}?limit=2`;
  while (next) {
    const page = await gateway.request("GET", next);
    assert.equal(page.status, 200, page.text);
    assert.ok(page.json.data.length <= 2);
    found.push(...page.json.data);
    next = page.headers.get("link")?.match(/^<([^>]+)>; rel="next"$/)?.[1] ?? null;
    assert.equal(next !== null, page.json.next_cursor !== null);
  }
  assert.deepEqual(found, list.data);
  const { json: rest } = await gateway.request("GET", `${path}?after=${list.data[3].sequence}`);
  assert.deepEqual(rest.data, list.data.slice(4));
  for (const query of ["limit=0", "limit=201", "after=x", "colour=red"])
    refused(await gateway.request("GET", `${path}?${query}`), 422, "validation_failed");
  refused(await gateway.request("GET", `${path}?cursor=nonsense`), 400, "invalid_request");
});

test("a_cursor_of_the_event_list_is_opaque_and_valid_only_for_that_list", async () => {
  const [{ json: one }, { json: two }] = [await create(gateway), await create(gateway)];
  const { json: page } = await gateway.request("GET", `/v1/contexts/${one.id}/events?limit=2`);
  assert.ok(page.next_cursor);
  refused(
    await gateway.request("GET", `/v1/contexts/${two.id}/events?limit=2&cursor=${page.next_cursor}`),
    400,
    "invalid_request",
  );
  refused(await gateway.request("GET", `/v1/contexts/${one.id}/events?cursor=1`), 400, "invalid_request");
});

test("a_contexts_events_can_be_watched_by_socket", async () => {
  const caller = await makeKey(gateway, "caller");
  const context = await accepted(gateway, { parameters: { ms: 600 } }, { key: caller.secret });
  const path = `/v1/contexts/${context.id}/events`;
  const events = await open({ path, key: caller.secret, query: { after: "0" } });
  await create(gateway, {}, { key: caller.secret });
  await events.next((event) => event.type === "context.completed");
  assert.deepEqual(types(events.messages, context.id), whole);
  assert.equal(events.messages.length, whole.length, "its own and no other's");
  events.close();
  const other = await makeKey(gateway, "caller");
  await refusedUpgrade({ path, key: other.secret }, 404, "not_found");
  await refusedUpgrade({ path: "/v1/contexts/ctx_none/events" }, 404, "not_found");
  await ended(gateway, context.id);
});

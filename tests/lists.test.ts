// GET /v1/contexts: filters, pages, and visibility.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accepted, create, ended, makeKey, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, inTurn, type Service, startService, status } from "./support/service.ts";

let gateway: Gateway;
let service: Service;
let caller: { id: string; secret: string };
let other: { id: string; secret: string };
let viewer: { id: string; secret: string };

before(async () => {
  gateway = await startGateway();
  service = await startService();
  await register(gateway, "first", serviceAt(service.url, [{}, { name: "rest" }]));
  await register(gateway, "second", serviceAt(service.url, [{}]));
  [caller, other, viewer] = [
    await makeKey(gateway, "caller"),
    await makeKey(gateway, "caller"),
    await makeKey(gateway, "viewer"),
  ];
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

type Page = { ids: string[]; next: string | null };

async function page(query: Record<string, string>, key = gateway.adminKey): Promise<Page> {
  const path = `/v1/contexts?${new URLSearchParams(query)}`;
  const answer = await gateway.request("GET", path, { key });
  assert.equal(answer.status, 200, answer.text);
  const { data, next_cursor: next } = answer.json;
  const link = answer.headers.get("link");
  if (next === null) assert.equal(link, null);
  else {
    const [, target] = link!.match(/^<([^>]+)>; rel="next"$/)!;
    const { searchParams } = new URL(target!, gateway.url);
    assert.deepEqual(Object.fromEntries(searchParams), { ...query, cursor: next });
  }
  return { ids: data.map(({ id }: any) => id), next };
}

async function all(
  query: Record<string, string>,
  key = gateway.adminKey,
  between?: () => Promise<unknown>,
): Promise<string[]> {
  const found = [];
  let cursor: string | null = null;
  do {
    const { ids, next }: Page = await page(cursor ? { ...query, cursor } : query, key);
    found.push(...ids);
    cursor = next;
    await between?.();
  } while (cursor);
  return found;
}

test("more_than_two_hundred_contexts_are_paged_without_gap_or_repeat_while_new_ones_come", async () => {
  const made: string[] = [];
  for (let round = 0; round < 11; round++) {
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => create(gateway, { capability: "rest" }, { key: caller.secret })),
    );
    for (const { json } of answers) made.push(json.id);
  }
  const found = await all({ limit: "30" }, caller.secret, () =>
    create(gateway, { capability: "rest" }, { key: caller.secret }),
  );
  assert.equal(new Set(found).size, found.length, "something came twice");
  assert.deepEqual(found.toSorted(), made.toSorted());
  // Newest first, by the ids' time: they sort after region and shard.
  const times = found.map((id) => id.slice(8));
  assert.deepEqual(times, times.toSorted().reverse());
  assert.equal((await page({ limit: "200" }, caller.secret)).ids.length, 200);
  assert.equal((await page({}, caller.secret)).ids.length, 50);
});

test("each_filter_shows_exactly_the_matching_contexts", async () => {
  const began = new Date().toISOString();
  const one = (await create(gateway, { service: "first" })).json;
  service.handler = inTurn(status(404), echo);
  const failed = (await create(gateway, { service: "second" })).json;
  const rest = (await create(gateway, { capability: "rest" })).json;
  const waiting = await accepted(gateway, { service: "first", run_at: new Date(Date.now() + 60_000).toISOString() });
  const mine = { created_after: new Date(Date.parse(began) - 1).toISOString() };
  const ids = [waiting, rest, failed, one].map(({ id }) => id);
  const sees = async (query: Record<string, string>) => new Set(await all({ ...mine, ...query }));
  assert.deepEqual(await sees({}), new Set(ids));
  assert.deepEqual(await sees({ status: "completed" }), new Set([one.id, rest.id]));
  assert.deepEqual(await sees({ status: "failed" }), new Set([failed.id]));
  assert.deepEqual(await sees({ status: "queued" }), new Set([waiting.id]));
  assert.deepEqual(await sees({ status: "executing" }), new Set());
  assert.deepEqual(await sees({ service: "second" }), new Set([failed.id]));
  assert.deepEqual(await sees({ capability: "rest" }), new Set([rest.id]));
  assert.deepEqual(await sees({ capability: "work", service: "first", status: "completed" }), new Set([one.id]));
  assert.deepEqual(await sees({ service: "unknown" }), new Set());
  const before = { created_before: failed.created_at };
  assert.ok((await sees(before)).has(one.id) && !(await sees(before)).has(rest.id));
  const since = await sees({ created_after: rest.created_at });
  assert.ok(since.has(waiting.id) && !since.has(one.id));
  await gateway.request("POST", `/v1/contexts/${waiting.id}/cancel`);
  assert.deepEqual(await sees({ status: "cancelled" }), new Set([waiting.id]));
  assert.deepEqual(await sees({ status: "queued" }), new Set());
});

test("a_listed_context_is_the_context_without_its_large_parts", async () => {
  const { json: context } = await create(gateway, { parameters: { large: "x".repeat(1000) }, metadata: { a: 1 } });
  const { json: list } = await gateway.request("GET", "/v1/contexts?limit=1");
  const { parameters: _, result: __, ...expected } = context;
  const { parameters: ___, result: ____, ...listed } = list.data[0];
  assert.deepEqual(listed, expected);
});

test("all_invalid_filters_are_reported", async () => {
  const query = "status=done&limit=0&created_after=yesterday&created_before=2026-13-01T00:00:00Z";
  const problem = refused(await gateway.request("GET", `/v1/contexts?${query}`), 422, "validation_failed");
  assert.deepEqual(pointers(problem), ["?created_after", "?created_before", "?limit", "?status"]);
  for (const limit of ["201", "-1", "1.5", "", "1e2", "99999999999999999999"]) {
    refused(await gateway.request("GET", `/v1/contexts?limit=${limit}`), 422, "validation_failed");
  }
  const unknown = await gateway.request("GET", "/v1/contexts?state=queued&sort=up");
  assert.deepEqual(pointers(refused(unknown, 422, "validation_failed")), ["?sort", "?state"]);
});

test("a_cursor_that_is_foreign_or_altered_is_refused", async () => {
  const { next } = await page({ limit: "1" }, caller.secret);
  assert.ok(next);
  const flipped = (at: number) => next.slice(0, at) + (next[at] === "A" ? "B" : "A") + next.slice(at + 1);
  const bad: [string, Record<string, string>, string][] = [
    ["empty", { cursor: "", limit: "1" }, caller.secret],
    ["not one", { cursor: "nonsense", limit: "1" }, caller.secret],
    ["an id", { cursor: (await page({ limit: "1" })).ids[0]!, limit: "1" }, caller.secret],
    ["too long", { cursor: next.repeat(200), limit: "1" }, caller.secret],
    ["its first character changed", { cursor: flipped(0), limit: "1" }, caller.secret],
    ["its middle changed", { cursor: flipped(next.length >> 1), limit: "1" }, caller.secret],
    ["cut", { cursor: next.slice(0, -4), limit: "1" }, caller.secret],
    ["for another filter", { cursor: next, limit: "1", status: "completed" }, caller.secret],
    ["another principal's", { cursor: next, limit: "1" }, other.secret],
    ["of one owner, shown for all", { cursor: next, limit: "1", owner: "*" }, viewer.secret],
  ];
  for (const [what, query, key] of bad) {
    const answer = await gateway.request("GET", `/v1/contexts?${new URLSearchParams(query)}`, { key });
    assert.equal(answer.status, 400, `${what}: ${answer.text}`);
    refused(answer, 400, "invalid_request");
  }
});

test("a_cursor_survives_a_new_key_and_a_change_of_the_registry", async () => {
  const { ids, next } = await page({ limit: "2" }, caller.secret);
  await makeKey(gateway, "viewer");
  const { ids: second } = await page({ limit: "2", cursor: next! }, caller.secret);
  assert.equal(second.length, 2);
  assert.equal(
    ids.some((id) => second.includes(id)),
    false,
  );
});

test("contexts_of_all_owners_are_listed_only_with_the_permission", async () => {
  const mine = (await create(gateway, {}, { key: caller.secret })).json;
  const theirs = (await create(gateway, {}, { key: other.secret })).json;
  assert.equal(mine.owner, `key:${caller.id}`);
  const denied = await gateway.request("GET", "/v1/contexts?owner=*", { key: caller.secret });
  refused(denied, 403, "permission_denied");
  assert.equal(denied.headers.get("www-authenticate"), 'Bearer error="insufficient_scope", scope="contexts:read:*"');
  refused(
    await gateway.request("GET", `/v1/contexts?owner=key:${other.id}`, { key: caller.secret }),
    403,
    "permission_denied",
  );
  const seen = (query: Record<string, string>, key: string) =>
    page({ limit: "10", ...query }, key).then(({ ids }) => ids);
  assert.equal((await seen({}, caller.secret)).includes(theirs.id), false);
  for (const query of [{}, { owner: "me" }, { owner: `key:${caller.id}` }] as Record<string, string>[]) {
    assert.equal((await seen(query, caller.secret))[0], mine.id, JSON.stringify(query));
  }
  const whole = await seen({ owner: "*" }, viewer.secret);
  assert.deepEqual(new Set(whole.slice(0, 2)), new Set([mine.id, theirs.id]));
  assert.equal((await seen({ owner: `key:${other.id}` }, viewer.secret))[0], theirs.id);
  assert.deepEqual(await seen({}, viewer.secret), []);
});

test("another_owners_context_looks_exactly_like_an_unknown_one", async () => {
  const { id } = (await create(gateway, {}, { key: caller.secret })).json;
  const last = id.at(-1) === "0" ? "1" : "0";
  const unknown = id.slice(0, -1) + last;
  const asked = [
    ["GET", ""],
    ["POST", "/cancel"],
    ["GET", "/events"],
  ] as const;
  for (const [method, rest] of asked) {
    const bodies = [];
    for (const target of [id, unknown, "ctx_eu00", "nonsense"]) {
      const answer = await gateway.request(method, `/v1/contexts/${target}${rest}`, { key: other.secret });
      const { request_id: _, instance: __, ...body } = refused(answer, 404, "not_found");
      bodies.push(body);
    }
    for (const body of bodies) assert.deepEqual(body, bodies[0], method + rest);
  }
  assert.equal((await gateway.request("GET", `/v1/contexts/${id}`, { key: viewer.secret })).status, 200);
  assert.equal((await ended(gateway, id, { key: caller.secret })).status, "completed");
});

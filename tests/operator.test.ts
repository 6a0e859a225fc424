// Operating others' work: the role `operator`, names of owners, replays that link to their originals.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accepted, create, ended, eventually, makeKey, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, type Service, startService } from "./support/service.ts";

type Json = any;
let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway({ vars: { PUBLIC_URL: "https://gateway.example.com" } });
  service = await startService(echo);
  await register(
    gateway,
    "worker",
    serviceAt(service.url, [{ name: "work" }, { name: "guarded", permissions: ["reports:write"] }]),
  );
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

test("an_operator_sees_cancels_and_replays_the_work_of_all", async () => {
  const [operator, caller] = [await makeKey(gateway, "operator"), await makeKey(gateway, "caller")];
  const key = operator.secret;
  const { json: theirs } = await create(gateway, { parameters: { n: 1 } }, { key: caller.secret });
  const seen = await gateway.request("GET", `/v1/contexts/${theirs.id}`, { key });
  assert.deepEqual([seen.status, seen.json.parameters], [200, { n: 1 }]);
  const { data } = (await gateway.request("GET", "/v1/contexts?owner=*", { key })).json;
  assert.ok(data.some(({ id }: Json) => id === theirs.id));
  const events = await gateway.request("GET", `/v1/events?subject=${theirs.id}`, {
    key,
    headers: { accept: "application/json" },
  });
  assert.ok(events.json.data.length > 0);
  assert.equal((await gateway.request("GET", "/v1/usage?group_by=principal", { key })).status, 200);
  // It runs as the caller who replays it.
  const replayed = await gateway.request("POST", `/v1/contexts/${theirs.id}/replay`, { key });
  assert.equal(replayed.status, 200, replayed.text);
  assert.deepEqual(
    [replayed.json.owner, replayed.json.owner_name, replayed.json.replay_of, replayed.json.parameters],
    [`key:${operator.id}`, "a operator", theirs.id, { n: 1 }],
  );
  refused(await gateway.request("GET", `/v1/contexts/${replayed.json.id}`, { key: caller.secret }), 404, "not_found");
  const later = await accepted(
    gateway,
    { run_at: new Date(Date.now() + 60_000).toISOString() },
    { key: caller.secret },
  );
  assert.equal((await gateway.request("POST", `/v1/contexts/${later.id}/cancel`, { key })).status, 200);
  // Callers may not replay what they may not do themselves.
  const { json: guarded } = await create(gateway, { capability: "guarded" });
  refused(await gateway.request("POST", `/v1/contexts/${guarded.id}/replay`, { key }), 403, "permission_denied");
  for (const [method, path] of [
    ["POST", "/v1/keys"],
    ["GET", "/v1/keys"],
    ["PUT", "/v1/roles/mine"],
    ["GET", "/v1/tenants"],
  ] as const) {
    refused(
      await gateway.request(method, path, {
        key,
        ...(method !== "GET" && { body: { name: "x", role: "admin", permissions: [] } }),
      }),
      403,
      "permission_denied",
    );
  }
});

test("a_caller_who_may_only_read_replays_nothing", async () => {
  const { json: theirs } = await create(gateway);
  const { secret: key } = await makeKey(gateway, "viewer");
  refused(await gateway.request("POST", `/v1/contexts/${theirs.id}/replay`, { key }), 403, "permission_denied");
  const other = await makeKey(gateway, "bare", ["contexts:read:*", "contexts:create:worker.guarded", "reports:write"]);
  refused(
    await gateway.request("POST", `/v1/contexts/${theirs.id}/replay`, { key: other.secret }),
    403,
    "permission_denied",
  );
});

test("a_refusal_names_the_missing_permission_and_the_shipped_roles_that_have_it", async () => {
  const { secret: key } = await makeKey(gateway, "bare");
  const problem = refused(await gateway.request("GET", "/v1/contexts", { key }), 403, "permission_denied");
  assert.deepEqual([problem.permission, problem.roles], ["contexts:read", ["admin", "operator", "caller", "viewer"]]);
  assert.match(problem.detail, /contexts:read.*admin, operator, caller and viewer/);
  const keys = refused(await gateway.request("POST", "/v1/keys", { key, body: {} }), 403, "permission_denied");
  assert.deepEqual([keys.permission, keys.roles], ["keys:write", ["admin"]]);
});

test("owners_and_actors_are_named", async () => {
  const { id, secret: key } = await makeKey(gateway, "operator");
  const owner = `key:${id}`;
  const me = (await gateway.request("GET", "/v1/whoami", { key })).json;
  assert.deepEqual([me.principal, me.name], [owner, "a operator"]);
  assert.equal((await gateway.request("GET", "/v1/whoami")).json.name, null);
  const { json: made } = await create(gateway, {}, { key });
  assert.deepEqual([made.owner, made.owner_name], [owner, "a operator"]);
  const { data } = (await gateway.request("GET", `/v1/contexts?owner=${owner}`)).json;
  assert.deepEqual(
    data.map((one: Json) => one.owner_name),
    ["a operator"],
  );
  const events = (await gateway.request("GET", `/v1/contexts/${made.id}/events`, { key })).json.data;
  assert.ok(events.length > 3 && events.every((event: Json) => event.data.owner_name === "a operator"));
  await gateway.request("PUT", "/v1/limits/named", {
    key,
    body: { kind: "requests", quota: 5, window_seconds: 60, binds: { key: "unknown" } },
  });
  const [entry] = (await gateway.request("GET", `/v1/audit?actor=${owner}`)).json.data;
  assert.deepEqual([entry.action, entry.actor_name], ["limit.created", "a operator"]);
  const usage = () => gateway.request("GET", "/v1/usage?group_by=principal");
  const group = await eventually(async () => (await usage()).json.data.find((one: Json) => one.principal === owner));
  assert.equal(group.principal_name, "a operator");
  // A recorded name outlives its key.
  await gateway.request("DELETE", `/v1/keys/${id}`);
  assert.equal((await gateway.request("GET", `/v1/contexts/${made.id}`)).json.owner_name, "a operator");
  assert.equal((await usage()).json.data.find((one: Json) => one.principal === owner).principal_name, null);
});

test("a_replay_links_to_its_original", async () => {
  const { json: first } = await create(gateway);
  assert.ok(!("replay_of" in first));
  const { json: again } = await gateway.request("POST", `/v1/contexts/${first.id}/replay`);
  assert.equal(again.replay_of, first.id);
  const { data } = (await gateway.request("GET", "/v1/contexts?owner=*&limit=5")).json;
  assert.equal(data.find(({ id }: Json) => id === again.id).replay_of, first.id);
  assert.equal((await ended(gateway, again.id)).replay_of, first.id);
  const [created, ...others] = (await gateway.request("GET", `/v1/contexts/${again.id}/events`)).json.data;
  assert.deepEqual([created.type, created.data.replay_of], ["context.created", first.id]);
  assert.ok(others.every((event: Json) => !("replay_of" in event.data)));
  const { json: third } = await gateway.request("POST", `/v1/contexts/${again.id}/replay`);
  assert.equal(third.replay_of, again.id);
});

test("an_event_links_to_a_large_result_at_the_gateways_address", async () => {
  const { json: large } = await create(gateway, { parameters: { text: "x".repeat(20_000) } });
  const events = (await gateway.request("GET", `/v1/contexts/${large.id}/events`)).json.data;
  assert.equal(events.at(-1).data.result_url, `https://gateway.example.com/v1/contexts/${large.id}`);
});

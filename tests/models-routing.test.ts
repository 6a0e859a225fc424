// Models by name: which service gets a request, who may use which model, and what clients see of both.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { contextOf, eventually, makeKey, refused, register } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Handler, gate, json, type Service, startService, status } from "./support/service.ts";

let gateway: Gateway;
const services: Service[] = [];

const usage = { prompt_tokens: 1_000, completion_tokens: 500, total_tokens: 1_500 };
const well: Handler = (call, response) =>
  json({ id: "c", model: call.json.model, choices: [{ message: { content: "Hi" }, finish_reason: "stop" }], usage })(
    call,
    response,
  );

/** Registers a provider; returns it. */
async function provider(id: string, models: unknown, more: object = {}, handler: Handler = well): Promise<Service> {
  const service = await startService(handler, { probe: json({ object: "list", data: [] }) });
  services.push(service);
  const transport = { kind: "openai", url: `${service.url}v1` };
  await register(gateway, id, { name: "A provider", type: "llm", transport, ...(models ? { models } : {}), ...more });
  return service;
}

async function chat(body: object, options: { headers?: Record<string, string>; key?: string } = {}) {
  const answer = await gateway.request("POST", "/v1/chat/completions", {
    body: { messages: [{ role: "user", content: "Hi" }], ...body },
    ...options,
  });
  return answer;
}

before(async () => {
  gateway = await startGateway();
});
after(async () => {
  await gateway?.stop();
  for (const service of services) await service.stop();
});

test("a_model_is_found_by_route_id_or_service_and_is_called_by_its_own_name", async () => {
  const listed = await provider("listed", [{ id: "small", upstream: "small-2026-11" }, { id: "a/b:c" }]);
  const any = await provider("any", [{ id: "*" }]);
  const open = await provider("open", undefined, { transport: { kind: "openai", url: "http://127.0.0.1:1/v1" } });
  const put = await gateway.request("PUT", "/v1/model-routes/team/fast", {
    body: { targets: [{ service: "listed", model: "small" }] },
  });
  assert.deepEqual([put.status, put.headers.get("location")], [201, "/v1/model-routes/team/fast"]);
  for (const [asked, service, sent] of [
    ["small", "listed", "small-2026-11"],
    ["listed/small", "listed", "small-2026-11"],
    ["a/b:c", "listed", "a/b:c"],
    ["team/fast", "listed", "small-2026-11"],
    ["any/some/other", "any", "some/other"],
  ] as const) {
    const answer = await chat({ model: asked });
    assert.deepEqual([answer.status, answer.headers.get("x-narthex-service")], [200, service], asked);
    assert.equal(answer.headers.get("x-narthex-model"), sent);
    const calls = service === "listed" ? listed.calls : any.calls;
    assert.equal(calls.at(-1)?.json.model, sent);
  }
  assert.equal(open.calls.length, 0);
  const unknown = await chat({ model: "smal" });
  assert.deepEqual([unknown.status, unknown.json.error.code], [404, "model_not_found"]);
  assert.match(unknown.json.error.message, /The nearest names: small/);
});

test("a_route_with_a_target_that_is_missing_is_refused", async () => {
  await provider("known", [{ id: "m" }]);
  const body = {
    targets: [
      { service: "nowhere", model: "m" },
      { service: "known", model: "other" },
      { service: "known", model: "m" },
    ],
  };
  for (const name of ["..%2Fkeys", "a/%2e%2e%2Fb", "a%2F%2Fb", "%2Fa", "a%2F", "a%20b", "gpt-*", "a,b"]) {
    const named = await gateway.request("PUT", `/v1/model-routes/${name}`, { body: { targets: [] } });
    assert.equal(refused(named, 422, "validation_failed").errors?.[0]?.pointer, "#/name", name);
  }
  const missing = await gateway.request("PUT", "/v1/model-routes/faulty", { body });
  assert.equal(missing.status, 422);
  const pointers = missing.json.errors.map((fault: any) => fault.pointer);
  assert.deepEqual(pointers, ["#/targets/0/service", "#/targets/1/model"]);
});

test("routes_are_documents_with_versions", async () => {
  await provider("versioned", [{ id: "v1" }]);
  const body = { description: "d", targets: [{ service: "versioned", model: "v1", tier: 1, weight: 2 }] };
  const path = "/v1/model-routes/versions";
  const made = await gateway.request("PUT", path, { body });
  assert.deepEqual([made.status, made.headers.get("etag")], [201, '"1"']);
  assert.equal((await gateway.request("PUT", path, { body })).status, 428);
  const headers = { "if-match": '"1"' };
  assert.equal((await gateway.request("PUT", path, { body: { ...body, affinity: "none" }, headers })).status, 200);
  const read = await gateway.request("GET", path);
  assert.deepEqual([read.json.affinity, read.headers.get("etag")], ["none", '"2"']);
  const again = await gateway.request("PUT", path, { body: read.json, headers: { "if-match": '"2"' } });
  assert.equal(again.status, 200, "what was read can be written");
  const all = await gateway.request("GET", "/v1/model-routes");
  assert.ok(all.json.data.some((route: any) => route.name === "versions"));
  assert.equal((await gateway.request("DELETE", path, { headers: { "if-match": "*" } })).status, 204);
  assert.equal((await gateway.request("GET", path)).status, 404);
});

test("a_key_uses_the_models_it_may_and_sees_no_others", async () => {
  await provider("catalogue", [{ id: "pub-1" }, { id: "pub-2:x" }, { id: "private" }]);
  const { secret: key } = await makeKey(gateway, "bare", ["models:use:pub-*"]);
  const list = await gateway.request("GET", "/v1/models", { key });
  assert.deepEqual(
    list.json.data.map((model: any) => model.id),
    ["pub-1", "pub-2:x"],
  );
  assert.equal((await chat({ model: "pub-2:x" }, { key })).status, 200);
  assert.equal((await chat({ model: "catalogue/pub-1" }, { key })).status, 200);
  const refused = await chat({ model: "private" }, { key });
  assert.deepEqual([refused.status, refused.json.error.type], [403, "permission_error"]);
  assert.match(refused.json.error.message, /models:use:private/);
  assert.equal((await gateway.request("GET", "/v1/models/private", { key })).status, 404);
  assert.equal((await gateway.request("GET", "/v1/models/pub-2:x", { key })).json.id, "pub-2:x");
  const caller = await makeKey(gateway, "caller");
  assert.equal((await chat({ model: "private" }, { key: caller.secret })).status, 200);
  const viewer = await makeKey(gateway, "viewer");
  assert.equal((await chat({ model: "private" }, { key: viewer.secret })).status, 403);
  assert.equal((await gateway.request("GET", "/v1/model-routes", { key: viewer.secret })).status, 200);
  const service = { body: { targets: [{ service: "catalogue", model: "private" }] }, key: viewer.secret };
  assert.equal((await gateway.request("PUT", "/v1/model-routes/x", service)).status, 403);
});

test("a_capability_may_require_more", async () => {
  const capabilities = [{ name: "chat", permissions: ["teams:red"] }];
  await provider("guarded", [{ id: "guarded-model" }], { capabilities });
  const { secret: plain } = await makeKey(gateway, "caller");
  const { secret: red } = await makeKey(gateway, "caller", ["teams:red"]);
  assert.equal((await chat({ model: "guarded-model" }, { key: plain })).status, 403);
  assert.equal((await chat({ model: "guarded-model" }, { key: red })).status, 200);
  const names = async (key: string) =>
    (await gateway.request("GET", "/v1/models", { key })).json.data.map((model: any) => model.id);
  assert.ok(!(await names(plain)).includes("guarded-model"));
  assert.ok((await names(red)).includes("guarded-model"));
});

test("conversations_keep_to_one_of_several_equal_targets_and_only_the_share_of_a_dead_one_moves", async () => {
  const targets: object[] = [];
  const equal: Service[] = [];
  for (let at = 0; at < 5; at++) {
    equal.push(await provider(`equal-${at}`, [{ id: "twin" }]));
    targets.push({ service: `equal-${at}`, model: "twin" });
  }
  await gateway.request("PUT", "/v1/model-routes/equals", { body: { targets } });
  const served = async (conversation: number, turns: number, model: string) => {
    const messages: object[] = [
      { role: "system", content: "Be kind." },
      { role: "user", content: `Conversation ${conversation}` },
    ];
    const seen = new Set<string>();
    for (let turn = 0; turn < turns; turn++) {
      const answer = await chat({ model, messages });
      seen.add(answer.headers.get("x-narthex-service") as string);
      messages.push({ role: "assistant", content: "Hi" }, { role: "user", content: `Turn ${turn}` });
    }
    assert.equal(seen.size, 1, `conversation ${conversation} at ${[...seen]}`);
    return [...seen][0] as string;
  };
  const first = await Promise.all(Array.from({ length: 20 }, (_, at) => served(at, 8, "equals")));
  assert.ok(new Set(first).size >= 3, `20 conversations at ${[...new Set(first)]}`);
  const dead = first[0] as string;
  const patch = await gateway.request("PATCH", `/v1/services/${dead}`, {
    body: { status: "draining" },
    headers: { "content-type": "application/merge-patch+json", "if-match": "*" },
  });
  assert.equal(patch.status, 200, patch.text);
  await eventually(async () => (await served(0, 1, "equals")) !== dead);
  const moved = await Promise.all(Array.from({ length: 20 }, (_, at) => served(at, 1, "equals")));
  for (const [at, service] of first.entries())
    if (service === dead) assert.notEqual(moved[at], dead);
    else assert.equal(moved[at], service);
  // The plain name has the same targets.
  assert.equal(await served(19, 2, "twin"), moved[19]);
});

test("a_session_names_a_conversation", async () => {
  const at = async (headers: Record<string, string>, content: string) =>
    (await chat({ model: "equals", messages: [{ role: "user", content }] }, { headers })).headers.get(
      "x-narthex-service",
    );
  for (const name of ["x-session-id", "x-claude-code-session-id"]) {
    const seen = await Promise.all(Array.from({ length: 12 }, (_, turn) => at({ [name]: "s-1" }, `Turn ${turn}`)));
    assert.equal(new Set(seen).size, 1, name);
  }
});

test("a_service_that_is_at_its_limit_is_passed_over_and_the_last_one_is_waited_for", async () => {
  const { handler, open } = gate(well);
  await provider("narrow", [{ id: "narrow-model" }], { limits: { max_concurrency: 1 } }, handler);
  await provider("wide", [{ id: "wide-model" }]);
  const targets = [
    { service: "narrow", model: "narrow-model", tier: 0 },
    { service: "wide", model: "wide-model", tier: 1 },
  ];
  await gateway.request("PUT", "/v1/model-routes/narrow-first", { body: { targets } });
  const first = chat({ model: "narrow-first" });
  await eventually(() => services.find((service) => service.calls.length === 1 && service.handler === handler));
  const second = await chat({ model: "narrow-first" });
  assert.equal(second.headers.get("x-narthex-service"), "wide");
  const third = chat({ model: "narrow-model" });
  open();
  const both = await Promise.all([first, third]);
  assert.deepEqual(
    both.map((answer) => [answer.status, answer.headers.get("x-narthex-service")]),
    [
      [200, "narrow"],
      [200, "narrow"],
    ],
  );
});

test("usage_and_spend_are_counted_by_service", async () => {
  const prices = { currency: "EUR", input: "1.5", output: "3", cached_input: "0.1" };
  await provider("priced", [{ id: "priced-model", prices }]);
  for (const _ of [1, 2]) assert.equal((await chat({ model: "priced-model" })).status, 200);
  const group = await eventually(async () => {
    const answer = await gateway.request("GET", "/v1/usage?group_by=service");
    return answer.json.data.find((one: any) => one.service === "priced" && one.completed === 2);
  });
  assert.deepEqual(group.tokens, { input: 2_000, cached_input: 0, cache_write: 0, output: 1_000, reasoning: 0 });
  assert.deepEqual(group.spend, [{ amount: "0.006", currency: "EUR", estimated: "0.00" }]);
  const metrics = await gateway.request("GET", "/metrics");
  assert.match(
    metrics.text,
    /narthex_model_tokens_total\{service="priced",capability="chat",model="priced-model",kind="input"\} 2000/,
  );
  assert.match(
    metrics.text,
    /narthex_spend_total\{service="priced",capability="chat",model="priced-model",currency="EUR",part="all"\} 0.006/,
  );
});

test("a_request_may_name_metadata_for_its_context", async () => {
  await provider("meta", [{ id: "meta-model" }]);
  const headers = { "x-narthex-metadata": '{"customer":"c-7"}' };
  const answer = await chat({ model: "meta-model" }, { headers });
  const context = await contextOf(gateway, answer.headers);
  assert.deepEqual(context.metadata, { customer: "c-7" });
  for (const wrong of ["[]", "{", `{"a":"${"x".repeat(9_000)}"}`]) {
    const refused = await chat({ model: "meta-model" }, { headers: { "x-narthex-metadata": wrong } });
    assert.equal(refused.status, 400, wrong.slice(0, 10));
  }
});

test("a_target_that_has_failed_holds_no_permit", async () => {
  const failing = await provider("failing", [{ id: "failing-model" }], {}, status(403, { error: { message: "no" } }));
  const { handler, open } = gate(well);
  const next = await provider("next", [{ id: "next-model" }], {}, handler);
  const targets = [
    { service: "failing", model: "failing-model", tier: 0 },
    { service: "next", model: "next-model", tier: 1 },
  ];
  await gateway.request("PUT", "/v1/model-routes/failing-first", { body: { targets, fallback_on: ["auth"] } });
  const limit = { kind: "concurrent", quota: 1, binds: { service: "failing" } };
  await gateway.request("PUT", "/v1/limits/one-at-once", { body: limit });
  // A limit that binds both targets counts the request once.
  const both = { kind: "concurrent", quota: 2, binds: { capability: "chat" } };
  await gateway.request("PUT", "/v1/limits/two-at-once", { body: both });
  await eventually(async () => {
    const { headers } = await chat({ model: "failing-model" });
    return /one-at-once.*two-at-once|two-at-once.*one-at-once/.test(headers.get("ratelimit") ?? "");
  });
  const before = failing.calls.length;
  const waiting = await eventually(async () => {
    const answer = chat({ model: "failing-first" });
    const isThere = eventually(() => next.calls.length > 0).then(() => "waits" as const);
    return (await Promise.race([answer, isThere])) === "waits" ? { answer } : undefined;
  });
  await eventually(async () => (await chat({ model: "failing-model" })).status === 403);
  assert.ok(failing.calls.length > before);
  open();
  assert.equal((await waiting.answer).headers.get("x-narthex-service"), "next");
  for (const name of ["one-at-once", "two-at-once"])
    await gateway.request("DELETE", `/v1/limits/${name}`, { headers: { "if-match": "*" } });
});

test("limits_of_requests_are_refused_in_the_format", async () => {
  await provider("limited", [{ id: "limited-model" }]);
  const limit = { kind: "requests", quota: 1, window_seconds: 3600, binds: { service: "limited" } };
  await gateway.request("PUT", "/v1/limits/one-call", { body: limit });
  await eventually(async () => {
    const answer = await chat({ model: "limited-model" });
    if (answer.status !== 429) return undefined;
    assert.equal(answer.json.error.type, "rate_limit_error");
    assert.ok(Number(answer.headers.get("retry-after")) > 0);
    return answer;
  });
  await gateway.request("DELETE", "/v1/limits/one-call", { headers: { "if-match": "*" } });
});

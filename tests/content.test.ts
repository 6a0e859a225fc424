// `content: none`: what is refused because it needs the content later, and what works as it does with kept content.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { accepted, create, ended, eventually, makeKey, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { askLegacy, askModern, errorOf, events, message, openModern, resultOf } from "./support/mcp.ts";
import { echo, gate, inTurn, json, type Service, slow, startService, status } from "./support/service.ts";
import { next, streamed } from "./support/sse.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway();
  service = await startService();
  const none = { content: "none" };
  const capabilities = [
    { name: "private", idempotent: true, ...none },
    { name: "private-first", durable: false, ...none },
    { name: "kept" },
  ];
  await register(gateway, "words", serviceAt(service.url, capabilities));
  const one = [{ name: "own" }, { name: "public", content: "full" }];
  await register(gateway, "discreet", serviceAt(service.url, one, { ...none, limits: { max_concurrency: 1 } }));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

/** The context as it is stored. */
const stored = async (id: string): Promise<any> => (await gateway.request("GET", `/v1/contexts/${id}`)).json;
const parameters = { n: 1.5, text: "between us" };
const both = ["private", "private-first"];

test("the_response_has_the_content_and_the_record_has_none", async () => {
  service.handler = echo;
  for (const capability of [...both, "own"]) {
    const { status: code, json: context } = await create(gateway, { capability, parameters });
    assert.equal(code, 200);
    const { content, status: state, result, parameters: sent } = context;
    assert.deepEqual([content, state, result, sent], ["none", "completed", parameters, parameters]);
    const kept = await eventually(async () =>
      (await stored(context.id)).status === "completed" ? stored(context.id) : 0,
    );
    assert.deepEqual({ ...kept, parameters, result: parameters }, { ...context, updated_at: kept.updated_at });
    assert.deepEqual([kept.parameters, kept.result, kept.content], [null, null, "none"]);
    const { text } = await gateway.request("GET", `/v1/contexts/${context.id}/events`);
    assert.ok(text.includes("context.completed") && !text.includes("between us"), text);
  }
  const { json: context } = await create(gateway, { capability: "public", parameters });
  assert.deepEqual([context.content, (await stored(context.id)).result], [undefined, parameters]);
});

test("what_needs_the_content_later_is_refused_by_name", async () => {
  service.handler = echo;
  const calls = service.calls.length;
  const asks: [object, Record<string, string>, RegExp[]][] = [
    [{}, { prefer: "respond-async" }, [/respond-async/]],
    [{}, { prefer: "respond-async, wait=5" }, [/respond-async/]],
    [{}, { "idempotency-key": "one" }, [/Idempotency-Key/]],
    [{ run_at: "2030-01-01T00:00:00Z" }, {}, [/run_at/]],
    [
      { run_at: "2030-01-01T00:00:00Z" },
      { prefer: "respond-async", "idempotency-key": "one" },
      [/respond-async/, /Idempotency-Key/, /run_at/],
    ],
  ];
  for (const capability of [...both, "own"])
    for (const [more, headers, words] of asks) {
      const answer = await create(gateway, { capability, parameters, ...more }, { headers });
      const { detail, errors } = refused(answer, 422, "content_not_kept");
      for (const word of words) assert.match(detail, word);
      assert.deepEqual(
        errors?.map((fault: any) => fault.pointer),
        "run_at" in more ? ["#/run_at"] : undefined,
      );
    }
  const schedule = { interval_seconds: 3600, context: { capability: "private", parameters } };
  const { errors } = refused(
    await gateway.request("PUT", "/v1/schedules/s", { body: schedule }),
    422,
    "content_not_kept",
  );
  assert.equal(errors[0].pointer, "#/context/capability");
  assert.equal(service.calls.length, calls);
  const { json: context } = await create(gateway, { capability: "private", parameters });
  refused(await gateway.request("POST", `/v1/contexts/${context.id}/replay`), 422, "content_not_kept");
});

test("a_schedule_from_before_is_refused_when_it_is_due", async () => {
  const document = (content: string) => serviceAt(service.url, [{ name: "later", content }]);
  await register(gateway, "later", document("full"));
  const soon = { interval_seconds: 10, context: { capability: "later", parameters } };
  const { secret } = await makeKey(gateway, "operator");
  const put = await gateway.request("PUT", "/v1/schedules/soon", { body: soon, key: secret });
  assert.equal(put.status, 201, put.text);
  const { etag } = Object.fromEntries((await gateway.request("GET", "/v1/services/later")).headers);
  const headers = { "if-match": etag! };
  const changed = await gateway.request("PUT", "/v1/services/later", { body: document("none"), headers });
  assert.equal(changed.status, 200, changed.text);
  const run = await eventually(async () => {
    const { json: schedule } = await gateway.request("GET", "/v1/schedules/soon");
    return schedule.last_runs.at(-1);
  });
  assert.deepEqual([run.outcome, run.code], ["refused", "content_not_kept"]);
});

test("a_service_cannot_continue_later", async () => {
  const asks = { input_required: { message: "Who?", schema: { type: "object" } } };
  for (const capability of both)
    for (const [handler, word] of [
      [status(202), /202/],
      [json(asks), /input/],
    ] as const) {
      service.handler = handler;
      const calls = service.calls.length;
      const { detail } = refused(await create(gateway, { capability, parameters }), 422, "content_not_kept");
      assert.match(detail, word);
      const [id] = detail.match(/ctx_\w+/);
      assert.equal((await service.call(calls)).json.context_id, id);
      const context = await ended(gateway, id);
      assert.deepEqual([context.status, context.error.code], ["failed", "content_not_kept"]);
      assert.equal(context.attempts.length, 1);
    }
});

test("a_callback_is_refused", async () => {
  const said: any[] = [];
  const says = async (url: string, body: object) => {
    const path = new URL(url).pathname;
    const answer = await gateway.request("POST", path, { body, key: null });
    said.push([answer.status, answer.json.code]);
  };
  service.handler = async (call, response) => {
    await says(call.json.callback_url, { result: "early" });
    await says(call.json.callback_url, { progress: { note: "between us" } });
    await echo(call, response);
  };
  const { json: context } = await create(gateway, { capability: "private", parameters });
  assert.deepEqual([context.status, context.result], ["completed", parameters]);
  assert.deepEqual(said, [
    [422, "content_not_kept"],
    [200, undefined],
  ]);
  assert.equal((await stored(context.id)).progress, undefined);
});

test("registration_refuses_what_cannot_be", async () => {
  const put = (document: object) => gateway.request("PUT", "/v1/services/odd", { body: document });
  const socket = { transport: { kind: "socket" }, content: "none" };
  const always = { task_support: "required" };
  const faults: [object, string[]][] = [
    [serviceAt(service.url, [{ content: "some" }], { content: 1 }), ["#/capabilities/0/content", "#/content"]],
    [serviceAt(service.url, [{ content: "none" }], socket), ["#/capabilities/0/content", "#/content"]],
    [serviceAt(service.url, [{ content: "none", ...always }]), ["#/capabilities/0/task_support"]],
    [
      serviceAt(service.url, [always, { name: "b", content: "full", ...always }], { content: "none" }),
      ["#/capabilities/0/task_support"],
    ],
  ];
  for (const [document, pointers] of faults) {
    const { errors } = refused(await put(document), 422, "validation_failed");
    assert.deepEqual(errors.map((fault: any) => fault.pointer).sort(), pointers);
  }
});

test("a_wait_that_is_over_continues", async () => {
  service.handler = slow(2_500);
  for (const capability of both) {
    const headers = { prefer: "wait=1" };
    const answer = await create(gateway, { capability, parameters }, { headers });
    assert.deepEqual([answer.status, answer.json.result], [200, parameters]);
    assert.equal(answer.headers.get("preference-applied"), null);
  }
});

test("attempts_are_repeated_with_the_same_content", async () => {
  service.handler = inTurn(status(503), status(429, undefined, { "retry-after": "1" }), echo);
  const calls = service.calls.length;
  const { json: context } = await create(gateway, { capability: "private", parameters });
  assert.deepEqual([context.status, context.result, context.attempts.length], ["completed", parameters, 3]);
  assert.deepEqual(
    service.calls.slice(calls).map((call) => call.json.parameters),
    [parameters, parameters, parameters],
  );
});

test("calls_wait_in_the_queue_of_a_limited_service", async () => {
  const held = gate();
  service.handler = held.handler;
  const calls = service.calls.length;
  const answers = [1, 2, 3].map((n) => create(gateway, { capability: "own", parameters: { n } }));
  await service.call(calls);
  await pause(1_000);
  assert.equal(service.calls.length, calls + 1);
  held.open();
  for (const [at, answer] of (await Promise.all(answers)).entries())
    assert.deepEqual([answer.status, answer.json.status, answer.json.result], [200, "completed", { n: at + 1 }]);
});

test("the_words_of_a_failure_are_for_the_client_only", async () => {
  const error = { code: "broken", message: "Not for others: between us.", details: { why: "between us" } };
  for (const capability of both) {
    service.handler = json({ error });
    const { json: context } = await create(gateway, { capability, parameters });
    assert.deepEqual([context.status, context.error.message], ["failed", error.message]);
    assert.deepEqual(context.error.details.details, error.details);
    const kept = await ended(gateway, context.id);
    assert.deepEqual(kept.error, {
      code: "upstream_error",
      message: "The service reported an error.",
      service: "words",
    });
  }
});

test("a_running_context_is_cancelled", async () => {
  const held = gate();
  service.handler = held.handler;
  const calls = service.calls.length;
  const answer = create(gateway, { capability: "private", parameters });
  const { context_id: id } = (await service.call(calls)).json;
  const cancelled = await gateway.request("POST", `/v1/contexts/${id}/cancel`);
  assert.equal(cancelled.status, 202, cancelled.text);
  assert.equal((await answer).json.status, "cancelled");
  held.open();
});

test("an_event_stream_has_the_result_at_its_end", async () => {
  service.handler = slow(200);
  for (const capability of both) {
    const headers = { accept: "text/event-stream" };
    const { text } = await create(gateway, { capability, parameters }, { headers });
    const last = JSON.parse(text.split("event: end\ndata: ")[1]!.split("\n")[0]!);
    assert.deepEqual([last.status, last.result], ["completed", parameters]);
  }
});

// Over MCP.

const call = (name: string, more: object = {}) => ({ name: `words__${name}`, arguments: parameters, ...more });
const tasks = { "io.modelcontextprotocol/clientCapabilities": { extensions: { "io.modelcontextprotocol/tasks": {} } } };

test("tools_are_called_in_both_revisions", async () => {
  service.handler = echo;
  for (const name of both) {
    assert.deepEqual(resultOf(await askModern(gateway, "tools/call", call(name))).structuredContent, parameters);
    assert.deepEqual(resultOf(await askLegacy(gateway, "tools/call", call(name))).structuredContent, parameters);
  }
  const { tools } = resultOf(await askLegacy(gateway, "tools/list"));
  const support = (name: string) => tools.find((tool: any) => tool.name === name).execution.taskSupport;
  assert.deepEqual(["words__private", "words__kept", "discreet__own", "discreet__public"].map(support), [
    "forbidden",
    "optional",
    "forbidden",
    "optional",
  ]);
});

test("a_call_that_takes_longer_is_answered_on_its_stream_or_waited_for", async () => {
  service.handler = slow(4_000);
  const forms = both.flatMap((name) => [
    openModern(gateway, "tools/call", call(name)).then(({ whole }) => whole()),
    openModern(gateway, "tools/call", call(name), { meta: tasks }).then(({ whole }) => whole()),
    askModern(gateway, "tools/call", call(name), { headers: { accept: "application/json" } }),
    askLegacy(gateway, "tools/call", call(name)),
    askLegacy(gateway, "tools/call", call(name), { headers: { accept: "application/json" } }),
  ]);
  for (const answer of await Promise.all(forms)) assert.deepEqual(resultOf(answer).structuredContent, parameters);
});

test("a_task_is_refused", async () => {
  errorOf(await askLegacy(gateway, "tools/call", call("private", { task: {} })), 200, -32601);
  service.handler = status(202);
  const { isError, content } = resultOf(await askModern(gateway, "tools/call", call("private"), { meta: tasks }));
  assert.equal(isError, true);
  assert.match(content[0].text, /^content_not_kept: .*202/);
});

test("a_session_keeps_no_result", async () => {
  const opened = await askLegacy(gateway, "initialize", {
    protocolVersion: "2025-11-25",
    capabilities: { elicitation: {} },
    clientInfo: { name: "tests", version: "1" },
  });
  const headers = {
    accept: "application/json, text/event-stream",
    "mcp-session-id": opened.headers.get("mcp-session-id")!,
  };
  const held = gate();
  service.handler = held.handler;
  const aborts = new AbortController();
  const body = message("tools/call", call("private"));
  const response = await gateway.open("POST", "/mcp", { body, headers, signal: aborts.signal });
  const { id } = await next(streamed(response));
  aborts.abort();
  held.open();
  const resumed = await gateway.request("GET", "/mcp", { headers: { ...headers, "last-event-id": id! } });
  const { result } = events(resumed.text).at(-1);
  assert.equal(result.isError, true);
  assert.match(result.content[0].text, /^content_not_kept: /);
  // A stream that is not broken has the result.
  service.handler = slow(3_500);
  const whole = await askLegacy(gateway, "tools/call", call("private"), { headers });
  assert.deepEqual(resultOf(whole).structuredContent, parameters);
});

test("a_kept_context_still_outlives_its_wait", async () => {
  service.handler = slow(1_500);
  const { id } = await accepted(gateway, { capability: "kept", parameters });
  assert.deepEqual((await ended(gateway, id)).result, parameters);
});

// Contexts as tasks: the extension io.modelcontextprotocol/tasks.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ended, eventually, inThreeTries, makeKey, obedient, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { askModern, errorOf, type McpOptions, openModern, resultOf } from "./support/mcp.ts";
import { gate, json, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway();
  service = await startService(obedient);
  await register(gateway, "words", serviceAt(service.url, [{ name: "slow", timeout_seconds: 20 }]));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const capabilities = "io.modelcontextprotocol/clientCapabilities";
const tasks = { extensions: { "io.modelcontextprotocol/tasks": {} } };
/** Sends a request as a client with tasks and elicitation. */
const ask = (method: string, params: object, options: McpOptions = {}) =>
  askModern(gateway, method, params, { meta: { [capabilities]: { ...tasks, elicitation: {} } }, ...options });
const call = (options: McpOptions = {}, ms = 15_000) =>
  ask("tools/call", { name: "words__slow", arguments: { ms } }, options);
const get = async (taskId: string) => resultOf(await ask("tasks/get", { taskId }));

test("the_extension_is_declared", async () => {
  const { capabilities } = resultOf(await ask("server/discover", {}));
  assert.deepEqual(capabilities.extensions, { "io.modelcontextprotocol/tasks": {} });
});

test("a_call_that_ends_soon_makes_no_task", async () => {
  // Within 3 s, which a busy machine may exceed.
  const result = await inThreeTries(async () => {
    const one = resultOf(await call({}, 1));
    return one.resultType === "complete" && one;
  });
  assert.equal(result.isError, false);
});

test("a_long_call_is_a_task_that_can_be_polled_and_cancelled", async () => {
  const task = resultOf(await call());
  assert.equal(task.resultType, "task");
  assert.equal(task.status, "working");
  for (const member of ["createdAt", "lastUpdatedAt"]) assert.ok(Date.parse(task[member]) > 0, member);
  assert.ok(task.ttlMs > 0 && task.pollIntervalMs > 0);
  const working = await get(task.taskId);
  assert.deepEqual([working.resultType, working.status], ["complete", "working"]);
  const cancelled = resultOf(await ask("tasks/cancel", { taskId: task.taskId }));
  assert.equal(cancelled.resultType, "complete");
  await ended(gateway, task.taskId);
  assert.equal((await get(task.taskId)).status, "cancelled");
  // It is acknowledged after the end, too.
  resultOf(await ask("tasks/cancel", { taskId: task.taskId }));
});

test("the_result_of_a_task_is_inlined", async () => {
  const busy = gate(obedient);
  service.handler = busy.handler;
  try {
    const task = resultOf(await call({}, 1));
    assert.equal(task.resultType, "task");
    busy.open();
    await ended(gateway, task.taskId);
    const done = await get(task.taskId);
    assert.equal(done.status, "completed");
    assert.deepEqual(done.result.structuredContent, { ms: 1 });
    assert.equal(done.result.isError, false);
  } finally {
    service.handler = obedient;
  }
});

test("a_task_that_requests_input_is_answered_by_an_update", async () => {
  const before = service.calls.length;
  // A request for input before the call has become a task would be its result.
  const question = gate(json({ input_required: { message: "Go on?", schema: { type: "boolean" } } }));
  service.handler = (one, response) =>
    one.json.input === undefined
      ? question.handler(one, response)
      : json({ result: { went: one.json.input } })(one, response);
  try {
    const task = resultOf(await call());
    assert.equal(task.resultType, "task");
    question.open();
    const asking = await eventually(async () => {
      const seen = await get(task.taskId);
      return seen.status === "input_required" && seen;
    });
    const [key] = Object.keys(asking.inputRequests);
    const { method, params } = asking.inputRequests[key!];
    assert.deepEqual([method, params.message], ["elicitation/create", "Go on?"]);
    assert.deepEqual(params.requestedSchema.properties, { input: { type: "boolean" } });
    const unable = await ask("tasks/get", { taskId: task.taskId }, { meta: { [capabilities]: tasks } });
    assert.deepEqual(errorOf(unable, 400, -32021).data.requiredCapabilities, { elicitation: {} });
    const say = (inputResponses: object) => ask("tasks/update", { taskId: task.taskId, inputResponses });
    resultOf(await say({ other: { action: "accept", content: { input: true } } }));
    errorOf(await say({ [key!]: { action: "accept", content: { input: "yes" } } }), 200, -32602);
    resultOf(await say({ [key!]: { action: "accept", content: { input: true } } }));
    await ended(gateway, task.taskId);
    assert.deepEqual((await get(task.taskId)).result.structuredContent, { went: true });
    assert.equal(service.calls.length, before + 2);
  } finally {
    service.handler = obedient;
  }
});

test("work_accepted_with_202_is_a_task_at_once", async () => {
  service.handler = json({}, 202);
  try {
    const before = service.calls.length;
    const task = resultOf(await call());
    assert.equal(task.resultType, "task");
    const callback = (await service.call(before)).json.callback_url.replace(/^.*\/v1/, "/v1");
    const say = (body: object) => gateway.request("POST", callback, { body, key: null });
    // Two requests at once, answered one after the other.
    const asked = (message: string) => ({
      method: "elicitation/create",
      params: { mode: "form", message, requestedSchema: { type: "object" } },
    });
    const inputRequests = { first: asked("One?"), second: asked("Two?") };
    assert.equal((await say({ input_required: { message: "Two things.", mcp: { inputRequests } } })).status, 200);
    const asking = async () => Object.keys((await get(task.taskId)).inputRequests ?? {});
    assert.deepEqual(await asking(), ["first", "second"]);
    const answer = (inputResponses: object) => ask("tasks/update", { taskId: task.taskId, inputResponses });
    const yes = { action: "accept", content: {} };
    resultOf(await answer({ second: yes }));
    assert.deepEqual(await asking(), ["first"]);
    resultOf(await answer({ second: { action: "decline" } }));
    assert.deepEqual(await asking(), ["first"]);
    resultOf(await answer({ first: yes }));
    assert.deepEqual((await service.call(before + 1)).json.input, { inputResponses: { first: yes, second: yes } });
    resultOf(await ask("tasks/cancel", { taskId: task.taskId }));
  } finally {
    service.handler = obedient;
  }
});

test("a_tool_that_needs_a_task_is_not_called_without_one", async () => {
  const before = service.calls.length;
  await register(
    gateway,
    "jobs",
    serviceAt(service.url, [
      { name: "always", task_support: "required" },
      { name: "never", task_support: "forbidden" },
    ]),
  );
  const always = { name: "jobs__always", arguments: { ms: 1 } };
  const error = errorOf(await askModern(gateway, "tools/call", always), 400, -32021);
  assert.deepEqual(error.data.requiredCapabilities, tasks);
  assert.equal(service.calls.length, before);
  assert.equal(resultOf(await ask("tools/call", always)).resultType, "task");
  const never = resultOf(await ask("tools/call", { name: "jobs__never", arguments: { ms: 1 } }));
  assert.deepEqual([never.resultType, never.structuredContent], ["complete", { ms: 1 }]);
  errorOf(await ask("tasks/result", { taskId: "ctx_1" }), 404, -32601);
});

test("a_task_is_its_owners", async () => {
  const { taskId } = resultOf(await call());
  const key = (await makeKey(gateway, "caller")).secret;
  for (const method of ["tasks/get", "tasks/cancel"]) {
    errorOf(await ask(method, { taskId }, { key }), 200, -32602);
  }
  errorOf(await ask("tasks/update", { taskId, inputResponses: {} }, { key }), 200, -32602);
  await ask("tasks/cancel", { taskId });
});

test("clients_without_tasks_or_without_permission_to_read_them_get_none", async () => {
  const busy = gate(obedient);
  service.handler = busy.handler;
  try {
    const before = service.calls.length;
    const key = (await makeKey(gateway, "bare", ["contexts:create:words.slow"])).secret;
    const waited = call({ key, headers: { accept: "application/json" } }, 1);
    await service.call(before);
    // Once the stream of a later call has begun, both have taken long enough to be tasks.
    const streamed = await openModern(gateway, "tools/call", { name: "words__slow", arguments: { ms: 1 } });
    assert.equal(streamed.headers.get("content-type"), "text/event-stream");
    busy.open();
    for (const answer of await Promise.all([streamed.whole(), waited]))
      assert.equal(resultOf(answer).resultType, "complete");
  } finally {
    service.handler = obedient;
  }
  const error = errorOf(await askModern(gateway, "tasks/get", { taskId: "ctx_1" }), 400, -32021);
  assert.deepEqual(error.data.requiredCapabilities, tasks);
  errorOf(await ask("tasks/get", { taskId: "ctx_nothing" }), 200, -32602);
  const other = { headers: { "mcp-name": "ctx_other" } };
  errorOf(await ask("tasks/get", { taskId: "ctx_nothing" }, other), 400, -32020);
});

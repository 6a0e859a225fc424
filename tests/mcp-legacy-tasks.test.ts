// Tasks of revision 2025-11-25: a client requests one by params.task, and polls for its result.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { CallToolResultSchema, ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { accepted, create, ended, eventually, makeKey, obedient, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { called, keeperAt, stopKeepers } from "./support/keepers.ts";
import { askLegacy, askModern, errorOf, type McpOptions, resultOf } from "./support/mcp.ts";
import { json, type Service, startService } from "./support/service.ts";
import { text } from "./support/sessions.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway();
  service = await startService(obedient);
  const offers = [
    { name: "slow", timeout_seconds: 20 },
    { name: "always", task_support: "required" },
    { name: "never", task_support: "forbidden" },
  ];
  await register(gateway, "words", serviceAt(service.url, offers));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
  await stopKeepers();
});

const ask = (method: string, params: object, options: McpOptions = {}) => askLegacy(gateway, method, params, options);
const call = (name: string, more: object = { task: { ttl: 60_000 } }, ms = 1, options: McpOptions = {}) =>
  ask("tools/call", { name: `words__${name}`, arguments: { ms }, ...more }, options);
const related = "io.modelcontextprotocol/related-task";

test("tasks_are_declared_where_the_revision_has_them", async () => {
  const declared = async (protocolVersion: string) =>
    resultOf(await ask("initialize", { protocolVersion, capabilities: {}, clientInfo: { name: "t", version: "1" } }))
      .capabilities.tasks;
  assert.deepEqual(await declared("2025-11-25"), { list: {}, cancel: {}, requests: { tools: { call: {} } } });
  assert.equal(await declared("2025-06-18"), undefined);
  const { tools } = resultOf(await ask("tools/list", {}, { path: "/mcp/words" }));
  const support = Object.fromEntries(tools.map((tool: any) => [tool.name, tool.execution.taskSupport]));
  assert.deepEqual(support, { always: "required", never: "forbidden", slow: "optional" });
});

test("a_call_as_a_task_is_answered_at_once_and_its_result_is_read_later", async () => {
  const { task } = resultOf(await call("slow", undefined, 1_500));
  assert.ok(task.ttl > 0 && task.pollInterval > 0 && Date.parse(task.createdAt) > 0);
  assert.equal(task.status, "working");
  assert.equal(resultOf(await ask("tasks/get", { taskId: task.taskId })).taskId, task.taskId);
  const result = resultOf(await ask("tasks/result", { taskId: task.taskId }));
  assert.deepEqual(result.structuredContent, { ms: 1_500 });
  assert.deepEqual(result._meta[related], { taskId: task.taskId });
  assert.equal(resultOf(await ask("tasks/get", { taskId: task.taskId })).status, "completed");
  assert.deepEqual(resultOf(await ask("tasks/result", { taskId: task.taskId })), result);
  errorOf(await ask("tasks/cancel", { taskId: task.taskId }), 200, -32602);
});

test("a_task_is_cancelled_and_listed", async () => {
  const { task } = resultOf(await call("slow", undefined, 15_000));
  const cancelled = resultOf(await ask("tasks/cancel", { taskId: task.taskId }));
  assert.deepEqual([cancelled.taskId, cancelled.status], [task.taskId, "cancelled"]);
  errorOf(await ask("tasks/cancel", { taskId: task.taskId }), 200, -32602);
  const { tasks } = resultOf(await ask("tasks/list", {}));
  assert.equal(tasks.find(({ taskId }: any) => taskId === task.taskId).status, "cancelled");
  errorOf(await ask("tasks/list", { cursor: "mine" }), 200, -32602);
  const key = (await makeKey(gateway, "caller")).secret;
  assert.deepEqual(resultOf(await ask("tasks/list", {}, { key })).tasks, []);
  for (const method of ["tasks/get", "tasks/result", "tasks/cancel"]) {
    errorOf(await ask(method, { taskId: task.taskId }, { key }), 200, -32602);
  }
});

test("a_failing_call_is_a_failed_task_with_a_result", async () => {
  service.handler = json({ error: { code: "odd", message: "It is odd.", retryable: false } });
  try {
    const { task } = resultOf(await call("always"));
    await ended(gateway, task.taskId);
    assert.equal(resultOf(await ask("tasks/get", { taskId: task.taskId })).status, "failed");
    assert.equal(resultOf(await ask("tasks/result", { taskId: task.taskId })).isError, true);
  } finally {
    service.handler = obedient;
  }
});

test("a_tool_declares_whether_its_calls_are_tasks", async () => {
  errorOf(await call("always", {}), 200, -32601);
  errorOf(await call("never"), 200, -32601);
  assert.equal(resultOf(await call("never", {})).isError, false);
});

test("the_official_client_runs_a_task_that_asks", async () => {
  const question = {
    message: "Go on?",
    schema: { type: "object", properties: { sure: { type: "boolean" } }, required: ["sure"] },
  };
  service.handler = (one, response) =>
    one.json.input === undefined
      ? json({ input_required: question })(one, response)
      : json({ result: { went: one.json.input.sure } })(one, response);
  const client = new Client({ name: "tests", version: "1" }, { capabilities: { elicitation: {} } });
  client.setRequestHandler(ElicitRequestSchema, () => ({ action: "accept", content: { sure: true } }));
  const headers = { authorization: `Bearer ${gateway.adminKey}` };
  await client.connect(
    new StreamableHTTPClientTransport(new URL(`${gateway.url}/mcp/words`), { requestInit: { headers } }),
  );
  try {
    await client.listTools();
    const stream = client.experimental.tasks.callToolStream({ name: "always", arguments: {} }, CallToolResultSchema, {
      task: { ttl: 60_000 },
    });
    const seen: string[] = [];
    let result: any;
    for await (const one of stream) {
      seen.push(one.type);
      if (one.type === "result") result = one.result;
    }
    assert.equal(seen[0], "taskCreated");
    assert.deepEqual(result?.structuredContent, { went: true });
  } finally {
    service.handler = obedient;
    await client.close();
  }
});

const asTask = { execution: { taskSupport: "required" } };
const later = (ms: number, result: object) => new Promise((resolve) => void setTimeout(resolve, ms, result));

test("a_tool_that_is_called_as_a_task_only_is_called_plainly_and_as_a_task_here", async () => {
  const keeper = await keeperAt(gateway, "tasking", {
    slow: { definition: asTask, run: () => later(300, text("done")) },
    fails: { definition: asTask, run: () => Promise.reject(new Error("it broke")) },
    says: { definition: asTask, run: () => ({ ...text("no"), isError: true }) },
  });
  const path = "/mcp/tasking";
  const { tools } = resultOf(await askLegacy(gateway, "tools/list", {}, { path }));
  assert.deepEqual(
    tools.map(({ execution }: any) => execution),
    Array(3).fill({ taskSupport: "optional" }),
  );
  for (const ask of [askLegacy, askModern]) {
    const result = resultOf(await ask(gateway, "tools/call", { name: "slow", arguments: {} }, { path }));
    assert.deepEqual(
      [result.content[0].text, Object.keys(result._meta).filter((name) => name.includes("task"))],
      ["done", []],
    );
  }
  const { json } = await create(gateway, { capability: "slow", service: "tasking" });
  assert.deepEqual([json.status, json.result], ["completed", text("done")]);
  const { task } = resultOf(
    await askLegacy(gateway, "tools/call", { name: "slow", arguments: {}, task: { ttl: 60_000 } }, { path }),
  );
  assert.match(task.taskId, /^ctx_/);
  assert.equal(
    resultOf(await askLegacy(gateway, "tasks/result", { taskId: task.taskId }, { path })).content[0].text,
    "done",
  );
  const failed = await create(gateway, { capability: "fails", service: "tasking" });
  assert.deepEqual([failed.json.status, failed.json.error.message], ["failed", "it broke"]);
  const said = await create(gateway, { capability: "says", service: "tasking" });
  assert.deepEqual([said.json.status, said.json.result.isError], ["completed", true]);
  assert.ok(
    keeper.requests.filter(({ method }) => method === "tools/call").every(({ body }) => body.params.task.ttl > 0),
  );
});

test("a_task_at_a_server_asks_its_caller", async () => {
  const run = async ({ ask }: any) => {
    const { result } = await ask("elicitation/create", {
      message: "Who?",
      requestedSchema: { type: "object", properties: { name: { type: "string" } } },
    });
    return text(result.content.name);
  };
  await keeperAt(gateway, "tasking-asks", { ask: { definition: asTask, run } });
  const asked = await create(gateway, { capability: "ask", service: "tasking-asks" });
  assert.deepEqual([asked.json.status, asked.json.input_request?.message], ["input_required", "Who?"], asked.text);
  await gateway.request("POST", `/v1/contexts/${asked.json.id}/input`, { body: { input: { name: "Ada" } } });
  assert.deepEqual((await ended(gateway, asked.json.id)).result.content, text("Ada").content);
});

test("a_task_at_a_server_is_cancelled_with_its_context", async () => {
  const keeper = await keeperAt(gateway, "tasking-ends", {
    endless: { definition: asTask, run: () => new Promise(() => {}) },
  });
  const context = await accepted(gateway, { capability: "endless", service: "tasking-ends" });
  await eventually(() => keeper.count("tasks/get") > 0);
  await gateway.request("POST", `/v1/contexts/${context.id}/cancel`);
  assert.equal((await ended(gateway, context.id)).status, "cancelled");
  await eventually(() => keeper.count("tasks/cancel") === 1);
  const late = await create(gateway, { capability: "endless", service: "tasking-ends", timeout_seconds: 5 });
  assert.equal(late.json.status, "timed_out", late.text);
  await eventually(() => keeper.count("tasks/cancel") === 2);
});

test("a_tool_that_a_modern_server_runs_as_a_task_only_is_called", async () => {
  const ask = async ({ ask }: any) => {
    const { result } = await ask("elicitation/create", {
      message: "Who?",
      requestedSchema: { type: "object", properties: { name: { type: "string" } } },
    });
    return text(result.content.name);
  };
  const tools = {
    slow: { tasked: true, run: () => later(300, text("done")) },
    fails: { tasked: true, run: () => Promise.reject(new Error("it broke")) },
    endless: { tasked: true, run: () => new Promise(() => {}) },
    ask: { tasked: true, run: ask },
  };
  const keeper = await keeperAt(gateway, "tasking-modern", tools, { modern: true });
  assert.equal(await called(gateway, "slow", { path: "/mcp/tasking-modern" }, askModern), "done");
  const failed = await create(gateway, { capability: "fails", service: "tasking-modern" });
  assert.deepEqual([failed.json.status, failed.json.error.message], ["failed", "it broke"]);
  const asked = await create(gateway, { capability: "ask", service: "tasking-modern" });
  assert.deepEqual([asked.json.status, asked.json.input_request?.message], ["input_required", "Who?"], asked.text);
  await gateway.request("POST", `/v1/contexts/${asked.json.id}/input`, { body: { input: { name: "Ada" } } });
  assert.deepEqual((await ended(gateway, asked.json.id)).result.content, text("Ada").content);
  const polls = keeper.count("tasks/get");
  const context = await accepted(gateway, { capability: "endless", service: "tasking-modern" });
  await eventually(() => keeper.count("tasks/get") > polls);
  await gateway.request("POST", `/v1/contexts/${context.id}/cancel`);
  await eventually(() => keeper.count("tasks/cancel") === 1);
});

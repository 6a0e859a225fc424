// Tasks of revision 2025-11-25: a client requests one by params.task, and polls for its result.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { CallToolResultSchema, ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { ended, makeKey, obedient, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { askLegacy, errorOf, type McpOptions, resultOf } from "./support/mcp.ts";
import { json, type Service, startService } from "./support/service.ts";

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

// Notifications to MCP clients about changed tools and tasks, by subscriptions/listen and by the GET stream of a
// session.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { makeKey, obedient, register, serviceAt } from "./support/arrange.ts";
import { Contract } from "./support/contract.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { askLegacy, askModern, claim, errorOf, message, modernHeaders, resultOf } from "./support/mcp.ts";
import { hold, type Service, startService } from "./support/service.ts";
import { next, streamed } from "./support/sse.ts";

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
const subscription = "io.modelcontextprotocol/subscriptionId";
const tasks = { [capabilities]: { extensions: { "io.modelcontextprotocol/tasks": {} } } };

async function listen(notifications: object, options: { key?: string; path?: string } = {}) {
  const { key = gateway.adminKey, path = "/mcp" } = options;
  const body = message("subscriptions/listen", { notifications, _meta: { ...claim, ...tasks } });
  const response = await gateway.open("POST", path, { key, body, headers: modernHeaders("subscriptions/listen") });
  const events = streamed(response);
  const { message: first } = await next(events);
  assert.equal(first.method, "notifications/subscriptions/acknowledged");
  assert.equal(first.params._meta[subscription], body.id);
  return { id: body.id, agreed: first.params.notifications, events };
}

async function offer(id: string, ...capabilities: Record<string, unknown>[]) {
  const known = (await gateway.request("GET", `/v1/services/${id}`)).status === 200;
  const headers: Record<string, string> = known ? { "if-match": "*" } : {};
  const answer = await gateway.request("PUT", `/v1/services/${id}`, {
    body: serviceAt(service.url, capabilities),
    headers,
  });
  assert.equal(answer.status, known ? 200 : 201, answer.text);
}

test("a_subscription_is_acknowledged_as_far_as_it_is_available", async () => {
  const all = {
    toolsListChanged: true,
    promptsListChanged: true,
    resourceSubscriptions: ["file:///a"],
    taskIds: ["ctx_nothing"],
  };
  const { agreed, events } = await listen(all);
  assert.deepEqual(agreed, { toolsListChanged: true });
  await events.return(undefined);
  errorOf(await askModern(gateway, "subscriptions/listen", {}), 200, -32602);
  const bare = await askModern(gateway, "subscriptions/listen", { notifications: { taskIds: ["ctx_1"] } });
  assert.deepEqual(errorOf(bare, 400, -32021).data.requiredCapabilities, tasks[capabilities]);
  assert.equal(resultOf(await askModern(gateway, "server/discover")).capabilities.tools.listChanged, true);
});

test("a_subscriber_is_notified_only_when_the_tools_it_sees_change", async () => {
  const key = (await makeKey(gateway, "bare", ["contexts:create:seen.one"])).secret;
  const one = await listen({ toolsListChanged: true }, { key });
  const all = await listen({ toolsListChanged: true });
  const elsewhere = await listen({ toolsListChanged: true }, { path: "/mcp/words" });
  // Visible to one of them, then to all at /mcp.
  await offer("other", { name: "two" });
  const message = (await next(all.events)).message;
  assert.deepEqual([message.method, message.params._meta[subscription]], ["notifications/tools/list_changed", all.id]);
  await offer("seen", { name: "one" });
  assert.equal((await next(one.events)).message.method, "notifications/tools/list_changed");
  await offer("words", { name: "slow", timeout_seconds: 20, description: "Takes its time." });
  const own = (await next(elsewhere.events)).message;
  assert.equal(own.params._meta[subscription], elsewhere.id);
  for (const { events } of [one, all, elsewhere]) await events.return(undefined);
});

test("a_task_is_reported_with_each_change", async (t) => {
  const busy = hold(t, service, obedient, obedient);
  const params = { name: "words__slow", arguments: { ms: 1 } };
  const { taskId } = resultOf(await askModern(gateway, "tools/call", params, { meta: tasks }));
  service.handler = obedient;
  const { id, agreed, events } = await listen({ taskIds: [taskId] });
  assert.deepEqual(agreed, { taskIds: [taskId] });
  busy.open();
  let task;
  do {
    const { method, params } = (await next(events)).message;
    assert.deepEqual([method, params.taskId, params._meta[subscription]], ["notifications/tasks", taskId, id]);
    task = params;
  } while (task.status === "working");
  assert.equal(task.status, "completed");
  assert.deepEqual(task.result.structuredContent, { ms: 1 });
  await events.return(undefined);
  // An ended task is reported at once.
  const late = await listen({ taskIds: [taskId] });
  assert.equal((await next(late.events)).message.params.status, "completed");
  await late.events.return(undefined);
});

test("a_subscription_ends_in_good_order_with_its_credentials", async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  const listening = await listen({ toolsListChanged: true }, { key: secret });
  assert.equal((await gateway.request("DELETE", `/v1/keys/${id}`)).status, 204);
  const { message } = await next(listening.events);
  assert.deepEqual(message, {
    jsonrpc: "2.0",
    id: listening.id,
    result: { resultType: "complete", _meta: { [subscription]: listening.id } },
  });
  assert.equal((await listening.events.next()).done, true);
});

test("a_legacy_session_is_notified_on_its_get_stream", async () => {
  const params = {
    protocolVersion: "2025-11-25",
    capabilities: { roots: {} },
    clientInfo: { name: "t", version: "1" },
  };
  const opened = await askLegacy(gateway, "initialize", params);
  assert.equal(resultOf(opened).capabilities.tools.listChanged, true);
  const headers = { accept: "text/event-stream", "mcp-session-id": opened.headers.get("mcp-session-id")! };
  const get = async (more: Record<string, string> = {}) => {
    const response = await gateway.open("GET", "/mcp", { headers: { ...headers, ...more } });
    Contract.load()?.checkAnswer("GET", "/mcp", response.status, response.headers, "");
    return streamed(response);
  };
  const first = await get();
  await offer("third", { name: "two" });
  const event = await next(first);
  assert.equal(event.message.method, "notifications/tools/list_changed");
  assert.ok(event.id);
  // Another stream takes its place: each message is sent on one stream only.
  const second = await get();
  await offer("third", { name: "two" }, { name: "three" });
  assert.equal((await next(second)).message.method, "notifications/tools/list_changed");
  assert.equal((await first.next()).done, true);
  await second.return(undefined);
  // Messages sent in the meantime arrive on resuming.
  await offer("third", { name: "four" });
  const back = await get({ "last-event-id": event.id! });
  assert.equal((await next(back)).message.method, "notifications/tools/list_changed");
  await back.return(undefined);
  assert.equal(
    (await gateway.request("GET", "/mcp", { headers: { ...headers, accept: "application/json" } })).status,
    405,
  );
});

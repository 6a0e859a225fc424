// subscriptions/listen: the notifications of a modern client.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startUpstream, type Upstream } from "./official-suite/upstream/server.ts";
import { eventually, makeKey, obedient, register, serviceAt } from "./support/arrange.ts";
import { Contract } from "./support/contract.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { askLegacy, askModern, claim, errorOf, message, modernHeaders, resultOf } from "./support/mcp.ts";
import { hold, json, type Service, startService } from "./support/service.ts";
import { next, streamed } from "./support/sse.ts";

const method = "subscriptions/listen";
const idOf = "io.modelcontextprotocol/subscriptionId";
const able = { "io.modelcontextprotocol/clientCapabilities": { extensions: { "io.modelcontextprotocol/tasks": {} } } };

let gateway: Gateway;
let service: Service;
let upstream: Upstream;
let legacy: Upstream;

before(async () => {
  gateway = await startGateway({ timeScale: 0.2 });
  service = await startService(obedient);
  await register(gateway, "words", serviceAt(service.url, [{ name: "slow", timeout_seconds: 20, idempotent: true }]));
  upstream = await startUpstream({ revisions: "modern" });
  await register(gateway, "modern", { name: "Modern", type: "tool", transport: { kind: "mcp", url: upstream.url } });
  legacy = await startUpstream({ revisions: "legacy" });
  await register(gateway, "legacy", { name: "Legacy", type: "tool", transport: { kind: "mcp", url: legacy.url } });
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
  await upstream?.stop();
  await legacy?.stop();
});

/** Opens a subscription; returns the acknowledged part, and its further messages. */
async function listen(notifications: object, { key = gateway.adminKey, path = "/mcp", meta = able as object } = {}) {
  const body = message(method, { notifications, _meta: { ...claim, ...meta } });
  const leaving = new AbortController();
  const response = await gateway.open("POST", path, {
    key,
    body,
    headers: modernHeaders(method),
    signal: leaving.signal,
  });
  assert.equal(response.status, 200, response.status === 200 ? "" : await response.text());
  const events = streamed(response);
  const first = (await next(events)).message;
  assert.equal(first.method, "notifications/subscriptions/acknowledged");
  assert.equal(first.params._meta[idOf], body.id);
  return {
    acknowledged: first.params.notifications,
    async next(): Promise<any> {
      const { message } = await next(events);
      assert.equal((message.params ?? message.result)._meta[idOf], body.id);
      return message;
    },
    close: () => leaving.abort(),
  };
}

test("only_clients_that_may_call_a_new_tool_are_notified", async () => {
  assert.equal(
    (
      await gateway.request("PUT", "/v1/roles/narrow", {
        body: { permissions: ["contexts:create:words.*", "contexts:read"] },
      })
    ).status,
    201,
  );
  const { secret: key } = await makeKey(gateway, "narrow");
  const [all, narrow] = [
    await listen({ toolsListChanged: true, unheardOf: true }),
    await listen({ toolsListChanged: true }, { key }),
  ];
  assert.deepEqual([all.acknowledged, narrow.acknowledged], [{ toolsListChanged: true }, { toolsListChanged: true }]);
  await register(gateway, "other", serviceAt(service.url, [{ name: "other" }]));
  assert.equal((await all.next()).method, "notifications/tools/list_changed");
  // The first tool it is notified of is its own.
  const changed = serviceAt(service.url, [
    { name: "slow", timeout_seconds: 20, idempotent: true, description: "Takes its time." },
  ]);
  const put = await gateway.request("PUT", "/v1/services/words", { body: changed, headers: { "if-match": "*" } });
  assert.equal(put.status, 200, put.text);
  assert.equal((await narrow.next()).method, "notifications/tools/list_changed");
  const { tools } = resultOf(await askModern(gateway, "tools/list", {}, { key }));
  assert.ok(tools.some(({ description }: any) => description === "Takes its time."));
  all.close();
  narrow.close();
});

test("a_task_is_reported_until_its_end_with_its_result", async (t) => {
  const busy = hold(t, service, obedient, obedient);
  const params = { name: "words__slow", arguments: { ms: 1 } };
  const { taskId } = resultOf(await askModern(gateway, "tools/call", params, { meta: able }));
  service.handler = obedient;
  const listening = await listen({ taskIds: [taskId, "ctx_nothing"] });
  assert.deepEqual(listening.acknowledged, { taskIds: [taskId] });
  busy.open();
  let notification = await listening.next();
  // Its start may be reported first, if it is recorded while the client subscribes.
  while (notification.params.status === "working") notification = await listening.next();
  const { method, params: task } = notification;
  assert.deepEqual([method, task.taskId, task.status], ["notifications/tasks", taskId, "completed"]);
  assert.deepEqual(task.result.structuredContent, { ms: 1 });
  assert.equal(task.resultType, undefined);
  listening.close();
});

test("a_task_that_requests_input_is_reported_with_its_request", async () => {
  const { promise: callback, resolve: called } = Promise.withResolvers<string>();
  service.handler = async (call, response) => {
    json({}, 202)(call, response);
    called(call.json.callback_url);
  };
  const meta = {
    "io.modelcontextprotocol/clientCapabilities": {
      ...able["io.modelcontextprotocol/clientCapabilities"],
      elicitation: {},
    },
  };
  const { taskId, resultType } = resultOf(
    await askModern(gateway, "tools/call", { name: "words__slow", arguments: {} }, { meta }),
  );
  assert.equal(resultType, "task");
  // The task may be reported before its service is called.
  const url = await callback;
  service.handler = obedient;
  const listening = await listen({ taskIds: [taskId] }, { meta });
  const body = JSON.stringify({ input_required: { message: "Go on?", schema: { type: "boolean" } } });
  const asked = () => fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body });
  // Nor is it certain that the 202 has been recorded.
  await eventually(async () => (await asked()).ok);
  let { params } = await listening.next();
  // The start of the call and its 202 may both be reported first, if they are recorded while the client subscribes.
  while (params.status === "working") ({ params } = await listening.next());
  assert.equal(params.status, "input_required");
  assert.match(JSON.stringify(params.inputRequests), /Go on\?/);
  resultOf(await askModern(gateway, "tasks/cancel", { taskId }, { meta }));
  for (;;) if ((await listening.next()).params.status === "cancelled") break;
  listening.close();
});

test("tasks_of_others_and_without_the_extension_are_not_reported", async (t) => {
  const busy = hold(t, service, obedient);
  const params = { name: "words__slow", arguments: {} };
  const { taskId } = resultOf(await askModern(gateway, "tools/call", params, { meta: able }));
  service.handler = obedient;
  busy.open();
  const { secret: key } = await makeKey(gateway, "caller");
  const others = await listen({ taskIds: [taskId] }, { key });
  assert.deepEqual(others.acknowledged, {});
  others.close();
  const answer = await askModern(gateway, method, { notifications: { taskIds: [taskId] } });
  assert.deepEqual(
    errorOf(answer, 400, -32021).data.requiredCapabilities,
    able["io.modelcontextprotocol/clientCapabilities"],
  );
});

for (const revision of ["modern", "legacy"] as const) {
  const path = `/mcp/${revision}`;
  const uri = "test://watched-resource";
  const server = () => (revision === "modern" ? upstream : legacy);

  test(`a_modern_client_receives_the_notifications_of_a_${revision}_server`, async () => {
    const wanted = { resourceSubscriptions: [uri], promptsListChanged: true };
    const listening = await listen(wanted, { path });
    assert.deepEqual(listening.acknowledged, { promptsListChanged: true, resourceSubscriptions: [uri] });
    server().resourceUpdated("test://another");
    server().resourceUpdated(uri);
    const { method, params } = await listening.next();
    assert.deepEqual([method, params.uri], ["notifications/resources/updated", uri]);
    listening.close();
  });

  test(`a_subscribed_legacy_client_receives_the_notifications_of_a_${revision}_server`, async () => {
    const params = { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "test", version: "1" } };
    const begun = await askLegacy(gateway, "initialize", params, { path });
    assert.equal(resultOf(begun).capabilities.resources.subscribe, true);
    const headers = { "mcp-session-id": begun.headers.get("mcp-session-id")!, "mcp-protocol-version": "2025-11-25" };
    const leaving = new AbortController();
    const response = await gateway.open("GET", path, {
      headers: { ...headers, accept: "text/event-stream" },
      signal: leaving.signal,
    });
    Contract.load()?.checkAnswer("GET", path, response.status, response.headers, "");
    assert.equal(response.status, 200);
    resultOf(await askLegacy(gateway, "resources/subscribe", { uri }, { path, headers }));
    // The subscription takes effect a moment later.
    const again = setInterval(() => server().resourceUpdated(uri), 300);
    const events = streamed(response);
    const { message } = await next(events);
    clearInterval(again);
    assert.deepEqual(
      [message.method, message.params.uri, message.id],
      ["notifications/resources/updated", uri, undefined],
    );
    resultOf(await askLegacy(gateway, "resources/unsubscribe", { uri }, { path, headers }));
    leaving.abort();
    errorOf(await askLegacy(gateway, "resources/subscribe", {}, { path, headers }), 200, -32602);
    errorOf(await askLegacy(gateway, "resources/subscribe", { uri }, { path }), 200, -32601);
  });
}

test("a_subscription_ends_in_good_order_when_its_key_is_revoked", async () => {
  const { id, secret: key } = await makeKey(gateway, "caller");
  const listening = await listen({ toolsListChanged: true }, { key });
  assert.equal((await gateway.request("DELETE", `/v1/keys/${id}`)).status, 204);
  const { result } = await listening.next();
  assert.equal(result.resultType, "complete");
});

test("an_invalid_subscription_is_refused", async () => {
  errorOf(await askModern(gateway, method, {}), 200, -32602);
  errorOf(await askModern(gateway, method, { notifications: { taskIds: "a" } }), 200, -32602);
  errorOf(
    await askModern(gateway, method, { notifications: {} }, { headers: { accept: "application/json" } }),
    400,
    -32600,
  );
});

// Services that are MCP servers: their tools as capabilities, called by REST and through the MCP endpoint, in both
// revisions.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startUpstream, type Upstream } from "./official-suite/upstream/server.ts";
import {
  accepted,
  create,
  ended,
  eventually,
  makeKey,
  pointers,
  refused,
  register,
  serviceAt,
} from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { askLegacy, askModern, errorOf, events, resultOf } from "./support/mcp.ts";
import { openStream } from "./support/stream.ts";
import { type SmallUpstream, startSmallUpstream } from "./support/upstream.ts";

let gateway: Gateway;
const upstreams: (Upstream | SmallUpstream)[] = [];

const mcpAt = (url: string, transport: object = {}, more: object = {}) => ({
  name: "An upstream",
  type: "tool",
  transport: { kind: "mcp", url, ...transport },
  retry: { max_attempts: 3, base_ms: 1, cap_ms: 10 },
  ...more,
});
const names = ({ capabilities }: any): string[] => capabilities.map(({ name }: any) => name).sort();
const service = async (id: string) => (await gateway.request("GET", `/v1/services/${id}`)).json;
const small = async (...given: Parameters<typeof startSmallUpstream>) => {
  const upstream = await startSmallUpstream(...given);
  upstreams.push(upstream);
  return upstream;
};

before(async () => {
  gateway = await startGateway();
  for (const revisions of ["modern", "legacy", "both"] as const) {
    const upstream = await startUpstream({ revisions });
    upstreams.push(upstream);
    await register(gateway, revisions, mcpAt(upstream.url));
  }
});
after(async () => {
  await gateway?.stop();
  for (const upstream of upstreams) await upstream.stop();
});

for (const revisions of ["modern", "legacy", "both"]) {
  test(`the_tools_of_an_upstream_that_speaks_${revisions}_are_capabilities`, async () => {
    const registered = await service(revisions);
    assert.equal(registered.catalogue.protocol_version, revisions === "legacy" ? "2025-11-25" : "2026-07-28");
    assert.equal(registered.catalogue.server.name, "everything");
    assert.deepEqual(registered.catalogue.left_out, []);
    assert.ok(names(registered).includes("test_simple_text"));
    assert.deepEqual(Object.keys(registered.catalogue.digests).sort(), names(registered));
  });

  test(`a_tool_of_an_upstream_that_speaks_${revisions}_is_called_by_rest_and_through_the_endpoint`, async () => {
    const text = "This is a simple text response for testing.";
    const answer = await create(gateway, { capability: "test_simple_text", service: revisions });
    assert.equal(answer.status, 200, answer.text);
    assert.deepEqual([answer.json.status, answer.json.tool_result], ["completed", true], answer.text);
    assert.deepEqual(answer.json.result.content, [{ type: "text", text }]);
    assert.equal(answer.json.result.resultType, undefined);
    for (const ask of [askModern, askLegacy]) {
      const path = `/mcp/${revisions}`;
      const called = resultOf(
        await ask(gateway, "tools/call", { name: "test_image_content", arguments: {} }, { path }),
      );
      assert.equal(called.content[0].type, "image");
      assert.match(called._meta["narthex/context"], /^ctx_/);
      const failed = resultOf(
        await ask(gateway, "tools/call", { name: "test_error_handling", arguments: {} }, { path }),
      );
      assert.equal(failed.isError, true);
      assert.match(failed.content[0].text, /intentionally/);
      assert.equal((await ended(gateway, failed._meta["narthex/context"])).status, "completed");
    }
  });

  test(`definitions_of_an_upstream_that_speaks_${revisions}_pass_unchanged`, async () => {
    for (const ask of [askModern, askLegacy]) {
      const { tools } = resultOf(await ask(gateway, "tools/list", {}, { path: `/mcp/${revisions}` }));
      const tool = tools.find(({ name }: any) => name === "json_schema_2020_12_tool");
      assert.equal(tool.inputSchema.$schema, "https://json-schema.org/draft/2020-12/schema");
      assert.equal(tool.inputSchema.$defs.address.$anchor, "addressDef");
      assert.deepEqual(tool.inputSchema.then, { required: ["phone"] });
    }
    const wrong = await create(gateway, {
      capability: "json_schema_2020_12_tool",
      service: revisions,
      parameters: { name: 1 },
    });
    assert.ok(pointers(refused(wrong, 422, "validation_failed")).includes("#/parameters/name"));
  });
}

test("arguments_are_repeated_as_headers_where_a_tool_asks_for_it", async () => {
  for (const region of ["eu", "grüß"]) {
    const call = { capability: "test_x_mcp_header", service: "modern", parameters: { region } };
    assert.deepEqual((await create(gateway, call)).json.result.content[0].text, `region=${region}`);
  }
});

test("an_ended_session_is_opened_again", async () => {
  const upstream = await startUpstream({ revisions: "legacy" });
  await register(gateway, "restarted", mcpAt(upstream.url));
  const call = { capability: "test_simple_text", service: "restarted" };
  assert.equal((await create(gateway, call)).json.status, "completed");
  const port = Number(new URL(upstream.url).port);
  await upstream.stop();
  const again = await startUpstream({ revisions: "legacy", port });
  upstreams.push(again);
  const answer = (await create(gateway, call)).json;
  assert.equal(answer.status, "completed", JSON.stringify(answer));
  assert.ok(again.requests.some((headers) => headers["mcp-session-id"] !== undefined));
});

test("an_upstream_that_becomes_modern_is_noticed_at_its_next_call", async () => {
  const upstream = await startUpstream({ revisions: "legacy" });
  await register(gateway, "renewed", mcpAt(upstream.url));
  const port = Number(new URL(upstream.url).port);
  const call = { capability: "test_simple_text", service: "renewed" };
  assert.equal((await create(gateway, call)).json.status, "completed");
  for (const revisions of ["modern", "legacy"] as const) {
    await (revisions === "modern" ? upstream : upstreams.pop()!).stop();
    upstreams.push(await startUpstream({ revisions, port }));
    const answer = (await create(gateway, call)).json;
    assert.equal(answer.status, "completed", `${revisions}: ${JSON.stringify(answer)}`);
  }
});

test("a_context_that_is_cancelled_cancels_the_call", async () => {
  for (const legacy of [false, true]) {
    const signals: AbortSignal[] = [];
    const run = async (_: any, context: any) => {
      signals.push(context.mcpReq.signal);
      await new Promise((resolve) => context.mcpReq.signal.addEventListener("abort", resolve));
      return { content: [] };
    };
    const upstream = await small({ hang: { run } }, { legacy });
    const id = `hanging-${legacy}`;
    await register(gateway, id, mcpAt(upstream.url));
    const context = await accepted(gateway, { capability: "hang", service: id, timeout_seconds: 20 });
    await eventually(() => signals.length > 0);
    await gateway.request("POST", `/v1/contexts/${context.id}/cancel`);
    assert.equal((await ended(gateway, context.id)).status, "cancelled");
    // A legacy server without sessions is notified, but cannot stop the call.
    const wasCancelled = () => upstream.requests.some(({ body }) => body?.method === "notifications/cancelled");
    await eventually(() => (legacy ? wasCancelled() : signals[0]!.aborted));
  }
});

test("a_deadline_ends_the_call", async () => {
  const upstream = await small({
    hang: { run: (_, { mcpReq }) => new Promise((resolve) => mcpReq.signal.addEventListener("abort", resolve)) },
  });
  await register(gateway, "endless", mcpAt(upstream.url));
  const answer = await create(gateway, { capability: "hang", service: "endless", timeout_seconds: 1 });
  assert.equal(answer.json.status, "timed_out", answer.text);
});

test("a_tools_output_is_checked_against_its_schema", async () => {
  const output = { type: "object", properties: { n: { type: "integer" } }, required: ["n"] };
  const upstream = await small({
    good: { output, run: () => ({ content: [], structuredContent: { n: 1 } }) },
    read: { annotations: { readOnlyHint: true } },
  });
  const { capabilities } = await register(gateway, "promising", mcpAt(upstream.url, { timeout_seconds: 7 }));
  const read = capabilities.find(({ name }: any) => name === "read");
  assert.deepEqual([read.idempotent, read.timeout_seconds, read.tool.annotations], [true, 7, { readOnlyHint: true }]);
  const answer = await create(gateway, { capability: "good", service: "promising" });
  assert.deepEqual(answer.json.result.structuredContent, { n: 1 });
  const { tools } = resultOf(await askModern(gateway, "tools/list", {}, { path: "/mcp/promising" }));
  assert.deepEqual(tools.find(({ name }: any) => name === "read").annotations, { readOnlyHint: true });
  assert.deepEqual(tools.find(({ name }: any) => name === "good").outputSchema.required, ["n"]);
});

test("one_dead_upstream_never_empties_a_list", async () => {
  const upstream = await small({ a: {}, b: {} });
  await register(gateway, "dying", mcpAt(upstream.url));
  upstream.refuse = 503;
  const checked = await gateway.request("POST", "/v1/services/dying/check");
  assert.equal(checked.json.tools_error, "it responded with status 503");
  const known = await service("dying");
  assert.deepEqual([names(known), known.catalogue.error], [["a", "b"], "it responded with status 503"]);
  assert.ok(resultOf(await askModern(gateway, "tools/list", {}, { path: "/mcp/dying" })).tools.length === 2);
  upstream.refuse = 0;
  assert.equal((await gateway.request("POST", "/v1/services/dying/check")).json.tools_error, null);
  assert.equal((await service("dying")).catalogue.error, null);
});

test("an_upstream_that_is_down_is_registered_and_read_once_it_is_up", async () => {
  const upstream = await small({ a: {} });
  upstream.refuse = 500;
  const registered = await register(gateway, "late", mcpAt(upstream.url));
  assert.deepEqual([registered.capabilities, registered.catalogue.protocol_version], [[], null]);
  upstream.refuse = 0;
  await gateway.runCron();
  await eventually(async () => names(await service("late")).length === 1);
});

test("a_changed_tool_is_published_and_served", async () => {
  const upstream = await small({ a: { description: "One." }, gone: {} });
  await register(gateway, "changing", mcpAt(upstream.url));
  const stream = await openStream(gateway, { query: { types: "service.tool_changed", subject: "changing" } });
  upstream.tools = { a: { description: "Another." }, b: {} };
  await gateway.request("POST", "/v1/services/changing/check");
  for (const [tool, change] of [
    ["a", "changed"],
    ["b", "added"],
    ["gone", "removed"],
  ]) {
    const { data } = await stream.next(({ type }) => type === "service.tool_changed");
    assert.deepEqual([data.tool, data.change, data.held], [tool, change, false]);
  }
  stream.close();
  const known = await service("changing");
  assert.deepEqual(names(known), ["a", "b"]);
  assert.equal(known.capabilities.find(({ name }: any) => name === "a").description, "Another.");
});

test("a_changed_tool_is_held_back_until_it_is_accepted", async () => {
  const upstream = await small({ a: { description: "One." }, b: {} });
  await register(gateway, "holding", mcpAt(upstream.url, { changed_tools: "hold" }));
  const before = await gateway.request("GET", "/v1/services/holding");
  upstream.tools = { a: { description: "Another." }, b: {}, c: {} };
  await gateway.request("POST", "/v1/services/holding/check");
  const held = await gateway.request("GET", "/v1/services/holding", {
    headers: { "if-none-match": before.headers.get("etag")! },
  });
  assert.equal(held.status, 200);
  assert.deepEqual(names(held.json), ["b"]);
  assert.deepEqual(names({ capabilities: held.json.catalogue.held.map(({ capability }: any) => capability) }), [
    "a",
    "c",
  ]);
  refused(await create(gateway, { capability: "a", service: "holding" }), 422, "validation_failed");
  const path = "/v1/services/holding/accept-tools";
  refused(await gateway.request("POST", path, { body: { names: ["x"] } }), 422, "validation_failed");
  assert.deepEqual(names((await gateway.request("POST", path, { body: { names: ["a"] } })).json), ["a", "b"]);
  assert.deepEqual(names((await gateway.request("POST", path)).json), ["a", "b", "c"]);
  assert.equal((await create(gateway, { capability: "a", service: "holding" })).json.status, "completed");
});

test("a_document_that_was_read_can_be_sent_back", async () => {
  const upstream = await small({ a: {} });
  await register(gateway, "returned", mcpAt(upstream.url));
  const { json, headers } = await gateway.request("GET", "/v1/services/returned");
  const put = { headers: { "if-match": headers.get("etag")! }, body: { ...json, name: "Renamed" } };
  const answer = await gateway.request("PUT", "/v1/services/returned", put);
  assert.equal(answer.status, 200, answer.text);
  assert.deepEqual([answer.json.name, names(answer.json)], ["Renamed", ["a"]]);
  const wrong = await gateway.request("PUT", "/v1/services/wrong", {
    body: mcpAt("http://10.0.0.1/", { changed_tools: "maybe", model: "x" }),
  });
  const expected = ["#/capabilities", "#/transport/changed_tools", "#/transport/model", "#/transport/url"];
  assert.deepEqual(pointers(refused(wrong, 422, "validation_failed")), expected);
});

// Elicitation, streaming, and everything other than tools.

for (const revisions of ["modern", "legacy"]) {
  test(`elicitations_of_an_upstream_that_speaks_${revisions}_are_answered_by_rest`, async () => {
    const call = { capability: "test_input_required_result_elicitation", service: revisions };
    for (const input of [{ name: "Ada" }, undefined]) {
      const asked = await create(gateway, call, { headers: { prefer: "wait=20" } });
      assert.deepEqual([asked.status, asked.json.status], [202, "input_required"], asked.text);
      const { message, schema, mcp } = asked.json.input_request;
      assert.equal(typeof message, "string");
      assert.deepEqual(schema.required, ["name"]);
      const [name] = Object.keys(mcp.inputRequests);
      const path = `/v1/contexts/${asked.json.id}/input`;
      const wrong = await gateway.request("POST", path, { body: { input: { name: 7 } } });
      assert.deepEqual(pointers(refused(wrong, 422, "validation_failed")), ["#/input/name"]);
      const answer = input ?? { inputResponses: { [name!]: { action: "accept", content: { name: "Ada" } } } };
      await gateway.request("POST", path, { body: { input: answer } });
      const context = await ended(gateway, asked.json.id);
      assert.deepEqual(context.result?.content, [{ type: "text", text: "Hello, Ada!" }], JSON.stringify(context));
      // A server of 2025 requests input while its call runs.
      assert.equal(context.attempts.length, revisions === "legacy" ? 1 : 2);
    }
  });

  test(`progress_and_messages_of_an_upstream_that_speaks_${revisions}_go_straight_to_the_caller`, async () => {
    const path = `/mcp/${revisions}`;
    const notificationsOf = async (ask: typeof askModern, name: string, meta: object) =>
      events((await ask(gateway, "tools/call", { name, arguments: {} }, { path, meta })).text);
    for (const ask of [askModern, askLegacy]) {
      const progress = await notificationsOf(ask, "test_tool_with_progress", { progressToken: "mine" });
      assert.deepEqual(
        progress.slice(0, -1).map(({ params }) => [params.progressToken, params.progress]),
        [
          ["mine", 0],
          ["mine", 50],
          ["mine", 100],
        ],
      );
      const level = { "io.modelcontextprotocol/logLevel": "info" };
      const lines = await notificationsOf(ask, "test_tool_with_logging", ask === askModern ? level : {});
      assert.deepEqual(
        lines.slice(0, -1).map(({ method }) => method),
        Array(3).fill("notifications/message"),
      );
    }
    const silent = await askModern(gateway, "tools/call", { name: "test_tool_with_logging", arguments: {} }, { path });
    assert.equal(silent.text.includes("notifications/message"), false);
  });

  test(`progress_of_an_upstream_that_speaks_${revisions}_is_kept_for_absent_callers`, async () => {
    const { id } = await accepted(gateway, { capability: "test_tool_with_progress", service: revisions });
    const { progress } = await ended(gateway, id);
    assert.equal(progress.data.total, 100);
    assert.equal(progress.data.progressToken, undefined);
  });

  test(`resources_prompts_and_completions_of_an_upstream_that_speaks_${revisions}_pass`, async () => {
    const path = `/mcp/${revisions}`;
    for (const ask of [askModern, askLegacy]) {
      const of = async (method: string, params: object = {}) => resultOf(await ask(gateway, method, params, { path }));
      const { resources, ttlMs, cacheScope } = await of("resources/list");
      assert.ok(resources.length > 0);
      assert.deepEqual(
        [typeof ttlMs, cacheScope],
        ask === askModern ? ["number", "private"] : ["undefined", undefined],
      );
      const { contents } = await of("resources/read", { uri: resources[0].uri });
      assert.equal(contents[0].uri, resources[0].uri);
      assert.ok((await of("resources/templates/list")).resourceTemplates.length > 0);
      const { prompts } = await of("prompts/list");
      assert.ok(prompts.length > 0);
      assert.ok((await of("prompts/get", { name: "test_simple_prompt" })).messages.length > 0);
      const missing = await ask(gateway, "resources/read", { uri: "test://nothing" }, { path });
      errorOf(missing, 200, ask === askModern ? -32602 : missing.json.error.code);
    }
  });
}

test("resources_and_prompts_need_a_separate_permission", async () => {
  const { secret: key } = await makeKey(gateway, "bare", ["contexts:create:modern.resources"]);
  const path = "/mcp/modern";
  resultOf(await askModern(gateway, "resources/list", {}, { path, key }));
  errorOf(await askModern(gateway, "prompts/list", {}, { path, key }), 403, 403);
});

test("only_an_upstreams_own_endpoint_declares_what_it_has", async () => {
  const { capabilities } = resultOf(await askModern(gateway, "server/discover", {}, { path: "/mcp/modern" }));
  assert.deepEqual(Object.keys(capabilities).sort(), [
    "completions",
    "extensions",
    "logging",
    "prompts",
    "resources",
    "tools",
  ]);
  await register(gateway, "plain", serviceAt("http://127.0.0.1:9/"));
  errorOf(await askModern(gateway, "prompts/list", {}, { path: "/mcp/plain" }), 404, -32601);
});

test("an_error_of_the_protocol_passes_as_it_is", async () => {
  const answer = await askModern(
    gateway,
    "tools/call",
    { name: "test_missing_capability", arguments: {} },
    { path: "/mcp/modern" },
  );
  const { data } = errorOf(answer, 400, -32021);
  assert.ok(data.requiredCapabilities);
  const context = await create(gateway, { capability: "test_missing_capability", service: "modern" });
  assert.deepEqual(
    [context.json.status, context.json.error.code, context.json.error.details.code],
    ["failed", "upstream_error", -32021],
  );
});

test("a_stream_that_a_legacy_upstream_ends_is_resumed", async () => {
  const answer = await create(
    gateway,
    { capability: "test_reconnection", service: "legacy" },
    { headers: { prefer: "wait=20" } },
  );
  assert.equal(answer.json.result?.content[0].text, "Reconnection test completed successfully.", answer.text);
});

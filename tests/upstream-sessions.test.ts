// The gateway as a client of servers with sessions: their owners, how they are begun, renewed and ended, and their
// messages.
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { after, before, test } from "node:test";
import { accepted, create, ended, eventually, register } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { askLegacy, askModern, claim, errorOf, events, message, type McpOptions, resultOf } from "./support/mcp.ts";
import { type Keeper, notification, startKeeper, text } from "./support/sessions.ts";
import { next, streamed } from "./support/sse.ts";

let gateway: Gateway;
const keepers: Keeper[] = [];

before(async () => {
  gateway = await startGateway({ elsewhere: true });
});
after(async () => {
  await gateway?.stop();
  for (const keeper of keepers) await keeper.stop();
});

const mcpAt = (url: string, more: object = {}) => ({
  name: "A keeper",
  type: "tool",
  transport: { kind: "mcp", url },
  retry: { max_attempts: 1, base_ms: 1, cap_ms: 10 },
  ...more,
});
async function keeperAt(id: string, ...given: Parameters<typeof startKeeper>) {
  const keeper = await startKeeper(...given);
  keepers.push(keeper);
  await register(gateway, id, mcpAt(keeper.url));
  return keeper;
}
const counts = { count: { run: ({ session }: any) => text(session.count) } };
const makes = {
  make: {
    run: ({ session }: any) => {
      session.made.add("made://1");
      return text("made");
    },
  },
};

/** Begins a session at the gateway; returns the path and headers of its requests. */
async function begin(path: string, capabilities: object = { elicitation: {} }) {
  const opened = await askLegacy(
    gateway,
    "initialize",
    { protocolVersion: "2025-11-25", capabilities, clientInfo: { name: "t", version: "1" } },
    { path },
  );
  resultOf(opened);
  const id = opened.headers.get("mcp-session-id");
  assert.ok(id, "a session");
  return { path, headers: { "mcp-session-id": id } };
}
const called = async (name: string, options: McpOptions, ask = askLegacy) =>
  resultOf(await ask(gateway, "tools/call", { name, arguments: {} }, options)).content[0].text;

// F4a

test("a_session_for_looking_at_tools_is_ended", async () => {
  const keeper = await keeperAt("looked-at", counts);
  for (let at = 0; at < 4; at++)
    assert.equal((await gateway.request("POST", "/v1/services/looked-at/check")).json.tools_error, null);
  assert.deepEqual([keeper.count("initialize"), keeper.count("DELETE"), keeper.sessions.size], [5, 5, 0]);
});

test("a_session_whose_list_cannot_be_read_is_ended", async () => {
  const keeper = await keeperAt("unreadable", counts);
  keeper.hasBadList = true;
  assert.notEqual((await gateway.request("POST", "/v1/services/unreadable/check")).json.tools_error, null);
  assert.deepEqual([keeper.count("initialize"), keeper.count("DELETE"), keeper.sessions.size], [2, 2, 0]);
});

test("the_sessions_at_servers_end_with_that_of_the_client", async () => {
  const keeper = await keeperAt("ended-with", counts);
  const client = await begin("/mcp/ended-with");
  assert.equal(await called("count", client), "1");
  assert.equal(keeper.sessions.size, 1);
  assert.equal((await gateway.request("DELETE", client.path, { headers: client.headers })).status, 204);
  assert.equal(keeper.sessions.size, 0);
});

test("the_sessions_of_a_service_end_when_it_is_changed_or_deleted", async () => {
  const keeper = await keeperAt("changed", counts);
  assert.equal(await called("count", { path: "/mcp/changed" }), "1");
  const patched = await gateway.request("PATCH", "/v1/services/changed", {
    body: { name: "Another" },
    headers: { "if-match": "*", "content-type": "application/merge-patch+json" },
  });
  assert.equal(patched.status, 200, patched.text);
  assert.equal(await called("count", { path: "/mcp/changed" }), "1");
  await eventually(() => keeper.sessions.size === 1);
  assert.equal((await gateway.request("DELETE", "/v1/services/changed", { headers: { "if-match": "*" } })).status, 204);
  await eventually(() => keeper.sessions.size === 0);
});

// F4b

test("concurrent_calls_open_one_session", async () => {
  const keeper = await keeperAt("crowded", counts, { opensMs: 200 });
  const before = keeper.count("initialize");
  const counted = await Promise.all(Array.from({ length: 8 }, () => called("count", { path: "/mcp/crowded" })));
  assert.deepEqual(counted.map(Number).sort(), [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.equal(keeper.count("initialize") - before, 1);
});

// F4c

const said = (status: number, type: string, body: string) => (response: ServerResponse) =>
  void response.writeHead(status, { "content-type": type }).end(body);
for (const [name, refuse] of Object.entries({
  "404": said(404, "text/plain", ""),
  "400": said(
    400,
    "application/json",
    '{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: Server not initialized"}}',
  ),
  "401_in_words": said(401, "text/plain", "no such session"),
  "403_in_words": said(403, "application/json", '{"detail":"Session expired"}'),
  "410": said(410, "text/plain", ""),
  "500_in_words": said(500, "text/html", "<h1>Unknown session</h1>"),
  "503_in_words": said(503, "application/json", '{"error":"unknown session"}'),
  "200_with_an_error": said(
    200,
    "application/json",
    '{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}',
  ),
})) {
  test(`a_lost_session_is_begun_again_when_its_server_returns_${name}`, async () => {
    const id = `gone-${name.replaceAll("_", "-")}`;
    const keeper = await keeperAt(id, counts);
    for (const expected of ["1", "2"]) assert.equal(await called("count", { path: `/mcp/${id}` }), expected);
    keeper.refuse = refuse;
    keeper.sessions.clear();
    const before = keeper.count("initialize");
    const counted = await Promise.all([1, 2, 3].map(() => called("count", { path: `/mcp/${id}` })));
    assert.deepEqual(counted.map(Number).sort(), [1, 2, 3]);
    assert.equal(keeper.count("initialize") - before, 1);
  });
}

test("a_refusal_of_another_kind_is_reported_and_repeats_nothing", async () => {
  const keeper = await keeperAt("refusing", counts);
  for (const [status, body, begins] of [
    [403, "You may not do that.", 0],
    [401, "", 0],
    [401, '{"error":"invalid_token"}', 1],
  ] as const) {
    const context = await create(gateway, { capability: "count", service: "refusing" });
    assert.equal(context.json.status, "completed", context.text);
    const [sessions, before, calls] = [
      new Map(keeper.sessions),
      keeper.count("initialize"),
      keeper.count("tools/call"),
    ];
    keeper.refuse = said(status, "application/json", body);
    keeper.sessions.clear();
    const refused = await create(gateway, { capability: "count", service: "refusing" });
    assert.deepEqual([refused.json.status, refused.json.error.code], ["failed", "upstream_error"], refused.text);
    assert.deepEqual(
      [keeper.count("initialize") - before, keeper.count("tools/call") - calls],
      [0, 1],
      `${status} ${body} ${begins}`,
    );
    for (const [id, session] of sessions) keeper.sessions.set(id, session);
  }
});

test("an_error_that_has_the_word_session_in_it_repeats_nothing", async () => {
  const keeper = await keeperAt("word-of-session", counts);
  const rolledBack = "InvalidRequestError: This Session's transaction has been rolled back";
  for (const body of [
    JSON.stringify({ jsonrpc: "2.0", id: null, error: { code: -32603, message: rolledBack } }),
    JSON.stringify({ detail: rolledBack }),
  ]) {
    assert.equal((await create(gateway, { capability: "count", service: "word-of-session" })).json.status, "completed");
    const [sessions, before, calls] = [
      new Map(keeper.sessions),
      keeper.count("initialize"),
      keeper.count("tools/call"),
    ];
    keeper.refuse = said(500, "application/json", body);
    keeper.sessions.clear();
    assert.equal(
      (await create(gateway, { capability: "count", service: "word-of-session" })).json.status,
      "failed",
      body,
    );
    assert.deepEqual([keeper.count("initialize") - before, keeper.count("tools/call") - calls], [0, 1], body);
    for (const [id, session] of sessions) keeper.sessions.set(id, session);
  }
});

test("a_session_is_begun_with_all_that_its_client_can_be_asked_whatever_its_first_call_can", async () => {
  const run = async ({ ask }: any) => {
    const { result } = await ask("elicitation/create", {
      message: "Who?",
      requestedSchema: { type: "object", properties: {} },
    });
    return text(result?.action ?? "not asked");
  };
  const keeper = await keeperAt("first-call", { ask: { run }, ...counts });
  const client = await begin("/mcp/first-call");
  const body = () => message("tools/call", { name: "ask", arguments: {} });
  // There is no stream for a request.
  const whole = await gateway.request("POST", client.path, {
    body: body(),
    headers: { ...client.headers, accept: "application/json" },
  });
  assert.equal(whole.json.result.content[0].text, "not asked", whole.text);
  const headers = { ...client.headers, accept: "application/json, text/event-stream" };
  const heard = streamed(await gateway.open("POST", client.path, { body: body(), headers }));
  let { message: asked } = await next(heard);
  while (asked?.method !== "elicitation/create") ({ message: asked } = await next(heard));
  const answer = { jsonrpc: "2.0", id: asked.id, result: { action: "decline" } };
  assert.equal((await gateway.request("POST", client.path, { body: answer, headers })).status, 202);
  assert.equal((await next(heard)).message.result.content[0].text, "decline");
  assert.deepEqual(
    [...keeper.sessions.values()].map(({ capabilities }) => capabilities),
    [{ elicitation: {} }],
  );
});

// F4d and G12

for (const capabilities of [{ elicitation: {} }, { sampling: {}, roots: { listChanged: true } }, {}]) {
  test(`resources_created_by_a_tool_are_read_in_its_session_with_${Object.keys(capabilities).join("_") || "nothing"}`, async () => {
    const id = `making-${Object.keys(capabilities).length}-${"elicitation" in capabilities}`;
    await keeperAt(id, { ...makes, ...counts });
    const client = await begin(`/mcp/${id}`, capabilities);
    assert.equal(await called("make", client), "made");
    const of = (method: string, params: object) => askLegacy(gateway, method, params, client);
    assert.equal(resultOf(await of("resources/read", { uri: "made://1" })).contents[0].text, "made");
    assert.equal(resultOf(await of("resources/list", {})).resources.length, 1);
    assert.deepEqual(resultOf(await of("prompts/get", { name: "made://1" })).messages, []);
    const ref = { ref: { type: "ref/resource", uri: "made://1" }, argument: { name: "a", value: "" } };
    assert.deepEqual(resultOf(await of("completion/complete", ref)).completion.values, ["made"]);
    // Another client has a session of its own, though it has the same key.
    const other = await begin(`/mcp/${id}`, capabilities);
    errorOf(await askLegacy(gateway, "resources/read", { uri: "made://1" }, other), 200, -32602);
    assert.deepEqual([await called("count", other), await called("count", client)], ["1", "2"]);
  });
}

test("resources_created_by_a_tool_are_read_in_its_session_at_the_endpoint_of_all_services", async () => {
  const keeper = await keeperAt("making-all", makes);
  const client = await begin("/mcp");
  assert.equal(await called("making-all__make", client), "made");
  const { resources } = resultOf(await askLegacy(gateway, "resources/list", {}, client));
  const own = resources.find(({ name }: any) => name === "made://1");
  assert.equal(resultOf(await askLegacy(gateway, "resources/read", { uri: own.uri }, client)).contents[0].text, "made");
  assert.equal(keeper.sessions.size, 1);
});

test("a_modern_client_reads_what_it_created", async () => {
  await keeperAt("making-modern", makes);
  const meta = { ...claim, "io.modelcontextprotocol/clientCapabilities": { elicitation: {} } };
  const options = { path: "/mcp/making-modern", meta };
  assert.equal(await called("make", options, askModern), "made");
  assert.equal(
    resultOf(await askModern(gateway, "resources/read", { uri: "made://1" }, options)).contents[0].text,
    "made",
  );
});

test("a_client_has_one_session_at_a_server_wherever_its_requests_arrive", async () => {
  const keeper = await keeperAt("elsewhere", counts);
  const client = await begin("/mcp/elsewhere");
  const before = keeper.count("initialize");
  const body = { ...message("tools/call", { name: "count", arguments: {} }) };
  const accept = { accept: "application/json, text/event-stream" };
  const elsewhere = () =>
    gateway.askElsewhere("POST", client.path, gateway.adminKey, body, { ...client.headers, ...accept });
  assert.equal(await called("count", client), "1");
  assert.equal(await elsewhere(), 200);
  assert.equal(await called("count", client), "3");
  assert.equal(keeper.count("initialize") - before, 1);
  // One that was renewed here is renewed there.
  keeper.sessions.clear();
  assert.equal(await called("count", client), "1");
  assert.equal(await elsewhere(), 200);
  assert.equal(await called("count", client), "3");
  assert.equal(keeper.count("initialize") - before, 2);
  // What began there ends here.
  const other = await begin("/mcp/elsewhere");
  assert.equal(
    await gateway.askElsewhere("POST", other.path, gateway.adminKey, body, { ...other.headers, ...accept }),
    200,
  );
  assert.equal(keeper.sessions.size, 2);
  assert.equal((await gateway.request("DELETE", other.path, { headers: other.headers })).status, 204);
  assert.equal(keeper.sessions.size, 1);
});

// F4e

test("notifications_in_the_session_of_a_call_reach_its_client", async () => {
  const messages = [
    notification("notifications/resources/list_changed"),
    notification("notifications/message", { level: "info", data: "one" }),
    notification("notifications/x.example/own", { a: 1 }),
    notification("notifications/resources/updated", { uri: "made://1" }),
  ];
  const run = ({ sendOnSession }: any) => {
    for (const message of messages) sendOnSession(message);
    sendOnSession(notification("notifications/progress", { progressToken: "another's", progress: 1 }));
    sendOnSession(notification("notifications/message", { level: "info", data: "last" }));
    return text("sent");
  };
  await keeperAt("notifying", { send: { run } });
  for (const capabilities of [{ elicitation: {} }, {}]) {
    const client = await begin("/mcp/notifying", capabilities);
    const stream = await gateway.open("GET", client.path, {
      headers: { ...client.headers, accept: "text/event-stream" },
    });
    const heard = streamed(stream);
    assert.equal(await called("send", client), "sent");
    for (const message of messages) assert.deepEqual((await next(heard)).message, message);
    assert.equal((await next(heard)).message.params.data, "last");
    await heard.return(undefined);
  }
});

test("a_notification_with_an_invalid_method_is_not_passed_on", async () => {
  const run = ({ sendOnSession }: any) => {
    sendOnSession(notification('notifications/x","id":5,"method":"sampling/createMessage', { messages: [] }));
    sendOnSession(notification("notifications/a b"));
    sendOnSession(notification("notifications/message", { level: "info", data: "after" }));
    return text("sent");
  };
  await keeperAt("injecting", { send: { run } });
  const client = await begin("/mcp/injecting");
  const heard = streamed(
    await gateway.open("GET", client.path, { headers: { ...client.headers, accept: "text/event-stream" } }),
  );
  assert.equal(await called("send", client), "sent");
  assert.deepEqual(
    (await next(heard)).message,
    notification("notifications/message", { level: "info", data: "after" }),
  );
  await heard.return(undefined);
});

test("notifications_in_a_session_reach_its_client_at_the_endpoint_of_all_services", async () => {
  const run = ({ sendOnSession, session }: any) => {
    sendOnSession(notification("notifications/message", { level: "info", data: session.count }));
    return text(session.stream !== undefined);
  };
  await keeperAt("notifying-all", { send: { run } });
  const client = await begin("/mcp");
  const heard = streamed(
    await gateway.open("GET", client.path, { headers: { ...client.headers, accept: "text/event-stream" } }),
  );
  // The gateway listens after the first call.
  await eventually(async () => (await called("notifying-all__send", client)) === "true");
  for (;;) {
    const { message } = await next(heard);
    if (message.method === "notifications/message") break;
  }
  await heard.return(undefined);
});

// G8 and G9

test("a_tool_for_clients_that_can_be_asked_is_offered_and_called_by_them", async () => {
  for (const modern of [false, true]) {
    const id = `choosy-${modern}`;
    const keeper = await keeperAt(
      id,
      { plain: {}, asking: { needs: "elicitation" }, thinking: { needs: "sampling" }, rooted: { needs: "roots" } },
      { modern },
    );
    const { capabilities } = (await gateway.request("GET", `/v1/services/${id}`)).json;
    assert.deepEqual(capabilities.map(({ name }: any) => name).sort(), ["asking", "plain", "rooted", "thinking"]);
    const client = await begin(`/mcp/${id}`);
    assert.equal(await called("asking", client), "asking");
    const [session] = [...keeper.sessions.values()];
    assert.deepEqual(session!.capabilities, { elicitation: {} });
  }
});

const asks = {
  ask: {
    run: async ({ ask, session }: any) => {
      if (session.id === "") throw new Error("cannot ask");
      const elicited = await ask("elicitation/create", {
        message: "Who?",
        requestedSchema: { type: "object", properties: { name: { type: "string" } } },
      });
      const sampled = await ask("sampling/createMessage", { messages: [], maxTokens: 1 });
      return text(`${elicited.result.content.name} ${sampled.result.content.text}`);
    },
  },
};

test("a_client_of_2025_is_asked_by_a_server_of_both_eras_as_in_2025", async () => {
  await keeperAt("both", asks, { modern: true });
  assert.equal((await gateway.request("GET", "/v1/services/both")).json.catalogue.protocol_version, "2026-07-28");
  const client = await begin("/mcp/both", { elicitation: {}, sampling: {} });
  const headers = { ...client.headers, accept: "application/json, text/event-stream" };
  const response = await gateway.open("POST", client.path, {
    body: message("tools/call", { name: "ask", arguments: {} }),
    headers,
  });
  const heard = streamed(response);
  await next(heard);
  const answers: Record<string, object> = {
    "elicitation/create": { action: "accept", content: { name: "Ada" } },
    "sampling/createMessage": { role: "assistant", model: "m", content: { type: "text", text: "said" } },
  };
  for (let at = 0; at < 2; at++) {
    const { id, method } = (await next(heard)).message;
    const answer = { jsonrpc: "2.0", id, result: answers[method] };
    assert.equal((await gateway.request("POST", client.path, { body: answer, headers })).status, 202);
  }
  assert.equal((await next(heard)).message.result.content[0].text, "Ada said");
});

test("a_server_of_2026_without_sessions_of_2025_is_asked_once_for_one", async () => {
  const keeper = await keeperAt("modern-only", { plain: {} }, { modern: true, sessions: false });
  for (let at = 0; at < 2; at++) assert.equal(await called("plain", await begin("/mcp/modern-only")), "plain");
  assert.equal(keeper.count("initialize"), 1);
});

// G10

test("changed_tools_are_noticed_on_the_stream_of_a_call", async () => {
  const keeper = await keeperAt("growing", {});
  keeper.tools = {
    grow: {
      run: ({ sendOnCall }: any) => {
        keeper.tools = { ...keeper.tools, more: {} };
        sendOnCall(notification("notifications/tools/list_changed"));
        return text("grown");
      },
    },
  };
  await gateway.request("POST", "/v1/services/growing/check");
  assert.equal(await called("grow", { path: "/mcp/growing" }), "grown");
  const names = async () =>
    resultOf(await askLegacy(gateway, "tools/list", {}, { path: "/mcp/growing" })).tools.map(({ name }: any) => name);
  await eventually(async () => (await names()).includes("more"));
  assert.equal(await called("more", { path: "/mcp/growing" }), "more");
});

test("changed_prompts_and_resources_are_reported_to_the_client_of_the_call", async () => {
  const changes = ["notifications/prompts/list_changed", "notifications/resources/list_changed"];
  const run = ({ sendOnCall }: any) => {
    for (const method of changes) sendOnCall(notification(method));
    return text("changed");
  };
  await keeperAt("shifting", { shift: { run } });
  const client = await begin("/mcp/shifting");
  const answer = await askLegacy(gateway, "tools/call", { name: "shift", arguments: {} }, client);
  assert.deepEqual(
    events(answer.text)
      .slice(0, -1)
      .map(({ method }) => method),
    changes,
  );
});

test("changed_tools_are_noticed_on_the_stream_of_a_session", async () => {
  const keeper = await keeperAt("growing-aside", {});
  keeper.tools = {
    grow: {
      run: ({ sendOnSession }: any) => {
        keeper.tools = { ...keeper.tools, more: {} };
        sendOnSession(notification("notifications/tools/list_changed"));
        return text("grown");
      },
    },
  };
  await gateway.request("POST", "/v1/services/growing-aside/check");
  const client = await begin("/mcp/growing-aside");
  const heard = streamed(
    await gateway.open("GET", client.path, { headers: { ...client.headers, accept: "text/event-stream" } }),
  );
  assert.equal(await called("grow", client), "grown");
  assert.equal((await next(heard)).message.method, "notifications/tools/list_changed");
  const { tools } = resultOf(await askLegacy(gateway, "tools/list", {}, client));
  assert.deepEqual(
    tools.map(({ name }: any) => name),
    ["grow", "more"],
  );
  await heard.return(undefined);
});

test("list_changes_on_a_call_are_reported_later_to_a_client_without_a_stream", async () => {
  const run = ({ sendOnCall }: any) => {
    sendOnCall(notification("notifications/prompts/list_changed"));
    return text("changed");
  };
  await keeperAt("shifting-aside", { shift: { run } });
  const client = await begin("/mcp/shifting-aside");
  const heard = streamed(
    await gateway.open("GET", client.path, { headers: { ...client.headers, accept: "text/event-stream" } }),
  );
  const whole = { ...client, headers: { ...client.headers, accept: "application/json" } };
  assert.equal(await called("shift", whole), "changed");
  assert.equal((await next(heard)).message.method, "notifications/prompts/list_changed");
  await heard.return(undefined);
});

// F9

const asTask = { execution: { taskSupport: "required" } };
const later = (ms: number, result: object) => new Promise((resolve) => void setTimeout(resolve, ms, result));

test("a_tool_that_is_called_as_a_task_only_is_called_plainly_and_as_a_task_here", async () => {
  const keeper = await keeperAt("tasking", {
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
  await keeperAt("tasking-asks", { ask: { definition: asTask, run } });
  const asked = await create(gateway, { capability: "ask", service: "tasking-asks" });
  assert.deepEqual([asked.json.status, asked.json.input_request?.message], ["input_required", "Who?"], asked.text);
  await gateway.request("POST", `/v1/contexts/${asked.json.id}/input`, { body: { input: { name: "Ada" } } });
  assert.deepEqual((await ended(gateway, asked.json.id)).result.content, text("Ada").content);
});

test("a_task_at_a_server_is_cancelled_with_its_context", async () => {
  const keeper = await keeperAt("tasking-ends", { endless: { definition: asTask, run: () => new Promise(() => {}) } });
  const context = await accepted(gateway, { capability: "endless", service: "tasking-ends" });
  await eventually(() => keeper.count("tasks/get") > 0);
  await gateway.request("POST", `/v1/contexts/${context.id}/cancel`);
  assert.equal((await ended(gateway, context.id)).status, "cancelled");
  await eventually(() => keeper.count("tasks/cancel") === 1);
  const late = await create(gateway, { capability: "endless", service: "tasking-ends", timeout_seconds: 1 });
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
  const keeper = await keeperAt("tasking-modern", tools, { modern: true });
  assert.equal(await called("slow", { path: "/mcp/tasking-modern" }, askModern), "done");
  const failed = await create(gateway, { capability: "fails", service: "tasking-modern" });
  assert.deepEqual([failed.json.status, failed.json.error.message], ["failed", "it broke"]);
  const asked = await create(gateway, { capability: "ask", service: "tasking-modern" });
  assert.deepEqual([asked.json.status, asked.json.input_request?.message], ["input_required", "Who?"], asked.text);
  await gateway.request("POST", `/v1/contexts/${asked.json.id}/input`, { body: { input: { name: "Ada" } } });
  assert.deepEqual((await ended(gateway, asked.json.id)).result.content, text("Ada").content);
  const context = await accepted(gateway, { capability: "endless", service: "tasking-modern" });
  await eventually(() => keeper.count("tasks/get") > 0);
  await gateway.request("POST", `/v1/contexts/${context.id}/cancel`);
  await eventually(() => keeper.count("tasks/cancel") === 1);
});

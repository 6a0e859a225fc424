// The gateway as a client of servers with sessions: their owners, how they are begun, renewed and ended, and their
// messages.
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { after, before, test } from "node:test";
import { create, eventually } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { begin, called, keeperAt, stopKeepers } from "./support/keepers.ts";
import { askLegacy, askModern, claim, errorOf, message, resultOf } from "./support/mcp.ts";
import { notification, text } from "./support/sessions.ts";
import { next, streamed } from "./support/sse.ts";

let gateway: Gateway;

before(async () => {
  gateway = await startGateway({ elsewhere: true });
});
after(async () => {
  await gateway?.stop();
  await stopKeepers();
});

const counts = { count: { run: ({ session }: any) => text(session.count) } };
const makes = {
  make: {
    run: ({ session }: any) => {
      session.made.add("made://1");
      return text("made");
    },
  },
};

test("a_session_for_looking_at_tools_is_ended", async () => {
  const keeper = await keeperAt(gateway, "looked-at", counts);
  for (let at = 0; at < 4; at++)
    assert.equal((await gateway.request("POST", "/v1/services/looked-at/check")).json.tools_error, null);
  assert.deepEqual([keeper.count("initialize"), keeper.count("DELETE"), keeper.sessions.size], [5, 5, 0]);
});

test("a_session_whose_list_cannot_be_read_is_ended", async () => {
  const keeper = await keeperAt(gateway, "unreadable", counts);
  keeper.hasBadList = true;
  assert.notEqual((await gateway.request("POST", "/v1/services/unreadable/check")).json.tools_error, null);
  assert.deepEqual([keeper.count("initialize"), keeper.count("DELETE"), keeper.sessions.size], [2, 2, 0]);
});

test("the_sessions_at_servers_end_with_that_of_the_client", async () => {
  const keeper = await keeperAt(gateway, "ended-with", counts);
  const client = await begin(gateway, "/mcp/ended-with");
  assert.equal(await called(gateway, "count", client), "1");
  assert.equal(keeper.sessions.size, 1);
  assert.equal((await gateway.request("DELETE", client.path, { headers: client.headers })).status, 204);
  assert.equal(keeper.sessions.size, 0);
});

test("the_sessions_of_a_service_end_when_it_is_changed_or_deleted", async () => {
  const keeper = await keeperAt(gateway, "changed", counts);
  assert.equal(await called(gateway, "count", { path: "/mcp/changed" }), "1");
  const patched = await gateway.request("PATCH", "/v1/services/changed", {
    body: { name: "Another" },
    headers: { "if-match": "*", "content-type": "application/merge-patch+json" },
  });
  assert.equal(patched.status, 200, patched.text);
  assert.equal(await called(gateway, "count", { path: "/mcp/changed" }), "1");
  await eventually(() => keeper.sessions.size === 1);
  assert.equal((await gateway.request("DELETE", "/v1/services/changed", { headers: { "if-match": "*" } })).status, 204);
  await eventually(() => keeper.sessions.size === 0);
});

test("concurrent_calls_open_one_session", async () => {
  const keeper = await keeperAt(gateway, "crowded", counts, { opensMs: 200 });
  const before = keeper.count("initialize");
  const counted = await Promise.all(
    Array.from({ length: 8 }, () => called(gateway, "count", { path: "/mcp/crowded" })),
  );
  assert.deepEqual(counted.map(Number).sort(), [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.equal(keeper.count("initialize") - before, 1);
});

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
    const keeper = await keeperAt(gateway, id, counts);
    for (const expected of ["1", "2"]) assert.equal(await called(gateway, "count", { path: `/mcp/${id}` }), expected);
    keeper.refuse = refuse;
    keeper.sessions.clear();
    const before = keeper.count("initialize");
    const counted = await Promise.all([1, 2, 3].map(() => called(gateway, "count", { path: `/mcp/${id}` })));
    assert.deepEqual(counted.map(Number).sort(), [1, 2, 3]);
    assert.equal(keeper.count("initialize") - before, 1);
  });
}

test("a_refusal_of_another_kind_is_reported_and_repeats_nothing", async () => {
  const keeper = await keeperAt(gateway, "refusing", counts);
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
  const keeper = await keeperAt(gateway, "word-of-session", counts);
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
  const keeper = await keeperAt(gateway, "first-call", { ask: { run }, ...counts });
  const client = await begin(gateway, "/mcp/first-call");
  const body = () => message("tools/call", { name: "ask", arguments: {} });
  // The client accepts no stream, on which a request could be sent.
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
    await keeperAt(gateway, id, { ...makes, ...counts });
    const client = await begin(gateway, `/mcp/${id}`, capabilities);
    assert.equal(await called(gateway, "make", client), "made");
    const of = (method: string, params: object) => askLegacy(gateway, method, params, client);
    assert.equal(resultOf(await of("resources/read", { uri: "made://1" })).contents[0].text, "made");
    assert.equal(resultOf(await of("resources/list", {})).resources.length, 1);
    assert.deepEqual(resultOf(await of("prompts/get", { name: "made://1" })).messages, []);
    const ref = { ref: { type: "ref/resource", uri: "made://1" }, argument: { name: "a", value: "" } };
    assert.deepEqual(resultOf(await of("completion/complete", ref)).completion.values, ["made"]);
    // Another client has a session of its own, though it has the same key.
    const other = await begin(gateway, `/mcp/${id}`, capabilities);
    errorOf(await askLegacy(gateway, "resources/read", { uri: "made://1" }, other), 200, -32602);
    assert.deepEqual([await called(gateway, "count", other), await called(gateway, "count", client)], ["1", "2"]);
  });
}

test("resources_created_by_a_tool_are_read_in_its_session_at_the_endpoint_of_all_services", async () => {
  const keeper = await keeperAt(gateway, "making-all", makes);
  const client = await begin(gateway, "/mcp");
  assert.equal(await called(gateway, "making-all__make", client), "made");
  const { resources } = resultOf(await askLegacy(gateway, "resources/list", {}, client));
  const own = resources.find(({ name }: any) => name === "made://1");
  assert.equal(resultOf(await askLegacy(gateway, "resources/read", { uri: own.uri }, client)).contents[0].text, "made");
  assert.equal(keeper.sessions.size, 1);
});

test("a_modern_client_reads_what_it_created", async () => {
  await keeperAt(gateway, "making-modern", makes);
  const meta = { ...claim, "io.modelcontextprotocol/clientCapabilities": { elicitation: {} } };
  const options = { path: "/mcp/making-modern", meta };
  assert.equal(await called(gateway, "make", options, askModern), "made");
  assert.equal(
    resultOf(await askModern(gateway, "resources/read", { uri: "made://1" }, options)).contents[0].text,
    "made",
  );
});

test("a_client_has_one_session_at_a_server_wherever_its_requests_arrive", async () => {
  const keeper = await keeperAt(gateway, "elsewhere", counts);
  const client = await begin(gateway, "/mcp/elsewhere");
  const before = keeper.count("initialize");
  const body = { ...message("tools/call", { name: "count", arguments: {} }) };
  const accept = { accept: "application/json, text/event-stream" };
  const elsewhere = () =>
    gateway.askElsewhere("POST", client.path, gateway.adminKey, body, { ...client.headers, ...accept });
  assert.equal(await called(gateway, "count", client), "1");
  assert.equal(await elsewhere(), 200);
  assert.equal(await called(gateway, "count", client), "3");
  assert.equal(keeper.count("initialize") - before, 1);
  // One that was renewed here is renewed there.
  keeper.sessions.clear();
  assert.equal(await called(gateway, "count", client), "1");
  assert.equal(await elsewhere(), 200);
  assert.equal(await called(gateway, "count", client), "3");
  assert.equal(keeper.count("initialize") - before, 2);
  // What began there ends here.
  const other = await begin(gateway, "/mcp/elsewhere");
  assert.equal(
    await gateway.askElsewhere("POST", other.path, gateway.adminKey, body, { ...other.headers, ...accept }),
    200,
  );
  assert.equal(keeper.sessions.size, 2);
  assert.equal((await gateway.request("DELETE", other.path, { headers: other.headers })).status, 204);
  assert.equal(keeper.sessions.size, 1);
});

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
  await keeperAt(gateway, "notifying", { send: { run } });
  for (const capabilities of [{ elicitation: {} }, {}]) {
    const client = await begin(gateway, "/mcp/notifying", capabilities);
    const stream = await gateway.open("GET", client.path, {
      headers: { ...client.headers, accept: "text/event-stream" },
    });
    const heard = streamed(stream);
    assert.equal(await called(gateway, "send", client), "sent");
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
  await keeperAt(gateway, "injecting", { send: { run } });
  const client = await begin(gateway, "/mcp/injecting");
  const heard = streamed(
    await gateway.open("GET", client.path, { headers: { ...client.headers, accept: "text/event-stream" } }),
  );
  assert.equal(await called(gateway, "send", client), "sent");
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
  await keeperAt(gateway, "notifying-all", { send: { run } });
  const client = await begin(gateway, "/mcp");
  const heard = streamed(
    await gateway.open("GET", client.path, { headers: { ...client.headers, accept: "text/event-stream" } }),
  );
  // The gateway listens after the first call.
  await eventually(async () => (await called(gateway, "notifying-all__send", client)) === "true");
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
      gateway,
      id,
      { plain: {}, asking: { needs: "elicitation" }, thinking: { needs: "sampling" }, rooted: { needs: "roots" } },
      { modern },
    );
    const { capabilities } = (await gateway.request("GET", `/v1/services/${id}`)).json;
    assert.deepEqual(capabilities.map(({ name }: any) => name).sort(), ["asking", "plain", "rooted", "thinking"]);
    const client = await begin(gateway, `/mcp/${id}`);
    assert.equal(await called(gateway, "asking", client), "asking");
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

test("a_client_of_2025_is_asked_by_a_server_of_both_revisions_as_in_2025", async () => {
  await keeperAt(gateway, "both", asks, { modern: true });
  assert.equal((await gateway.request("GET", "/v1/services/both")).json.catalogue.protocol_version, "2026-07-28");
  const client = await begin(gateway, "/mcp/both", { elicitation: {}, sampling: {} });
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
  const keeper = await keeperAt(gateway, "modern-only", { plain: {} }, { modern: true, sessions: false });
  for (let at = 0; at < 2; at++)
    assert.equal(await called(gateway, "plain", await begin(gateway, "/mcp/modern-only")), "plain");
  assert.equal(keeper.count("initialize"), 1);
});

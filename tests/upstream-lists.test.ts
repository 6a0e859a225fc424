// The lists of MCP servers: one invalid item never hides the others, and changes are noticed.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { connects } from "./clients/typescript.ts";
import { create, eventually, makeKey } from "./support/arrange.ts";
import { begin, called, keeperAt, stopKeepers } from "./support/keepers.ts";
import { askLegacy, askModern, events, resultOf } from "./support/mcp.ts";
import { gateway, leftOut, names, server, serveScripts } from "./support/catalogue.ts";
import { raw, refuses, tool } from "./support/mcp-script.ts";
import { notification, text } from "./support/sessions.ts";
import { next, streamed } from "./support/sse.ts";

serveScripts();
after(stopKeepers);

test("one_invalid_tool_never_hides_the_others_from_strict_clients", async () => {
  const odd = {
    nulls: {
      title: null,
      annotations: { readOnlyHint: null },
      execution: { taskSupport: null },
      icons: null,
      outputSchema: null,
    },
    null_properties: { inputSchema: { type: "object", properties: null, required: null } },
    boolean_schemas: { inputSchema: { type: "object", properties: { a: true, b: false } } },
  };
  const bad = {
    support: { execution: { taskSupport: "sometimes" } },
    hint: { annotations: { readOnlyHint: "yes" } },
    icon: { icons: [{ src: 7 }] },
    output: { outputSchema: { type: "object", properties: { a: { type: "strin" } } } },
    reference: { outputSchema: { type: "object", properties: { a: { $ref: "#/$defs/none" } } } },
    either: { inputSchema: { type: ["object", "null"], properties: {} } },
  };
  const tools = [tool("good"), ...Object.entries({ ...odd, ...bad }).map(([name, more]) => tool(name, more))];
  const { id, registered } = await server({ "tools/list": { tools } });
  const expected = ["good", ...Object.keys(odd)];
  assert.deepEqual([names(registered), registered.catalogue.error], [expected, null]);
  assert.deepEqual(Object.keys(leftOut(registered)), Object.keys(bad));
  assert.equal(leftOut(registered).support, "its execution.taskSupport is not one of required, optional, forbidden");
  const { secret: key } = await makeKey(gateway, "caller");
  for (const connect of Object.values(connects)) {
    const listed: string[][] = [];
    for (const path of [`/mcp/${id}`, "/mcp"]) {
      const client = await connect(gateway.url + path, { key });
      listed.push((await client.tools()).map(({ name }) => name));
      await client.close();
    }
    assert.deepEqual(listed[0], [...expected].sort());
    assert.ok(
      expected.every((name) => listed[1]!.includes(`${id}__${name}`)),
      String(listed[1]),
    );
  }
});

test("one_invalid_resource_or_prompt_never_hides_the_others", async () => {
  const resources = [
    { uri: "demo://a", name: "a", title: null, mimeType: null, size: null },
    { uri: "demo://b", name: "b", size: "large" },
  ];
  const resourceTemplates = [
    { uriTemplate: "demo://{x}", name: "x", description: null },
    { uriTemplate: "demo://{y}" },
  ];
  const prompts = [
    { name: "p", arguments: [{ name: "a", required: null }] },
    { name: "q", arguments: {} },
  ];
  const { id } = await server(
    {
      "resources/list": { resources, nextCursor: null },
      "resources/templates/list": { resourceTemplates },
      "prompts/list": { prompts },
      "resources/read": { contents: [{ uri: "demo://a", mimeType: null, text: "a", blob: null }] },
      "prompts/get": {
        description: null,
        messages: [{ role: "user", content: { type: "text", text: "a", annotations: null } }],
      },
    },
    { capabilities: { tools: {}, resources: { subscribe: null }, prompts: { listChanged: "no" } } },
  );
  for (const ask of [askModern, askLegacy]) {
    const at = async (path: string, method: string, params = {}) =>
      resultOf(await ask(gateway, method, params, { path }));
    const own = `/mcp/${id}`;
    const listed = await at(own, "resources/list");
    assert.deepEqual(listed.resources, [{ uri: "demo://a", name: "a" }]);
    assert.equal("nextCursor" in listed, false);
    assert.deepEqual(listed._meta["narthex/left_out"], [
      { name: "demo://b", reason: "its size is a string, not a number" },
    ]);
    assert.deepEqual((await at(own, "resources/templates/list")).resourceTemplates, [
      { uriTemplate: "demo://{x}", name: "x" },
    ]);
    assert.deepEqual((await at(own, "prompts/list")).prompts, [{ name: "p", arguments: [{ name: "a" }] }]);
    assert.deepEqual((await at(own, "resources/read", { uri: "demo://a" })).contents, [{ uri: "demo://a", text: "a" }]);
    assert.deepEqual((await at(own, "prompts/get", { name: "p" })).messages, [
      { role: "user", content: { type: "text", text: "a" } },
    ]);
    const among = await at("/mcp", "prompts/list");
    assert.deepEqual(
      among._meta["narthex/left_out"].filter(({ service }: any) => service === id),
      [{ service: id, name: "q", reason: "its arguments is an object, not an array" }],
    );
  }
});

test("names_that_the_specification_allows_work_by_rest_and_at_both_endpoints", async () => {
  const all = ["_private", "-dash", ".dot", "n".repeat(128)];
  const { id, registered } = await server({
    "tools/list": { tools: all.map((name) => tool(name)) },
    "tools/call": ({ json }: any) => text(json.params.name),
  });
  assert.deepEqual([names(registered), registered.catalogue.left_out], [all, []]);
  const { tools } = resultOf(await askLegacy(gateway, "tools/list", {}));
  const { secret: key } = await makeKey(
    gateway,
    "bare",
    all.map((name) => `contexts:create:${id}.${name}`),
  );
  const shown = new Set<string>();
  for (const name of all) {
    assert.deepEqual((await create(gateway, { capability: name, service: id }, { key })).json.result, text(name));
    const own = resultOf(await askModern(gateway, "tools/call", { name, arguments: {} }, { path: `/mcp/${id}`, key }));
    assert.deepEqual(own.content, text(name).content);
  }
  for (const { name } of tools.filter(({ name }: any) => name.startsWith(`${id}__`))) {
    assert.match(name, /^[A-Za-z0-9_-]{1,64}$/);
    shown.add(resultOf(await askLegacy(gateway, "tools/call", { name, arguments: {} })).content[0].text);
  }
  assert.deepEqual([...shown].sort(), [...all].sort());
});

test("items_beyond_the_limit_of_a_service_are_reported_and_the_rest_is_offered", async () => {
  const tools = Array.from({ length: 501 }, (_, at) => tool(`t${at}`));
  const { registered } = await server({ "tools/list": { tools } });
  assert.equal(registered.capabilities.length, 500);
  assert.deepEqual(leftOut(registered), { t500: "is beyond the 500 tools that one service may have" });
  const large = Array.from({ length: 30 }, (_, at) => tool(`l${at}`, { description: "x".repeat(60_000) }));
  const whole = (await server({ "tools/list": { tools: large } })).registered;
  assert.equal(whole.capabilities.length + whole.catalogue.left_out.length, 30);
  assert.ok(whole.capabilities.length > 10 && whole.catalogue.error === null);
});

test("a_list_is_continued_with_any_cursor", async () => {
  for (const cursor of ["", "c".repeat(5_000)]) {
    const list = ({ json }: any) =>
      json.params?.cursor === undefined
        ? { tools: [tool("one")], nextCursor: cursor }
        : { tools: [tool("two")], ...(json.params.cursor !== cursor && { nextCursor: "lost" }) };
    const { registered } = await server({ "tools/list": list });
    assert.deepEqual([names(registered), registered.catalogue.error], [["one", "two"], null]);
  }
  // Some restart with an empty cursor.
  const { registered } = await server({ "tools/list": { tools: [tool("one")], nextCursor: "" } });
  assert.deepEqual([names(registered), registered.catalogue.error, registered.catalogue.left_out], [["one"], null, []]);
});

test("an_incomplete_list_is_offered_as_far_as_it_was_read_and_reported_as_incomplete", async () => {
  for (const [second, error] of [
    [{ tools: [tool("two")], nextCursor: "c".repeat(40_000) }, /^its nextCursor has 40000 bytes/],
    [raw("it broke", { status: 500, type: "text/plain" }), /^it responded with status 500: it broke/],
    [
      refuses({ code: -32000, message: "out of paper" }),
      /^it responded to tools\/list with the error -32000: out of paper/,
    ],
  ] as const) {
    let broken = false;
    const list = (call: any, response: any) => {
      if (call.json.params?.cursor === undefined) return { tools: [tool("one")], nextCursor: "b" };
      if (!broken) return { tools: [tool("two")] };
      return typeof second === "function" ? second(call, response) : second;
    };
    const { id, registered } = await server({ "tools/list": list });
    assert.deepEqual(names(registered), ["one", "two"]);
    broken = true;
    const checked = (await gateway.request("POST", `/v1/services/${id}/check`)).json;
    assert.match(checked.tools_error, error);
    const known = (await gateway.request("GET", `/v1/services/${id}`)).json;
    assert.match(known.catalogue.error, error);
    assert.deepEqual(names(known).sort(), ["one", "two"]);
  }
});

test("changed_tools_are_noticed_on_the_stream_of_a_call", async () => {
  const keeper = await keeperAt(gateway, "growing", {});
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
  assert.equal(await called(gateway, "grow", { path: "/mcp/growing" }), "grown");
  const names = async () =>
    resultOf(await askLegacy(gateway, "tools/list", {}, { path: "/mcp/growing" })).tools.map(({ name }: any) => name);
  await eventually(async () => (await names()).includes("more"));
  assert.equal(await called(gateway, "more", { path: "/mcp/growing" }), "more");
});

test("changed_prompts_and_resources_are_reported_to_the_client_of_the_call", async () => {
  const changes = ["notifications/prompts/list_changed", "notifications/resources/list_changed"];
  const run = ({ sendOnCall }: any) => {
    for (const method of changes) sendOnCall(notification(method));
    return text("changed");
  };
  await keeperAt(gateway, "shifting", { shift: { run } });
  const client = await begin(gateway, "/mcp/shifting");
  const answer = await askLegacy(gateway, "tools/call", { name: "shift", arguments: {} }, client);
  assert.deepEqual(
    events(answer.text)
      .slice(0, -1)
      .map(({ method }) => method),
    changes,
  );
});

test("changed_tools_are_noticed_on_the_stream_of_a_session", async () => {
  const keeper = await keeperAt(gateway, "growing-aside", {});
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
  const client = await begin(gateway, "/mcp/growing-aside");
  const heard = streamed(
    await gateway.open("GET", client.path, { headers: { ...client.headers, accept: "text/event-stream" } }),
  );
  assert.equal(await called(gateway, "grow", client), "grown");
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
  await keeperAt(gateway, "shifting-aside", { shift: { run } });
  const client = await begin(gateway, "/mcp/shifting-aside");
  const heard = streamed(
    await gateway.open("GET", client.path, { headers: { ...client.headers, accept: "text/event-stream" } }),
  );
  const whole = { ...client, headers: { ...client.headers, accept: "application/json" } };
  assert.equal(await called(gateway, "shift", whole), "changed");
  assert.equal((await next(heard)).message.method, "notifications/prompts/list_changed");
  await heard.return(undefined);
});

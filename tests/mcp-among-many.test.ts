// Items of many services at /mcp: each has a unique name, and items named there can be read there.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { makeKey, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { askLegacy, askModern, claim, errorOf, resultOf } from "./support/mcp.ts";
import { type Script, startStub, type Stub, tool } from "./support/mcp-stub.ts";
import { echo, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;
let servers: [string, Stub][] = [];

before(async () => {
  gateway = await startGateway();
  service = await startService(echo);
});
afterEach(async () => {
  for (const [id, server] of servers) {
    await remove(id);
    await server.stop();
  }
  servers = [];
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const remove = (id: string) => gateway.request("DELETE", `/v1/services/${id}`, { headers: { "if-match": "*" } });

/** Registers a server under this id. */
async function serve(id: string, script: Script, more: object = {}): Promise<Stub> {
  const server = await startStub(script);
  servers.push([id, server]);
  await register(gateway, id, {
    name: `The ${id}`,
    type: "tool",
    transport: { kind: "mcp", url: server.url },
    ...more,
  });
  return server;
}

/** A server with resources at these addresses, each of which names its server. */
const withResources = (id: string, uris: string[], more: Script = {}): Script => ({
  capabilities: { tools: {}, resources: {}, prompts: {} },
  ...more,
  answers: {
    "resources/list": () => ({ resources: uris.map((uri) => ({ uri, name: uri })) }),
    "resources/templates/list": () => ({ resourceTemplates: [] }),
    "resources/read": ({ uri }) => ({ contents: [{ uri, text: `${uri} of ${id}` }] }),
    ...more.answers,
  },
});

const called = async (name: string) => resultOf(await askModern(gateway, "tools/call", { name, arguments: {} }));
const listed = async () =>
  resultOf(await askModern(gateway, "tools/list")).tools.filter(({ name }: any) => !name.startsWith("context_"));
const read = async (uri: string, options: object = {}) =>
  resultOf(await askModern(gateway, "resources/read", { uri }, options)).contents[0];

test("two_tools_never_have_one_name_and_each_call_reaches_its_own", async () => {
  const long = "x".repeat(60);
  const tools = {
    a: ["b__c", "b__c.d", "_b", "_b.c", "B", "b", "v1.chat", "v1_chat", `${long}1`, `${long}2`, `b__${long}`],
    a__b: ["c", "c.d", long],
    a_: ["b", "b.c"],
  };
  const answers = (id: string) => ({
    "tools/call": ({ name }: any) => ({ content: [{ type: "text", text: `${id}/${name}` }] }),
  });
  for (const [id, names] of Object.entries(tools))
    await serve(id, { tools: names.map((name) => tool(name)), answers: answers(id) });
  const offered = await listed();
  const names = offered.map(({ name }: any) => name);
  const expected = Object.entries(tools).flatMap(([id, own]) =>
    own.filter((name) => name !== "_b").map((name) => `${id}/${name}`),
  );
  assert.ok(names.length >= expected.length, names.join());
  assert.equal(new Set(names).size, names.length, names.join());
  assert.ok(
    names.every((name: string) => /^[A-Za-z0-9_-]{1,64}$/.test(name)),
    names.join(),
  );
  const reached = new Map<string, string>();
  for (const name of names) reached.set((await called(name)).content[0].text, name);
  assert.equal(reached.size, names.length);
  for (const one of expected) assert.ok(reached.has(one), one);
  // A tool's name does not depend on other tools.
  const ofOthers = [...reached].filter(([own]) => !own.startsWith("a__b/")).map(([, name]) => name);
  assert.equal((await remove("a__b")).status, 204);
  const left = (await listed()).map(({ name }: any) => name);
  assert.deepEqual(left.toSorted(), ofOthers.toSorted());
  assert.ok(left.includes("a__b__c"));
});

test("a_tool_with_the_changed_name_of_another_does_not_replace_it", async () => {
  await serve("a__b", {
    tools: [tool("c")],
    answers: { "tools/call": () => ({ content: [{ type: "text", text: "right" }] }) },
  });
  const [{ name }] = await listed();
  await serve("a", { tools: [tool(name.slice("a__".length))] });
  const names = (await listed()).map((one: any) => one.name);
  assert.equal(new Set(names).size, 2, names.join());
  assert.equal((await called(name)).content[0].text, "right");
});

for (const [revision, ask] of [
  ["modern", askModern],
  ["legacy", askLegacy],
] as const) {
  test(`two_prompts_and_two_resources_have_two_names_for_a_${revision}_client`, async () => {
    const prompts = (id: string, name: string): Script =>
      withResources(id, ["demo://x"], {
        answers: {
          "prompts/list": () => ({ prompts: [{ name }] }),
          "prompts/get": (params) => ({
            messages: [{ role: "user", content: { type: "text", text: `${params.name} of ${id}` } }],
          }),
        },
      });
    await serve("a", prompts("a", "b__c"));
    await serve("a__b", prompts("a__b", "c"));
    await serve("1a", prompts("1a", "c"));
    const { prompts: listed } = resultOf(await ask(gateway, "prompts/list"));
    const texts = new Set<string>();
    for (const { name } of listed)
      texts.add(resultOf(await ask(gateway, "prompts/get", { name })).messages[0].content.text);
    assert.deepEqual([...texts].sort(), ["b__c of a", "c of 1a", "c of a__b"]);
    const { resources } = resultOf(await ask(gateway, "resources/list"));
    const contents = new Set<string>();
    for (const { uri } of resources) {
      assert.equal(new URL(uri).href, uri);
      contents.add(resultOf(await ask(gateway, "resources/read", { uri })).contents[0].text);
    }
    assert.deepEqual([...contents].sort(), ["demo://x of 1a", "demo://x of a", "demo://x of a__b"]);
  });
}

test("resources_linked_at_mcp_can_be_read_there", async () => {
  const link = { type: "resource_link", uri: "demo://thing/1", name: "thing" };
  const embedded = { type: "resource", resource: { uri: "demo://thing/2", text: "two" } };
  const script = withResources("shop", ["demo://thing/1"], {
    answers: {
      "tools/call": () => ({ content: [link, embedded, { type: "text", text: "demo://thing/3" }] }),
      "prompts/list": () => ({ prompts: [{ name: "p" }] }),
      "prompts/get": () => ({
        messages: [
          { role: "user", content: link },
          { role: "user", content: embedded },
        ],
      }),
    },
  });
  await serve("shop", script);
  await serve("other", withResources("other", ["demo://thing/1"]));
  const uris = ["shop+demo://thing/1", "shop+demo://thing/2"];
  for (const ask of [askModern, askLegacy]) {
    const { content } = resultOf(await ask(gateway, "tools/call", { name: "shop__t", arguments: {} }));
    assert.deepEqual([content[0].uri, content[1].resource.uri, content[2].text], [...uris, "demo://thing/3"]);
    const { messages } = resultOf(await ask(gateway, "prompts/get", { name: "shop__p" }));
    assert.deepEqual([messages[0].content.uri, messages[1].content.resource.uri], uris);
    for (const uri of uris) {
      const { contents } = resultOf(await ask(gateway, "resources/read", { uri }));
      assert.deepEqual(contents, [{ uri, text: `${uri.slice("shop+".length)} of shop` }]);
    }
    // At its own endpoint everything is unchanged.
    const own = resultOf(await ask(gateway, "tools/call", { name: "t", arguments: {} }, { path: "/mcp/shop" }));
    assert.deepEqual(own.content.slice(0, 2), [link, embedded]);
    const there = resultOf(await ask(gateway, "resources/read", { uri: "demo://thing/1" }, { path: "/mcp/shop" }));
    assert.equal(there.contents[0].uri, "demo://thing/1");
  }
});

test("links_in_results_of_tasks_and_polled_calls_can_be_read_too", async () => {
  const content = [{ type: "resource_link", uri: "demo://thing/1", name: "thing" }];
  await serve("shop", withResources("shop", [], { answers: { "tools/call": () => ({ content }) } }));
  const made = await gateway.request("POST", "/v1/contexts", { body: { capability: "t", service: "shop" } });
  assert.deepEqual(made.json.result.content, content);
  const looked = resultOf(
    await askModern(gateway, "tools/call", { name: "context_result", arguments: { context_id: made.json.id } }),
  );
  assert.equal(looked.content[0].uri, "shop+demo://thing/1");
  const capabilities = { extensions: { "io.modelcontextprotocol/tasks": {} } };
  const meta = { ...claim, "io.modelcontextprotocol/clientCapabilities": capabilities };
  for (const [path, uri] of [
    ["/mcp", "shop+demo://thing/1"],
    ["/mcp/shop", "demo://thing/1"],
  ] as const) {
    const task = resultOf(await askModern(gateway, "tasks/get", { taskId: made.json.id }, { path, meta }));
    assert.equal(task.result.content[0].uri, uri);
    const legacy = resultOf(await askLegacy(gateway, "tasks/result", { taskId: made.json.id }, { path }));
    assert.equal(legacy.content[0].uri, uri);
  }
});

const app = (uri: string) =>
  tool("show", { _meta: { ui: { resourceUri: uri, visibility: ["model"] }, "ui/resourceUri": uri } });

test("the_address_of_an_app_stays_as_it_is", async () => {
  await serve("shop", withResources("shop", ["ui://app/1", "ui://app/free"], { tools: [app("ui://app/1")] }));
  await serve("other", withResources("other", ["demo://x"]));
  const { resources } = resultOf(await askModern(gateway, "resources/list"));
  assert.deepEqual(resources.map(({ uri }: any) => uri).sort(), ["other+demo://x", "ui://app/1", "ui://app/free"]);
  const { _meta } = (await listed()).find(({ name }: any) => name === "shop__show");
  assert.deepEqual(_meta, { ui: { resourceUri: "ui://app/1", visibility: ["model"] }, "ui/resourceUri": "ui://app/1" });
  for (const uri of ["ui://app/1", "ui://app/free"]) assert.deepEqual(await read(uri), { uri, text: `${uri} of shop` });
  errorOf(await askModern(gateway, "resources/read", { uri: "ui://app/nothing" }), 200, -32602);
  errorOf(await askModern(gateway, "resources/read", { uri: "demo://x" }), 200, -32602);
});

test("an_app_that_two_services_have_is_read_from_each", async () => {
  const content = [{ type: "resource_link", uri: "ui://app/1", name: "app" }];
  for (const id of ["one", "two"]) {
    const answers = { "tools/call": () => ({ content }) };
    await serve(id, withResources(id, ["ui://app/1", "ui://app/free"], { tools: [app("ui://app/1")], answers }));
  }
  const tools = await listed();
  for (const id of ["one", "two"]) {
    const { resourceUri } = tools.find(({ name }: any) => name === `${id}__show`)._meta.ui;
    assert.match(resourceUri, /^ui:\/\//);
    assert.deepEqual(await read(resourceUri), { uri: resourceUri, text: `ui://app/1 of ${id}` });
    const linked = (await called(`${id}__show`)).content[0].uri;
    assert.deepEqual(await read(linked), { uri: linked, text: `ui://app/1 of ${id}` });
  }
  const { resources } = resultOf(await askModern(gateway, "resources/list"));
  const texts = new Set<string>();
  for (const { uri } of resources) {
    assert.match(uri, /^ui:\/\//);
    texts.add((await read(uri)).text);
  }
  assert.equal(texts.size, 4);
  // Neither replaces the other.
  for (const uri of ["ui://app/1", "ui://app/free"]) {
    const { message } = errorOf(await askModern(gateway, "resources/read", { uri }), 200, -32602);
    assert.match(message, /ui:\/\/one\+app.*ui:\/\/two\+app/);
  }
  assert.equal((await read("ui://app/1", { path: "/mcp/two" })).text, "ui://app/1 of two");
});

test("reading_an_app_requires_permission_to_read_resources", async () => {
  await serve("shop", withResources("shop", ["ui://app/1"], { tools: [app("ui://app/1")] }));
  await serve("other", withResources("other", ["ui://app/2"]));
  const { secret: key } = await makeKey(gateway, "bare", ["contexts:create:other.resources"]);
  errorOf(await askModern(gateway, "resources/read", { uri: "ui://app/1" }, { key }), 200, -32602);
  assert.equal((await read("ui://app/2", { key })).text, "ui://app/2 of other");
});

/** Pages of a server: `of` items in each, with the server's own cursors. */
const pages =
  (list: string, count: number, of: number, item: (at: number) => object) =>
  ({ cursor }: any = {}) => {
    const from = cursor === undefined ? 0 : Number(cursor || of);
    const to = Math.min(count, from + of);
    // An empty cursor is not the end.
    return {
      [list]: Array.from({ length: to - from }, (_, at) => item(from + at)),
      ...(to < count && { nextCursor: to === of ? "" : String(to) }),
    };
  };

for (const [revision, ask] of [
  ["modern", askModern],
  ["legacy", askLegacy],
] as const) {
  test(`a_short_list_is_one_page_for_a_${revision}_client`, async () => {
    const script: Script = {
      capabilities: { tools: {}, resources: {}, prompts: {} },
      tools: Array.from({ length: 117 }, (_, at) => tool(`tool_${at}`)),
      answers: {
        "prompts/list": pages("prompts", 120, 50, (at) => ({ name: `p${at}` })),
        "resources/list": pages("resources", 120, 50, (at) => ({ uri: `demo://${at}`, name: "r" })),
        "resources/templates/list": pages("resourceTemplates", 120, 50, (at) => ({
          uriTemplate: `demo://${at}/{id}`,
          name: "r",
        })),
      },
    };
    await serve("many", script);
    for (const path of ["/mcp", "/mcp/many"]) {
      for (const [method, list, count] of [
        ["tools/list", "tools", path === "/mcp" ? 120 : 117],
        ["prompts/list", "prompts", 120],
        ["resources/list", "resources", 120],
        ["resources/templates/list", "resourceTemplates", 120],
      ] as const) {
        const result = resultOf(await ask(gateway, method, {}, { path }));
        assert.equal(result[list].length, count, `${path} ${method}`);
        assert.equal(result.nextCursor, undefined, `${path} ${method}`);
      }
    }
  });

  test(`a_long_list_is_read_to_its_end_by_a_${revision}_client`, async () => {
    const big = "x".repeat(20_000);
    const script = (id: string): Script => ({
      capabilities: { tools: {}, resources: {} },
      answers: {
        "resources/list": pages("resources", 60, 7, (at) => ({
          uri: `demo://${id}/${at}`,
          name: "r",
          description: big,
        })),
      },
    });
    await serve("one", script("one"));
    await serve("two", script("two"));
    for (const [path, count] of [
      ["/mcp", 120],
      ["/mcp/two", 60],
    ] as const) {
      const seen: string[] = [];
      let cursor: string | undefined;
      let asked = 0;
      do {
        const answer = await ask(gateway, "resources/list", cursor === undefined ? {} : { cursor }, { path });
        assert.ok(answer.text.length < 700_000, String(answer.text.length));
        const result = resultOf(answer);
        seen.push(...result.resources.map(({ uri }: any) => uri));
        cursor = result.nextCursor;
      } while (cursor !== undefined && (asked += 1) < 20);
      assert.ok(asked > 0);
      assert.deepEqual([seen.length, new Set(seen).size], [count, count], path);
    }
    errorOf(await ask(gateway, "resources/list", { cursor: "made-up" }), 200, -32602);
  });
}

test("a_servers_description_of_itself_is_passed_on_to_clients", async () => {
  await serve("files", { instructions: "Read before you write.\n\n* always" }, { description: "Ours." });
  await serve("plain", {}, { description: "Described." });
  await serve("search", { instructions: "Search first." });
  await register(gateway, "words", serviceAt(service.url, [{ name: "work" }], { description: "Works on words." }));
  const params = { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "test", version: "1" } };
  const said = async (path: string, key?: string) => {
    const options = { path, ...(key !== undefined && { key }) };
    const modern = resultOf(await askModern(gateway, "server/discover", {}, options)).instructions;
    const legacy = resultOf(await askLegacy(gateway, "initialize", params, options)).instructions;
    assert.equal(modern, legacy);
    return modern;
  };
  assert.equal(await said("/mcp/files"), "Read before you write.\n\n* always");
  assert.equal(await said("/mcp/plain"), "Described.");
  const all = await said("/mcp");
  assert.match(all, /The files.*files__[^]*Read before you write\.[^]*The search[^]*Search first\./);
  assert.ok(!all.includes("Described"), all);
  const { secret } = await makeKey(gateway, "bare", ["contexts:create:search.t"]);
  assert.ok(!(await said("/mcp", secret)).includes("Read before"));
  assert.equal(await said("/mcp/files", secret), "Ours.");
  await remove("words");
});

test("instructions_of_many_are_bounded", async () => {
  for (let at = 0; at < 6; at += 1) await serve(`s${at}`, { instructions: "ü".repeat(6000) });
  const { instructions } = resultOf(await askModern(gateway, "server/discover"));
  assert.ok(Buffer.byteLength(instructions) < 17_000);
  for (let at = 0; at < 6; at += 1) assert.ok(instructions.includes(`The s${at} `), `s${at}`);
});

// Data that is passed on to an MCP server unchanged: `_meta`, and arguments that the server validates itself.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { create, ended, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { askLegacy, askModern, claim, errorOf, resultOf } from "./support/mcp.ts";
import { startStub, type Stub, tool } from "./support/mcp-stub.ts";
import { echo, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let server: Stub;
let service: Service;

const counting = tool("t", { inputSchema: { type: "object", properties: { n: { type: "integer" } } } });

before(async () => {
  gateway = await startGateway();
  service = await startService(echo);
  server = await startStub({
    capabilities: { tools: {}, resources: {}, prompts: {}, completions: {} },
    tools: [{ ...counting, _meta: { "com.example/of": "tool" } }],
    answers: {
      "tools/call": (params) => ({
        content: [{ type: "text", text: JSON.stringify(params.arguments), _meta: { "com.example/of": "content" } }],
        _meta: { "com.example/of": "result" },
      }),
      "prompts/list": () => ({ prompts: [], _meta: { "com.example/of": "list" } }),
      "prompts/get": () => ({ messages: [] }),
      "resources/read": ({ uri }) => ({ contents: [{ uri, text: "", _meta: { "com.example/of": "contents" } }] }),
      "completion/complete": () => ({ completion: { values: [] } }),
    },
  });
  await register(gateway, "shop", { name: "Shop", type: "tool", transport: { kind: "mcp", url: server.url } });
});
beforeEach(() => void (server.messages.length = 0));
after(async () => {
  await gateway?.stop();
  await server?.stop();
  await service?.stop();
});

const got = (method: string) => server.messages.findLast((message) => message.method === method);
const said = { "com.example/tenant": "acme", "com.example/n": 1 };
const own = {
  progressToken: "mine",
  traceparent: "00-0-0-00",
  "narthex/context": "ctx_1",
  "io.modelcontextprotocol/related-task": { taskId: "t" },
};

for (const [revision, ask, meta] of [
  ["modern", askModern, { ...claim, ...said, ...own }],
  ["legacy", askLegacy, { ...said, ...own }],
] as const) {
  test(`the_meta_of_a_${revision}_client_reaches_the_server`, async () => {
    for (const [path, prefix, uri] of [
      ["/mcp/shop", "", "demo://x"],
      ["/mcp", "shop__", "shop+demo://x"],
    ] as const) {
      resultOf(await ask(gateway, "tools/call", { name: `${prefix}t`, arguments: {} }, { meta, path }));
      const { progressToken, ...rest } = got("tools/call").params._meta;
      assert.match(progressToken, /^ctx_/);
      assert.deepEqual(rest, said);
      resultOf(await ask(gateway, "prompts/get", { name: `${prefix}p` }, { meta, path }));
      resultOf(await ask(gateway, "resources/read", { uri }, { meta, path }));
      const ref = { type: "ref/prompt", name: `${prefix}p` };
      resultOf(await ask(gateway, "completion/complete", { ref, argument: { name: "a", value: "" } }, { meta, path }));
      resultOf(await ask(gateway, "prompts/list", {}, { meta, path }));
      for (const method of ["prompts/get", "resources/read", "completion/complete", "prompts/list"]) {
        assert.deepEqual(got(method).params._meta, said, method);
      }
    }
  });

  test(`the_meta_of_a_server_reaches_a_${revision}_client`, async () => {
    const of = ({ _meta }: any) => _meta["com.example/of"];
    const result = resultOf(await ask(gateway, "tools/call", { name: "shop__t", arguments: {} }));
    assert.deepEqual([of(result), of(result.content[0])], ["result", "content"]);
    assert.match(result._meta["narthex/context"], /^ctx_/);
    const { tools } = resultOf(await ask(gateway, "tools/list", {}, { path: "/mcp/shop" }));
    assert.equal(of(tools[0]), "tool");
    const { contents } = resultOf(await ask(gateway, "resources/read", { uri: "shop+demo://x" }));
    assert.equal(of(contents[0]), "contents");
    assert.equal(of(resultOf(await ask(gateway, "prompts/list", {}, { path: "/mcp/shop" }))), "list");
  });

  test(`the_meta_of_a_${revision}_client_is_bounded`, async () => {
    const large = { ...meta, "com.example/large": "x".repeat(9000) };
    const { message } = errorOf(
      await ask(gateway, "tools/call", { name: "shop__t", arguments: {} }, { meta: large }),
      200,
      -32602,
    );
    assert.match(message, /_meta/);
    errorOf(await ask(gateway, "resources/read", { uri: "shop+demo://x" }, { meta: large }), 200, -32602);
    assert.equal(server.messages.length, 0);
  });
}

test("a_replayed_call_has_the_same_meta", async () => {
  const result = resultOf(await askModern(gateway, "tools/call", { name: "shop__t", arguments: {} }, { meta: said }));
  const again = await gateway.request("POST", `/v1/contexts/${result._meta["narthex/context"]}/replay`);
  assert.equal((await ended(gateway, again.json.id)).status, "completed");
  const calls = server.messages.filter(({ method }) => method === "tools/call");
  assert.deepEqual(
    calls.map(({ params }) => params._meta["com.example/tenant"]),
    ["acme", "acme"],
  );
});

test("a_service_may_validate_arguments_itself", async () => {
  const { n } = { n: "5" };
  const refusal = resultOf(await askModern(gateway, "tools/call", { name: "shop__t", arguments: { n } }));
  assert.deepEqual([refusal.isError, server.messages.length], [true, 0]);
  refused(await create(gateway, { capability: "t", service: "shop", parameters: { n } }), 422, "validation_failed");
  const document = {
    name: "Lenient",
    type: "tool",
    transport: { kind: "mcp", url: server.url },
    check_arguments: false,
  };
  assert.equal((await register(gateway, "lenient", document)).check_arguments, false);
  for (const ask of [askModern, askLegacy]) {
    for (const [path, name] of [
      ["/mcp", "lenient__t"],
      ["/mcp/lenient", "t"],
    ] as const) {
      const result = resultOf(await ask(gateway, "tools/call", { name, arguments: { n } }, { path }));
      assert.deepEqual([result.isError ?? false, result.content[0].text], [false, '{"n":"5"}']);
    }
  }
  const made = await create(gateway, { capability: "t", service: "lenient", parameters: { n } });
  assert.equal(made.json.status, "completed", made.text);
  // The schema is shown unchanged, and a call that is not JSON is refused.
  const { tools } = resultOf(await askModern(gateway, "tools/list", {}, { path: "/mcp/lenient" }));
  assert.deepEqual(tools[0].inputSchema, counting.inputSchema);
  errorOf(await askModern(gateway, "tools/call", { name: "lenient__t", arguments: [] }), 200, -32602);
  // Validated by the gateway again once the setting is removed.
  const patch = (body: object) =>
    gateway.request("PATCH", "/v1/services/lenient", {
      body,
      headers: { "if-match": "*", "content-type": "application/merge-patch+json" },
    });
  const patched = await patch({ check_arguments: null });
  assert.deepEqual([patched.status, patched.json.check_arguments], [200, undefined]);
  refused(await create(gateway, { capability: "t", service: "lenient", parameters: { n } }), 422, "validation_failed");
  assert.equal((await patch({ check_arguments: false })).status, 200);
  assert.equal(
    (await create(gateway, { capability: "t", service: "lenient", parameters: { n } })).json.status,
    "completed",
  );
  assert.deepEqual(pointers(refused(await patch({ check_arguments: "no" }), 422, "validation_failed")), [
    "#/check_arguments",
  ]);
});

test("a_service_of_any_kind_may_validate_arguments_itself", async () => {
  const input_schema = { type: "object", properties: { n: { type: "integer" } } };
  await register(
    gateway,
    "words",
    serviceAt(service.url, [{ name: "work", input_schema }], { check_arguments: false }),
  );
  const made = await create(gateway, { service: "words", parameters: { n: "5" } });
  assert.deepEqual([made.json.status, made.json.result], ["completed", { n: "5" }]);
});

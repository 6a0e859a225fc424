// Prompts, resources and completions of MCP servers, at their own endpoint and among those of others.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startUpstream, type Upstream } from "./official-suite/upstream/server.ts";
import { makeKey, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { askLegacy, askModern, errorOf, resultOf } from "./support/mcp.ts";

let gateway: Gateway;
let narrow: string;
const upstreams: Upstream[] = [];
const ids = { modern: "a_modern", legacy: "legacy" } as const;

before(async () => {
  gateway = await startGateway();
  for (const revisions of ["modern", "legacy"] as const) {
    const upstream = await startUpstream({ revisions });
    upstreams.push(upstream);
    await register(gateway, ids[revisions], {
      name: revisions,
      type: "tool",
      transport: { kind: "mcp", url: upstream.url },
    });
  }
  const gone = await startUpstream();
  await register(gateway, "gone", { name: "Gone", type: "tool", transport: { kind: "mcp", url: gone.url } });
  await gone.stop();
  await register(gateway, "plain", serviceAt("http://127.0.0.1:9/", [{}]));
  const permissions = ["contexts:create:a_modern.prompts"];
  assert.equal((await gateway.request("PUT", "/v1/roles/narrow", { body: { permissions } })).status, 201);
  narrow = (await makeKey(gateway, "narrow")).secret;
});
after(async () => {
  await gateway?.stop();
  for (const upstream of upstreams) await upstream.stop();
});

const simple = "This is a simple prompt for testing.";
const revisions = [
  ["modern", askModern],
  ["legacy", askLegacy],
] as const;

for (const [client, ask] of revisions) {
  for (const [server, id] of Object.entries(ids)) {
    test(`a_${client}_client_has_what_a_${server}_server_has`, async () => {
      const path = `/mcp/${id}`;
      const { prompts } = resultOf(await ask(gateway, "prompts/list", {}, { path }));
      assert.ok(prompts.some(({ name }: any) => name === "test_simple_prompt"));
      const got = resultOf(await ask(gateway, "prompts/get", { name: "test_simple_prompt" }, { path }));
      assert.equal(got.messages[0].content.text, simple);
      const read = resultOf(await ask(gateway, "resources/read", { uri: "test://static-text" }, { path }));
      assert.match(read.contents[0].text, /static text resource/);
      const { resourceTemplates } = resultOf(await ask(gateway, "resources/templates/list", {}, { path }));
      assert.equal(resourceTemplates[0].uriTemplate, "test://template/{id}/data");
      const ref = { type: "ref/prompt", name: "test_prompt_with_arguments" };
      const completed = resultOf(
        await ask(gateway, "completion/complete", { ref, argument: { name: "arg1", value: "" } }, { path }),
      );
      assert.ok(Array.isArray(completed.completion.values), JSON.stringify(completed));
      const missing = errorOf(await ask(gateway, "resources/read", { uri: "test://nothing" }, { path }), 200, -32602);
      assert.match(missing.message, /not found/);
      const isModern = "resultType" in got;
      assert.equal(isModern, client === "modern");
      assert.equal("ttlMs" in read, client === "modern");
    });
  }

  test(`a_${client}_client_sees_those_of_all_servers_named_with_their_service`, async () => {
    const { prompts } = resultOf(await ask(gateway, "prompts/list"));
    const names = prompts.map(({ name }: any) => name);
    assert.ok(
      names.includes("a_modern__test_simple_prompt") && names.includes("legacy__test_simple_prompt"),
      names.join(),
    );
    const { resources } = resultOf(await ask(gateway, "resources/list"));
    const uris = resources.map(({ uri }: any) => uri);
    for (const uri of ["a.modern+test://static-text", "legacy+test://static-text"]) {
      assert.ok(uris.includes(uri), uris.join());
      const read = resultOf(await ask(gateway, "resources/read", { uri }));
      assert.match(read.contents[0].text, /static text resource/);
    }
    const got = resultOf(await ask(gateway, "prompts/get", { name: "legacy__test_simple_prompt" }));
    assert.equal(got.messages[0].content.text, simple);
    const ref = { type: "ref/prompt", name: "a_modern__test_prompt_with_arguments" };
    const completed = resultOf(
      await ask(gateway, "completion/complete", { ref, argument: { name: "arg1", value: "" } }),
    );
    assert.ok(Array.isArray(completed.completion.values));
    errorOf(await ask(gateway, "prompts/get", { name: "unknown__prompt" }), 200, -32602);
  });

  test(`to_a_${client}_client_a_server_that_is_gone_is_unavailable_and_one_without_prompts_has_none`, async () => {
    const gone = errorOf(
      await ask(gateway, "prompts/get", { name: "test_simple_prompt" }, { path: "/mcp/gone" }),
      503,
      503,
    );
    assert.equal(gone.data.code, "no_service_available");
    errorOf(await ask(gateway, "prompts/list", {}, { path: "/mcp/plain" }), client === "modern" ? 404 : 200, -32601);
  });

  test(`a_${client}_client_needs_the_permission`, async () => {
    const asked = { key: narrow };
    resultOf(await ask(gateway, "prompts/list", {}, { ...asked, path: "/mcp/a_modern" }));
    const { prompts } = resultOf(await ask(gateway, "prompts/list", {}, asked));
    assert.ok(prompts.length > 0 && prompts.every(({ name }: any) => name.startsWith("a_modern__")));
    for (const [method, path] of [
      ["resources/list", "/mcp/a_modern"],
      ["prompts/list", "/mcp/legacy"],
    ] as const) {
      errorOf(await ask(gateway, method, {}, { ...asked, path }), 403, 403);
    }
    errorOf(await ask(gateway, "prompts/get", { name: "legacy__test_simple_prompt" }, asked), 200, -32602);
    const { secret } = await makeKey(gateway, "viewer");
    errorOf(await ask(gateway, "prompts/list", {}, { key: secret, path: "/mcp/legacy" }), 403, 403);
  });
}

test("an_endpoint_declares_what_it_has", async () => {
  const declared = async (path: string) => {
    const modern = resultOf(await askModern(gateway, "server/discover", {}, { path })).capabilities;
    const params = { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "test", version: "1" } };
    const legacy = resultOf(await askLegacy(gateway, "initialize", params, { path })).capabilities;
    return [modern, legacy].map((all) => ["prompts", "resources", "completions"].filter((name) => name in all).join());
  };
  const all = "prompts,resources,completions";
  assert.deepEqual(await declared("/mcp/legacy"), [all, all]);
  assert.deepEqual(await declared("/mcp"), [all, all]);
  assert.deepEqual(await declared("/mcp/plain"), ["", ""]);
});

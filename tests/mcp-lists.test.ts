// Servers with endless lists, many invalid items, or unreadable lists: clients still get the valid part. Long lists
// come in pages.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { makeKey, register, serviceAt } from "./support/arrange.ts";
import { type Script, startStub, type Stub } from "./support/mcp-stub.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { askLegacy, askModern, errorOf, resultOf } from "./support/mcp.ts";
import { startService } from "./support/service.ts";

let gateway: Gateway;
let servers: [string, Stub][] = [];

before(async () => {
  gateway = await startGateway();
});
afterEach(async () => {
  for (const [id, server] of servers) {
    await gateway.request("DELETE", `/v1/services/${id}`, { headers: { "if-match": "*" } });
    await server.stop();
  }
  servers = [];
});
after(async () => {
  await gateway?.stop();
});

type List = (cursor: string | undefined) => any;

const script = (list: List): Script => ({
  capabilities: { tools: {}, resources: {} },
  answers: {
    "resources/list": (params) => list(params?.cursor),
    "resources/read": ({ uri }) => ({ contents: [{ uri, text: uri }] }),
  },
});

/** Registers a server with this list of resources. */
async function serve(id: string, list: List): Promise<Stub> {
  const server = await startStub(script(list));
  servers.push([id, server]);
  await register(gateway, id, { name: id, type: "tool", transport: { kind: "mcp", url: server.url } });
  return server;
}

const page = (uris: string[], nextCursor?: unknown) => ({
  resources: uris.map((uri) => ({ uri, name: uri })),
  ...(nextCursor !== undefined && { nextCursor }),
});
const asked = (server: Stub) => server.messages.filter(({ method }) => method === "resources/list").length;
const leftOut = (result: any) => result._meta?.["narthex/left_out"] ?? [];
const all = (uris: string[]) => () => page(uris);

for (const [revision, ask] of [
  ["modern", askModern],
  ["legacy", askLegacy],
] as const) {
  const list = async (path: string, params: object = {}) =>
    resultOf(await ask(gateway, "resources/list", params, { path }));

  test(`a_circular_list_ends_for_a_${revision}_client`, async () => {
    const lists: Record<string, [List, number, boolean]> = {
      // From the second page to the first, and from the only one to itself: for some servers an empty cursor means the
      // end.
      two: [(cursor) => (cursor === "c" ? page(["demo://2"], "") : page(["demo://1"], "c")), 2, false],
      one: [() => page(["demo://1"], ""), 1, false],
      same: [(cursor) => page([cursor === undefined ? "demo://1" : "demo://2"], "c"), 2, true],
      round: [(cursor) => (cursor === "c" ? page(["demo://2"], "d") : page(["demo://1"], "c")), 2, true],
      without: [(cursor) => page([], cursor === "c" ? "d" : "c"), 0, true],
    };
    for (const [id, [pages, count, isSaid]] of Object.entries(lists)) {
      const server = await serve(id, pages);
      for (const path of ["/mcp", `/mcp/${id}`]) {
        const before = asked(server);
        const result = await list(path);
        const of = result.resources.filter(({ uri }: any) => path !== "/mcp" || uri.startsWith(`${id}+`));
        assert.equal(of.length, count, `${path} ${id}`);
        assert.equal(result.nextCursor, undefined, `${path} ${id}`);
        const said = leftOut(result).filter(({ service }: any) => path !== "/mcp" || service === id);
        assert.equal(said.length, isSaid ? 1 : 0, `${path} ${id}: ${JSON.stringify(said)}`);
        assert.ok(asked(server) - before <= 3, `${path} ${id}: ${asked(server) - before}`);
      }
    }
  });

  test(`an_invalid_cursor_is_reported_to_a_${revision}_client`, async () => {
    await serve("odd", () => page(["demo://1"], 5));
    for (const path of ["/mcp", "/mcp/odd"]) {
      const result = await list(path);
      assert.equal(result.resources.length, 1, path);
      assert.ok(!("nextCursor" in result), path);
      assert.match(leftOut(result)[0].reason, /cursor is not a string/);
    }
  });

  test(`reports_of_invalid_items_are_bounded_for_a_${revision}_client`, async () => {
    const server = await serve("hostile", (cursor) => {
      const at = Number(cursor ?? 0);
      return { resources: Array.from({ length: 200_000 }, () => at), nextCursor: String(at + 1) };
    });
    await serve("zz", all(["demo://1"]));
    for (const path of ["/mcp", "/mcp/hostile"]) {
      const before = asked(server);
      const answer = await ask(gateway, "resources/list", {}, { path });
      assert.ok(answer.text.length < 50_000, `${path} ${answer.text.length}`);
      const said = leftOut(resultOf(answer));
      assert.equal(said.length, 101, path);
      assert.match(said.at(-1).reason, /^\d+ more are left out$/);
      assert.ok(asked(server) - before <= 3, `${path} ${asked(server) - before}`);
    }
  });
}

test("an_address_that_an_unread_list_may_contain_is_not_taken_by_another_service", async () => {
  const down = await serve("a", () => undefined);
  await serve("b", all(["ui://app/1"]));
  const uris = async () => resultOf(await askModern(gateway, "resources/list")).resources.map(({ uri }: any) => uri);
  const read = (uri: string) => askModern(gateway, "resources/read", { uri });
  assert.deepEqual(await uris(), ["ui://b+app/1"]);
  assert.match(errorOf(await read("ui://app/1"), 200, -32602).message, /ui:\/\/b\+app\/1.*ui:\/\/a\+app\/1/);
  assert.equal(resultOf(await read("ui://b+app/1")).contents[0].text, "ui://app/1");
  // Nor while its list continues beyond the part that was read.
  down.script = script((cursor) => page([`demo://${cursor ?? ""}`], `${cursor ?? ""}x`));
  assert.ok((await uris()).every((uri: string) => uri !== "ui://app/1"));
  errorOf(await read("ui://app/1"), 200, -32602);
  down.script = script(all(["demo://1"]));
  assert.deepEqual((await uris()).sort(), ["a+demo://1", "ui://app/1"]);
  assert.equal(resultOf(await read("ui://app/1")).contents[0].text, "ui://app/1");
});

test("a_service_over_a_limit_is_reported_as_missing", async () => {
  await serve("held", all(["demo://1"]));
  await serve("free", all(["demo://2"]));
  const limit = { kind: "requests", quota: 1, window_seconds: 3600, binds: { service: "held" } };
  assert.equal((await gateway.request("PUT", "/v1/limits/one", { body: limit })).status, 201);
  try {
    let result: any;
    for (let count = 0; count < 10 && leftOut(result ?? {}).length === 0; count += 1)
      result = resultOf(await askModern(gateway, "resources/list"));
    assert.deepEqual(
      result.resources.map(({ uri }: any) => uri),
      ["free+demo://2"],
    );
    const [missing, ...more] = leftOut(result);
    assert.deepEqual([missing.service, more.length], ["held", 0]);
    assert.match(missing.reason, /limit/);
  } finally {
    await gateway.request("DELETE", "/v1/limits/one", { headers: { "if-match": "*" } });
  }
});

test("unresponsive_servers_do_not_delay_clients", async () => {
  for (let at = 10; at < 23; at += 1) await serve(`s${at}`, () => new Promise(() => {}));
  await serve("z", all(["demo://1"]));
  const began = Date.now();
  const first = resultOf(await askModern(gateway, "resources/list"));
  const took = Date.now() - began;
  assert.ok(took < 60_000, String(took));
  assert.deepEqual(first.resources, []);
  assert.ok(leftOut(first).length >= 6, JSON.stringify(leftOut(first)));
  const seen: string[] = [];
  let cursor = first.nextCursor;
  for (let count = 0; cursor !== undefined && count < 5; count += 1) {
    const result = resultOf(await askModern(gateway, "resources/list", { cursor }));
    seen.push(...result.resources.map(({ uri }: any) => uri));
    cursor = result.nextCursor;
  }
  assert.deepEqual(seen, ["z+demo://1"]);
});

test("a_list_of_tools_is_paged", async () => {
  const service = await startService();
  const names = (result: any): string[] => result.tools.map(({ name }: { name: string }) => name);
  const description = "x".repeat(4000);
  const many = Array.from({ length: 200 }, (_, at) => ({ name: `tool_${String(at).padStart(3, "0")}`, description }));
  await register(gateway, "shelf-a", serviceAt(service.url, many.slice(0, 100)));
  try {
    // A short list is one page, because many clients read only the first.
    const one = resultOf(await askModern(gateway, "tools/list"));
    assert.equal(names(one).filter((name) => name.startsWith("shelf-")).length, 100);
    assert.equal(one.nextCursor, undefined);
    await register(gateway, "shelf-b", serviceAt(service.url, many.slice(100)));
    const seen: string[] = [];
    let cursor: string | undefined;
    let pages = 0;
    do {
      const result = resultOf(await askModern(gateway, "tools/list", cursor === undefined ? {} : { cursor }));
      seen.push(...names(result));
      cursor = result.nextCursor;
      pages += 1;
    } while (cursor !== undefined);
    assert.ok(pages > 1);
    assert.equal(new Set(seen).size, seen.length);
    assert.equal(seen.filter((name) => name.startsWith("shelf-")).length, 200);
    const first = resultOf(await askModern(gateway, "tools/list"));
    const key = (await makeKey(gateway, "caller")).secret;
    errorOf(await askModern(gateway, "tools/list", { cursor: first.nextCursor }, { key }), 200, -32602);
  } finally {
    for (const id of ["shelf-a", "shelf-b"])
      await gateway.request("DELETE", `/v1/services/${id}`, { headers: { "if-match": "*" } });
    await service.stop();
  }
});

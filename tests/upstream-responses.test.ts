// Messages of MCP servers, valid or not: one odd item, event, character or refusal invalidates only itself, and
// unreadable messages are reported with their fault.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create } from "./support/arrange.ts";
import { askLegacy, askModern, claim, errorOf, events, resultOf } from "./support/mcp.ts";
import { gateway, names, server, serveScripts } from "./support/catalogue.ts";
import { message, raw, refuses, type Script, sse, text, tool } from "./support/mcp-script.ts";

serveScripts();

const called = async (said: Script["x"]) => {
  const { id } = await server({ "tools/call": said! });
  return { id, context: (await create(gateway, { capability: "t", service: id })).json };
};
const rpc = (result: object) => JSON.stringify({ jsonrpc: "2.0", id: "ID", result }).replace('"ID"', "ID");

describe("revisions", () => {
  const silent = () => new Promise((resolve) => setTimeout(resolve, 30_000, undefined).unref());
  for (const [how, said] of [
    ["never_answers", silent],
    ["answers_500", raw('{"detail":"it broke"}', { status: 500 })],
    ["answers_503", raw("", { status: 503 })],
    ["answers_429", raw("slow down", { status: 429, type: "text/plain" })],
    ["answers_403", raw('{"message":"Forbidden"}', { status: 403 })],
    ["answers_with_a_page", raw("<!doctype html><title>Hello</title>", { type: "text/html" })],
    ["answers_nonsense", raw("nonsense")],
    ["answers_an_empty_stream", sse("")],
    ["closes_the_connection", (_: any, response: any) => void response.socket.destroy()],
    ["returns_something_else", { hello: "world" }],
    ["returns_its_own_error_code", refuses({ code: -32099, message: "What?" }, 400)],
  ] as [string, Script["x"]][]) {
    test(`a_server_that_${how}_on_discovery_is_initialized`, async () => {
      const { id, registered } = await server({ "server/discover": said!, "tools/call": text("done") });
      const { protocol_version, error } = registered.catalogue;
      assert.deepEqual([protocol_version, error, names(registered)], ["2025-11-25", null, ["t"]]);
      assert.deepEqual((await create(gateway, { capability: "t", service: id })).json.result, text("done"));
    });
  }

  test("a_server_that_refuses_a_revision_is_called_in_one_it_supports", async () => {
    for (const [status, code] of [
      [200, -32602],
      [400, -32602],
      [400, -32000],
    ] as const) {
      const initialize = (call: any, response: any) => {
        const { protocolVersion } = call.json.params;
        if (protocolVersion === "2025-06-18")
          return { protocolVersion, capabilities: { tools: {} }, serverInfo: { name: "s", version: "1" } };
        const error = {
          code,
          message: "Unsupported protocol version",
          data: { supported: ["2025-06-18"], requested: protocolVersion },
        };
        return (refuses(error, status) as any)(call, response);
      };
      const { registered } = await server({ initialize });
      assert.deepEqual(
        [registered.catalogue.protocol_version, registered.catalogue.error, names(registered)],
        ["2025-06-18", null, ["t"]],
      );
    }
  });

  test("unreadable_messages_are_reported_with_their_fault", async () => {
    const spoken = "supported here are 2026-07-28, 2025-11-25, 2025-06-18, 2025-03-26, 2024-11-05";
    for (const [script, expected] of [
      [
        { initialize: { protocolVersion: "2099-01-01", capabilities: {} } },
        new RegExp(`it supports 2099-01-01; ${spoken}$`),
      ],
      [
        { initialize: { capabilities: {} } },
        /response to initialize is not a message .*: its result has no protocolVersion$/,
      ],
      [
        { initialize: refuses({ code: -32000, message: "no licence" }) },
        /^it responded to initialize with the error -32000: no licence$/,
      ],
      [
        { initialize: raw('{"detail":"no seat left"}', { status: 403 }) },
        /^it responded with status 403: no seat left$/,
      ],
      [
        { initialize: raw("<title>Sign in</title>", { type: "text/html" }) },
        /^it responded with status 200 and neither application\/json nor text\/event-stream$/,
      ],
      [
        { "server/discover": { supportedVersions: ["2031-01-01"], capabilities: {} } },
        new RegExp(`it supports 2031-01-01; ${spoken}$`),
      ],
      [
        { "tools/list": message('{"jsonrpc":"1.0","id":ID,"result":{}}') },
        /response to tools\/list is not a message .*: its jsonrpc is "1.0", not "2.0"$/,
      ],
      [
        { "tools/list": message('{"jsonrpc":"2.0","id":"other","result":{}}') },
        /it responds to a request with the id "other", which was not sent$/,
      ],
      [
        { "tools/list": { tools: {} } },
        /^its response to tools\/list is not a list of tools: tools is an object, not an array$/,
      ],
      [
        { "tools/list": refuses({ code: -32603, message: "out of paper" }, 500) },
        /^it responded with status 500: out of paper$/,
      ],
    ] as [Script, RegExp][]) {
      const { registered } = await server(script);
      assert.match(registered.catalogue.error, expected);
      assert.deepEqual(registered.capabilities, []);
    }
  });
});

describe("messages", () => {
  const response = `data: ${rpc(text("done"))}\n\n`;
  for (const [what, said] of [
    ["an_event_of_another_type", sse(`event: ping\ndata: 2026-01-01T00:00:00Z\n\n${response}`)],
    [
      "an_event_of_another_type_that_looks_like_a_response",
      sse(`event: trace\ndata: ${rpc(text("not this"))}\n\nevent: message\n${response}`),
    ],
    ["an_event_that_is_not_a_message", sse(`data: keep-alive\n\n${response}`)],
    ["a_byte_order_mark_before_a_stream", sse(`\ufeff${response}`)],
    ["a_byte_order_mark_before_json", message(`\ufeff${rpc(text("done"))}`)],
    ["an_id_as_a_string", message(rpc(text("done")).replace("ID", '"ID"'))],
    ["an_id_as_a_decimal", message(rpc(text("done")).replace("ID", "ID.0"))],
    ["an_id_as_a_string_in_a_stream", sse(response.replace("ID", '"ID"'))],
    [
      "a_batch",
      message(
        `[{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}},${rpc(text("done"))}]`,
      ),
    ],
    [
      "members_that_are_null",
      message(
        '{"jsonrpc":"2.0","id":ID,"error":null,"result":{"content":[{"type":"text","text":"done","annotations":null,"_meta":null}],"structuredContent":null,"isError":null,"_meta":null}}',
      ),
    ],
  ] as [string, Script["x"]][]) {
    test(`a_result_is_read_despite_${what}`, async () => {
      const { id, context } = await called(said);
      assert.deepEqual([context.status, context.result], ["completed", text("done")], JSON.stringify(context.error));
      for (const ask of [askModern, askLegacy]) {
        const result = resultOf(await ask(gateway, "tools/call", { name: "t", arguments: {} }, { path: `/mcp/${id}` }));
        assert.deepEqual(result.content, text("done").content);
      }
    });
  }

  test("half_a_character_invalidates_only_itself", async () => {
    const cut = '{"content":[{"type":"text","text":"cut \\ud83d here"}]}';
    for (const said of [
      message(`{"jsonrpc":"2.0","id":ID,"result":${cut}}`),
      sse(`data: {"jsonrpc":"2.0","id":ID,"result":${cut}}\n\n`),
    ]) {
      assert.deepEqual((await called(said)).context.result, text("cut \ufffd here"));
    }
    const list = message(
      '{"jsonrpc":"2.0","id":ID,"result":{"tools":[{"name":"t","description":"\\ud83d","inputSchema":{"type":"object"}}]}}',
    );
    const resources = message('{"jsonrpc":"2.0","id":ID,"result":{"resources":[{"uri":"a:b","name":"\\ude00"}]}}');
    const { id, registered } = await server(
      { "tools/list": list, "resources/list": resources },
      { capabilities: { tools: {}, resources: {} } },
    );
    assert.equal(registered.capabilities[0].description, "\ufffd");
    const listed = resultOf(await askLegacy(gateway, "resources/list", {}, { path: `/mcp/${id}` }));
    assert.equal(listed.resources[0].name, "\ufffd");
  });

  test("a_servers_error_message_is_kept", async () => {
    for (const [status, words] of [
      [200, "out of paper"],
      [400, "out of paper"],
      [500, "The service responded with status 500: out of paper"],
    ] as const) {
      const { id, context } = await called(
        refuses({ code: -32001, message: "out of paper", data: { tray: 2 } }, status),
      );
      assert.deepEqual([context.status, context.error.message], ["failed", words]);
      for (const ask of [askModern, askLegacy]) {
        const error = errorOf(
          await ask(gateway, "tools/call", { name: "t", arguments: {} }, { path: `/mcp/${id}` }),
          200,
          -32001,
        );
        assert.deepEqual([error.message, error.data], ["out of paper", { tray: 2 }]);
      }
    }
    const long = "paper ".repeat(500);
    const { context } = await called(refuses({ code: -32001, message: long }));
    assert.ok(
      context.error.message.startsWith("paper paper") && context.error.message.endsWith("…"),
      context.error.message,
    );
    const { id } = await called(refuses({ code: -32001, message: "paper ".repeat(5_000) }));
    const error = errorOf(
      await askLegacy(gateway, "tools/call", { name: "t", arguments: {} }, { path: `/mcp/${id}` }),
      200,
      -32001,
    );
    assert.match(error.message, /^paper paper .*…$/);
    const odd = (await called(message('{"jsonrpc":"2.0","id":ID,"error":"out of paper"}'))).context;
    assert.deepEqual([odd.error.code, odd.error.message], ["upstream_error", "out of paper"]);
    const wrong = (await called(message('{"jsonrpc":"2.0","id":ID,"result":[]}'))).context;
    assert.equal(
      wrong.error.message,
      "The server's response is not a message of the protocol: its result is an array, not an object.",
    );
  });

  test("a_servers_error_about_a_prompt_is_kept_whatever_the_status", async () => {
    for (const status of [200, 404, 500, 503]) {
      const script = { "prompts/get": refuses({ code: -32001, message: "out of paper" }, status) };
      const { id } = await server(script, { capabilities: { tools: {}, prompts: {} } });
      const answer = await askLegacy(gateway, "prompts/get", { name: "p" }, { path: `/mcp/${id}` });
      assert.equal(errorOf(answer, 200, -32001).message, "out of paper");
    }
  });

  test("progress_of_another_call_is_not_passed_to_the_caller", async () => {
    const progressMessage = (token: unknown, progress: number) =>
      `data: ${JSON.stringify({ jsonrpc: "2.0", method: "notifications/progress", params: { progressToken: token, progress, total: null } })}\n\n`;
    const said: Script["x"] = (call, response) => {
      const { progressToken } = call.json.params._meta;
      const stream = [
        progressMessage(progressToken, 1),
        progressMessage("another", 7),
        progressMessage(7, 8),
        progressMessage(undefined, 9),
        progressMessage(progressToken, 2),
      ].join("");
      return (sse(stream + response_) as any)(call, response);
    };
    const response_ = response;
    const { id } = await server({ "tools/call": said });
    const answer = await askLegacy(
      gateway,
      "tools/call",
      { name: "t", arguments: {} },
      { path: `/mcp/${id}`, meta: { progressToken: "mine" } },
    );
    const progress = events(answer.text).filter(({ method }) => method === "notifications/progress");
    assert.deepEqual(
      progress.map(({ params }) => params),
      [
        { progressToken: "mine", progress: 1 },
        { progressToken: "mine", progress: 2 },
      ],
    );
  });

  for (const [how, bytes] of [
    ["1.2_MB", 1_200_000],
    ["7_MB", 7_000_000],
  ] as const) {
    test(`an_image_of_${how}_is_passed_on_everywhere`, async () => {
      const image = {
        content: [{ type: "image", mimeType: "image/png", data: Buffer.alloc((bytes * 3) / 4, 7).toString("base64") }],
      };
      for (const said of [image, sse(`data: ${rpc(image)}\n\n`)]) {
        const { id, context } = await called(said);
        assert.equal(context.status, "completed", JSON.stringify(context.error));
        assert.equal(context.result.content[0].data.length, image.content[0]!.data.length);
        for (const ask of [askModern, askLegacy]) {
          const result = resultOf(
            await ask(gateway, "tools/call", { name: "t", arguments: {} }, { path: `/mcp/${id}` }),
          );
          assert.equal(result.content[0].data, image.content[0]!.data);
        }
      }
    });
  }

  test("a_result_over_the_size_limit_is_reported", async () => {
    const image = {
      content: [{ type: "image", mimeType: "image/png", data: Buffer.alloc(8_400_000, 7).toString("base64") }],
    };
    for (const said of [image, sse(`data: ${rpc(image)}\n\n`)]) {
      const { context } = await called(said);
      const { code, message } = context.error;
      assert.deepEqual(
        [code, message],
        ["upstream_invalid_response", "The service's response is larger than 10485760 bytes."],
      );
    }
  });
});

test("elicitations_are_passed_on_without_members_that_are_null", async () => {
  const requestedSchema = { type: "object", properties: { name: { type: "string", title: null } }, required: null };
  const inputRequests = {
    who: { method: "elicitation/create", params: { mode: null, message: "Who?", requestedSchema } },
  };
  const list = { resultType: "complete", tools: [tool("t")], ttlMs: 0, cacheScope: "private" };
  const { id } = await server({
    "server/discover": { resultType: "complete", supportedVersions: ["2026-07-28"], capabilities: { tools: {} } },
    "tools/list": list,
    "tools/call": { resultType: "input_required", inputRequests, requestState: "s" },
  });
  const meta = { ...claim, "io.modelcontextprotocol/clientCapabilities": { elicitation: {} } };
  const asked = resultOf(
    await askModern(gateway, "tools/call", { name: "t", arguments: {} }, { path: `/mcp/${id}`, meta }),
  );
  const expected = { message: "Who?", requestedSchema: { type: "object", properties: { name: { type: "string" } } } };
  assert.deepEqual(Object.values(asked.inputRequests), [{ method: "elicitation/create", params: expected }]);
});

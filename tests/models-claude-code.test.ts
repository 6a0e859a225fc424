// What the published guide for gateways of Claude Code (code.claude.com/docs/en/llm-gateway-protocol, with the pages on
// rolling out and connecting) requires of a gateway with Anthropic's format, row by row, in our own words.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { contextOf, makeKey, refusedAt } from "./support/arrange.ts";
import * as claudeCode from "./support/claude-code.ts";
import {
  anthropicProvider,
  answer,
  BETA,
  BILLING,
  openaiProvider,
  own,
  PROVIDER_KEY,
  request,
} from "./support/claude-code.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import type { Service } from "./support/service.ts";

const MESSAGES = "/v1/messages";
const COUNT = `${MESSAGES}/count_tokens?beta=true`;

let gateway: Gateway;
let anthropic: Service;
let openai: Service;
let key: string;
const services: Service[] = [];

async function provider(id: string, models: object[]): Promise<Service> {
  const service = await anthropicProvider(gateway, id, models);
  services.push(service);
  return service;
}

before(async () => {
  gateway = await startGateway();
  anthropic = await provider("claude", [
    { id: "claude-sonnet-4-6" },
    { id: "claude-alias", upstream: "claude-provider-name" },
    { id: "vertex_ai/claude-opus-4-8" },
    { id: "gpt-like" },
  ]);
  openai = await openaiProvider(gateway, "other", [{ id: "claude-elsewhere", upstream: "elsewhere" }]);
  services.push(openai);
  key = (await makeKey(gateway, "bare", ["models:use:*"])).secret;
});
after(async () => {
  await gateway?.stop();
  for (const service of services) await service.stop();
});

const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  claudeCode.post(gateway, path, key, body, headers);
const lastSent = () => anthropic.calls.at(-1)!;

// Endpoints, and traffic at the start.

test("inference_is_found_by_its_path_whatever_the_query", async () => {
  for (const path of [MESSAGES, BETA]) {
    const reply = await post(path, request("claude-sonnet-4-6"));
    assert.deepEqual([reply.status, reply.json], [200, answer], reply.text);
    assert.equal(lastSent().path.split("?")[0], MESSAGES);
    const context = await contextOf(gateway, reply.headers);
    assert.deepEqual([context.status, context.usage.output_tokens], ["completed", 2]);
  }
});

test("tokens_are_counted_by_an_endpoint_of_their_own", async () => {
  const { max_tokens: _, ...counted } = request("claude-sonnet-4-6");
  const reply = await post(COUNT, counted);
  assert.deepEqual([reply.status, reply.json], [200, { input_tokens: 42 }], reply.text);
  assert.deepEqual(lastSent().json, counted);
  assert.equal(lastSent().headers["anthropic-beta"], own["anthropic-beta"]);
  // A provider that has no such endpoint: it would cost an inference to count there.
  const estimated = await post(COUNT, { ...counted, model: "claude-elsewhere" });
  assert.deepEqual([estimated.status, estimated.headers.get("x-narthex-estimated")], [200, "true"], estimated.text);
  assert.ok(estimated.json.input_tokens > 0);
  assert.equal(openai.calls.length, 0);
});

test("the_probe_that_warms_the_connection_is_answered_without_a_redirect", async () => {
  // It may be refused.
  const probe = await gateway.request("HEAD", "/api/hello", { key: null, contract: false });
  assert.ok(probe.status === 404 || probe.status === 200, `${probe.status}`);
});

test("the_request_that_verifies_a_connection_succeeds", async () => {
  const body = { model: "claude-sonnet-4-6", max_tokens: 1, messages: [{ role: "user", content: "." }] };
  const headers = { "anthropic-version": "2023-06-01" };
  const reply = await gateway.request("POST", MESSAGES, { key, body, headers });
  assert.match(reply.text, /^\{"id":"msg_.*"content":\[/);
});

test("names_that_are_not_routed_are_a_404_and_others_reach_the_model_behind_them", async () => {
  for (const [asked, sent] of [
    ["claude-sonnet-4-6", "claude-sonnet-4-6"],
    ["claude-alias", "claude-provider-name"],
    ["vertex_ai/claude-opus-4-8", "vertex_ai/claude-opus-4-8"],
  ] as const) {
    assert.equal((await post(BETA, request(asked))).status, 200);
    assert.equal(lastSent().json.model, sent);
  }
  refusedAt(MESSAGES, await post(BETA, request("claude-of-tomorrow")), 404, "model_not_found");
});

// Credentials.

test("credentials_are_taken_from_each_variable_and_stay_at_the_gateway", async () => {
  for (const [variable, sent] of [
    ["ANTHROPIC_AUTH_TOKEN", { authorization: `Bearer ${key}` }],
    ["ANTHROPIC_API_KEY", { "x-api-key": key }],
    ["apiKeyHelper", { authorization: `Bearer ${key}`, "x-api-key": key }],
    ["ANTHROPIC_CUSTOM_HEADERS", { "x-api-key": key, "x-team": "platform" }],
  ] as [string, Record<string, string>][]) {
    const options = { key: null, body: request("claude-sonnet-4-6"), headers: { ...own, ...sent } };
    assert.equal((await gateway.request("POST", BETA, options)).status, 200, variable);
    const { headers } = lastSent();
    assert.equal(headers["x-api-key"], PROVIDER_KEY);
    assert.ok(!JSON.stringify(headers).includes(key), variable);
  }
  for (const sent of [{ authorization: "Bearer sk-ant-oat-of-a-login" }, { "x-api-key": "sk-wrong" }, {}] as Record<
    string,
    string
  >[]) {
    const options = { key: null, body: request("claude-sonnet-4-6"), headers: { ...own, ...sent } };
    refusedAt(MESSAGES, await gateway.request("POST", BETA, options), 401, "unauthenticated");
  }
});

// Headers.

test("headers_of_the_protocol_are_forwarded_as_an_open_list", async () => {
  const more = {
    "anthropic-workspace-id": "wrkspc_1",
    "anthropic-of-tomorrow": "1; a=b",
    "anthropic-version": "2030-01-01",
  };
  const betas = Array.from({ length: 60 }, (_, at) => `capability-${at}-2026-01-01`).join(",");
  for (const headers of [own, { ...own, ...more, "anthropic-beta": betas }] as Record<string, string>[]) {
    assert.equal((await post(BETA, request("claude-sonnet-4-6"), headers)).status, 200);
    for (const [name, value] of Object.entries(headers))
      if (name.startsWith("anthropic-")) assert.equal(lastSent().headers[name], value, name);
  }
});

test("a_header_that_the_client_leaves_out_is_not_made_up", async () => {
  const options = { key, body: request("claude-sonnet-4-6"), headers: { "anthropic-version": "2023-06-01" } };
  assert.equal((await gateway.request("POST", MESSAGES, options)).status, 200);
  assert.equal(lastSent().headers["anthropic-beta"], undefined);
});

test("all_requests_of_a_session_and_its_agents_go_to_one_of_several_equal_providers", async () => {
  const ids = Array.from({ length: 5 }, (_, at) => `equal-${at}`);
  for (const id of ids) await provider(id, [{ id: "claude-equal" }]);
  const served = async (headers: Record<string, string>, more: object = {}) =>
    (await post(BETA, request("claude-equal", more), headers)).headers.get("x-narthex-service");
  const turns = Array.from({ length: 10 }, (_, turn) => ({ messages: [{ role: "user", content: `Turn ${turn}` }] }));
  for (const session of ["session-a", "session-b"]) {
    const seen = await Promise.all(
      turns.map((more, turn) =>
        served({ "x-claude-code-session-id": session, "x-claude-code-agent-id": `agent-${turn}` }, more),
      ),
    );
    assert.equal(new Set(seen).size, 1, session);
  }
  // Without a session the beginning of the prompt decides, but not the block with the client's fingerprint.
  const { "x-claude-code-session-id": _, ...others } = own;
  const fingerprints = await Promise.all(
    turns.map(async (_, turn) => {
      const system = [
        { type: "text", text: BILLING.replace("00000", `0000${turn}`) },
        { type: "text", text: "You are Claude Code." },
      ];
      const options = { key, body: request("claude-equal", { system }), headers: others };
      return (await gateway.request("POST", BETA, options)).headers.get("x-narthex-service");
    }),
  );
  assert.equal(new Set(fingerprints).size, 1);
});

// Bodies.

test("a_body_is_forwarded_byte_by_byte", async () => {
  for (const body of [
    JSON.stringify(request("claude-sonnet-4-6")),
    JSON.stringify(request("claude-sonnet-4-6"), null, 2),
    // Spellings that a parser would not keep.
    JSON.stringify(request("claude-sonnet-4-6")).replace("1000000", "1.0e6").replace("Hm.", "H\\u006d\\/."),
  ]) {
    assert.equal((await post(BETA, body)).status, 200);
    assert.equal(lastSent().raw.toString(), body);
  }
});

test("only_the_name_of_the_model_changes_in_a_body", async () => {
  const body = JSON.stringify(request("claude-alias", { stream: false, last: "claude-alias" }));
  assert.equal((await post(BETA, body)).status, 200);
  assert.equal(lastSent().raw.toString(), body.replace('"claude-alias"', '"claude-provider-name"'));
});

test("a_large_body_like_source_code_is_not_inspected", async () => {
  const text = `<tag onload="x()">SELECT * FROM users; -- ../../etc/passwd \${jndi:ldap://x} </tag>\n`.repeat(60_000);
  const body = JSON.stringify(request("claude-sonnet-4-6", { messages: [{ role: "user", content: text }] }));
  assert.ok(body.length > 4 * 1024 * 1024);
  assert.equal((await post(BETA, body)).status, 200);
  assert.ok(lastSent().raw.equals(Buffer.from(body)));
});

// A provider of another format: bridging the difference is the gateway's job.

test("a_request_with_all_that_has_a_counterpart_reaches_a_provider_of_the_other_format", async () => {
  const calls = openai.calls.length;
  const { member_of_tomorrow: _, output_config: __, tools: ___, ...rest } = request("claude-elsewhere");
  const tools = [{ name: "Bash", description: "Runs <command>", input_schema: { type: "object" }, strict: true }];
  const messages = [rest.messages[0], rest.messages[1], { role: "user", content: "Go on." }];
  const reply = await post(BETA, { ...rest, messages, tools, output_config: { effort: "high" } });
  assert.equal(reply.status, 200, reply.text);
  assert.deepEqual([reply.json.type, reply.json.content[0].text], ["message", "connected"]);
  const sent = openai.calls[calls]!.json;
  assert.deepEqual([sent.model, sent.reasoning_effort, sent.tools[0].function.name], ["elsewhere", "high", "Bash"]);
});

test("what_another_format_cannot_express_is_a_400_that_names_the_member", async () => {
  const calls = openai.calls.length;
  const reply = await post(BETA, request("claude-elsewhere"));
  refusedAt(MESSAGES, reply, 400, "invalid_request");
  for (const member of ["member_of_tomorrow", "task_budget", "defer_loading"])
    assert.ok(reply.json.error.message.includes(member), `${member}: ${reply.text}`);
  assert.equal(openai.calls.length, calls);
});

// Discovery of models.

test("models_are_discovered_by_either_credential_or_both_and_without_a_redirect", async () => {
  const { secret } = await makeKey(gateway, "bare", ["models:use:claude-*", "models:use:vertex_ai/*"]);
  for (const sent of [
    { authorization: `Bearer ${secret}`, "x-api-key": secret },
    { authorization: `Bearer ${secret}` },
    { "x-api-key": secret },
    { authorization: `Bearer ${secret}`, "x-api-key": secret, "anthropic-version": "2023-06-01", "x-team": "platform" },
  ] as Record<string, string>[]) {
    const reply = await gateway.request("GET", "/v1/models?limit=1000", { key: null, headers: sent });
    assert.equal(reply.status, 200, reply.text);
    const ids = reply.json.data.map(({ id }: any) => id);
    // Claude Code shows those that have "claude" or "anthropic" in them; which they are, the key decides.
    for (const id of ["claude-sonnet-4-6", "claude-alias", "vertex_ai/claude-opus-4-8", "claude-elsewhere"])
      assert.ok(ids.includes(id), `${id} of ${ids}`);
    assert.ok(!ids.includes("gpt-like"));
    for (const { display_name, description } of reply.json.data)
      for (const optional of [display_name, description])
        assert.ok(optional === undefined || typeof optional === "string");
  }
  const unknown = await gateway.request("GET", "/v1/models?limit=1000", {
    key: "nx_wrong",
    headers: { "x-api-key": secret },
  });
  assert.equal(unknown.status, 401);
});

test("a_thousand_models_are_discovered_at_once", async () => {
  for (let service = 0; service < 10; service++)
    await provider(
      `many-${service}`,
      Array.from({ length: 90 }, (_, at) => ({ id: `claude-many-${service}-${at}` })),
    );
  for (const headers of [{}, { "anthropic-version": "2023-06-01" }]) {
    const reply = await gateway.request("GET", "/v1/models?limit=1000", { key, headers });
    const many = reply.json.data.filter(({ id }: any) => id.startsWith("claude-many-"));
    assert.deepEqual([reply.status, many.length, reply.json.has_more ?? false], [200, 900, false]);
  }
});

// The credentials that the gateway sends to services: one header, several headers and query
// parameters, or a token that it requests.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { create, eventually, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Handler, json, type Service, startService, status } from "./support/service.ts";
import { type SmallUpstream, startSmallUpstream } from "./support/upstream.ts";

let gateway: Gateway;
let service: Service;

const secrets = { header: "first-secret/of+many", query: "second secret&of=many", version: "2026-05-01-preview" };
const credentials = [
  { header: "api-key", value: secrets.header },
  { query: "key", value: secrets.query },
  { query: "api-version", value: secrets.version },
];
const names = credentials.map(({ value: _, ...name }) => name);
const messages = [{ role: "user", content: "Hi" }];

before(async () => {
  gateway = await startGateway();
  service = await startService();
});
after(async () => {
  await gateway.stop();
  await service.stop();
  for (const upstream of upstreams) await upstream.stop();
});

const upstreams: SmallUpstream[] = [];
const small = async (...given: Parameters<typeof startSmallUpstream>) => {
  const upstream = await startSmallUpstream(...given);
  upstreams.push(upstream);
  return upstream;
};
const upstreamAt = (url: string, more: object) => ({
  name: "An upstream",
  type: "tool",
  transport: { kind: "mcp", url },
  retry: { max_attempts: 3, base_ms: 1, cap_ms: 10 },
  ...more,
});

/** The credentials in a call. */
const shown = (call: { path: string; headers: NodeJS.Dict<string | string[]> }) => {
  const url = new URL(call.path, "http://service");
  return {
    path: url.pathname,
    header: call.headers["api-key"],
    query: url.searchParams.get("key"),
    version: url.searchParams.get("api-version"),
  };
};

test("each_kind_of_service_receives_all_of_them_in_calls_and_probes", async () => {
  service.probe = json({ object: "list", data: [] });
  service.handler = json({ object: "list", data: [], choices: [], result: 1 });
  const openai = await register(gateway, "llm", {
    name: "LLM",
    type: "llm",
    transport: { kind: "openai", url: `${service.url}v1` },
    credentials,
  });
  await register(
    gateway,
    "http",
    serviceAt(`${service.url}run?a=b`, [{}], { credentials, health: { path: "/health", interval_seconds: 3600 } }),
  );
  assert.deepEqual(openai.credentials, names);
  assert.equal((await create(gateway, { capability: "embed", parameters: { input: "a" } })).json.status, "completed");
  assert.deepEqual(shown(service.calls.at(-1)!), { path: "/v1/embeddings", ...secrets });
  assert.equal((await create(gateway, { service: "http" })).json.status, "completed");
  assert.deepEqual(shown(service.calls.at(-1)!), { path: "/run", ...secrets });
  assert.match(service.calls.at(-1)!.path, /\?a=b&/);
  for (const [id, path] of [
    ["llm", "/v1/models"],
    ["http", "/health"],
  ] as const) {
    const check = await gateway.request("POST", `/v1/services/${id}/check`);
    assert.equal(check.json.healthy, true, check.text);
    assert.deepEqual(shown(service.probes.findLast((probe) => probe.path.startsWith(path))!), { path, ...secrets });
  }
  await register(gateway, "mcp", {
    name: "MCP",
    type: "tool",
    transport: { kind: "mcp", url: `${service.url}mcp` },
    credentials,
  });
  const asked = await eventually(() => service.calls.find((call) => call.path.startsWith("/mcp")));
  assert.deepEqual(shown(asked), { path: "/mcp", ...secrets });
});

test("none_of_them_is_ever_shown_again", async () => {
  const repeats: Handler = (call, response) =>
    json({ error: { message: `no: ${call.path} ${call.headers["api-key"]}` } }, 403)(call, response);
  service.handler = repeats;
  const answers = [];
  for (const [capability, parameters] of [
    ["chat", { messages }],
    ["embed", { input: "a" }],
  ] as const) {
    answers.push((await create(gateway, { capability, service: "llm", parameters })).text);
  }
  for (const value of [secrets.header, secrets.version]) {
    service.handler = status(400, { error: { message: `what is ${value}?` } });
    answers.push((await create(gateway, { capability: "chat", service: "llm", parameters: { messages } })).text);
  }
  service.handler = (_, response) => void response.destroy();
  answers.push((await create(gateway, { capability: "chat", service: "llm", parameters: { messages } })).text);
  for (const path of ["/v1/services", "/v1/services/llm", "/v1/audit", "/v1/events", "/v1/contexts"]) {
    answers.push(
      (await gateway.request("GET", path, { contract: false, headers: { accept: "application/json" } })).text,
    );
  }
  const everything = [...answers, ...gateway.logs];
  const files = readdirSync(gateway.persist, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  everything.push(...files.map((file) => readFileSync(join(file.parentPath, file.name), "latin1")));
  for (const value of Object.values(secrets)) {
    for (const form of [value, encodeURIComponent(value), new URLSearchParams({ a: value }).toString().slice(2)]) {
      const found = everything.find((text) => text.includes(form));
      assert.equal(
        found && found.slice(Math.max(0, found.indexOf(form) - 200), found.indexOf(form) + 200),
        undefined,
        form,
      );
    }
  }
});

test("a_document_can_be_sent_back_as_read_and_keeps_their_values", async () => {
  const read = await gateway.request("GET", "/v1/services/llm");
  const put = (body: object) => gateway.request("PUT", "/v1/services/llm", { body, headers: { "if-match": "*" } });
  const call = async () => {
    service.handler = json({ data: [] });
    await create(gateway, { capability: "embed", service: "llm", parameters: { input: "a" } });
    return shown(service.calls.at(-1)!);
  };
  assert.equal((await put(read.json)).status, 200);
  assert.deepEqual(await call(), { path: "/v1/embeddings", ...secrets });
  const changed = await put({
    ...read.json,
    credentials: [{ query: "api-version", value: "2027" }, { header: "API-KEY" }],
  });
  assert.deepEqual(changed.json.credentials, [{ header: "API-KEY" }, { query: "api-version" }], changed.text);
  assert.deepEqual(await call(), { path: "/v1/embeddings", header: secrets.header, query: null, version: "2027" });
  const patched = await gateway.request("PATCH", "/v1/services/llm", {
    body: { credentials: { header: "api-key" } },
    headers: { "if-match": "*" },
  });
  assert.deepEqual(patched.json.credentials, [{ header: "api-key" }], patched.text);
  const untouched = await gateway.request("PATCH", "/v1/services/llm", {
    body: { weight: 2 },
    headers: { "if-match": "*" },
  });
  assert.deepEqual(untouched.json.credentials, [{ header: "api-key" }]);
  assert.deepEqual(await call(), { path: "/v1/embeddings", header: secrets.header, query: null, version: null });
  // Values are kept only for the address they were given for.
  const moved = await put({
    ...read.json,
    credentials: [{ header: "api-key" }],
    transport: { kind: "openai", url: "http://localhost:9/v1" },
  });
  assert.deepEqual(pointers(refused(moved, 422, "validation_failed")), ["#/credentials"]);
  const gone = await put({ ...read.json, credentials: null });
  assert.equal(gone.json.credentials, undefined, gone.text);
  assert.deepEqual(await call(), { path: "/v1/embeddings", header: undefined, query: null, version: null });
});

test("unusable_credentials_are_refused_with_each_fault", async () => {
  const at = async (given: unknown) => {
    const document = serviceAt(`${service.url}?taken=1`, [{}], { credentials: given });
    return pointers(
      refused(
        await gateway.request("PUT", "/v1/services/bad", { body: document, contract: false }),
        422,
        "validation_failed",
      ),
    );
  };
  assert.deepEqual(await at([]), ["#/credentials"]);
  assert.deepEqual(await at(Array.from({ length: 9 }, (_, n) => ({ query: `q${n}`, value: "a" }))), ["#/credentials"]);
  assert.deepEqual(
    await at([
      { header: "a", value: "a" },
      { header: "A", value: "b" },
      { query: "taken", value: "a" },
    ]),
    ["#/credentials/1/header", "#/credentials/2/query"],
  );
  assert.deepEqual(await at([{ header: "host", value: "a" }, { query: "a" }, 7]), [
    "#/credentials/0/header",
    "#/credentials/1/value",
    "#/credentials/2",
  ]);
});

test("an_endpoint_that_refuses_its_credentials_is_not_healthy_and_one_without_models_is_not_measured", async () => {
  const probed = await startService();
  try {
    for (const [code, healthy, error] of [
      [200, true, null],
      [429, true, null],
      [401, false, "credentials_refused"],
      [403, false, "credentials_refused"],
      [404, null, "not_measured"],
      [405, null, "not_measured"],
      [500, false, null],
    ] as const) {
      probed.probe = status(code, {});
      const id = `probed-${code}`;
      await register(gateway, id, { name: "LLM", type: "llm", transport: { kind: "openai", url: `${probed.url}v1` } });
      const check = await gateway.request("POST", `/v1/services/${id}/check`);
      assert.deepEqual(
        [check.json.healthy, check.json.error, check.json.status_code],
        [healthy, error, code],
        check.text,
      );
      const expected = healthy === null ? "unknown" : healthy ? "online" : "degraded";
      assert.equal(check.json.status, expected, check.text);
    }
    // With an explicit health path, only 2xx counts as healthy.
    for (const [code, error] of [
      [401, "credentials_refused"],
      [404, null],
    ] as const) {
      probed.probe = status(code);
      await register(
        gateway,
        `own-${code}`,
        serviceAt(probed.url, [{}], { health: { path: "/health", interval_seconds: 3600 } }),
      );
      const check = await gateway.request("POST", `/v1/services/own-${code}/check`);
      assert.deepEqual(
        [check.json.healthy, check.json.error, check.json.status_code],
        [false, error, code],
        check.text,
      );
    }
  } finally {
    await probed.stop();
  }
});

test("a_token_is_requested_as_a_client_and_renewed_when_it_is_refused", async () => {
  const upstream = await small({ echo: {} });
  const asked: { headers: any; form: URLSearchParams }[] = [];
  let given = {
    status: 200,
    body: (): object => ({ access_token: `token-${asked.length}`, token_type: "Bearer", expires_in: 3600 }),
  };
  const authorizes = await startService(({ headers, raw }, response) => {
    asked.push({ headers, form: new URLSearchParams(String(raw)) });
    upstream.authorization = `Bearer token-${asked.length}`;
    response.writeHead(given.status, { "content-type": "application/json" }).end(JSON.stringify(given.body()));
  });
  try {
    upstream.authorization = "Bearer token-1";
    const credentials = {
      token_url: `${authorizes.url}token`,
      client_id: "narthex",
      client_secret: "of-the-client",
      scope: "tools",
    };
    const { capabilities } = await register(gateway, "tokens", upstreamAt(upstream.url, { credentials }));
    assert.equal(capabilities.length, 1);
    const call = { capability: "echo", service: "tokens" };
    assert.equal((await create(gateway, call)).json.status, "completed");
    assert.equal(asked.length, 1);
    assert.equal(asked[0]!.headers.authorization, `Basic ${Buffer.from("narthex:of-the-client").toString("base64")}`);
    assert.deepEqual(Object.fromEntries(asked[0]!.form), {
      grant_type: "client_credentials",
      scope: "tools",
      resource: upstream.url,
    });
    // Ended before its time.
    upstream.authorization = "Bearer token-2";
    assert.equal((await create(gateway, call)).json.status, "completed");
    assert.equal(asked.length, 2);
    given = { status: 400, body: () => ({ error: "invalid_client" }) };
    upstream.authorization = "Bearer none";
    const { status, error } = (await create(gateway, call)).json;
    assert.deepEqual([status, error.code], ["failed", "service_unavailable"]);
    const shown =
      (await gateway.request("GET", "/v1/services/tokens")).text + (await gateway.request("GET", "/v1/audit")).text;
    assert.equal(shown.includes("of-the-client"), false);
  } finally {
    await authorizes.stop();
  }
});

test("a_client_of_an_authorization_server_is_read_strictly", async () => {
  const { url } = await small({});
  const wrong = (credentials: object, transport: object = { kind: "mcp", url }) =>
    gateway.request("PUT", "/v1/services/strict", {
      body: { ...upstreamAt(url, { credentials }), transport, capabilities: [{ name: "a" }] },
    });
  const at = async (answer: ReturnType<typeof wrong>) => pointers(refused(await answer, 422, "validation_failed"));
  const token_url = "http://127.0.0.1:1/token";
  assert.deepEqual(await at(wrong({ token_url: "http://10.0.0.1/", client_id: "a", client_secret: "b" })), [
    "#/credentials/token_url",
  ]);
  assert.deepEqual(await at(wrong({ token_url })), ["#/credentials/client_id", "#/credentials/client_secret"]);
  assert.deepEqual(await at(wrong({ token_url, client_id: "a", client_secret: "b", header: "x" })), [
    "#/credentials/header",
  ]);
  const http = { kind: "http", url };
  assert.deepEqual(await at(wrong({ token_url, client_id: "a", client_secret: "b" }, http)), [
    "#/credentials/token_url",
  ]);
});

test("static_credentials_are_sent_and_the_callers_are_not", async () => {
  const upstream = await small({ echo: {} });
  upstream.authorization = "Bearer of-the-upstream";
  const credentials = { header: "Authorization", value: "Bearer of-the-upstream" };
  await register(gateway, "guarded", upstreamAt(upstream.url, { credentials }));
  assert.equal((await create(gateway, { capability: "echo", service: "guarded" })).json.status, "completed");
  const all = JSON.stringify(upstream.requests.map(({ headers }) => headers));
  assert.equal(all.includes(gateway.adminKey), false);
  upstream.authorization = "Bearer another";
  const answer = await create(gateway, { capability: "echo", service: "guarded" });
  assert.deepEqual([answer.json.status, answer.json.error.code], ["failed", "upstream_error"]);
});

// The catalogue.

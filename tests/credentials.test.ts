// The credentials that the gateway sends to services: one header, or several headers and query parameters.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { create, eventually, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Handler, json, type Service, startService, status } from "./support/service.ts";

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

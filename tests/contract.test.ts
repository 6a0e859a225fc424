// The contract itself: both documents are valid, say what the code says, and are kept where a test of a feature would
// not look: every path, every method, every permission, every example.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Validator } from "@seriousme/openapi-schema-validator";
import { Ajv } from "ajv";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import {
  accepted,
  ended,
  eventually,
  makeKey,
  pointers,
  refused,
  refusedAt,
  register,
  serviceAt,
} from "./support/arrange.ts";
import { root } from "./support/configuration.ts";
import { formatOf } from "./support/contract.ts";
import { type Answer, type Gateway, startGateway } from "./support/gateway.ts";
import { echo, hang, json, startService, status } from "./support/service.ts";
import { openEvents } from "./support/socket.ts";

type Json = any;

const read = (path: string) => readFileSync(join(root, path), "utf8");
const openapi: Json = JSON.parse(read("console/openapi.json"));
const asyncapi: Json = JSON.parse(read("console/asyncapi.json"));
const methods = ["get", "head", "post", "put", "patch", "delete"];

type Operation = { path: string; method: string; described: Json };
const operations: Operation[] = Object.entries<Json>(openapi.paths).flatMap(([path, item]) =>
  methods.filter((method) => method in item).map((method) => ({ path, method, described: item[method] })),
);
const label = ({ path, method }: Operation) => `${method.toUpperCase()} ${path}`;
const isPublic = ({ described }: Operation) => described.security?.length === 0;

/** OAuth has its own form of bodies and refusals; tests/oauth.test.ts holds it to that. */
const isOAuth = ({ path }: Operation) => path.startsWith("/oauth/");
/** And MCP answers as JSON-RPC does; tests/mcp.test.ts. */
const isMcp = ({ path }: Operation) => path.startsWith("/mcp");
/** And the endpoints of models refuse in the formats of their clients. */
const isOfModels = ({ path }: Operation) => formatOf(path) !== undefined;

/** What a `$ref` within openapi.json leads to, or the value itself. */
function follow(value: Json): Json {
  if (value?.$ref === undefined) return value;
  return follow(
    value.$ref
      .slice(2)
      .split("/")
      .reduce((at: Json, part: string) => at[part], openapi),
  );
}
const parametersOf = ({ path, described }: Operation): Json[] =>
  [...(openapi.paths[path].parameters ?? []), ...(described.parameters ?? [])].map(follow);
const queryOf = (operation: Operation) => parametersOf(operation).filter((parameter) => parameter.in === "query");

/** A path with the examples of its parameters. */
const filled = (operation: Operation) =>
  operation.path.replace(/\{(\w+)\}/g, (_, name) => {
    const found = parametersOf(operation).find((parameter) => parameter.in === "path" && parameter.name === name);
    return String(found.example);
  });
/** The body the contract gives as an example. */
const exampleBody = ({ described }: Operation) => Object.values<Json>(described.requestBody?.content ?? {})[0]?.example;

let gateway: Gateway;
before(async () => {
  gateway = await startGateway({ vars: { COUNT_COSTS: "true", OAUTH: "true" } });
});
after(() => gateway?.stop());

// The documents.

test("openapi_json_is_valid_openapi_3_1", async () => {
  assert.equal(openapi.openapi, "3.1.0");
  assert.deepEqual(await new Validator().validate(structuredClone(openapi)), { valid: true });
});

test("asyncapi_json_is_valid_asyncapi_3_0", () => {
  assert.equal(asyncapi.asyncapi, "3.0.0");
  // The schema brings the drafts it is written in along.
  const ajv = new Ajv({ strict: false, allErrors: true, meta: false, validateSchema: false });
  addFormats.default(ajv);
  const check = ajv.compile(JSON.parse(read("node_modules/@asyncapi/specs/schemas/3.0.0.json")));
  assert.ok(check(asyncapi), JSON.stringify(check.errors, null, 1));
});

test("both_are_served_as_they_are_to_anybody_from_anywhere", async () => {
  for (const name of ["openapi.json", "asyncapi.json"]) {
    const headers = { origin: "https://elsewhere.example" };
    const answer = await gateway.request("GET", `/${name}`, { key: null, headers });
    assert.equal(answer.status, 200);
    // Not by assert.equal, which would show both whole.
    assert.ok(answer.text === read(`console/${name}`), `${name} is served as it was when the Worker was built`);
    assert.equal(answer.headers.get("content-type"), "application/json");
    assert.equal(answer.headers.get("access-control-allow-origin"), "*");
    assert.equal(answer.headers.get("cache-control"), "public, max-age=300");
    for (const method of ["GET", "HEAD"]) {
      const known = { "if-none-match": answer.headers.get("etag")! };
      const again = await gateway.request(method, `/${name}`, { key: null, headers: known });
      assert.equal(again.status, 304, `${method} ${name}`);
    }
  }
});

/** Calls `visit` for every object of a document with its JSON pointer, examples left out. */
function walk(value: Json, visit: (value: Json, at: string[]) => void, at: string[] = []): void {
  if (value === null || typeof value !== "object") return;
  visit(value, at);
  for (const [key, inner] of Object.entries(value)) {
    const literal = ["example", "examples", "default", "const", "enum"].includes(key) && at.at(-1) !== "properties";
    if (!literal) walk(inner, visit, [...at, key]);
  }
}
const isSchema = (at: string[]) =>
  ["schema", "payload", "items", "query", "headers"].includes(at.at(-1)!) ||
  ["schemas", "properties", "allOf", "anyOf", "oneOf"].includes(at.at(-2)!);

for (const [name, document] of Object.entries({ "openapi.json": openapi, "asyncapi.json": asyncapi })) {
  test(`every_example_in_${name}_is_what_its_schema_says`, () => {
    const ajv = new Ajv2020({ strict: false, allErrors: true, validateSchema: false });
    addFormats.default(ajv);
    ajv.addSchema(document, "document");
    let count = 0;
    const check = (at: string[], example: unknown) => {
      const pointer = at.map((part) => `/${encodeURI(part.replaceAll("~", "~0").replaceAll("/", "~1"))}`).join("");
      const validate = ajv.compile({ type: "object", properties: { value: { $ref: `document#${pointer}` } } });
      const good = validate({ value: example });
      assert.ok(good, `${at.join("/")}: ${JSON.stringify(example)}: ${ajv.errorsText(validate.errors)}`);
      count += 1;
    };
    walk(document, (value, at) => {
      if (value.schema !== undefined) {
        // A parameter, a header or a body.
        const examples = Object.values<Json>(value.examples ?? {}).map((example) => example.value);
        if (value.example !== undefined) examples.push(value.example);
        for (const example of examples) check([...at, "schema"], example);
      } else if (value.payload !== undefined) {
        for (const example of value.examples ?? []) check([...at, "payload"], example.payload);
      } else if (isSchema(at)) {
        for (const example of value.examples ?? []) check(at, example);
        if (value.default !== undefined) check(at, value.default);
      }
    });
    assert.ok(count > 20, `only ${count} examples`);
  });

  test(`every_member_in_${name}_is_described_and_every_object_is_closed`, () => {
    const faults: string[] = [];
    walk(document, (value, at) => {
      if (!isSchema(at) || value.properties === undefined) return;
      if (["if", "then", "else", "not"].some((word) => at.includes(word))) return;
      // Beside an allOf a member may narrow what another schema describes.
      const narrows = value.allOf !== undefined || at.includes("allOf") || at.includes("anyOf");
      for (const [member, schema] of Object.entries<Json>(value.properties)) {
        if (schema.description || schema.$ref || narrows) continue;
        faults.push(`${at.join("/")}/${member} has no description`);
      }
      const isClosed = value.additionalProperties !== undefined || value.unevaluatedProperties !== undefined;
      const isOpenOnPurpose = at.at(-1) === "headers" || at.at(-1)!.endsWith("Members") || narrows;
      if (!isClosed && !isOpenOnPurpose) faults.push(`${at.join("/")} does not say whether it may have more members`);
    });
    assert.deepEqual(faults, []);
  });
}

test("every_operation_parameter_and_header_is_described_and_every_component_is_used", () => {
  const tags = openapi.tags.map(({ name }: Json) => name);
  const ids = operations.map(({ described }) => described.operationId);
  assert.equal(new Set(ids).size, ids.length);
  for (const operation of operations) {
    const { described } = operation;
    for (const member of ["operationId", "summary", "description"]) assert.ok(described[member], label(operation));
    assert.ok(
      described.tags.every((tag: string) => tags.includes(tag)),
      label(operation),
    );
    assert.ok("x-permission" in described, label(operation));
    for (const { name, description } of parametersOf(operation)) assert.ok(description, `${label(operation)}: ${name}`);
    for (const response of Object.values<Json>(described.responses).map(follow)) {
      assert.ok(response.description, label(operation));
      for (const [name, header] of Object.entries(response.headers ?? {})) assert.ok(follow(header).description, name);
    }
  }
  for (const document of [openapi, asyncapi]) {
    const text = JSON.stringify(document);
    for (const kind of ["schemas", "responses", "parameters", "headers", "messages"]) {
      for (const name of Object.keys(document.components[kind] ?? {})) {
        const pointer = `#/components/${kind}/${name}`;
        assert.ok(text.includes(`"$ref":"${pointer}"`), `nothing refers to ${pointer}`);
      }
    }
  }
});

// The documents and the code: what the types say is in crates/core/src/contract/.

test("a_channel_has_the_query_that_its_path_has", () => {
  for (const channel of Object.values<Json>(asyncapi.channels)) {
    const operation = operations.find(({ path, method }) => path === channel.address && method === "get")!;
    const query = queryOf(operation).map(({ name }) => name);
    // What pages a list says nothing to a socket.
    const wanted = query.filter((name) => !["limit", "cursor"].includes(name));
    assert.deepEqual(Object.keys(channel.bindings.ws.query.properties).sort(), wanted.sort(), channel.address);
  }
});

// The documents and the gateway.

test("every_other_method_is_refused_with_the_methods_a_path_has", async () => {
  for (const path of Object.keys(openapi.paths)) {
    const here = operations.filter((operation) => operation.path === path);
    const has = [
      ...new Set(here.flatMap(({ method }) => (method === "get" ? ["GET", "HEAD"] : [method.toUpperCase()]))),
    ].sort();
    for (const method of [...methods, "options"].map((name) => name.toUpperCase())) {
      // A HEAD belongs to its GET; where there is none, it is refused too. No credentials are looked at first.
      if (has.includes(method)) continue;
      const answer = await gateway.request(method, filled(here[0]!), { key: null, contract: method !== "HEAD" });
      assert.equal(answer.status, 405, `${method} ${path}: ${answer.text}`);
      assert.deepEqual(answer.headers.get("allow")?.split(", ").sort(), has, `${method} ${path}`);
      if (method !== "HEAD") refusedAt(path, answer, 405, "method_not_allowed");
    }
  }
});

const ask = (operation: Operation, key: string | null, body = exampleBody(operation)): Promise<Answer> =>
  gateway.request(operation.method.toUpperCase(), filled(operation), {
    // The tenant's events would go on.
    key,
    headers: { accept: "application/json" },
    ...(body !== undefined && { body }),
  });
/** The permission a refusal says is missing. */
const scope = ({ headers }: Answer) =>
  headers.get("www-authenticate")?.match(/^Bearer error="insufficient_scope", scope="(.*)"$/)?.[1];

test("without_credentials_there_is_only_what_is_public", async () => {
  for (const operation of operations.filter((operation) => !isOAuth(operation))) {
    const answer = await ask(operation, null);
    if (isPublic(operation)) {
      // Where a token in the path is all the authority there is, an invented one opens nothing.
      assert.equal(answer.status, operation.path.endsWith("{token}") ? 404 : 200, label(operation));
    } else {
      assert.equal(answer.status, 401, label(operation));
      assert.match(answer.headers.get("www-authenticate")!, /^Bearer resource_metadata="[^"]+"$/, label(operation));
    }
  }
});

test("a_client_with_the_current_version_of_a_service_gets_a_304", async () => {
  await register(gateway, "known", serviceAt("http://127.0.0.1:9/", [{ name: "nothing" }]));
  const first = await gateway.request("GET", "/v1/services/known");
  const tag = first.headers.get("etag")!;
  for (const known of [tag, `"77", ${tag}`]) {
    const again = await gateway.request("GET", "/v1/services/known", { headers: { "if-none-match": known } });
    assert.deepEqual([again.status, again.text, again.headers.get("etag")], [304, "", tag], known);
  }
  const old = await gateway.request("GET", "/v1/services/known", { headers: { "if-none-match": '"77"' } });
  assert.equal(old.status, 200);
  const gone = await gateway.request("DELETE", "/v1/services/known", { headers: { "if-match": tag } });
  assert.equal(gone.status, 204);
});

test("every_operation_asks_for_the_permission_it_names_and_for_no_other", async () => {
  const put = operations.find(({ described }) => described.operationId === "putService")!;
  const registered = await ask(put, gateway.adminKey);
  assert.equal(registered.status, 201, registered.text);
  const bare = await makeKey(gateway, "bare");
  for (const operation of operations.filter((operation) => !isPublic(operation) && !isOfModels(operation))) {
    const named: string | null = operation.described["x-permission"];
    const refusal = await ask(operation, bare.secret);
    if (named === null) {
      // Without a session there is nothing to read and nothing to end.
      const ofSession = isMcp(operation) && operation.method !== "post";
      assert.equal(refusal.status, ofSession ? 405 : 200, label(operation));
      continue;
    }
    refused(refusal, 403, "permission_denied");
    const shape = named.replaceAll(".", "\\.").replace(/\{\w+\}/g, "[^.]+");
    assert.match(scope(refusal)!, new RegExp(`^${shape}$`), label(operation));

    const permission = named.replace("{service}", "llm-primary").replace("{capability}", "generate_text");
    const somebody = await makeKey(gateway, "bare", [permission]);
    // Parameters that do not match, so no service is called.
    const example = exampleBody(operation);
    const body = operation.described.operationId === "createContext" ? { ...example, parameters: {} } : example;
    const answer = await ask(operation, somebody.secret, body);
    assert.notEqual(answer.status, 401, label(operation));
    assert.notEqual(scope(answer), permission, label(operation));
  }
});

test("every_endpoint_of_models_asks_for_the_permission_of_its_model_and_for_no_other", async () => {
  const endpoints = operations.filter(isOfModels);
  const named = (operation: Operation): string =>
    operation.method === "post" ? exampleBody(operation).model : decodeURIComponent(filled(operation).slice(11));
  const models = (kinds: RegExp) =>
    [...new Set(endpoints.filter(({ path }) => kinds.test(path)).map(named))].filter(Boolean).map((id) => ({ id }));
  // Nothing listens there.
  const url = "http://127.0.0.1:9/v1";
  const openai = { kind: "openai", url, responses: true };
  const ofOpenai = models(/chat|responses|embeddings|\{name\}/);
  await register(gateway, "in-openais-format", { name: "O", type: "llm", transport: openai, models: ofOpenai });
  const anthropic = { kind: "anthropic", url };
  const ofAnthropic = models(/messages/);
  await register(gateway, "in-anthropics-format", {
    name: "A",
    type: "llm",
    transport: anthropic,
    models: ofAnthropic,
  });

  const bare = await makeKey(gateway, "bare");
  const other = await makeKey(gateway, "bare", ["models:use:another", "models:read", "services:*", "contexts:*"]);
  for (const operation of endpoints) {
    const { path, method, described } = operation;
    assert.equal(described["x-permission"], "models:use:{model}", label(operation));
    const model = named(operation);
    const somebody = await makeKey(gateway, "bare", [`models:use:${model || "gpt-5"}`]);
    const allowed = await ask(operation, somebody.secret);
    for (const { secret } of [bare, other]) {
      const refusal = await ask(operation, secret);
      if (method === "post") {
        refusedAt(path, refusal, 403, "permission_denied");
        assert.equal(scope(refusal), `models:use:${model}`, label(operation));
        assert.equal(allowed.status, 502, `${label(operation)}: ${allowed.text}`);
      } else if (path.includes("{")) {
        refusedAt(path, refusal, 404, "model_not_found");
        assert.deepEqual([allowed.status, allowed.json?.id], [200, model], allowed.text);
      } else {
        // A list has what its reader may use.
        assert.deepEqual([refusal.status, refusal.json?.data], [200, []], refusal.text);
        assert.deepEqual(
          allowed.json?.data.map(({ id }: Json) => id),
          ["gpt-5"],
          allowed.text,
        );
      }
    }
  }
});

test("every_endpoint_of_models_refuses_what_it_cannot_read_and_lets_members_pass_that_it_does_not_know", async () => {
  for (const operation of operations.filter((one) => isOfModels(one) && one.described.requestBody)) {
    const { path } = operation;
    const send = (body: string, type = "application/json") =>
      gateway.request("POST", path, { body, headers: { "content-type": type } });
    const example = exampleBody(operation);
    refusedAt(path, await send(JSON.stringify(example), "text/plain"), 415, "unsupported_media_type");
    for (const body of ["{", "", "[]", '"text"', JSON.stringify({ ...example, model: 1 })]) {
      const answer = await send(body);
      assert.equal(answer.status, 400, `${path} ${body}: ${answer.text}`);
      refusedAt(path, answer, 400, answer.json?.error?.code);
    }
    const known = await send(JSON.stringify({ ...example, model: "unknown" }));
    const unknown = await send(JSON.stringify({ surprise: "x".repeat(1024 * 1024), ...example, model: "unknown" }));
    for (const answer of [known, unknown]) refusedAt(path, answer, 404, "model_not_found");
  }
});

test("every_operation_with_a_body_refuses_what_it_cannot_read_and_members_it_does_not_know", async () => {
  // What a token opens reads no body for one it does not know: see callbacks.test.ts.
  const reads = ({ path, described }: Operation) => described.requestBody && !path.endsWith("{token}");
  for (const operation of operations.filter((one) => reads(one) && !isOAuth(one) && !isMcp(one) && !isOfModels(one))) {
    const send = (body: string, type = "application/json") =>
      gateway.request(operation.method.toUpperCase(), filled(operation), {
        body,
        headers: { "content-type": type, "if-match": "*" },
      });
    const example = exampleBody(operation);
    refused(await send(JSON.stringify(example), "text/plain"), 415, "unsupported_media_type");
    refused(await send("{"), 400, "invalid_json");
    refused(await send(JSON.stringify({ surprise: "x".repeat(1024 * 1024) })), 413, "payload_too_large");
    const unknown = refused(await send(JSON.stringify({ ...example, surprise: 1 })), 422, "validation_failed");
    assert.deepEqual(pointers(unknown), ["#/surprise"], label(operation));
  }
});

test("the_events_of_a_context_are_the_same_in_its_list_and_on_the_stream_however_it_ends", async () => {
  const tooMuch = json({ result: "x".repeat(20_000) });
  const behaviour = { completes: echo, fails: status(500, { why: "it does" }), hangs: hang, talks: tooMuch };
  const service = await startService((call, response) =>
    behaviour[call.json.capability as keyof typeof behaviour](call, response),
  );
  const socket = await openEvents(gateway, { query: { types: "context.*" } });
  try {
    const capabilities = Object.keys(behaviour).map((name) => ({ name, timeout_seconds: name === "hangs" ? 1 : 60 }));
    await register(gateway, "fickle", serviceAt(service.url, capabilities));
    const contexts = Object.keys(behaviour).map((capability) => ({ capability, service: "fickle" }));
    // No client waits for these.
    const made = await Promise.all(contexts.map((context) => accepted(gateway, context)));
    const later = await accepted(gateway, { ...contexts[0], run_at: new Date(Date.now() + 60_000).toISOString() });
    assert.equal((await gateway.request("POST", `/v1/contexts/${later.id}/cancel`)).status, 200);
    const statuses = await Promise.all([...made, later].map(async ({ id }) => (await ended(gateway, id)).status));
    assert.deepEqual(statuses, ["completed", "failed", "timed_out", "completed", "cancelled"]);
    for (const { id } of [...made, later]) {
      const { data } = (await gateway.request("GET", `/v1/contexts/${id}/events`)).json;
      const onStream = () => socket.messages.filter(({ subject }) => subject === id);
      await eventually(() => onStream().length >= data.length);
      assert.deepEqual(onStream(), data);
    }
  } finally {
    socket.close();
    await service.stop();
  }
});

test("a_list_knows_the_query_that_is_documented_and_nothing_else", async () => {
  const time = "2026-12-01T00:00:00Z";
  for (const operation of operations) {
    const { path, method, described } = operation;
    if (method !== "get" || !("422" in described.responses)) continue;
    // The stream looks at its query when it is opened as a WebSocket; a context's events need a context.
    if (path === "/v1/events" || path.includes("{")) continue;
    const refusal = await gateway.request("GET", `${path}?surprise=1`);
    assert.deepEqual(pointers(refused(refusal, 422, "validation_failed")), ["?surprise"]);
    for (const { name, schema, example } of queryOf(operation)) {
      // No made up cursor is good.
      if (name === "cursor") continue;
      const { enum: words, minimum, format } = follow(schema);
      const value = example ?? words?.[0] ?? minimum ?? (format === "date-time" ? time : "x");
      const answer = await gateway.request("GET", `${path}?${name}=${encodeURIComponent(value)}`);
      assert.equal(answer.status, 200, `${label(operation)}?${name}=${value}: ${answer.text}`);
    }
  }
});

test("the_console_is_served_by_its_names_and_a_client_with_the_current_version_gets_a_304", async () => {
  for (const method of ["GET", "HEAD"]) {
    for (const path of ["/", "/style.css"]) {
      const first = await gateway.request(method, path, { key: null });
      const headers = { "if-none-match": first.headers.get("etag")! };
      const again = await gateway.request(method, path, { key: null, headers });
      assert.deepEqual([first.status, again.status], [200, 304], `${method} ${path}`);
    }
    const other = await gateway.request(method, "/index.html", { key: null });
    assert.deepEqual([other.status, other.headers.get("location")], [307, "/"]);
    const none = await gateway.request(method, "/nothing.html", { key: null });
    assert.equal(none.status, 404);
  }
});

test("health_names_the_version_and_the_commit_of_the_build", async () => {
  const { commit } = await import(join(root, "build/version.mjs"));
  const { version } = JSON.parse(read("package.json"));
  const answer = await gateway.request("GET", "/health", { key: null });
  assert.equal(answer.text, JSON.stringify({ status: "ok", version, commit }));
});

test("a_gateway_without_its_secret_says_so_and_serves_only_what_is_public", async () => {
  const bare = await startGateway({ vars: { ADMIN_KEY: "too short" } });
  try {
    for (const path of ["/health", "/openapi.json", "/"]) assert.equal((await bare.request("GET", path)).status, 200);
    for (const path of ["/v1/whoami", "/v1/services"]) refused(await bare.request("GET", path), 503, "not_configured");
    refused(await bare.request("POST", "/v1/contexts", { body: {} }), 503, "not_configured");
    for (const path of ["/v1/chat/completions", "/v1/messages"]) {
      const answer = await bare.request("POST", path, { body: { model: "demo", messages: [] } });
      refusedAt(path, answer, 503, "not_configured");
      assert.equal(answer.headers.get("x-should-retry"), "false", "libraries do not try again");
    }
  } finally {
    await bare.stop();
  }
});

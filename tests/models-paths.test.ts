// The paths of models as clients get them wrong and right: other paths and methods, base URLs with a version too many
// or too few, queries, both headers for keys, and browsers.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { makeKey, refused, refusedAt, register } from "./support/arrange.ts";
import { root } from "./support/configuration.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";

let gateway: Gateway;
let key: string;
const app = "https://app.example.com";
const stranger = "https://stranger.example.com";
const version = { "anthropic-version": "2023-06-01" };

before(async () => {
  gateway = await startGateway({ vars: { CORS_ORIGINS: app } });
  await register(gateway, "demo", JSON.parse(readFileSync(join(root, "console/demo.json"), "utf8")));
  key = (await makeKey(gateway, "bare", ["models:use:demo"])).secret;
});
after(() => gateway?.stop());

const chat = { model: "demo", max_tokens: 50, messages: [{ role: "user", content: "Good morning" }] };
/** The endpoints that the demonstration has, and the text of a response. */
const endpoints: [path: string, said: (body: any) => string][] = [
  ["/v1/chat/completions", ({ choices }) => choices[0].message.content],
  ["/v1/messages", ({ content }) => content[0].text],
];
const messageOf = (body: any): string => body.error.message;

test("a_path_that_the_gateway_does_not_have_is_refused_in_its_format_with_the_paths_that_there_are", async () => {
  for (const path of [
    "/v1/completions",
    "/v1/chat",
    "/v1/chat/completions/",
    "/v1/chat/completions/chatcmpl-1",
    "/v1/responses/resp_1",
    "/v1/responses/resp_1/cancel",
    "/v1/embeddings/x",
    "/v1/images/generations",
    "/v1/audio/speech",
    "/v1/moderations",
    "/v1/rerank",
    "/v1/files",
    "/v1/batches",
    "/v1/fine_tuning/jobs",
    "/v1/uploads",
    "/v1/vector_stores",
    "/v1/assistants",
    "/v1/messages/batches",
    "/v1/messages/",
    "/v1/complete",
  ]) {
    for (const method of ["GET", "POST", "DELETE"]) {
      const options = { headers: version, ...(method === "POST" && { body: chat }) };
      // No credentials are needed to see what is wrong.
      for (const sent of [options, { ...options, key: null }]) {
        const answer = await gateway.request(method, path, sent);
        const message = messageOf(refusedAt(path, answer, 404, "not_found", true));
        assert.ok(message.startsWith(`There is no ${method} ${path}. `), message);
        for (const [known] of endpoints) assert.ok(message.includes(known), `${message} names ${known}`);
        assert.match(message, /\/v1\/responses, \/v1\/embeddings, .*GET \/v1\/models\b/);
      }
    }
  }
  // Other paths, and those with similar names, are refused as ever.
  for (const path of ["/v1/chats", "/v1/model", "/v1/message", "/v2/messages", "/chat", "/v1/contexts/none"]) {
    refused(await gateway.request("GET", path, { headers: version }), 404, "not_found");
  }
});

test("a_base_url_with_a_version_too_many_or_too_few_is_refused_with_a_hint", async () => {
  for (const path of ["/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/messages", "/v1/completions"]) {
    for (const method of ["GET", "POST"]) {
      const options = { key, ...(method === "POST" && { body: chat }) };
      const twice = await gateway.request(method, `/v1${path}`, options);
      const tooMany = messageOf(refusedAt(`/v1${path}`, twice, 404, "not_found"));
      assert.equal(
        tooMany,
        `There is no ${method} /v1${path}. This library adds /v1 itself: leave it out of the base URL.`,
      );
      const short = path.slice(3);
      const without = await gateway.request(method, short, options);
      // A file of the console might have this name: there is only no such method.
      const [status, code] = method === "GET" ? ([404, "not_found"] as const) : ([405, "method_not_allowed"] as const);
      const tooFew = messageOf(refusedAt(short, without, status, code));
      assert.equal(
        tooFew,
        `There is no ${method} ${short}. The paths of models begin with /v1: add it to the base URL.`,
      );
    }
  }
  const short = await gateway.request("GET", "/models", { key });
  assert.match(messageOf(refusedAt("/models", short, 404, "not_found")), /add it to the base URL/);
  const listed = await gateway.request("GET", "/v1/v1/models", { key });
  assert.match(messageOf(refusedAt("/v1/v1/models", listed, 404, "not_found")), /leave it out of the base URL/);
});

test("another_method_is_refused_with_the_methods_that_there_are", async () => {
  const posts = [...endpoints.map(([path]) => path), "/v1/responses", "/v1/embeddings", "/v1/messages/count_tokens"];
  for (const [paths, allowed] of [
    [posts, "POST"],
    [["/v1/models", "/v1/models/demo", "/v1/models/vendor/model:free"], "GET, HEAD"],
  ] as const) {
    for (const path of paths) {
      for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]) {
        if (allowed.includes(method)) continue;
        for (const headers of [{}, version]) {
          const answer = await gateway.request(method, path, { headers });
          const refusal = refusedAt(path, answer, 405, "method_not_allowed", headers === version);
          assert.equal(answer.headers.get("allow"), allowed, `${method} ${path}`);
          assert.ok(messageOf(refusal).includes(allowed), `${method} ${path}: ${answer.text}`);
        }
      }
    }
  }
  const head = await gateway.request("HEAD", "/v1/chat/completions");
  assert.deepEqual([head.status, head.headers.get("allow"), head.text], [405, "POST", ""]);
});

test("a_response_that_is_not_kept_cannot_be_fetched_later", async () => {
  for (const path of ["/v1/chat/completions", "/v1/responses", "/v1/messages"]) {
    const headers = { prefer: "respond-async" };
    const answer = await gateway.request("POST", path, { key, body: chat, headers });
    assert.match(messageOf(refusedAt(path, answer, 422, "content_not_kept")), /POST \/v1\/contexts/);
  }
});

test("a_head_of_the_models_is_answered_like_a_get", async () => {
  for (const path of ["/v1/models", "/v1/models/demo"]) {
    for (const headers of [{}, version]) {
      const get = await gateway.request("GET", path, { key, headers });
      const head = await gateway.request("HEAD", path, { key, headers });
      assert.deepEqual([get.status, head.status, head.text], [200, 200, ""], path);
      assert.equal(head.headers.get("content-type"), get.headers.get("content-type"));
    }
  }
  assert.equal((await gateway.request("HEAD", "/v1/models/none", { key })).status, 404);
  assert.equal((await gateway.request("HEAD", "/v1/models", { key: null })).status, 401);
});

test("the_list_of_models_has_the_shape_that_the_request_asks_for", async () => {
  const { json: openai } = await gateway.request("GET", "/v1/models", { key });
  assert.equal(openai.object, "list");
  assert.deepEqual(
    openai.data.map(({ id, object, owned_by }: any) => [id, object, owned_by]),
    [["demo", "model", "demo"]],
  );
  const { json: anthropic } = await gateway.request("GET", "/v1/models", { key, headers: version });
  assert.deepEqual([anthropic.has_more, anthropic.first_id, anthropic.last_id], [false, "demo", "demo"]);
  assert.deepEqual([anthropic.data[0].type, anthropic.data[0].id], ["model", "demo"]);
  for (const headers of [{}, version]) {
    const has = headers === version;
    // A slash in a name may be escaped or not.
    for (const path of ["/v1/models/none", "/v1/models/vendor/none", "/v1/models/vendor%2Fnone"]) {
      refusedAt(path, await gateway.request("GET", path, { key, headers }), 404, "model_not_found", has);
    }
    const bad = await gateway.request("GET", "/v1/models", { key: "nx_wrong", headers });
    refusedAt("/v1/models", bad, 401, "unauthenticated", has);
  }
});

test("any_query_is_accepted_and_changes_nothing", async () => {
  for (const query of ["?beta=true", "?beta=true&beta=true", "?", "?api-version=2026-05-01", "?%zz&=&a", "?stream=1"]) {
    for (const [path, said] of endpoints) {
      const answer = await gateway.request("POST", path + query, { key, body: chat });
      assert.equal(answer.status, 200, `${path}${query}: ${answer.text}`);
      assert.match(said(answer.json), /You wrote: Good morning$/);
    }
    const counted = await gateway.request("POST", `/v1/messages/count_tokens${query}`, { key, body: chat });
    assert.equal(counted.status, 200, counted.text);
    for (const path of ["/v1/models", "/v1/models/demo"]) {
      assert.equal((await gateway.request("GET", path + query, { key })).status, 200, path + query);
    }
  }
});

test("a_key_is_taken_from_both_headers_and_that_of_bearer_counts", async () => {
  const other = (await makeKey(gateway, "bare", ["models:use:another"])).secret;
  for (const [path] of endpoints) {
    const send = (headers: Record<string, string>) => gateway.request("POST", path, { key: null, headers, body: chat });
    for (const headers of [
      { authorization: `Bearer ${key}` },
      { authorization: `bearer ${key}` },
      { "x-api-key": key },
      { authorization: `Bearer ${key}`, "x-api-key": other },
      { authorization: `Bearer ${key}`, "x-api-key": "sk-ant-of-another" },
      // Other schemes are not for keys.
      { authorization: "Basic YTpi", "x-api-key": key },
    ] as Record<string, string>[]) {
      const answer = await send(headers);
      assert.equal(answer.status, 200, `${path} ${Object.keys(headers)}: ${answer.text}`);
    }
    const denied = await send({ authorization: `Bearer ${other}`, "x-api-key": key });
    refusedAt(path, denied, 403, "permission_denied");
    assert.match(denied.headers.get("www-authenticate")!, /scope="models:use:demo"/);
    for (const headers of [
      {},
      { authorization: "Bearer sk-wrong", "x-api-key": key },
      { "x-api-key": "sk-wrong" },
      { "x-goog-api-key": key },
      { "api-key": key },
    ] as Record<string, string>[]) {
      refusedAt(path, await send(headers), 401, "unauthenticated");
    }
  }
});

/** A preflight: the headers that it allows, in lower case. */
async function preflight(path: string, origin: string, method: string, asked: string[]) {
  const headers = {
    origin,
    "access-control-request-method": method,
    "access-control-request-headers": asked.join(","),
  };
  const answer = await gateway.request("OPTIONS", path, { key: null, headers });
  assert.equal(answer.status, 204, answer.text);
  const allowed = (answer.headers.get("access-control-allow-headers") ?? "").toLowerCase().split(/, */).filter(Boolean);
  return { origin: answer.headers.get("access-control-allow-origin"), allowed };
}

/** What the browser builds of the libraries and known agents send. */
const ofLibraries = [
  ...["accept", "authorization", "content-type", "x-api-key"],
  ...["arch", "async", "helper-method", "lang", "os", "package-version", "retry-count", "runtime", "timeout"].map(
    (name) => `x-stainless-${name}`,
  ),
  ...["anthropic-version", "anthropic-beta", "anthropic-dangerous-direct-browser-access"],
  ...["openai-organization", "openai-project", "openai-beta", "x-session-id", "x-claude-code-session-id"],
  ...["x-narthex-metadata", "x-narthex-timeout", "idempotency-key"],
];

test("a_request_with_a_wrong_key_need_not_be_repeated", async () => {
  for (const [path] of endpoints) {
    const answer = await gateway.request("POST", path, { key: "wrong", body: chat });
    refusedAt(path, answer, 401, "unauthenticated");
    // Claude Code repeats a 401 for minutes without it.
    assert.equal(answer.headers.get("x-should-retry"), "false", path);
  }
});

test("browser_builds_of_the_libraries_may_send_their_headers", async () => {
  const paths = [...endpoints.map(([path]) => path), "/v1/responses", "/v1/embeddings", "/v1/messages/count_tokens"];
  for (const path of [...paths, "/v1/messages?beta=true", "/v1/models", "/v1/models/vendor/model"]) {
    const method = path.startsWith("/v1/models") ? "GET" : "POST";
    const { origin, allowed } = await preflight(path, app, method, [...ofLibraries, "x-other", "x-stainless-a b"]);
    assert.equal(origin, app, path);
    assert.deepEqual(
      ofLibraries.filter((name) => !allowed.includes(name)),
      [],
      path,
    );
    assert.ok(!allowed.some((name) => name === "*" || name === "x-other" || name.includes(" ")), allowed.join());
    const strange = await preflight(path, stranger, method, ofLibraries);
    assert.deepEqual([strange.origin, strange.allowed], [null, []], path);
  }
});

test("a_browser_reads_responses_and_refusals_of_models", async () => {
  const names = "x-request-id, request-id, retry-after, x-should-retry, x-narthex-context, x-narthex-service";
  for (const [path] of endpoints) {
    for (const [origin, readable] of [
      [app, app],
      [stranger, null],
    ] as const) {
      const headers = { origin, ...version, "anthropic-dangerous-direct-browser-access": "true" };
      const good = await gateway.request("POST", path, { key, headers, body: chat });
      assert.equal(good.status, 200, good.text);
      const bad = await gateway.request("POST", path, { key, headers, body: { ...chat, model: "none" } });
      refusedAt(path, bad, 404, "model_not_found");
      const lost = await gateway.request("POST", `/v1${path}`, { key, headers, body: chat });
      for (const answer of [good, bad, lost]) {
        assert.equal(answer.headers.get("access-control-allow-origin"), readable, `${path} for ${origin}`);
        const exposed = (answer.headers.get("access-control-expose-headers") ?? "").toLowerCase().split(/, */);
        for (const name of names.split(", ")) assert.equal(exposed.includes(name), readable !== null, name);
      }
    }
  }
});

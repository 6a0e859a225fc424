// HTTP as intermediaries and plain clients speak it: tags changed by a proxy, bodies in another coding, HEAD, repeated
// parameters, streams that intermediaries must not buffer (RFC 9110).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { accepted, create, makeKey, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { root } from "./support/configuration.ts";
import { formatOf } from "./support/contract.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, type Service, startService } from "./support/service.ts";

type Json = any;
const openapi: Json = JSON.parse(readFileSync(join(root, "console/openapi.json"), "utf8"));

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway({ vars: { OAUTH: "true", COUNT_COSTS: "true" } });
  service = await startService(echo);
  await register(gateway, "worker", serviceAt(service.url));
  const transport = { kind: "openai", url: `${service.url}v1` };
  await register(gateway, "provider", { name: "A provider", type: "llm", transport });
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const issuer = {
  issuer: "https://id.example.com",
  audience: "https://gateway.example.com",
  jwks_url: "https://id.example.com/jwks.json",
  algorithms: ["ES256"],
  claims: { role: "roles" },
  roles: { staff: "viewer" },
};
const client = {
  name: "CI",
  grant_types: ["client_credentials"],
  auth_method: "client_secret_basic",
  scope: "contexts:read",
};
const documents = (): [string, object][] => [
  ["/v1/services/tagged", serviceAt(service.url)],
  ["/v1/roles/tagged", { permissions: [] }],
  ["/v1/limits/tagged", { kind: "requests", quota: 5, window_seconds: 60, binds: { key: "unknown" } }],
  ["/v1/issuers/tagged", issuer],
  ["/v1/clients/tagged", client],
  ["/v1/webhooks/tagged", { url: service.url, enabled: false }],
  ["/v1/schedules/tagged", { cron: "@yearly", context: { capability: "work" }, enabled: false }],
  ["/v1/model-routes/tagged", { targets: [{ service: "provider", model: "m" }] }],
  ["/v1/model-routes/team/tagged", { targets: [{ service: "provider", model: "m" }] }],
  ["/v1/tenants/tagged", { name: "Tagged" }],
];

test("a_tag_changed_by_compression_is_accepted_for_every_document", async () => {
  for (const [path, document] of documents()) {
    const made = await gateway.request("PUT", path, { body: document });
    assert.equal(made.status, 201, made.text);
    const put = (tag: string) => gateway.request("PUT", path, { body: document, headers: { "if-match": tag } });
    let number = Number(made.headers.get("etag")!.match(/^"(\d+)/)![1]);
    const next = (tag: string) => Number(tag.match(/^"(\d+)/)![1]);
    for (const changed of [`W/"${number}"`, `"${number}-gzip"`, `W/"${number};br"`, `"99", W/"${number}.5"`]) {
      // Any tag of a list may match; an older one never does.
      const at = changed.replace(/(?<=")\d+(?=["\-.;])/g, (one) => (one === "99" ? one : String(number)));
      refused(await put(`W/"${number + 5}", "abc"`), 412, "precondition_failed");
      const answer = await put(at);
      assert.equal(answer.status, 200, `${path} ${at}: ${answer.text}`);
      number = next(
        answer.headers.get("etag") ?? (await gateway.request("GET", path)).headers.get("etag") ?? `"${number + 1}"`,
      );
    }
    refused(await put('W/"1'), 400, "invalid_request");
    refused(await put('*, "1"'), 400, "invalid_request");
    const all = path.includes("tenants") ? "?force=true" : "";
    const gone = await gateway.request("DELETE", path + all, { headers: { "if-match": `W/"${number}"` } });
    assert.ok([200, 204].includes(gone.status), `${path}: ${gone.text}`);
  }
  const { headers } = await gateway.request("GET", "/v1/services/worker");
  const tag = headers.get("etag")!;
  for (const known of [`W/${tag}`, `"x", W/${tag}`, tag.replace(/"$/, '-gzip"'), "*"]) {
    const again = await gateway.request("GET", "/v1/services/worker", { headers: { "if-none-match": known } });
    assert.equal(again.status, 304, known);
  }
  const patched = await gateway.request("PATCH", "/v1/services/worker", {
    body: { weight: 3 },
    headers: { "if-match": `W/${tag}` },
  });
  assert.equal(patched.status, 200, patched.text);
});

test("intermediaries_may_not_change_or_buffer_a_stream", async () => {
  const sse = { accept: "text/event-stream" };
  const { json: context } = await create(gateway);
  const mcp = { accept: "application/json, text/event-stream" };
  const opened = await gateway.open("POST", "/mcp", {
    headers: mcp,
    body: {
      jsonrpc: "2.0",
      id: 1,
      method: "initialize",
      params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "t", version: "1" } },
    },
  });
  const session = opened.headers.get("mcp-session-id")!;
  await opened.text();
  const call = {
    jsonrpc: "2.0",
    id: 2,
    method: "tools/call",
    params: { name: "worker.work", arguments: {}, _meta: { progressToken: 1 } },
  };
  const streams: [string, string, object][] = [
    ["GET", "/v1/events", { headers: sse }],
    ["GET", `/v1/contexts/${context.id}/events`, { headers: sse }],
    ["POST", "/v1/contexts", { headers: sse, body: { capability: "work" } }],
    ["POST", `/v1/contexts/${context.id}/replay`, { headers: sse }],
    ["GET", "/mcp", { headers: { ...sse, "mcp-session-id": session } }],
    ["POST", "/mcp", { headers: { ...mcp, "mcp-session-id": session }, body: call }],
  ];
  for (const [method, path, options] of streams) {
    const stop = new AbortController();
    const answer = await gateway.open(method, path, { ...options, signal: stop.signal });
    const { headers } = answer;
    if (headers.get("content-type") === "application/json" && path === "/mcp") {
      await answer.text();
      continue;
    }
    assert.deepEqual([answer.status, headers.get("content-type")], [200, "text/event-stream"], `${method} ${path}`);
    assert.equal(headers.get("cache-control"), "no-store, no-transform", `${method} ${path}`);
    assert.equal(headers.get("x-accel-buffering"), "no", `${method} ${path}`);
    stop.abort();
    await answer.text().catch(() => {});
  }
  assert.equal((await gateway.request("GET", "/v1/whoami")).headers.get("cache-control"), "no-store");
});

/** Every operation that reads a JSON body, with its path parameters filled in. */
const reading = Object.entries<Json>(openapi.paths).flatMap(([path, item]) =>
  ["post", "put", "patch"]
    .filter((method) => item[method]?.requestBody)
    .map((method) => ({ path, method: method.toUpperCase() })),
);
const filled = (path: string) => path.replace("{token}", "unknown").replace(/\{\w+\}/g, "tagged");

test("a_body_in_another_coding_or_charset_is_refused_wherever_one_is_read", async () => {
  const isForm = (path: string) => path.startsWith("/oauth/") && path !== "/oauth/register";
  for (const { path, method } of reading.filter(
    ({ path }) => path !== "/oauth/register" && !path.includes("{token}"),
  )) {
    const type = isForm(path) ? "application/x-www-form-urlencoded" : "application/json";
    const send = (headers: Record<string, string>) =>
      gateway.request(method, filled(path), {
        body: gzipSync("{}"),
        headers: { "content-type": type, "if-match": "*", ...headers },
      });
    for (const coding of ["gzip", "GZIP", "br", "deflate", "zstd", "identity, gzip"]) {
      const answer = await send({ "content-encoding": coding });
      assert.deepEqual(
        [answer.status, path === "/oauth/authorize" ? "identity" : answer.headers.get("accept-encoding")],
        [415, "identity"],
        `${method} ${path} ${coding}: ${answer.text}`,
      );
    }
    for (const charset of ["utf-16", '"UTF-16LE"', "iso-8859-1"]) {
      const answer = await send({ "content-type": `${type}; Charset=${charset}` });
      assert.equal(answer.status, 415, `${method} ${path} ${charset}: ${answer.text}`);
    }
  }
  for (const type of [
    'application/json; charset="UTF-8"',
    "application/json;charset=utf-8",
    "application/vnd.api+json",
  ]) {
    const headers = { "content-type": type, "content-encoding": "identity" };
    const answer = await gateway.request("POST", "/v1/contexts", { body: '{"capability":"work"}', headers });
    assert.equal(answer.status, 200, answer.text);
  }
});

test("a_patch_is_a_merge_patch_and_no_other", async () => {
  const patch = (type: string, body: unknown = { weight: 4 }) =>
    gateway.request("PATCH", "/v1/services/worker", {
      body: JSON.stringify(body),
      headers: { "content-type": type, "if-match": "*" },
    });
  for (const type of ["application/json-patch+json", "application/vnd.api+json", "text/plain", "application/xml"]) {
    const answer = await patch(type, [{ op: "replace", path: "/weight", value: 9 }]);
    refused(answer, 415, "unsupported_media_type");
    assert.equal(answer.headers.get("accept-patch"), "application/merge-patch+json, application/json");
  }
  for (const type of [
    "application/merge-patch+json",
    "application/json",
    "Application/Merge-Patch+JSON; charset=utf-8",
  ]) {
    assert.equal((await patch(type)).status, 200, type);
  }
  // Nor is a patch a document.
  for (const type of ["application/json-patch+json", "application/merge-patch+json"]) {
    const answer = await gateway.request("PUT", "/v1/roles/patched", {
      body: '{"permissions":[]}',
      headers: { "content-type": type },
    });
    refused(answer, 415, "unsupported_media_type");
  }
});

/** Sends a body in chunks, possibly none; returns the status. */
const chunked = (method: string, path: string, chunks: string[], headers: Record<string, string> = {}) =>
  new Promise<number>((resolve, reject) => {
    const all = { authorization: `Bearer ${gateway.adminKey}`, "transfer-encoding": "chunked", ...headers };
    const sent = request(gateway.url + path, { method, headers: all }, (answer) => {
      answer.resume().on("end", () => resolve(answer.statusCode!));
    });
    sent.on("error", reject);
    for (const chunk of chunks) sent.write(chunk);
    sent.end();
  });

test("an_empty_chunked_body_counts_as_no_body", async () => {
  const { id } = await makeKey(gateway, "caller");
  const { json: context } = await create(gateway);
  const paths = [
    `/v1/keys/${id}/rotate`,
    "/v1/services/worker/rotate-secret",
    "/v1/tickets",
    `/v1/contexts/${context.id}/replay`,
  ];
  for (const path of paths) {
    const statuses = [
      await chunked("POST", path, []),
      await chunked("POST", path, [], { "content-type": "application/json" }),
    ];
    assert.ok(
      statuses.every((status) => status === 200 || status === 201),
      `${path}: ${statuses}`,
    );
    // A non-empty one is read.
    assert.equal(await chunked("POST", path, ["{", "]"], { "content-type": "application/json" }), 400, path);
    assert.equal(await chunked("POST", path, ["{}"]), 415, path);
  }
});

test("a_head_equals_a_get_without_the_body", async () => {
  const { json: context } = await create(gateway);
  const { id } = await makeKey(gateway, "caller");
  const ids: Record<string, string> = {
    contexts: context.id,
    keys: id,
    services: "worker",
    roles: "caller",
    tenants: "none",
  };
  const paths = Object.entries<Json>(openapi.paths)
    .filter(([, item]) => item.get)
    .map(([path]) => path);
  assert.ok(paths.length > 30);
  for (const template of paths) {
    const path = template.replace("{file}", "index.html").replace(/\{\w+\}/g, ids[template.split("/")[2]!] ?? "none");
    // These stay open by GET.
    const stream = path === "/v1/events";
    const get = stream ? undefined : await gateway.request("GET", path, { headers: { accept: "application/json" } });
    const head = await gateway.request("HEAD", path, { headers: { accept: stream ? "*/*" : "application/json" } });
    assert.equal(head.text, "");
    assert.equal(head.status, get?.status ?? 200, `HEAD ${path}`);
    assert.equal(head.headers.get("content-type"), get ? get.headers.get("content-type") : "text/event-stream", path);
    if (get && head.headers.has("content-length")) {
      assert.equal(head.headers.get("content-length"), get.headers.get("content-length"), path);
    }
  }
  refused(await gateway.request("GET", "/v1/whoami", { key: null }), 401, "unauthenticated");
  assert.equal((await gateway.request("HEAD", "/v1/whoami", { key: null })).status, 401);
  assert.equal((await gateway.request("HEAD", "/v1/contexts/ctx_1/cancel")).status, 405);
});

test("a_head_does_not_wait_open_a_stream_or_use_up_a_ticket", async () => {
  const later = await accepted(gateway, { run_at: new Date(Date.now() + 60_000).toISOString() });
  const began = Date.now();
  const head = (path: string, headers: Record<string, string> = {}, key?: string | null) =>
    gateway.request("HEAD", path, { headers, ...(key !== undefined && { key }) });
  assert.equal((await head(`/v1/contexts/${later.id}`, { prefer: "wait=110" })).status, 200);
  const sse = { accept: "text/event-stream" };
  for (const path of ["/v1/events", `/v1/contexts/${later.id}/events`]) {
    const answer = await head(path, sse);
    assert.deepEqual(
      [answer.status, answer.headers.get("content-type"), answer.headers.get("cache-control")],
      [200, "text/event-stream", "no-store, no-transform"],
      path,
    );
  }
  assert.ok(Date.now() - began < 100_000, "nothing was waited for");
  const { json: made } = await gateway.request("POST", "/v1/tickets");
  assert.equal((await head(`/v1/events?ticket=${made.ticket}`, sse, null)).status, 401);
  const stop = new AbortController();
  const opened = await gateway.open("GET", `/v1/events?ticket=${made.ticket}`, {
    headers: sse,
    key: null,
    signal: stop.signal,
  });
  assert.equal(opened.status, 200, "the ticket is still good");
  stop.abort();
  await opened.text().catch(() => {});
  assert.equal((await head("/oauth/signed-in?code=1&state=2")).status, 400);
  await gateway.request("POST", `/v1/contexts/${later.id}/cancel`);
});

test("a_repeated_parameter_is_refused_by_name_everywhere", async () => {
  for (const [template, item] of Object.entries<Json>(openapi.paths)) {
    if (!template.startsWith("/v1/") && template !== "/metrics") continue;
    // Clients of models send whatever query their provider knows; tests/models-paths.test.ts.
    if (formatOf(template)) continue;
    const path = filled(template);
    for (const method of ["get", "post", "put", "patch", "delete"].filter((name) => item[name])) {
      const problem = refused(
        await gateway.request(method.toUpperCase(), `${path}?limit=5&x=1&limit=6`),
        400,
        "invalid_request",
      );
      assert.deepEqual(pointers(problem), ["?limit"], `${method} ${path}`);
    }
  }
  const twice = await gateway.request("GET", "/v1/services?type=tool&%74ype=llm");
  assert.deepEqual(pointers(refused(twice, 400, "invalid_request")), ["?type"]);
  for (const limit of ["%2B5", "05", "5.0", "%205", "", "0", "-1"]) {
    for (const list of ["/v1/contexts", "/v1/audit", "/v1/grants"]) {
      const answer = await gateway.request("GET", `${list}?limit=${limit}`);
      assert.deepEqual(pointers(refused(answer, 422, "validation_failed")), ["?limit"], `${list} ${limit}`);
    }
  }
  for (const after of ["%2B5", "-1", "1e3"]) {
    const answer = await gateway.request("GET", `/v1/events?after=${after}`);
    assert.deepEqual(pointers(refused(answer, 422, "validation_failed")), ["?after"], after);
  }
  const page = (last: string) =>
    gateway.request("GET", "/v1/events?after=0&limit=1", {
      headers: { accept: "application/json", "last-event-id": last },
    });
  refused(await page("t@#&]1n"), 400, "invalid_request");
  const [first] = (await page("0")).json.data;
  assert.ok((await page(first.sequence)).json.data[0].sequence > first.sequence, "it takes precedence over the query");
});

test("a_cursor_works_with_pages_of_another_length", async () => {
  for (let n = 0; n < 4; n++) await create(gateway);
  for (const list of ["/v1/contexts?owner=*", "/v1/audit?"]) {
    const all = (await gateway.request("GET", `${list}&limit=6`.replace("?&", "?"))).json.data.map(
      ({ id }: Json) => id,
    );
    const first = (await gateway.request("GET", `${list}&limit=2`.replace("?&", "?"))).json;
    const second = await gateway.request("GET", `${list}&limit=3&cursor=${first.next_cursor}`.replace("?&", "?"));
    assert.equal(second.status, 200, second.text);
    const third = await gateway.request("GET", `${list}&cursor=${second.json.next_cursor}`.replace("?&", "?"));
    const seen = [first, second.json, third.json].flatMap(({ data }: Json) => data.map(({ id }: Json) => id));
    assert.deepEqual(seen.slice(0, 6), all);
    const other = list.includes("owner") ? "status=failed" : "action=key.*";
    refused(
      await gateway.request("GET", `${list}&${other}&cursor=${first.next_cursor}`.replace("?&", "?")),
      400,
      "invalid_request",
    );
  }
});

test("an_idempotency_key_is_refused_where_it_would_be_ignored", async () => {
  const headers = { "idempotency-key": "once" };
  const { id } = await makeKey(gateway, "caller");
  const keys = async () => (await gateway.request("GET", "/v1/keys")).json.data.length;
  const before = await keys();
  const posts: [string, object][] = [
    ["/v1/keys", { name: "twice", role: "caller" }],
    [`/v1/keys/${id}/rotate`, {}],
    ["/v1/services/worker/rotate-secret", {}],
    ["/v1/tickets", {}],
    ["/v1/webhooks/none/test", {}],
  ];
  for (const [path, body] of posts)
    refused(await gateway.request("POST", path, { headers, body }), 400, "invalid_request");
  assert.equal(await keys(), before);
});

test("without_a_version_the_newest_release_runs_and_no_candidate", async () => {
  await register(
    gateway,
    "candidates",
    serviceAt(service.url, [
      { name: "versioned", version: "2.1.0-rc.1" },
      { name: "versioned", version: "1.4.0" },
      { name: "unreleased", version: "0.1.0-alpha.2" },
    ]),
  );
  const version = async (body: object) => (await create(gateway, body)).json.version;
  assert.equal(await version({ capability: "versioned" }), "1.4.0");
  assert.equal(await version({ capability: "versioned", version: "*" }), "1.4.0");
  assert.equal(await version({ capability: "versioned", version: "^2.1.0-rc.0" }), "2.1.0-rc.1");
  assert.equal(await version({ capability: "unreleased" }), "0.1.0-alpha.2");
  refused(await create(gateway, { capability: "unreleased", version: "*" }), 422, "validation_failed");
});

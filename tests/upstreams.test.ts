// Misbehaving services: every failure has a clear code, none hangs, and a call that is not idempotent is retried only
// if the service itself stated that it did nothing.
import assert from "node:assert/strict";
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:net";
import { after, before, test } from "node:test";
import { createGzip } from "node:zlib";
import { create, eventually, makeKey, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { tolerance } from "./support/patience.ts";
import {
  echo,
  half,
  type Handler,
  hang,
  html,
  huge,
  inTurn,
  json,
  reset,
  type Service,
  slow,
  startService,
  status,
} from "./support/service.ts";
import { openEvents } from "./support/socket.ts";

let gateway: Gateway;
let service: Service;

const outputSchema = { type: "object", required: ["text"], properties: { text: { type: "string" } } };

const capabilities = [
  { name: "safe", idempotent: true },
  { name: "once", idempotent: false },
  { name: "shaped", idempotent: true, output_schema: outputSchema },
];

before(async () => {
  gateway = await startGateway();
  service = await startService();
  await register(gateway, "worker", serviceAt(service.url, capabilities));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

let address = 0;

/** Runs a context with a handler: returns the number of calls, and how the context ended. */
async function run(handler: Handler, capability: string, body: object = {}) {
  // At a new address it is another service, so earlier failures have not opened its breaker.
  const registered = await gateway.request("PUT", "/v1/services/worker", {
    headers: { "if-match": "*" },
    body: serviceAt(`${service.url}?${++address}`, capabilities),
  });
  assert.equal(registered.status, 200, registered.text);
  service.handler = handler;
  const from = service.calls.length;
  const { json: context } = await create(
    gateway,
    { capability, timeout_seconds: 20, ...body },
    { headers: { prefer: "wait=60" } },
  );
  const calls = service.calls.slice(from);
  assert.deepEqual(
    calls.map((call) => call.json.attempt),
    calls.map((_, at) => at + 1),
  );
  return { context, calls: calls.length };
}

const gzipBomb: Handler = (_, response) => {
  response.writeHead(200, { "content-type": "application/json", "content-encoding": "gzip" });
  const gzip = createGzip();
  response.on("close", () => gzip.destroy());
  gzip.on("error", () => {}).pipe(response);
  const zeros = Buffer.alloc(1024 * 1024);
  let left = 50;
  const more = () => {
    while (left-- > 0) if (!gzip.write(zeros)) return void gzip.once("drain", more);
    gzip.end();
  };
  more();
};

const declaredHuge: Handler = (_, response) => {
  response.writeHead(200, { "content-type": "application/json", "content-length": String(50 * 1024 * 1024) });
  response.write('{"result":"');
};

const drip: Handler = (_, response) => {
  response.writeHead(200, { "content-type": "application/json" });
  response.write('{"result":"');
  const timer = setInterval(() => response.write("."), 100);
  response.on("close", () => clearInterval(timer));
};

const error = (retryable?: boolean) =>
  json({ error: { code: "no_stock", message: "Nothing left.", ...(retryable !== undefined && { retryable }) } });

// The error code, and the number of calls if idempotent and if not.
for (const [what, handler, code, safe, once, statusCode] of [
  ["a_web_page", html, "upstream_invalid_response", 1, 1, 200],
  ["204", status(204), "upstream_invalid_response", 1, 1, 204],
  [
    "text_that_is_not_json",
    (_, r) => void r.writeHead(200, { "content-type": "application/json" }).end("{'a'"),
    "upstream_invalid_response",
    1,
    1,
    200,
  ],
  ["a_json_array", json([1]), "upstream_invalid_response", 1, 1, 200],
  ["neither_result_nor_error", json({ ok: true }), "upstream_invalid_response", 1, 1, 200],
  [
    "a_result_1000_levels_deep",
    (_, r) =>
      void r
        .writeHead(200, { "content-type": "application/json" })
        .end(`{"result":${"[".repeat(1000)}${"]".repeat(1000)}}`),
    "upstream_invalid_response",
    1,
    1,
    200,
  ],
  ["50_MB", huge(), "upstream_invalid_response", 1, 1, 200],
  ["50_MB_that_are_only_announced", declaredHuge, "upstream_invalid_response", 1, 1, 200],
  ["a_gzip_bomb", gzipBomb, "upstream_invalid_response", 1, 1, 200],
  ["a_redirect", status(302, undefined, { location: "http://127.0.0.1:1/" }), "upstream_error", 1, 1, 302],
  ["a_permanent_redirect", status(308, undefined, { location: "/elsewhere" }), "upstream_error", 1, 1, 308],
  ["400", status(400, { message: "no" }), "upstream_error", 1, 1, 400],
  ["404", status(404), "upstream_error", 1, 1, 404],
  ["500", status(500), "upstream_error", 3, 1, 500],
  ["502", status(502), "upstream_error", 3, 1, 502],
  ["504", status(504), "upstream_timeout", 3, 1, 504],
  ["408", status(408), "upstream_timeout", 3, 1, 408],
  ["503", status(503), "service_unavailable", 3, 1, 503],
  ["503_that_says_when", status(503, undefined, { "retry-after": "0" }), "service_unavailable", 3, 3, 503],
  ["429", status(429), "service_unavailable", 3, 3, 429],
  ["425", status(425), "upstream_error", 3, 3, 425],
  ["half_an_answer", half, "service_unavailable", 3, 1, null],
  ["a_cut_connection", reset, "service_unavailable", 3, 1, null],
  ["a_retryable_error", error(true), "upstream_error", 3, 1, 200],
  ["a_final_error", error(false), "upstream_error", 1, 1, 200],
  ["an_error_that_does_not_say", error(), "upstream_error", 1, 1, 200],
] as [string, Handler, string, number, number, number | null][]) {
  test(`a_service_that_answers_${what}_fails_with_${code}`, async () => {
    for (const [capability, attempts] of [
      ["safe", safe],
      ["once", once],
    ] as const) {
      const { context, calls } = await run(handler, capability);
      assert.equal(context.status, "failed", `${capability}: ${JSON.stringify(context.error)}`);
      assert.equal(context.error.code, code, capability);
      assert.equal(context.error.service, "worker");
      assert.ok(Date.parse(context.updated_at) < Date.parse(context.expires_at), `${capability} has not hung`);
      assert.equal(calls, attempts, `calls of ${capability}`);
      const outcomes = context.attempts.map((attempt: any) => [
        attempt.number,
        attempt.outcome,
        attempt.code,
        attempt.status_code,
      ]);
      const outcome = code === "upstream_timeout" ? "timed_out" : "failed";
      assert.deepEqual(
        outcomes,
        Array.from({ length: attempts }, (_, at) => [at + 1, outcome, code, statusCode]),
      );
    }
  });
}

test("a_service_that_never_responds_is_abandoned_at_the_deadline", async () => {
  for (const [capability, handler] of [
    ["safe", hang],
    ["once", hang],
    ["safe", drip],
  ] as const) {
    const { context, calls } = await run(handler, capability, { timeout_seconds: 4 });
    assert.equal(context.status, "timed_out");
    assert.equal(context.error.code, "deadline_exceeded");
    assert.equal(calls, 1);
    const late = Date.parse(context.updated_at) - Date.parse(context.expires_at);
    assert.ok(late < tolerance(), `${late} ms after its time`);
    // The connection is not left open behind it.
    await eventually(() => service.calls.at(-1)!.abandoned);
  }
});

test("a_slow_service_is_waited_for", async () => {
  const { context, calls } = await run(slow(3000), "once", { parameters: { a: 1 } });
  assert.deepEqual([context.status, context.result, calls], ["completed", { a: 1 }, 1]);
  assert.ok(context.execution_time_ms >= 2900);
});

test("a_service_asks_for_a_pause_and_gets_it", async () => {
  for (const [code, capability] of [
    [429, "once"],
    [503, "safe"],
  ] as const) {
    const { context, calls } = await run(inTurn(status(code, undefined, { "retry-after": "1" }), echo), capability);
    assert.deepEqual([context.status, calls], ["completed", 2]);
    const [first, second] = service.calls.slice(-2);
    assert.ok(second!.at - first!.at >= 990, `${second!.at - first!.at} ms`);
  }
});

test("a_pause_beyond_the_deadline_is_not_begun", async () => {
  const { context, calls } = await run(status(503, undefined, { "retry-after": "3600" }), "safe");
  assert.deepEqual([context.status, context.error.code, calls], ["failed", "service_unavailable", 1]);
  assert.ok(Date.parse(context.updated_at) < Date.parse(context.expires_at));
});

test("a_pause_too_long_for_the_request_is_kept_by_the_store", async () => {
  const { context, calls } = await run(inTurn(status(503, undefined, { "retry-after": "6" }), echo), "once", {
    timeout_seconds: 20,
  });
  assert.equal(calls, 2, JSON.stringify(context));
  assert.equal(context.status, "completed");
  const [first, second] = service.calls.slice(-2);
  assert.ok(second!.at - first!.at >= 5990, `${second!.at - first!.at} ms`);
});

test("a_transient_failure_does_not_end_the_context", async () => {
  const { context, calls } = await run(inTurn(status(500), reset, echo), "safe");
  assert.deepEqual([context.status, context.error, calls], ["completed", null, 3]);
});

test("schema_faults_of_a_result_are_reported_with_their_pointers", async () => {
  const { context, calls } = await run(json({ result: { text: 7 } }), "shaped");
  assert.deepEqual([context.status, context.error.code, calls], ["failed", "upstream_invalid_response", 1]);
  assert.equal(context.error.details[0].pointer, "#/text");
  assert.equal(context.result, null);
  assert.equal((await run(json({ result: { text: "7" } }), "shaped")).context.status, "completed");
});

test("a_services_error_is_in_the_details", async () => {
  const { context } = await run(error(false), "once");
  assert.equal(context.error.details.code, "no_stock");
  const { context: refused } = await run(status(422, { why: ["because"] }), "once");
  assert.deepEqual(refused.error.details, { why: ["because"] });
});

test("a_result_may_be_any_json", async () => {
  for (const result of [null, false, 0, "", [], {}, "x".repeat(100_000)]) {
    const { context } = await run(json({ result }), "once");
    assert.equal(context.status, "completed");
    assert.deepEqual(context.result, result);
  }
});

test("an_address_where_nothing_listens_is_a_service_unavailable", async () => {
  const closed = createServer();
  await new Promise<void>((resolve) => closed.listen(0, "127.0.0.1", resolve));
  const { port } = closed.address() as { port: number };
  await new Promise((resolve) => closed.close(resolve));
  await register(
    gateway,
    "gone",
    serviceAt(`http://127.0.0.1:${port}/`, [{ name: "away", idempotent: true }, { name: "away-once" }]),
  );
  // The platform tells a refused connection no differently from a broken one: what is not idempotent may have arrived.
  for (const [capability, attempts] of [
    ["away", 3],
    ["away-once", 1],
  ] as const) {
    const { json: context } = await create(gateway, { capability });
    assert.equal(context.status, "failed");
    assert.equal(context.error.code, "service_unavailable");
    assert.equal(context.attempts.length, attempts, capability);
  }
});

test("another_service_that_offers_it_takes_over", async () => {
  const fallback = await startService();
  await register(gateway, "main", serviceAt(service.url, [{ name: "shared", idempotent: true }]));
  await register(gateway, "spare", serviceAt(fallback.url, [{ name: "shared", idempotent: true }], { tier: 1 }));
  const { context } = await run(status(502), "shared", { parameters: { a: 1 } });
  assert.deepEqual([context.status, context.service, context.result], ["completed", "spare", { a: 1 }]);
  assert.deepEqual(
    context.attempts.map((attempt: any) => attempt.service),
    ["main", "spare"],
  );
  await fallback.stop();
});

test("each_call_is_signed_by_standard_webhooks", async () => {
  const { signing_secret } = await register(
    gateway,
    "signed",
    serviceAt(service.url, [{ name: "signed", idempotent: true }]),
  );
  const key = Buffer.from(signing_secret.replace(/^whsec_/, ""), "base64");
  assert.ok(key.length >= 24 && key.length <= 64);
  const { context } = await run(inTurn(status(503), echo), "signed", { parameters: { text: "ключ 🔑" } });
  for (const { headers, raw, json: envelope, method } of service.calls.slice(-2)) {
    assert.equal(method, "POST");
    assert.equal(headers["webhook-id"], context.id);
    const timestamp = Number(headers["webhook-timestamp"]);
    assert.ok(Math.abs(Date.now() / 1000 - timestamp) < 30);
    const mac = createHmac("sha256", key).update(`${context.id}.${timestamp}.`).update(raw).digest();
    const [version, signature] = String(headers["webhook-signature"]).split(",");
    assert.equal(version, "v1");
    assert.ok(timingSafeEqual(Buffer.from(signature!, "base64"), mac));
    assert.equal(headers["idempotency-key"], context.id);
    assert.equal(headers["content-type"], "application/json");
    assert.deepEqual(envelope.parameters, { text: "ключ 🔑" });
    assert.deepEqual([envelope.context_id, envelope.capability, envelope.version], [context.id, "signed", "1.0.0"]);
    assert.equal(envelope.deadline, context.expires_at);
  }
});

test("nothing_of_the_callers_reaches_the_service", async () => {
  const caller = await makeKey(gateway, "caller");
  service.handler = echo;
  const headers = {
    cookie: "session=mine",
    "x-api-key": "mine",
    "x-request-id": "mine-1",
    "x-custom": "mine",
    forwarded: "for=mine",
    "cf-access-token": "mine",
  };
  const { json: context } = await create(
    gateway,
    { capability: "once", metadata: { note: "mine" } },
    { key: caller.secret, headers },
  );
  assert.equal(context.status, "completed");
  const call = service.calls.at(-1)!;
  for (const name of ["authorization", "cookie", "x-api-key", "x-custom", "forwarded", "x-request-id"]) {
    assert.equal(call.headers[name], undefined, name);
  }
  const seen = JSON.stringify(call.headers) + call.raw;
  for (const secret of [caller.secret, gateway.adminKey, "mine"]) assert.equal(seen.includes(secret), false);
  // The platform itself tells which Worker's zone calls.
  const revealing = Object.keys(call.headers).filter(
    (name) => /^(cf-|x-forwarded|x-real)/.test(name) && name !== "cf-worker",
  );
  assert.deepEqual(revealing, []);
});

test("a_services_credentials_are_sent_and_shown_nowhere", async () => {
  const secret = "Bearer s3cr3t-of-the-service-0123456789";
  const events = await openEvents(gateway, { query: { after: "0" } });
  const document = {
    ...serviceAt(service.url, [{ name: "guarded" }]),
    credentials: { header: "Authorization", value: secret },
  };
  const answers = [await gateway.request("PUT", "/v1/services/guarded", { body: document })];
  assert.equal(answers[0]!.status, 201);
  answers.push(await gateway.request("GET", "/v1/services/guarded"), await gateway.request("GET", "/v1/services"));
  answers.push(await gateway.request("GET", "/v1/capabilities"));
  service.handler = inTurn(echo, status(500), html, reset);
  for (let at = 0; at < 4; at++) {
    const answer = await create(gateway, { capability: "guarded" });
    assert.equal(service.calls.at(-1)!.headers.authorization, secret);
    answers.push(
      answer,
      await gateway.request("GET", `/v1/contexts/${answer.json.id}`),
      await gateway.request("GET", `/v1/contexts/${answer.json.id}/events`),
    );
  }
  const patched = await gateway.request("PATCH", "/v1/services/guarded", {
    headers: { "if-match": "*" },
    body: { description: "guarded" },
  });
  assert.equal(patched.status, 200);
  service.handler = echo;
  await create(gateway, { capability: "guarded" });
  assert.equal(service.calls.at(-1)!.headers.authorization, secret, "a patch of something else keeps them");
  const broken = { ...document, credentials: { header: "Host", value: secret, more: secret } };
  answers.push(
    patched,
    await gateway.request("PUT", "/v1/services/guarded", { headers: { "if-match": "*" }, body: broken }),
  );
  assert.equal(answers.at(-1)!.status, 422);
  await events.next((event) => event.type === "service.updated" && event.subject === "guarded");
  const shown = [
    ...answers.map(({ text, headers }) => text + JSON.stringify([...headers])),
    JSON.stringify(events.messages),
    ...gateway.logs,
  ];
  assert.ok(gateway.logs.length > 0);
  for (const text of shown) assert.equal(text.includes("s3cr3t-of"), false, text);
  events.close();
});

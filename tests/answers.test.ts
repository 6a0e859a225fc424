// Responses as services really send them: statuses of proxies, Retry-After, blemished JSON, errors in every form. Error
// details are kept, retryable calls are retried, and one caller's failures do not affect others.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accepted, type Capability, create, ended, eventually, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, type Handler, hang, inTurn, json, type Service, startService, status } from "./support/service.ts";

let gateway: Gateway;
const services: Service[] = [];

before(async () => {
  gateway = await startGateway();
});
after(async () => {
  await gateway?.stop();
  await Promise.all(services.map((service) => service.stop()));
});

let number = 0;

/**
 * A new service for each case, so that failures elsewhere have not opened its breaker. Returns its capability's name.
 */
async function serve(handler: Handler, capability: Capability = {}, more: object = {}) {
  const service = await startService(handler);
  services.push(service);
  const name = capability.name ?? `answers${++number}`;
  await register(gateway, `service${++number}`, serviceAt(service.url, [{ ...capability, name }], { ...more }));
  return { service, name };
}

const raw =
  (
    body: string | Buffer,
    headers: Record<string, string> = { "content-type": "application/json" },
    code = 200,
  ): Handler =>
  (_, response) =>
    void response.writeHead(code, headers).end(body);

async function run(
  handler: Handler,
  capability: Capability = { idempotent: true },
  body: object = {},
  more: object = {},
) {
  const { service, name } = await serve(handler, capability, more);
  const { json: context } = await create(
    gateway,
    { capability: name, timeout_seconds: 20, ...body },
    { headers: { prefer: "wait=60" } },
  );
  return { context, service, calls: service.calls.length };
}

const gap = ({ calls: [first, second] }: Service) => second!.at - first!.at;

// A call that did not arrive is retried always; one that may have arrived only if it is idempotent.
for (const [code, safe, once] of [
  [520, 2, 1],
  [521, 2, 2],
  [522, 2, 2],
  [523, 2, 2],
  [524, 2, 1],
  [525, 2, 2],
  [526, 2, 2],
  [527, 2, 1],
  [529, 2, 1],
  [530, 2, 2],
  [507, 2, 1],
  [599, 2, 1],
  [501, 1, 1],
  [402, 1, 1],
  [413, 1, 1],
  [418, 1, 1],
] as const) {
  test(`a_${code}_is_${safe === 1 ? "never_retried" : once === 1 ? "retried_if_idempotent" : "always_retried"}`, async () => {
    for (const [idempotent, calls] of [
      [true, safe],
      [false, once],
    ] as const) {
      const { context, ...seen } = await run(inTurn(status(code), echo), { idempotent });
      assert.deepEqual([seen.calls, context.status], [calls, calls === 2 ? "completed" : "failed"], `${idempotent}`);
      assert.equal(context.attempts[0].status_code, code);
    }
  });
}

test("a_503_states_by_its_body_or_retry_after_that_nothing_was_done", async () => {
  const retryable = { error: { code: "busy", message: "Later.", retryable: true } };
  for (const code of [503, 529]) {
    for (const [handler, calls] of [
      [status(code), 1],
      [status(code, undefined, { "retry-after": "0" }), 2],
      [status(code, undefined, { "retry-after": "later" }), 1],
      [status(code, retryable), 2],
      [status(code, { error: { ...retryable.error, retryable: false } }), 1],
      [status(code, { retryable: true }), 1],
    ] as const) {
      assert.equal((await run(inTurn(handler, echo), { idempotent: false })).calls, calls, `${code}`);
    }
  }
  const final = status(500, { error: { code: "no", message: "Never.", retryable: false } });
  assert.equal((await run(inTurn(final, echo))).calls, 1, "what has no hope is not repeated");
});

test("retry_after_is_read_in_all_its_forms", async () => {
  const ahead = (ms: number) => new Date(Date.now() + ms);
  const [days, months] = [
    "Sunday Monday Tuesday Wednesday Thursday Friday Saturday",
    "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
  ].map((names) => names.split(" "));
  const two = (value: number) => String(value).padStart(2, "0");
  const forms: ((at: Date) => string)[] = [
    (at) => at.toUTCString(),
    (at) =>
      `${days![at.getUTCDay()]}, ${two(at.getUTCDate())}-${months![at.getUTCMonth()]}-${two(at.getUTCFullYear() % 100)} ${at.toUTCString().slice(17, 25)} GMT`,
    (at) =>
      `${days![at.getUTCDay()]!.slice(0, 3)} ${months![at.getUTCMonth()]} ${String(at.getUTCDate()).padStart(2)} ${at.toUTCString().slice(17, 25)} ${at.getUTCFullYear()}`,
  ];
  const wait = (code: number, headers: () => Record<string, string>): Handler =>
    inTurn((call, response) => status(code, undefined, headers())(call, response), echo);
  // A date has whole seconds: rounding may have shortened the wait by up to one second.
  const cases: [Handler, number][] = [
    ...forms.map((form): [Handler, number] => [wait(503, () => ({ "retry-after": form(ahead(3000)) })), 1900]),
    [wait(429, () => ({ "retry-after": "1.5" })), 1490],
    [wait(429, () => ({ "retry-after-ms": "1200" })), 1190],
    [wait(500, () => ({ "retry-after": "20", "retry-after-ms": "1200" })), 1190],
    [wait(524, () => ({ "retry-after": "1" })), 990],
  ];
  await Promise.all(
    cases.map(async ([handler, least], at) => {
      const { context, service } = await run(handler, { idempotent: true }, { timeout_seconds: 30 });
      assert.equal(context.status, "completed", `${at}: ${JSON.stringify(context.error)}`);
      assert.ok(gap(service) >= least, `${at}: ${gap(service)} ms`);
    }),
  );
  for (const value of ["-5", "soon", "Sun, 31 Feb 2027 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "1e9"]) {
    const { context } = await run(inTurn(status(429, undefined, { "retry-after": value }), echo));
    assert.equal(context.status, "completed", value);
  }
  const late = await run(status(429, undefined, { "retry-after": "99999999999999999999999" }));
  assert.deepEqual([late.context.status, late.calls], ["failed", 1], "too large is very late, not now");
});

// One service fails; the other is called at once.
for (const [what, handler, idempotent] of [
  ["402", status(402, { error: { message: "no credit" } }), true],
  ["404", status(404, { error: { message: "unknown model" } }), true],
  ["401", status(401), true],
  ["a_redirect", status(302, undefined, { location: "/elsewhere" }), true],
  ["529", status(529, { error: { message: "too busy" } }), true],
  ["too_long", status(400, { error: { message: "too many tokens", code: "context_length_exceeded" } }), true],
  ["no_quota", status(429, { error: { message: "over it", code: "insufficient_quota" } }), false],
  ["retry_after_50", status(429, undefined, { "retry-after": "50" }), false],
  ["retry_after_of_a_year", status(503, undefined, { "retry-after": "31536000" }), false],
  ["521", status(521), false],
  ["a_web_page", raw("<html>", { "content-type": "text/html" }), true],
  ["broken_json", raw("{"), true],
] as [string, Handler, boolean][]) {
  test(`the_next_service_is_called_at_once_after_${what}`, async () => {
    const [first, second] = [await serve(handler, { idempotent }), await startService(echo)];
    services.push(second);
    const capability = { name: first.name, idempotent };
    await register(gateway, `${first.name}b`, serviceAt(second.url, [capability], { tier: 1 }));
    const began = Date.now();
    const body = { capability: first.name, timeout_seconds: 60, parameters: { a: 1 } };
    const { json: context } = await create(gateway, body, { headers: { prefer: "wait=90" } });
    assert.deepEqual([context.status, context.result], ["completed", { a: 1 }], JSON.stringify(context.error));
    assert.deepEqual([first.service.calls.length, second.calls.length], [1, 1]);
    assert.ok(Date.now() - began < 45_000, `${Date.now() - began} ms`);
  });
}

test("a_retry_after_is_remembered_for_its_service", async () => {
  const first = await serve(inTurn(status(429, undefined, { "retry-after": "4" }), echo), { idempotent: true });
  const second = await startService(status(429, undefined, { "retry-after": "60" }));
  services.push(second);
  await register(
    gateway,
    `${first.name}b`,
    serviceAt(second.url, [{ name: first.name, idempotent: true }], { tier: 1 }),
  );
  const { json: context } = await create(
    gateway,
    { capability: first.name, timeout_seconds: 50 },
    { headers: { prefer: "wait=45" } },
  );
  assert.equal(context.status, "completed", JSON.stringify(context.error));
  assert.deepEqual([first.service.calls.length, second.calls.length], [2, 1]);
  assert.ok(gap(first.service) >= 3900, `${gap(first.service)} ms`);
});

test("a_rejected_request_is_never_retried", async () => {
  const first = await serve(status(400, { error: { message: "the temperature is too high" } }), { idempotent: true });
  const second = await startService(echo);
  services.push(second);
  await register(
    gateway,
    `${first.name}b`,
    serviceAt(second.url, [{ name: first.name, idempotent: true }], { tier: 1 }),
  );
  const { json: context } = await create(gateway, { capability: first.name });
  assert.deepEqual([context.status, second.calls.length], ["failed", 0]);
});

test("a_service_that_never_responds_leaves_time_for_another", async () => {
  const first = await serve(hang, { idempotent: true });
  const second = await startService(echo);
  services.push(second);
  await register(
    gateway,
    `${first.name}b`,
    serviceAt(second.url, [{ name: first.name, idempotent: true }], { tier: 1 }),
  );
  const body = { capability: first.name, timeout_seconds: 12, parameters: { a: 1 } };
  const { json: context } = await create(gateway, body, { headers: { prefer: "wait=60" } });
  assert.deepEqual([context.status, context.result], ["completed", { a: 1 }], JSON.stringify(context.error));
  assert.deepEqual(
    context.attempts.map(({ outcome, code }: any) => [outcome, code ?? null]),
    [
      ["timed_out", "upstream_timeout"],
      ["succeeded", null],
    ],
  );
  assert.ok(first.service.calls.length === 1 && second.calls.length === 1);
});

// Lenient parsing of JSON that most clients accept.
for (const [what, handler, result] of [
  ["plain_text", raw('{"result":1}', { "content-type": "text/plain; charset=utf-8" }), 1],
  ["no_media_type", raw('{"result":1}', {}), 1],
  ["a_vendor_media_type", raw('{"result":1}', { "content-type": "application/vnd.printer.v2+json" }), 1],
  ["problem_json", raw('{"result":1}', { "content-type": "application/problem+json" }), 1],
  ["a_byte_order_mark", raw('\ufeff{"result":1}'), 1],
  ["a_duplicate_member", raw('{"result":{"a":1,"b":2,"a":3},"x":1,"x":2}'), { b: 2, a: 3 }],
  ["half_a_character", raw('{"result":"cut \\ud83d"}'), "cut \ufffd"],
  ["bytes_that_are_not_utf_8", raw(Buffer.from('{"result":"caf\xe9"}', "latin1")), "caf\ufffd"],
  ["a_raw_newline_in_a_string", raw('{"result":"a\nb"}'), "a\nb"],
] as [string, Handler, unknown][]) {
  test(`${what}_does_not_invalidate_the_response`, async () => {
    const { context } = await run(handler);
    assert.deepEqual([context.status, context.result], ["completed", result], JSON.stringify(context.error));
    assert.deepEqual((await gateway.request("GET", `/v1/contexts/${context.id}`)).json.result, result);
  });
}

test("a_callback_is_parsed_like_a_response", async () => {
  let url = "";
  const { name } = await serve((call, response) => {
    url = call.json.callback_url;
    status(202)(call, response);
  });
  const { id } = await accepted(gateway, { capability: name });
  await eventually(() => url);
  const body = '\ufeff{"result":"cut \\ud83d","result":"cut \\ude00"}';
  const said = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body });
  assert.equal(said.status, 200, await said.text());
  assert.equal((await ended(gateway, id)).result, "cut \ufffd");
  // Requests of callers are parsed strictly.
  const headers = { "content-type": "application/json" };
  const asked = await gateway.request("POST", "/v1/contexts", {
    body: `{"capability":"${name}","capability":"${name}"}`,
    headers,
  });
  assert.equal(asked.status, 400, asked.text);
});

// A service's description of its failure, in any form, is in the message and in the details.
for (const [what, handler, message, details] of [
  [
    "a_page",
    raw("<html><title>502 Bad Gateway</title></html>", { "content-type": "text/html" }, 400),
    "502 Bad Gateway",
    "<html><title>502 Bad Gateway</title></html>",
  ],
  [
    "a_text",
    raw("the prompt has 5000 tokens, 4096 fit", { "content-type": "text/plain" }, 400),
    "4096 fit",
    "the prompt has 5000 tokens, 4096 fit",
  ],
  [
    "json_rpc",
    json({ error: { code: -32000, message: "out of paper" } }),
    "out of paper",
    { code: -32000, message: "out of paper" },
  ],
  [
    "json_rpc_with_a_status",
    json({ error: { code: -32000, message: "out of paper" } }, 400),
    "out of paper",
    { error: { code: -32000, message: "out of paper" } },
  ],
  ["a_bare_error", json({ error: "out of paper" }), "out of paper", "out of paper"],
  [
    "fastapi",
    json({ detail: [{ loc: ["body"], msg: "field required" }] }, 422),
    "field required",
    { detail: [{ loc: ["body"], msg: "field required" }] },
  ],
  [
    "a_problem",
    json({ title: "No paper", detail: "Tray 2 is empty." }, 409),
    "Tray 2 is empty.",
    { title: "No paper", detail: "Tray 2 is empty." },
  ],
  [
    "control_characters",
    raw("forged\r\n\u0000line", { "content-type": "text/plain" }, 400),
    "forged line",
    "forged\nline",
  ],
] as [string, Handler, string, unknown][]) {
  test(`an_error_as_${what}_is_reported`, async () => {
    const { context } = await run(handler);
    assert.deepEqual([context.status, context.error.code], ["failed", "upstream_error"], JSON.stringify(context.error));
    assert.ok(context.error.message.includes(message), context.error.message);
    assert.deepEqual(context.error.details, details);
  });
}

test("an_error_is_kept_up_to_4_kib_without_waiting_for_its_end", async () => {
  const large = await run(raw("é".repeat(100_000), { "content-type": "text/plain" }, 400));
  assert.equal(large.context.error.details, "é".repeat(2048));
  const drips: Handler = (_, response) => {
    response.writeHead(422, { "content-type": "text/plain" });
    response.write("it continues");
    const timer = setInterval(() => response.write("."), 100);
    response.on("close", () => clearInterval(timer));
  };
  const { context } = await run(drips);
  assert.equal(context.error.code, "upstream_error", JSON.stringify(context.error));
  assert.match(context.error.details, /^it continues/);
  assert.ok(Date.parse(context.updated_at) < Date.parse(context.expires_at), JSON.stringify(context.history));
  const breaks: Handler = (_, response) => {
    response.writeHead(422, { "content-type": "text/plain", "content-length": "1000" });
    response.write("half of", () => response.destroy());
  };
  assert.equal((await run(breaks)).context.attempts[0].status_code, 422, "a status that has come is an answer");
});

test("credentials_that_an_error_repeats_at_its_truncation_are_withheld", async () => {
  const credentials = { header: "Authorization", value: "Bearer s3cr3t-that-is-shown-again" };
  for (const before of [0, 985, 4070]) {
    const words = `${"x".repeat(before)} ${credentials.value} ${"y".repeat(5000)}`;
    const { context } = await run(raw(words, { "content-type": "text/plain" }, 400), {}, {}, { credentials });
    assert.equal(JSON.stringify(context).includes("s3cr3t-t"), false, `${before}`);
    assert.match(context.error.message, /contains its credentials and is omitted/);
  }
});

// A caller may influence the response through its parameters, so the response must not block the service for others.
test("no_response_that_a_caller_can_provoke_blocks_the_service_for_others", async () => {
  const poison: Record<string, Handler> = {
    broken: raw("{"),
    deep: raw(`{"result":${"[".repeat(100)}${"]".repeat(100)}}`),
    mismatch: json({ result: { text: 7 } }),
    nothing: json({}),
    empty: raw("", {}),
    declared: (_, response) =>
      void response.writeHead(200, { "content-type": "application/json", "content-length": "99999999" }).write("{"),
    no_content: status(204),
    error: json({ error: { code: "x", message: "y" } }),
    refused: status(422),
    unpaid: status(402),
    slow_down: status(429, undefined, { "retry-after": "30" }),
    late: hang,
  };
  const capability = { output_schema: { type: "object", properties: { text: { type: "string" } } } };
  const { service, name } = await serve(
    (call, response) => (poison[call.json.parameters.how] ?? echo)(call, response),
    capability,
  );
  for (const how of Object.keys(poison)) {
    const body = { capability: name, parameters: { how }, timeout_seconds: how === "late" ? 1 : 10 };
    const answers = await Promise.all(Array.from({ length: 12 }, () => create(gateway, body)));
    assert.ok(
      answers.every(({ json }) => json.status !== "completed"),
      how,
    );
    const { json: context } = await create(gateway, { capability: name, parameters: { text: "well" } });
    assert.deepEqual(
      [context.status, context.result],
      ["completed", { text: "well" }],
      `${how}: ${JSON.stringify(context.error)}`,
    );
  }
  const { json: seen } = await gateway.request(
    "GET",
    `/v1/services/${(await create(gateway, { capability: name, parameters: {} })).json.service}`,
  );
  assert.deepEqual([seen.breaker.state, seen.status], ["closed", "online"]);
  assert.ok(service.calls.length > 100);
});

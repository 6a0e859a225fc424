// Requests of clients, and the errors for invalid ones: bodies, sizes, headers, paths.
import assert from "node:assert/strict";
import { request as open } from "node:http";
import { after, before, test } from "node:test";
import { create, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { type Answer, type Gateway, startGateway } from "./support/gateway.ts";
import { type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;

const schema = {
  type: "object",
  required: ["prompt"],
  additionalProperties: false,
  properties: {
    prompt: { type: "string", minLength: 1 },
    options: { type: "array", items: { type: "object", properties: { n: { type: "integer", maximum: 9 } } } },
    "a/b~c": { type: "boolean" },
  },
};

before(async () => {
  gateway = await startGateway();
  service = await startService();
  await register(gateway, "worker", serviceAt(service.url, [{}, { name: "strict", input_schema: schema }]));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

/** Sends a raw body. */
const raw = (body: string | Uint8Array, contentType = "application/json"): Promise<Answer> =>
  gateway.request("POST", "/v1/contexts", { body, headers: { "content-type": contentType } });

/** `{"capability":"work","parameters":…}` with raw parameters. */
const withParameters = (text: string) => raw(`{"capability":"work","parameters":${text}}`);

for (const [what, body, pointer] of [
  ["nothing", "", "#"],
  ["no_json", "capability=work", "#"],
  ["an_object_that_does_not_end", '{"capability":"work"', undefined],
  ["something_after_the_end", '{"capability":"work"} {}', undefined],
  ["a_trailing_comma", '{"capability":"work",}', undefined],
  ["single_quotes", "{'capability':'work'}", undefined],
  ["a_comment", '{"capability":"work"/*why*/}', undefined],
  ["NaN", '{"capability":"work","parameters":{"n":NaN}}', "#/parameters/n"],
  ["a_number_with_a_leading_zero", '{"capability":"work","parameters":{"n":01}}', "#/parameters/n"],
  ["a_number_beyond_a_double", '{"capability":"work","parameters":[1,1e999]}', "#/parameters/1"],
  ["an_integer_of_400_digits", `{"capability":"work","parameters":${"9".repeat(400)}}`, "#/parameters"],
  ["a_NUL_byte", '{"capability":"work"\0}', undefined],
  ["a_NUL_byte_in_a_string", '{"capability":"wo\0rk"}', undefined],
  ["a_raw_line_break_in_a_string", '{"capability":"work","metadata":{"a":"b\nc"}}', "#/metadata/a"],
  ["a_lone_high_surrogate", '{"capability":"work","parameters":{"a":"\\ud800"}}', "#/parameters/a"],
  ["a_lone_low_surrogate", '{"capability":"work","parameters":{"a":"\\udc00x"}}', "#/parameters/a"],
  ["a_lone_surrogate_in_a_name", '{"capability":"work","parameters":{"\\udfff":1}}', undefined],
  ["a_member_named_twice", '{"capability":"work","capability":"work"}', "#/capability"],
  ["a_member_named_twice_by_an_escape", '{"capability":"work","parameters":{"a":1,"\\u0061":2}}', "#/parameters/a"],
  [
    "a_member_named_twice_far_apart",
    `{"capability":"work","parameters":{${Array.from({ length: 40 }, (_, at) => `"k${at}":0,`).join("")}"k3":1}}`,
    "#/parameters/k3",
  ],
  ["a_depth_of_1000", `{"capability":"work","parameters":${"[".repeat(1000)}${"]".repeat(1000)}}`, undefined],
  ["a_depth_of_100_000_that_does_not_end", `{"capability":"work","parameters":${'{"a":'.repeat(100_000)}`, undefined],
  ["bytes_that_are_no_UTF_8", Buffer.from([...Buffer.from('{"capability":"w'), 0xc3, 0x28, ...Buffer.from('"}')]), "#"],
  [
    "a_surrogate_in_UTF_8",
    Buffer.from([...Buffer.from('{"capability":"w'), 0xed, 0xa0, 0x80, ...Buffer.from('"}')]),
    "#",
  ],
  ["UTF_16", Buffer.from('{"capability":"work"}', "utf16le"), undefined],
] as [string, string | Buffer, string | undefined][]) {
  test(`a_body_with_${what}_is_invalid_json`, async () => {
    const problem = refused(await raw(body), 400, "invalid_json");
    assert.equal(problem.errors.length, 1);
    if (pointer !== undefined) assert.equal(problem.errors[0].pointer, pointer, problem.detail);
  });
}

test("every_fault_of_a_body_is_reported_and_unknown_members_by_name", async () => {
  const answer = await create(gateway, {
    capability: "",
    service: "No Such",
    version: "one",
    priority: "urgent",
    timeout_seconds: 0,
    source: "me",
    metadata: [],
    run_at: "soon",
    more: 1,
    "a/b~c": 1,
  });
  const all = [
    "#/a~1b~0c",
    "#/capability",
    "#/metadata",
    "#/more",
    "#/priority",
    "#/run_at",
    "#/service",
    "#/source",
    "#/timeout_seconds",
    "#/version",
  ];
  const problem = refused(answer, 422, "validation_failed");
  assert.deepEqual(pointers(problem), all);
  for (const { detail } of problem.errors) assert.ok(detail.length > 5, detail);
});

for (const [member, values] of Object.entries({
  capability: [1, null, [], {}, "no such", "a".repeat(65), "../etc", "a\u0000", "work\n"],
  service: [1, {}, "A", "a".repeat(65), "unknown"],
  version: [1, "latest", "1.2.3.4", {}],
  priority: [0, "HIGH", []],
  source: [true, "cron"],
  timeout_seconds: ["60", 0, -1, 1.5, 86_401, 1e30, true, 61],
  metadata: ["text", 1, []],
  run_at: [1_700_000_000, "2026-12-01", "2026-02-30T00:00:00Z", "2026-12-01T00:00:00"],
})) {
  test(`a_wrong_${member}_is_reported_with_its_pointer`, async () => {
    for (const value of values) {
      const problem = refused(await create(gateway, { [member]: value }), 422, "validation_failed");
      assert.deepEqual(pointers(problem), [`#/${member}`], JSON.stringify(value));
    }
  });
}

test("a_body_that_is_not_an_object_is_reported", async () => {
  for (const body of ["[]", '"work"', "1", "null", "true"]) {
    assert.deepEqual(pointers(refused(await raw(body), 422, "validation_failed")), ["#"], body);
  }
  assert.deepEqual(pointers(refused(await raw("{}"), 422, "validation_failed")), ["#/capability"]);
});

test("all_schema_faults_of_parameters_are_reported_with_their_pointers", async () => {
  const parameters = { options: [{ n: 1 }, { n: 10 }, 3], "a/b~c": "yes", extra: 1 };
  const problem = refused(await create(gateway, { capability: "strict", parameters }), 422, "validation_failed");
  const found = pointers(problem);
  assert.deepEqual(
    found.filter((pointer) => pointer !== "#/parameters"),
    ["#/parameters/a~1b~0c", "#/parameters/extra", "#/parameters/options/1/n", "#/parameters/options/2"],
  );
  const missing = problem.errors.find(({ pointer }: any) => pointer === "#/parameters");
  assert.match(missing.detail, /prompt/);
  assert.deepEqual(pointers(refused(await create(gateway, { capability: "strict" }), 422, "validation_failed")), [
    "#/parameters",
  ]);
  assert.equal((await create(gateway, { capability: "strict", parameters: { prompt: "x" } })).status, 200);
});

for (const [what, text] of [
  ["an_escaped_NUL", '{"a":"b\\u0000c","\\u0000":1}'],
  [
    "names_that_mean_something_in_JavaScript",
    '{"__proto__":{"admin":true},"constructor":1,"toString":null,"hasOwnProperty":2}',
  ],
  ["numbers_that_no_double_holds", "[12345678901234567890123, 1.0, 1e2, -0.0, 0.1000000000000000055511151231257827]"],
  ["the_largest_double", "[1.7976931348623157e308]"],
  ["all_of_Unicode", '"\u007f\u0080\ud7ff\ue000\ufffd\ud83d\ude00\u202e\\ud83d\\ude00"'],
  ["a_depth_of_60", `${"[".repeat(60)}${"]".repeat(60)}`],
  ["an_empty_name", '{"":{"":[]}}'],
  ["nothing_but_null", "null"],
] as const) {
  test(`parameters_with_${what}_go_through_byte_for_byte`, async () => {
    const calls = service.calls.length;
    const answer = await withParameters(text);
    assert.equal(answer.status, 200, answer.text);
    assert.equal(answer.json.status, "completed", answer.text);
    const call = await service.call(calls);
    assert.ok(call.raw.toString().includes(`"parameters":${text}`), call.raw.toString());
    const stored = await gateway.request("GET", `/v1/contexts/${answer.json.id}`);
    assert.ok(stored.text.includes(`"parameters":${text}`), stored.text);
  });
}

test("parameters_and_metadata_are_accepted_up_to_their_size_limits", async () => {
  const text = (bytes: number) => "x".repeat(bytes - 2);
  assert.equal((await create(gateway, { parameters: text(256 * 1024) })).json.status, "completed");
  const large = refused(await create(gateway, { parameters: text(256 * 1024 + 1) }), 422, "validation_failed");
  assert.deepEqual(pointers(large), ["#/parameters"]);
  const metadata = (bytes: number) => ({ a: "x".repeat(bytes - '{"a":""}'.length) });
  assert.equal((await create(gateway, { metadata: metadata(8 * 1024) })).status, 200);
  const long = refused(await create(gateway, { metadata: metadata(8 * 1024 + 1) }), 422, "validation_failed");
  assert.deepEqual(pointers(long), ["#/metadata"]);
});

/** Sends a body as fast as possible; returns the response, which may arrive before the body's end. */
async function send(
  headers: Record<string, string>,
  pieces: () => Iterable<Buffer>,
): Promise<{ status: number; body: any }> {
  for (let tries = 1; ; tries++) {
    try {
      return await sendOnce(headers, pieces());
    } catch (error) {
      // The platform closes the connection of an unwanted body: a client that is still writing may not read the
      // response.
      if (tries === 10) throw error;
    }
  }
}

function sendOnce(headers: Record<string, string>, pieces: Iterable<Buffer>): Promise<{ status: number; body: any }> {
  return new Promise((resolve, reject) => {
    const options = {
      method: "POST",
      agent: false,
      headers: { authorization: `Bearer ${gateway.adminKey}`, "content-type": "application/json", ...headers },
    };
    const outgoing = open(`${gateway.url}/v1/contexts`, options, async (incoming) => {
      let text = "";
      for await (const chunk of incoming) text += chunk;
      outgoing.destroy();
      resolve({ status: incoming.statusCode ?? 0, body: JSON.parse(text) });
    });
    outgoing.on("error", reject);
    const iterator = pieces[Symbol.iterator]();
    const more = () => {
      for (;;) {
        const { done, value } = iterator.next();
        if (done) return void outgoing.end();
        if (outgoing.destroyed) return;
        if (!outgoing.write(value)) return void outgoing.once("drain", more);
      }
    };
    more();
  });
}

const mebibyte = Buffer.alloc(1024 * 1024, " ");

test("a_body_of_two_mebibytes_is_refused_quickly_with_and_without_a_length", { timeout: 25_000 }, async () => {
  for (const headers of [{ "content-length": String(2 * mebibyte.length) }, {}] as Record<string, string>[]) {
    const { status, body } = await send(headers, () => [mebibyte, mebibyte]);
    assert.equal(status, 413);
    assert.equal(body.code, "payload_too_large");
    assert.ok(body.request_id);
  }
});

test("a_body_without_end_is_refused_without_waiting_for_it", { timeout: 25_000 }, async () => {
  const endless = function* () {
    for (;;) yield mebibyte.subarray(0, 64 * 1024);
  };
  assert.equal((await send({}, endless)).status, 413);
  // Announced, but never sent.
  assert.equal((await send({ "content-length": String(1024 ** 4) }, () => [mebibyte.subarray(0, 1024)])).status, 413);
});

test("a_body_of_exactly_one_mebibyte_is_read", async () => {
  const body = Buffer.concat([Buffer.from('{"capability":"work"}'), mebibyte]).subarray(0, mebibyte.length);
  assert.equal((await raw(body)).status, 200);
  assert.equal((await send({}, () => [body])).status, 200);
});

test("only_json_is_a_body", async () => {
  for (const type of [
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/xml",
    "text/json",
    "json",
    "application/jsonx",
  ]) {
    const answer = await raw('{"capability":"work"}', type);
    refused(answer, 415, "unsupported_media_type");
    assert.equal(answer.headers.get("accept"), "application/json");
  }
  refused(await gateway.request("POST", "/v1/contexts"), 415, "unsupported_media_type");
  for (const type of ["application/json", "Application/JSON; charset=utf-8", "application/vnd.acme+json"]) {
    assert.equal((await raw('{"capability":"work"}', type)).status, 200, type);
  }
});

test("unknown_paths_are_404_problems", async () => {
  const id = (await create(gateway)).json.id as string;
  for (const path of [
    "/v1",
    "/v1/",
    "/v1/nothing",
    "/v1/contexts/",
    `/v1/contexts/${id}/`,
    `/v1/contexts/${id}/nothing`,
    "/nothing",
    "/health/",
    "//v1/contexts",
    "/V1/contexts",
    "/v1/contexts/%00",
    "/v1/contexts/%2e%2e",
    `/v1/contexts/${id.toUpperCase()}`,
    `/v1/contexts/${"x".repeat(8000)}`,
    "/v1/services/%f0%9f%98%80",
    `/v1/keys/${"y".repeat(3000)}`,
    "/panic/worker",
    "/v1/costs",
    "/v1/contexts/__proto__",
    "/v1/services/constructor",
  ]) {
    refused(await gateway.request("GET", path), 404, "not_found");
  }
});

test("a_known_path_lists_its_methods", async () => {
  for (const [method, path, allowed] of [
    ["PUT", "/v1/contexts", ["GET", "HEAD", "POST"]],
    ["DELETE", "/v1/contexts", ["GET", "HEAD", "POST"]],
    ["POST", "/v1/contexts/ctx_1", ["GET", "HEAD"]],
    ["GET", "/v1/contexts/ctx_1/cancel", ["POST"]],
    ["POST", "/v1/services", ["GET", "HEAD"]],
    ["POST", "/v1/services/worker", ["GET", "HEAD", "PUT", "PATCH", "DELETE"]],
    ["PUT", "/v1/keys", ["GET", "HEAD", "POST"]],
    ["GET", "/v1/tickets", ["POST"]],
    ["POST", "/v1/whoami", ["GET", "HEAD"]],
    ["POST", "/health", ["GET", "HEAD"]],
    ["DELETE", "/openapi.json", ["GET", "HEAD"]],
  ] as const) {
    const answer = await gateway.request(method, path);
    refused(answer, 405, "method_not_allowed");
    assert.deepEqual(answer.headers.get("allow")?.split(", "), allowed, `${method} ${path}`);
  }
});

test("headers_beyond_32_KiB_are_refused", async () => {
  refused(
    await gateway.request("GET", "/v1/whoami", { headers: { "x-long": "a".repeat(33 * 1024) } }),
    431,
    "header_too_large",
  );
  const many = Object.fromEntries(Array.from({ length: 90 }, (_, at) => [`x-${at}`, "b".repeat(380)]));
  refused(await gateway.request("GET", "/health", { headers: many }), 431, "header_too_large");
  assert.equal(
    (await gateway.request("GET", "/v1/whoami", { headers: { "x-long": "a".repeat(31 * 1024) } })).status,
    200,
  );
});

test("unknown_query_parameters_are_refused_by_name", async () => {
  for (const path of ["/v1/contexts", "/v1/services", "/v1/capabilities", "/v1/keys"]) {
    const problem = refused(await gateway.request("GET", `${path}?colour=red&%00=1`), 422, "validation_failed");
    assert.deepEqual(pointers(problem), ["?\u0000", "?colour"], path);
  }
});

test("every_priority_and_source_is_accepted_and_echoed", async () => {
  for (const priority of ["low", "normal", "high", "critical"]) {
    assert.equal((await create(gateway, { priority })).json.priority, priority);
  }
  for (const source of ["user", "system", "service", "scheduled"]) {
    assert.equal((await create(gateway, { source })).json.source, source);
  }
  const { json: plain } = await create(gateway);
  assert.deepEqual([plain.priority, plain.source, plain.metadata], ["normal", "user", null]);
});

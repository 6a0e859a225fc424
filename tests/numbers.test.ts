// JSON as it is written: numbers as decimals, documents byte for byte, schemas of each draft, formats.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { startGateway, type Gateway } from "./support/gateway.ts";
import { echo, json, startService, type Service } from "./support/service.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway();
  service = await startService();
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const text = { "content-type": "application/json" };
const put = (id: string, capabilities: string, more = "") =>
  gateway.request("PUT", `/v1/services/${id}`, {
    body: `{"name":"Of numbers","type":"tool","transport":{"kind":"http","url":"${service.url}"},"capabilities":[${capabilities}]${more}}`,
    headers: text,
  });
const registered = async (id: string, capabilities: string, more = "") => {
  const answer = await put(id, capabilities, more);
  assert.equal(answer.status, 201, answer.text);
};
const create = (body: string, headers: Record<string, string> = {}) =>
  gateway.request("POST", "/v1/contexts", { body, headers: { ...text, ...headers } });

const SCHEMA =
  '{"type":"object","properties":{"zulu":{"type":"integer","maximum":123456789012345678901},"alpha":{"type":"string","examples":["\\u0061"]}},"required":["zulu"]}';
const METADATA = '{"order":["z"],"z":1,"a":12345678901234567890123,"price":1.10,"e":1e2}';

test("a_patch_preserves_unnamed_members_byte_for_byte", async () => {
  await registered(
    "kept-bytes",
    `{"name":"bytes","input_schema":${SCHEMA},"output_schema":${SCHEMA}}`,
    `,"metadata":${METADATA}`,
  );
  const holds = (answer: { text: string }) => {
    assert.ok(answer.text.includes(`"input_schema":${SCHEMA}`), answer.text);
    assert.ok(answer.text.includes(`"output_schema":${SCHEMA}`), answer.text);
    return answer.text;
  };
  assert.ok(holds(await gateway.request("GET", "/v1/services/kept-bytes")).includes(`"metadata":${METADATA}`));
  const patch = (body: string) =>
    gateway.request("PATCH", "/v1/services/kept-bytes", { body, headers: { ...text, "if-match": "*" } });
  const patched = await patch('{"weight":2}');
  assert.equal(patched.status, 200, patched.text);
  for (const answer of [patched, await gateway.request("GET", "/v1/services/kept-bytes")]) {
    assert.ok(holds(answer).includes(`"metadata":${METADATA}`), answer.text);
  }
  holds(await gateway.request("GET", "/v1/capabilities"));
  const tools = await gateway.request("POST", "/mcp", {
    body: '{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}',
    headers: {
      ...text,
      accept: "application/json, text/event-stream",
      "mcp-protocol-version": "2026-07-28",
      "mcp-method": "tools/list",
    },
  });
  assert.ok(tools.text.includes(`"inputSchema":${SCHEMA}`), tools.text);
  // The audit log distinguishes two such numbers.
  await patch('{"metadata":{"a":12345678901234567890124}}');
  const { changes } = (await gateway.request("GET", "/v1/audit?limit=1")).json.data[0];
  assert.deepEqual(
    [changes.metadata.from.a, changes.metadata.to.a],
    ["12345678901234567890123", "12345678901234567890124"],
  );
  await patch('{"metadata":{"a":12345678901234567890123}}');
  // Within a named member, too.
  const inner = await patch('{"metadata":{"z":null,"new":{"b":1.0,"a":2}}}');
  assert.ok(
    inner.text.includes(
      '"metadata":{"order":["z"],"a":12345678901234567890123,"price":1.10,"e":1e2,"new":{"b":1.0,"a":2}}',
    ),
    inner.text,
  );
});

test("a_number_that_is_not_named_again_reaches_the_service_as_it_was_sent", async () => {
  await registered("raw-numbers", '{"name":"raw"}');
  const parameters = '{"z":1.10,"a":123456789012345678901,"m":{"y":1e2,"b":0.1234567890123456781}}';
  const first = await create(`{"capability":"raw","parameters":${parameters}}`);
  assert.equal(first.json.status, "completed", first.text);
  assert.ok(service.calls.at(-1)!.raw.toString().includes(parameters));
  await gateway.request("POST", `/v1/contexts/${first.json.id}/replay`, { headers: { prefer: "wait=10" } });
  assert.equal(service.calls.filter((call) => call.raw.toString().includes(parameters)).length, 2);
  const scheduled = await gateway.request("PUT", "/v1/schedules/raw-numbers", {
    body: `{"cron":"0 0 1 1 *","context":{"capability":"raw","parameters":${parameters}}}`,
    headers: text,
  });
  assert.equal(scheduled.status, 201, scheduled.text);
  assert.ok((await gateway.request("GET", "/v1/schedules/raw-numbers")).text.includes(parameters));
});

test("bodies_differ_where_their_decimals_do", async () => {
  await registered("decimals", '{"name":"apart"}');
  const body = (n: string) => `{"capability":"apart","parameters":{"n":${n}}}`;
  for (const [one, other, same] of [
    ["92233720368547758081", "92233720368547758082", false],
    ["0.1234567890123456781", "0.1234567890123456782", false],
    ["9007199254740993", "9007199254740992.0", false],
    ["1.0", "1", true],
    ["1e2", "100", true],
    ["0.10", "0.1", true],
  ] as const) {
    const headers = { "idempotency-key": randomUUID() };
    assert.equal((await create(body(one), headers)).status, 200);
    const again = await create(body(other), headers);
    assert.equal(again.status, same ? 200 : 422, `${one} ${other}: ${again.text}`);
    if (!same) assert.equal(again.json.code, "idempotency_key_reused");
  }
});

test("parameters_and_results_are_checked_as_decimals", async () => {
  const schema =
    '{"type":"object","properties":{"n":{"multipleOf":0.01},"below":{"exclusiveMaximum":1},"i":{"type":"integer","maximum":9007199254740992},"one":{"enum":[1,92233720368547758081]},"u":{"uniqueItems":true},"long":{"maxLength":4294967296}}}';
  await registered("exact", `{"name":"exact","input_schema":${schema},"output_schema":${schema}}`);
  const ask = (parameters: string) => create(`{"capability":"exact","parameters":${parameters}}`);
  for (const good of [
    '{"n":19.99}',
    '{"n":4.35}',
    '{"n":0.07}',
    '{"below":0.9999999999999999}',
    '{"below":0.99999999999999999999}',
    '{"i":1e3}',
    '{"one":1.0}',
    '{"u":[92233720368547758081,92233720368547758082]}',
    '{"long":"text"}',
  ]) {
    service.handler = (call, response) => void response.writeHead(200, text).end(`{"result":${good}}`);
    const answer = await ask(good);
    assert.equal(answer.json.status, "completed", `${good}: ${answer.text}`);
    assert.ok(answer.text.includes(`"result":${good}`), answer.text);
  }
  for (const [bad, pointer] of [
    ['{"n":0.001}', "n"],
    ['{"below":1.0}', "below"],
    ['{"i":9007199254740993}', "i"],
    ['{"one":92233720368547758082}', "one"],
    ['{"u":[1,1.0]}', "u"],
  ]) {
    const answer = await ask(bad!);
    assert.deepEqual(
      [answer.status, answer.json.errors?.map((fault: any) => fault.pointer)],
      [422, [`#/parameters/${pointer}`]],
      answer.text,
    );
    service.handler = (call, response) => void response.writeHead(200, text).end(`{"result":${bad}}`);
    assert.equal((await ask("{}")).json.error.code, "upstream_invalid_response");
  }
  service.handler = echo;
});

test("schemas_are_read_by_the_rules_of_their_draft", async () => {
  const beside =
    '"type":"object","properties":{"a":{"$ref":"#/definitions/A","maxLength":3}},"required":["a"],"definitions":{"A":{"type":"string"}}';
  await registered(
    "drafts",
    `{"name":"seven","input_schema":{"$schema":"http://json-schema.org/draft-07/schema#",${beside}}},{"name":"newest","input_schema":{${beside}}},{"name":"four","input_schema":{"$schema":"http://json-schema.org/draft-04/schema#","properties":{"n":{"maximum":3,"exclusiveMaximum":true}}}}`,
  );
  const status = async (capability: string, parameters: object) =>
    (await create(JSON.stringify({ capability, parameters }))).status;
  assert.equal(await status("seven", { a: "long text" }), 200);
  assert.equal(await status("seven", {}), 422);
  assert.equal(await status("newest", { a: "long text" }), 422);
  assert.deepEqual([await status("four", { n: 3 }), await status("four", { n: 2.9 })], [422, 200]);
  const unknown = await put("unknown-draft", '{"name":"unknown","input_schema":{"$schema":"https://acme.com/meta"}}');
  assert.equal(unknown.status, 422);
  assert.equal(unknown.json.errors[0].pointer, "#/capabilities/0/input_schema/$schema");
  for (const draft of ["draft-04", "draft-06", "draft-07", "2019-09", "2020-12"])
    assert.ok(unknown.json.errors[0].detail.includes(draft), unknown.text);
});

test("formats_are_checked_where_a_capability_says_so", async () => {
  const schema = '{"type":"object","properties":{"at":{"type":"string","format":"date-time"}}}';
  const both = `"input_schema":${schema},"output_schema":${schema}`;
  await registered("forms", `{"name":"strict","format":"assert",${both}},{"name":"loose",${both}}`);
  const shown = (await gateway.request("GET", "/v1/services/forms")).json.capabilities.map((one: any) => one.format);
  assert.deepEqual(shown, ["assert", undefined]);
  const ask = (capability: string, at: string) => create(JSON.stringify({ capability, parameters: { at } }));
  const refused = await ask("strict", "tomorrow");
  assert.deepEqual([refused.status, refused.json.errors[0].pointer], [422, "#/parameters/at"], refused.text);
  assert.equal((await ask("strict", "2026-12-01T08:30:00Z")).json.status, "completed");
  assert.equal((await ask("loose", "tomorrow")).json.status, "completed");
  service.handler = json({ result: { at: "tomorrow" } });
  assert.equal((await ask("strict", "2026-12-01T08:30:00Z")).json.error.code, "upstream_invalid_response");
  assert.equal((await ask("loose", "2026-12-01T08:30:00Z")).json.status, "completed");
  service.handler = echo;
  const patched = await gateway.request("PATCH", "/v1/services/forms", {
    body: '{"weight":3}',
    headers: { ...text, "if-match": "*" },
  });
  assert.equal(patched.json.capabilities[0].format, "assert");
  const wrong = await put("forms-wrong", '{"name":"x","format":"maybe"}');
  assert.equal(wrong.json.errors[0].pointer, "#/capabilities/0/format");
});

test("a_schema_of_six_thousand_strings_is_accepted_and_applied", async () => {
  const texts = Array.from({ length: 6000 }, (_, n) => `choice ${String(n).padStart(6, "0")}`);
  await registered(
    "choices",
    JSON.stringify({ name: "choose", input_schema: { type: "object", properties: { one: { enum: texts } } } }),
  );
  const ask = (one: string) => create(JSON.stringify({ capability: "choose", parameters: { one } }));
  assert.equal((await ask(texts[5999]!)).json.status, "completed");
  assert.equal((await ask("another")).status, 422);
});

test("a_byte_order_mark_before_a_body_is_ignored", async () => {
  await registered("marked", '{"name":"marked"}');
  const marked = await create('\uFEFF{"capability":"marked","parameters":{"a":"\uFEFF"}}');
  assert.deepEqual([marked.status, marked.json.result], [200, { a: "\uFEFF" }], marked.text);
  const key = await gateway.request("POST", "/v1/keys", {
    body: '\uFEFF{"name":"marked","role":"caller"}',
    headers: text,
  });
  assert.equal(key.status, 201, key.text);
  const document = await gateway.request("PUT", "/v1/limits/marked", {
    body: '\uFEFF{"kind":"requests","quota":100,"window_seconds":60,"binds":{"role":"caller"}}',
    headers: text,
  });
  assert.equal(document.status, 201, document.text);
  assert.equal((await create('{\uFEFF"capability":"marked"}')).status, 400);
});

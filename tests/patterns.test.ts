// Patterns of schemas: their semantics and their limits, as a caller sees them.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, json, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;

before(async () => {
  gateway = await startGateway();
  service = await startService(echo);
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const properties = (count: number, schema: (n: number) => object) => ({
  type: "object",
  properties: Object.fromEntries(Array.from({ length: count }, (_, n) => [`p${n}`, schema(n)])),
});
const letters = (count: number) =>
  Array.from({ length: count }, (_, n) => (((n * n * 2654435761) >>> 13) & 1 ? "a" : "b")).join("");

test("patterns_are_those_of_ecma_262", async () => {
  const input_schema = {
    properties: {
      brackets: { pattern: "^[^[\\]]+$" },
      ampersands: { pattern: "^[a-z&&x]$" },
      dashes: { pattern: "^[\\w-.]+$" },
    },
  };
  await register(gateway, "meaning", serviceAt(service.url, [{ name: "mean", input_schema }]));
  const fits = { brackets: "a&b", ampersands: "&", dashes: "a-b.c" };
  assert.deepEqual((await create(gateway, { capability: "mean", parameters: fits })).json.result, fits);
  const not = { brackets: "a[b", ampersands: "&&", dashes: "a b" };
  const problem = refused(await create(gateway, { capability: "mean", parameters: not }), 422, "validation_failed");
  assert.deepEqual(pointers(problem), ["#/parameters/ampersands", "#/parameters/brackets", "#/parameters/dashes"]);
});

test("common_patterns_are_accepted_however_often_they_are_used", async () => {
  const schemas = [
    properties(40, () => ({ pattern: "^.{1,255}$" })),
    properties(60, () => ({ pattern: "^[\\w+=,.@-]{1,128}$" })),
    properties(60, (n) => ({ pattern: `^[\\w+=,.@-]{1,${128 + n}}$` })),
  ];
  const capabilities = schemas.map((input_schema, n) => ({ name: `c${n}`, input_schema, output_schema: input_schema }));
  await register(gateway, "common", serviceAt(service.url, capabilities));
  const parameters = Object.fromEntries(Array.from({ length: 40 }, (_, n) => [`p${n}`, "x".repeat(100)]));
  for (const { name } of capabilities) {
    assert.equal((await create(gateway, { capability: name, parameters })).json.status, "completed");
  }
});

test("a_pattern_with_too_many_states_is_reported_at_registration", async () => {
  const input_schema = properties(2, (n) => ({ pattern: n === 0 ? "^a$" : "((a{100}){100}){100}" }));
  const body = serviceAt(service.url, [{ input_schema }]);
  const problem = refused(await gateway.request("PUT", "/v1/services/heavy", { body }), 422, "validation_failed");
  assert.deepEqual(pointers(problem), ["#/capabilities/0/input_schema/properties/p1/pattern"]);
  assert.match(problem.errors[0].detail, /it has 1000001 states, and one pattern may have 20000/);
});

test(
  "a_string_that_is_too_long_for_a_pattern_is_refused_with_its_pointer_and_length",
  { timeout: 60_000 },
  async () => {
    const input_schema = properties(1, () => ({ allOf: [{ pattern: "a[ab]{200}c" }, { pattern: "\\w{0,200}0" }] }));
    const bounded = properties(1, () => ({ maxLength: 100, pattern: "a[ab]{200}c" }));
    await register(
      gateway,
      "long",
      serviceAt(service.url, [
        { name: "long", input_schema },
        { name: "bounded", input_schema: bounded },
      ]),
    );
    const parameters = { p0: letters(200_000) };
    const answers = await Promise.all(
      Array.from({ length: 4 }, () => create(gateway, { capability: "long", parameters })),
    );
    for (const answer of answers) {
      const problem = refused(answer, 422, "validation_failed");
      assert.deepEqual(pointers(problem), ["#/parameters/p0"]);
      assert.match(problem.errors[0].detail, /the pattern a\[ab\]\{200\}c with a text of 200000 characters/);
    }
    const problem = refused(await create(gateway, { capability: "bounded", parameters }), 422, "validation_failed");
    assert.deepEqual(
      problem.errors.map(({ detail }: any) => detail),
      ["must have at most 100 characters, has 200000"],
    );
  },
);

test("a_result_that_is_too_long_for_a_pattern_is_refused_too", async () => {
  const other = await startService(json({ result: letters(200_000) }));
  await register(
    gateway,
    "results",
    serviceAt(other.url, [{ name: "tell", output_schema: { pattern: "a[ab]{200}c" } }]),
  );
  const { status, error } = (await create(gateway, { capability: "tell" })).json;
  await other.stop();
  assert.deepEqual([status, error.code], ["failed", "upstream_invalid_response"]);
});

// The form of both documents: rules that let programs generate clients, pages or mocks from them. Each rule prevents a
// failure of a popular generator or linter; tests/generators.test.ts runs three generators.
import assert from "node:assert/strict";
import { appendFileSync, cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { SourceFaults, bundle, outdated } from "../scripts/api.mjs";
import { root } from "./support/configuration.ts";

type Json = any;

const read = (name: string): Json => JSON.parse(readFileSync(join(root, "console", name), "utf8"));
const [openapi, asyncapi] = [read("openapi.json"), read("asyncapi.json")];
const schemas: Record<string, Json> = openapi.components.schemas;
const verbs = ["get", "head", "post", "put", "patch", "delete"];
const operations: [string, string, Json][] = Object.entries<Json>(openapi.paths).flatMap(([path, item]) =>
  verbs.filter((verb) => verb in item).map((verb): [string, string, Json] => [verb, path, item[verb]]),
);

const named = (reference: string) => reference.split("/").at(-1)!;
const literal = ["example", "examples", "x-default", "default", "mapping"];
/** Conditions describe constraints, not the form of a value: generators ignore them. */
const conditions = ["if", "then", "else", "not"];

/** Calls `visit` for every schema that describes the form of a value, with its position. */
function shapes(value: Json, visit: (schema: Json, at: string) => void, at = ""): void {
  if (value === null || typeof value !== "object") return;
  if (!Array.isArray(value)) visit(value, at);
  for (const [key, inner] of Object.entries(value)) {
    const isMember = at.endsWith("/properties");
    if (isMember || ![...literal, ...conditions].includes(key)) shapes(inner, visit, `${at}/${key}`);
  }
}

/** The positions of the schemas in both documents for which `isWrong` is true. */
function where(isWrong: (schema: Json, at: string) => unknown): string[] {
  const found: string[] = [];
  for (const document of [openapi, asyncapi]) {
    shapes(
      document.components,
      (schema, at) => isWrong(schema, at) && found.push(at),
      document === openapi ? "openapi" : "asyncapi",
    );
  }
  return found;
}

const typesOf = ({ type }: Json): string[] => [type].flat().filter((one) => typeof one === "string");
const unions = (schema: Json): Json[][] => ["anyOf", "oneOf"].map((word) => schema[word]).filter(Array.isArray);

test("both_documents_are_bundled_from_api", () => {
  assert.deepEqual(outdated(), [], "run `npm run api`");
});

/** The faults of the source with `text` appended to one of its files. */
function faultsWith(file: string, text: string): string[] {
  const folder = mkdtempSync(join(tmpdir(), "narthex-api-"));
  try {
    cpSync(join(root, "api"), folder, { recursive: true });
    appendFileSync(join(folder, file), text);
    bundle(folder);
    return [];
  } catch (error) {
    if (error instanceof SourceFaults) return error.faults;
    throw error;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("the_bundler_reports_each_fault_of_the_source_with_its_file_and_line", () => {
  const file = "schemas/webhook.yaml";
  const line = readFileSync(join(root, "api", file), "utf8").split("\n").length;
  const faults: [string, RegExp][] = [
    ["Lost: { type: string }\n", /^api\/schemas\/webhook\.yaml:LINE: nothing refers to Lost$/],
    ["Problem: { type: string }\n", /:LINE: Problem is already defined at api\/schemas\/problem\.yaml:\d+$/],
    ["Twice: 1\nTwice: 2\n", /^api\/schemas\/webhook\.yaml:\d+: Map keys must be unique/],
    ["  broken\n: [\n", /^api\/schemas\/webhook\.yaml:\d+: /],
  ];
  for (const [text, expected] of faults) {
    assert.match(faultsWith(file, text)[0] ?? "", new RegExp(expected.source.replace("LINE", String(line))), text);
  }
  const dangling = faultsWith(
    "webhooks.yaml",
    "\nstray:\n  post:\n    responses:\n      '200':\n        $ref: '#/nowhere'\n",
  );
  assert.match(dangling.join("\n"), /^api\/webhooks\.yaml:\d+: #\/nowhere does not exist$/);
  const header = "\nstray:\n  post:\n    responses:\n      '200':\n        headers: [Unheard]\n";
  assert.match(faultsWith("webhooks.yaml", header).join("\n"), /header Unheard is missing in api\/headers\.yaml/);
  assert.match(faultsWith("stray.yaml", "{}").join("\n"), /^api\/stray\.yaml: not a part of the contract$/);
});

test("a_constant_is_a_string_and_other_fixed_values_are_an_enum_with_a_type", () => {
  // `if tenant != Trueand not …`: openapi-python-client generated that from `const: true`.
  const odd = ({ const: constant }: Json) => constant !== undefined && typeof constant !== "string";
  // Beside an `allOf` a member narrows one that is described, and required, in it.
  const isOptional = (schema: Json, member: string) => !schema.allOf && !schema.required?.includes(member);
  const faults = where((schema) =>
    Object.entries<Json>(schema.properties ?? {}).some(([member, one]) => odd(one) && isOptional(schema, member)),
  );
  assert.deepEqual(faults, []);
  assert.deepEqual(
    where(
      ({ enum: values, type }) =>
        Array.isArray(values) && values.some((one) => typeof one !== "string") && typeof type !== "string",
    ),
    [],
  );
});

test("a_nullable_object_or_enum_is_a_union_with_null", () => {
  assert.deepEqual(
    where(({ enum: values }) => Array.isArray(values) && values.includes(null)),
    [],
    "a named enum, or null",
  );
  const mixed = where((schema) => typesOf(schema).length > 1 && typesOf(schema).includes("object"));
  assert.deepEqual(mixed, [], "an object is one of several, not one of a list of types");
  // A list may be null: no generator creates a second model for it.
  assert.deepEqual(
    where((schema) => typesOf(schema).length > 2),
    [],
  );
});

test("members_of_a_union_have_a_name_or_are_plain_values", () => {
  const named = (one: Json) => one.$ref !== undefined || one.title !== undefined || one.type === "null";
  assert.deepEqual(
    where((schema) => unions(schema).some((union) => !union.every(named))),
    [],
  );
  // Conditions on members do not describe forms of a value.
  assert.deepEqual(
    where((schema) => schema.properties && unions(schema).length > 0),
    [],
  );
});

test("a_discriminator_maps_every_member_of_its_union_by_its_value", () => {
  const kinds = Object.entries(schemas).filter(([, { discriminator }]) => discriminator);
  assert.deepEqual(kinds.map(([name]) => name).sort(), ["ContextEvent", "NewTransport", "Transport"]);
  for (const [name, { discriminator, oneOf }] of kinds) {
    const { propertyName, mapping } = discriminator;
    assert.deepEqual(
      Object.values<string>(mapping),
      oneOf.map(({ $ref }: Json) => $ref),
      name,
    );
    for (const [word, reference] of Object.entries<string>(mapping)) {
      const { properties, required } = schemas[named(reference)]!;
      assert.equal(properties[propertyName].const, word, reference);
      assert.ok(required.includes(propertyName), reference);
    }
  }
});

test("an_optional_member_of_a_request_has_no_default", () => {
  // openapi-typescript treats a member with a `default` as required.
  const reached = new Set<string>();
  const follow = (value: Json): void =>
    shapes(value, ({ $ref }) => {
      if (typeof $ref !== "string" || !$ref.startsWith("#/components/schemas/") || reached.has(named($ref))) return;
      reached.add(named($ref));
      follow(schemas[named($ref)]);
    });
  for (const [, , { requestBody }] of operations) follow(requestBody);
  assert.ok(reached.has("NewContext") && reached.has("NewHealth") && reached.size > 30);
  const faults: string[] = [];
  for (const name of reached) {
    shapes(schemas[name], ({ properties }, at) => {
      for (const [member, { default: value, "x-default": plain, description }] of Object.entries<Json>(
        properties ?? {},
      )) {
        if (value !== undefined) faults.push(`${name}${at}: ${member} has a default`);
        const isEmpty = plain === undefined || plain === "" || (Array.isArray(plain) && plain.length === 0);
        if (!isEmpty && !/Default: `.+`\./.test(description))
          faults.push(`${name}${at}: ${member} does not state its default`);
      }
    });
  }
  assert.deepEqual(faults, []);
});

test("members_that_are_ignored_in_requests_are_read_only", () => {
  const ignored = where(
    ({ description, readOnly }) => /^Ignored, so that/.test(description ?? "") && readOnly !== true,
  );
  assert.deepEqual(ignored, []);
});

test("an_object_without_properties_states_whether_it_takes_any", () => {
  assert.deepEqual(
    where(
      (schema) =>
        typesOf(schema).includes("object") &&
        !schema.properties &&
        !schema.allOf &&
        schema.additionalProperties === undefined,
    ),
    [],
  );
});

test("an_operation_id_starts_with_a_verb_and_its_tag_is_a_usable_folder_name", () => {
  const verb =
    /^(get|list|create|put|patch|delete|check|cancel|replay|answer|send|report|rotate|accept|revoke|end|stream|connect|test|redeliver|post|authorize|submit|complete|request|introspect|register|whoAmI|export|import)/;
  for (const [method, path, { operationId, tags }] of operations) {
    assert.match(operationId, /^[a-z]+([A-Z][a-z]*)*$/, `${method} ${path}`);
    assert.match(operationId, verb, `${method} ${path}`);
    assert.equal(tags.length, 1, `${method} ${path}`);
    assert.notEqual(method, "head", `${path}: HEAD is implied by GET`);
  }
  for (const { name } of openapi.tags) assert.match(name, /^(MCP|[A-Z][a-z]+( [a-z]+)*)$/);
  // Operations that are not for clients can be excluded by their tag.
  const internal = operations.filter(([, , { tags }]) => tags.includes("Internal"));
  assert.deepEqual(internal.map(([, path]) => path).sort(), ["/v1/costs", "/{file}"]);
  for (const [, path, operation] of internal) assert.equal(operation["x-internal"], true, path);
});

test("both_documents_name_a_contact_and_servers", () => {
  for (const { info } of [openapi, asyncapi]) assert.ok(info.contact.name);
  assert.ok(openapi.externalDocs.url);
  assert.equal(openapi.servers[0].url, "/");
  assert.ok(
    openapi.servers.some(({ url }: Json) => url === "http://127.0.0.1:8787"),
    "a file on a disk has no host",
  );
  for (const [name, operation] of Object.entries<Json>(asyncapi.operations)) assert.ok(operation.description, name);
});

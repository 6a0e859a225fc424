// Reads JSON Schemas as far as forms and examples need them. Whatever a schema says, something comes of it.

const MOST_PARTS = 500;
const MOST_LEVELS = 6;

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** What a reference within the document (`#/$defs/Name`) points at. */
function referenced(root, reference) {
  if (!/^#(\/|$)/.test(reference)) return undefined;
  const steps = reference
    .split("/")
    .slice(1)
    .map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
  return steps.reduce((at, step) => at?.[step], root);
}

/** Adds to a schema what another asks for beside it. */
function join(schema, more) {
  const properties = { ...more.properties, ...schema.properties };
  const required = [...(schema.required ?? []), ...(more.required ?? [])];
  return {
    ...more,
    ...schema,
    ...(Object.keys(properties).length > 0 && { properties }),
    ...(required.length > 0 && { required }),
  };
}

/** The alternatives of `oneOf` or `anyOf`: values to choose from, else the one that is easiest to fill in. */
function alternative(options, flat) {
  if (options.every((one) => isObject(one) && "const" in one)) {
    return { enum: options.map((one) => one.const), titles: options.map((one) => one.title ?? String(one.const)) };
  }
  const known = options.map(flat).filter(({ type }) => type !== "null");
  return known.find(({ type }) => type === "string") ?? known[0] ?? {};
}

/**
 * A schema without references, with one of its alternatives. A boolean or missing one is `{}`: anything goes.
 * @returns {any}
 */
export function flat(schema, root = schema, budget = { parts: MOST_PARTS }) {
  budget.parts -= 1;
  if (!isObject(schema) || budget.parts < 0) return {};
  const deeper = (part) => flat(part, root, budget);
  let whole = { ...schema };
  if (!isObject(whole.properties)) delete whole.properties;
  if (!Array.isArray(whole.required)) delete whole.required;
  if (typeof whole.$ref === "string") whole = join(whole, deeper(referenced(root, whole.$ref)));
  for (const part of Array.isArray(whole.allOf) ? whole.allOf : []) whole = join(whole, deeper(part));
  const options = [whole.oneOf, whole.anyOf].find((some) => Array.isArray(some) && some.length > 0);
  if (options) whole = join(whole, alternative(options, deeper));
  if ("const" in whole) whole.enum = [whole.const];
  if (!Array.isArray(whole.enum)) delete whole.enum;
  if (Array.isArray(whole.type)) whole.type = whole.type.find((type) => type !== "null");
  return whole;
}

const TEXTS = {
  "date-time": "2026-12-01T12:00:00Z",
  date: "2026-12-01",
  time: "12:00:00Z",
  duration: "PT1H",
  email: "ada@example.com",
  uri: "https://example.com/",
  uuid: "00000000-0000-4000-8000-000000000000",
  ipv4: "192.0.2.1",
  ipv6: "2001:db8::1",
  hostname: "example.com",
};

function aNumber({ type, minimum, exclusiveMinimum, maximum, exclusiveMaximum, multipleOf }) {
  const step = multipleOf > 0 ? multipleOf : 1;
  const least = typeof exclusiveMinimum === "number" ? exclusiveMinimum + step : (minimum ?? 1);
  const most = typeof exclusiveMaximum === "number" ? exclusiveMaximum - step : (maximum ?? Infinity);
  const value = Math.ceil(Math.min(least, most) / step) * step;
  return type === "integer" ? Math.ceil(value) : value > most ? most : value;
}

function aText({ format, minLength = 0, maxLength = Infinity }) {
  return Object.hasOwn(TEXTS, format ?? "")
    ? TEXTS[format]
    : "text".padEnd(Math.min(minLength, 1000), "x").slice(0, maxLength);
}

/** Whether a value can be made up that surely fits: only then is a member that may be left out shown. */
const isPlain = ({ type, pattern, format }) =>
  ["boolean", "integer", "number", "string"].includes(type) && !pattern && (!format || Object.hasOwn(TEXTS, format));

/** Whether a value is of a type, as far as can be told at a glance. */
function isOf(value, type) {
  if (type === undefined) return true;
  if (value === null || Array.isArray(value)) return type === (value ? "array" : "null");
  return typeof value === (type === "integer" ? "number" : type);
}

/** What a schema itself gives as a value. */
const given = ({ const: only, examples, default: preset, enum: choices, type }) =>
  [only, Array.isArray(examples) ? examples[0] : undefined, preset, choices?.[0]].find(
    (value) => value !== undefined && isOf(value, type),
  );

/** A value to start from: what must be there, and what can be told of the rest. */
export function example(schema, root = schema, budget = { parts: MOST_PARTS }, level = 0) {
  const whole = flat(schema, root, budget);
  const value = given(whole);
  if (value !== undefined) return value;
  const { type, properties = {}, required = [], items, prefixItems, minItems = 0 } = whole;
  if (type === "string") return aText(whole);
  if (type === "integer" || type === "number") return aNumber(whole);
  if (type === "boolean") return true;
  if (type === "null") return null;
  if (level > MOST_LEVELS || budget.parts < 0) return type === "array" ? [] : {};
  const within = (part) => example(part, root, budget, level + 1);
  if (type === "array") {
    const parts = Array.isArray(prefixItems) ? prefixItems : [];
    return Array.from({ length: Math.min(minItems, 10) }, (_, at) => within(parts[at] ?? items));
  }
  const shown = Object.entries(properties).filter(([name, part]) => {
    if (required.includes(name)) return true;
    const member = flat(part, root, budget);
    return given(member) !== undefined || isPlain(member);
  });
  const unknown = required.filter((name) => !Object.hasOwn(properties, name)).map((name) => [name, "text"]);
  return Object.fromEntries([...shown.map(([name, part]) => [name, within(part)]), ...unknown]);
}

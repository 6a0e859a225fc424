// Reads JSON Schemas as far as forms and examples need them, and copes with any schema.

const MAX_PARTS = 500;
const MAX_LEVELS = 6;
const MAX_TEXT_LENGTH = 1000;
const MAX_ITEMS = 10;

/** How many more parts may be read: schemas may refer to themselves. @typedef {{ parts: number }} Budget */

/**
 * @param {unknown} value
 * @returns {value is Record<string, any>}
 */
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/**
 * The steps of a JSON Pointer, or of a reference such as `#/$defs/Name`.
 * @param {string} pointer
 * @returns {string[]}
 */
export function pointerSteps(pointer) {
  const steps = pointer.split("/").slice(1);
  return steps.map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
}

/**
 * The part of the document that a reference points to.
 * @param {JsonSchema} root
 * @param {string} reference
 * @returns {JsonSchema}
 */
function resolve(root, reference) {
  if (!/^#(\/|$)/.test(reference)) return undefined;
  return pointerSteps(reference).reduce((part, step) => part?.[step], root);
}

/**
 * Merges two schemas; members of the first win.
 * @param {JsonSchema} schema
 * @param {JsonSchema} other
 * @returns {JsonSchema}
 */
function merge(schema, other) {
  const properties = { ...other.properties, ...schema.properties };
  const required = [...(schema.required ?? []), ...(other.required ?? [])];
  return {
    ...other,
    ...schema,
    ...(Object.keys(properties).length > 0 && { properties }),
    ...(required.length > 0 && { required }),
  };
}

/**
 * Replaces `oneOf` or `anyOf` by an enum of constants, or else by the alternative that is easiest to fill in.
 * @param {JsonSchema[]} options
 * @param {(part: JsonSchema) => JsonSchema} flattenPart
 * @returns {JsonSchema}
 */
function chooseAlternative(options, flattenPart) {
  if (options.every((option) => isObject(option) && "const" in option)) {
    return {
      enum: options.map((option) => option.const),
      titles: options.map((option) => option.title ?? String(option.const)),
    };
  }
  const alternatives = options.map(flattenPart).filter(({ type }) => type !== "null");
  return alternatives.find(({ type }) => type === "string") ?? alternatives[0] ?? {};
}

/**
 * A schema without references and with one of its alternatives. A boolean or missing one becomes `{}`: anything fits.
 * @param {JsonSchema} schema
 * @param {JsonSchema} [root] what references are resolved in
 * @param {Budget} [budget]
 * @returns {JsonSchema}
 */
export function flatten(schema, root = schema, budget = { parts: MAX_PARTS }) {
  budget.parts -= 1;
  if (!isObject(schema) || budget.parts < 0) return {};
  const flattenPart = (/** @type {JsonSchema} */ part) => flatten(part, root, budget);
  /** @type {JsonSchema} */
  let flat = { ...schema };
  if (!isObject(flat.properties)) delete flat.properties;
  if (!Array.isArray(flat.required)) delete flat.required;
  if (typeof flat.$ref === "string") flat = merge(flat, flattenPart(resolve(root, flat.$ref)));
  for (const part of Array.isArray(flat.allOf) ? flat.allOf : []) flat = merge(flat, flattenPart(part));
  const options = [flat.oneOf, flat.anyOf].find((some) => Array.isArray(some) && some.length > 0);
  if (options) flat = merge(flat, chooseAlternative(options, flattenPart));
  if ("const" in flat) flat.enum = [flat.const];
  if (!Array.isArray(flat.enum)) delete flat.enum;
  if (Array.isArray(flat.type)) flat.type = flat.type.find((/** @type {unknown} */ type) => type !== "null");
  return flat;
}

/** Texts that fit a format. */
const FORMAT_EXAMPLES = new Map([
  ["date-time", "2026-12-01T12:00:00Z"],
  ["date", "2026-12-01"],
  ["time", "12:00:00Z"],
  ["duration", "PT1H"],
  ["email", "ada@example.com"],
  ["uri", "https://example.com/"],
  ["uuid", "00000000-0000-4000-8000-000000000000"],
  ["ipv4", "192.0.2.1"],
  ["ipv6", "2001:db8::1"],
  ["hostname", "example.com"],
]);

/**
 * @param {JsonSchema} schema
 * @returns {number}
 */
function exampleNumber({ type, minimum, exclusiveMinimum, maximum, exclusiveMaximum, multipleOf }) {
  const step = multipleOf > 0 ? multipleOf : 1;
  const lowest = typeof exclusiveMinimum === "number" ? exclusiveMinimum + step : (minimum ?? 1);
  const highest = typeof exclusiveMaximum === "number" ? exclusiveMaximum - step : (maximum ?? Infinity);
  const value = Math.ceil(Math.min(lowest, highest) / step) * step;
  return type === "integer" ? Math.ceil(value) : Math.min(value, highest);
}

/**
 * @param {JsonSchema} schema
 * @returns {string}
 */
function exampleText({ format, minLength = 0, maxLength = Infinity }) {
  const text = "text".padEnd(Math.min(minLength, MAX_TEXT_LENGTH), "x").slice(0, maxLength);
  return FORMAT_EXAMPLES.get(format) ?? text;
}

/**
 * Whether a valid value can be made up for certain: only then is an optional member included.
 * @param {JsonSchema} schema
 * @returns {boolean}
 */
const isPlain = ({ type, pattern, format }) =>
  ["boolean", "integer", "number", "string"].includes(type) && !pattern && (!format || FORMAT_EXAMPLES.has(format));

/**
 * Whether a value is of a type, without looking inside it.
 * @param {unknown} value
 * @param {string | undefined} type
 * @returns {boolean}
 */
function isOfType(value, type) {
  if (type === undefined) return true;
  if (value === null) return type === "null";
  if (Array.isArray(value)) return type === "array";
  return typeof value === (type === "integer" ? "number" : type);
}

/**
 * A value that the schema itself provides: its constant, an example, the default or the first choice.
 * @param {JsonSchema} schema
 * @returns {unknown}
 */
function givenValue({ const: constant, examples, default: preset, enum: choices, type }) {
  const [example] = Array.isArray(examples) ? examples : [];
  const values = [constant, example, preset, choices?.[0]];
  return values.find((value) => value !== undefined && isOfType(value, type));
}

/**
 * An initial value: required members, and optional ones if a valid value is certain.
 * @param {JsonSchema} schema
 * @param {JsonSchema} [root]
 * @param {Budget} [budget]
 * @param {number} [level]
 * @returns {any}
 */
export function exampleOf(schema, root = schema, budget = { parts: MAX_PARTS }, level = 0) {
  const flat = flatten(schema, root, budget);
  const value = givenValue(flat);
  if (value !== undefined) return value;
  const { type } = flat;
  if (type === "string") return exampleText(flat);
  if (type === "integer" || type === "number") return exampleNumber(flat);
  if (type === "boolean") return true;
  if (type === "null") return null;
  const isTooDeep = level > MAX_LEVELS || budget.parts < 0;
  if (isTooDeep) return type === "array" ? [] : {};
  const exampleOfPart = (/** @type {JsonSchema} */ part) => exampleOf(part, root, budget, level + 1);
  if (type === "array") return exampleArray(flat, exampleOfPart);
  return exampleObject(flat, exampleOfPart, (part) => flatten(part, root, budget));
}

/**
 * @param {JsonSchema} schema
 * @param {(part: JsonSchema) => unknown} exampleOfPart
 * @returns {unknown[]}
 */
function exampleArray({ items, prefixItems, minItems = 0 }, exampleOfPart) {
  const parts = Array.isArray(prefixItems) ? prefixItems : [];
  const length = Math.min(minItems, MAX_ITEMS);
  return Array.from({ length }, (_, at) => exampleOfPart(parts[at] ?? items));
}

/**
 * @param {JsonSchema} schema
 * @param {(part: JsonSchema) => unknown} exampleOfPart
 * @param {(part: JsonSchema) => JsonSchema} flattenPart
 * @returns {Record<string, unknown>}
 */
function exampleObject({ properties = {}, required = [] }, exampleOfPart, flattenPart) {
  const shown = Object.entries(properties).filter(([name, part]) => {
    if (required.includes(name)) return true;
    const member = flattenPart(part);
    return givenValue(member) !== undefined || isPlain(member);
  });
  const members = shown.map(([name, part]) => [name, exampleOfPart(part)]);
  const undescribed = required.filter((/** @type {string} */ name) => !Object.hasOwn(properties, name));
  return Object.fromEntries([...members, ...undescribed.map((/** @type {string} */ name) => [name, "text"])]);
}

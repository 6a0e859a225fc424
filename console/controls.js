// The controls of form fields: how a value is entered and read back.
import { h } from "./dom.js";
import { flatten } from "./schema.js";

/** Above this length a text gets more than one line. */
const MAX_LINE_LENGTH = 600;
const MAX_ROWS = 16;
const CHOOSE = "Choose…";
const NOT_SET = "not set";
const YES_NO = { enum: [true, false], titles: ["yes", "no"] };

/** @typedef {"choice" | "boolean" | "number" | "moment" | "line" | "text" | "lines" | "json"} Kind */
/** @typedef {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} Input */
/** @typedef {{ input: Input, read(): any }} Control `read` gives the value, or undefined if it was left out */
/** @typedef {{ schema: JsonSchema, isRequired: boolean, value: any, attributes: Attributes }} ControlOptions */

/**
 * How a value is entered.
 * @param {JsonSchema} schema flat
 * @param {unknown} value the one to begin with
 * @param {JsonSchema} root
 * @returns {Kind}
 */
export function kindOf(schema, value, root) {
  const { type, enum: choices, items, maxLength, format } = schema;
  const isMissing = value === undefined || value === null;
  const isText = isMissing || typeof value === "string";
  if (choices) return "choice";
  if (type === "boolean") return "boolean";
  if (format === "local-time") return "moment";
  if (type === "string" && isText) return maxLength > MAX_LINE_LENGTH && format !== "uri" ? "text" : "line";
  if (type === "array") {
    const isTextList = isMissing || (Array.isArray(value) && value.every((item) => typeof item === "string"));
    return flatten(items, root).type === "string" && isTextList ? "lines" : "json";
  }
  const isNumeric = type === "integer" || type === "number";
  return isNumeric && (typeof value === "number" || isText) ? "number" : "json";
}

/**
 * @param {Kind} kind
 * @param {ControlOptions} options
 * @returns {Control}
 */
export function buildControl(kind, options) {
  if (kind === "choice") return choice(options);
  if (kind === "boolean") return booleanControl(options);
  if (kind === "number") return numberControl(options);
  if (kind === "moment") return momentControl(options);
  if (kind === "line") return lineControl(options);
  if (kind === "lines") return linesControl(options);
  if (kind === "json") return jsonControl(options);
  return textControl(options);
}

/**
 * @param {unknown} value
 * @returns {string}
 */
const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/**
 * A value to choose; nothing is chosen unless there is an initial value.
 * @param {ControlOptions} options
 * @returns {Control}
 */
function choice({ schema, isRequired, value, attributes }) {
  /** @type {unknown[]} */
  const choices = schema.enum;
  const titles = schema.enumNames ?? schema.titles;
  const options = choices.map((one, at) => {
    const title = Array.isArray(titles) ? titles[at] : undefined;
    const selected = value !== undefined && asText(one) === asText(value);
    return h("option", { value: at, selected }, typeof title === "string" ? title : asText(one));
  });
  const none = h("option", { value: "" }, isRequired ? CHOOSE : (schema.noneLabel ?? NOT_SET));
  const input = h("select", attributes, none, options);
  return { input, read: () => (input.value === "" ? undefined : choices[Number(input.value)]) };
}

/**
 * @param {ControlOptions} options
 * @returns {Control}
 */
function booleanControl(options) {
  const { schema, value, attributes } = options;
  if (value === undefined) {
    // A checkbox cannot show that nothing was chosen.
    return choice({ ...options, schema: { ...YES_NO, noneLabel: schema.noneLabel } });
  }
  const input = h("input", { ...attributes, type: "checkbox", checked: value === true });
  return { input, read: () => input.checked };
}

/**
 * @param {ControlOptions} options
 * @returns {Control}
 */
function numberControl({ schema, value, attributes }) {
  const { type, minimum: min, maximum: max } = schema;
  const step = type === "number" ? "any" : 1;
  const input = h("input", { ...attributes, type: "number", min, max, step, value });
  return { input, read: () => (isBlank(input) ? undefined : Number(input.value)) };
}

/**
 * @param {ControlOptions} options
 * @returns {Control}
 */
function lineControl({ schema, value, attributes }) {
  const type = schema.format === "password" ? "password" : "text";
  const input = h("input", { ...attributes, type, value });
  return { input, read: () => (isBlank(input) ? undefined : input.value) };
}

/**
 * A time to the minute, entered in the browser's time zone.
 * @param {ControlOptions} options
 * @returns {Control}
 */
function momentControl({ value, attributes }) {
  const at = typeof value === "string" ? Date.parse(value) : Number.NaN;
  const local = new Date(at - new Date(at).getTimezoneOffset() * 60_000);
  const shown = Number.isNaN(at) ? undefined : local.toISOString().slice(0, 16);
  const input = h("input", { ...attributes, type: "datetime-local", value: shown });
  return { input, read: () => (isBlank(input) ? undefined : new Date(input.value).toISOString()) };
}

/**
 * Text of several lines.
 * @param {ControlOptions} options
 * @returns {Control}
 */
function textControl({ value, attributes }) {
  const input = textArea(attributes, value ?? "");
  return { input, read: () => (isBlank(input) ? undefined : input.value) };
}

/**
 * Any JSON.
 * @param {ControlOptions} options
 * @returns {Control}
 */
function jsonControl({ value, attributes }) {
  const input = textArea(attributes, value === undefined || value === null ? "" : JSON.stringify(value, null, 2));
  return { input, read: () => (isBlank(input) ? undefined : JSON.parse(input.value)) };
}

/**
 * A list of texts, one per line.
 * @param {ControlOptions} options
 * @returns {Control}
 */
function linesControl({ isRequired, value, attributes }) {
  const input = textArea(attributes, value?.join("\n") ?? "");
  function read() {
    const lines = input.value.split("\n").map((line) => line.trim());
    const present = lines.filter(Boolean);
    return present.length > 0 || isRequired ? present : undefined;
  }
  return { input, read };
}

/**
 * @param {Attributes} attributes
 * @param {string} text
 * @returns {HTMLTextAreaElement}
 */
function textArea(attributes, text) {
  const rows = Math.min(MAX_ROWS, text.split("\n").length + 2);
  return h("textarea", { ...attributes, rows, value: text });
}

/**
 * @param {{ value: string }} input
 * @returns {boolean}
 */
const isBlank = (input) => input.value.trim() === "";

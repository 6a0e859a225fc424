// Form fields for a JSON Schema.
import { messageOf } from "./components.js";
import { buildControl, kindOf } from "./controls.js";
import { fill, h } from "./dom.js";
import { exampleOf, flatten } from "./schema.js";

/** @import { Kind } from "./controls.js" */

/**
 * @typedef {object} FieldOptions
 * @property {boolean} [isBlank] nothing is filled in or chosen beforehand
 * @property {JsonSchema} [root] what references are resolved in
 * @property {number} [level] how deep the field lies
 */

const MAX_LEVELS = 2;

/** Counts fields, for ids. */
let fieldCount = 0;

/**
 * @param {JsonSchema} schema
 * @param {string} label for a schema without a title
 * @param {unknown} [value] the one to begin with
 * @param {FieldOptions} [options]
 * @returns {Field}
 */
export function fieldsFor(schema, label, value, options = {}) {
  const root = options.root ?? schema;
  const flat = flatten(schema, root);
  if (hasProperties(flat)) return groupField(flat, value, { ...options, root });
  const isFreeForm = !flat.enum && (!flat.type || flat.type === "object");
  const preset = value ?? (isFreeForm && !options.isBlank ? exampleOf(flat, root) : undefined);
  return singleField(label, flat, { isRequired: true, value: preset }, { ...options, root });
}

/**
 * @param {JsonSchema} schema
 * @returns {boolean}
 */
const hasProperties = ({ properties }) => Object.keys(properties ?? {}).length > 0;

/**
 * The fields of an object's members.
 * @param {JsonSchema} schema
 * @param {any} value
 * @param {FieldOptions} options
 * @returns {Field}
 */
function groupField(schema, value, options) {
  const fields = new Map(
    Object.entries(schema.properties).map(([name, part]) => {
      const isRequired = schema.required?.includes(name) ?? false;
      const member = flatten(part, options.root);
      return [name, memberField(name, member, { isRequired, value: value?.[name] }, options)];
    }),
  );
  const all = [...fields.values()];
  function read() {
    const members = [...fields].map(([name, field]) => [name, field.read()]);
    return Object.fromEntries(members.filter(([, memberValue]) => memberValue !== undefined));
  }
  return {
    element: h(
      "div.fields",
      all.map(({ element }) => element),
    ),
    read,
    missing: () => all.flatMap((field) => field.missing()),
    showError: ([name = "", ...rest], text) => fields.get(name)?.showError(rest, text) ?? false,
  };
}

/** @typedef {{ isRequired: boolean, value: any }} Member */

/**
 * The field of one member: a group if it has members itself and is not nested too deeply.
 * @param {string} name
 * @param {JsonSchema} schema
 * @param {Member} member
 * @param {FieldOptions} options
 * @returns {Field}
 */
function memberField(name, schema, member, options) {
  const { level = 0 } = options;
  const isGroup = hasProperties(schema) && !schema.additionalProperties?.type && level < MAX_LEVELS;
  if (!isGroup) return singleField(name, schema, member, options);

  const { isRequired, value } = member;
  const inner = groupField(schema, value, { ...options, level: level + 1 });
  const isPreset = value !== undefined && value !== null;
  // An optional object is left out until something is entered: its defaults alone do not count.
  const untouched = isRequired || isPreset ? "{}" : JSON.stringify(inner.read());
  function read() {
    const members = inner.read();
    const isUntouched = ["{}", untouched].includes(JSON.stringify(members));
    return isUntouched && !isRequired ? undefined : members;
  }
  const description = descriptionOf(schema);
  return {
    element: h(
      "fieldset",
      h("legend", titleOf(schema, name), !isRequired && optionalMark()),
      description && h("p.soft", description),
      inner.element,
    ),
    read,
    // An object that is left out lacks nothing.
    missing: () => (read() === undefined ? [] : inner.missing()),
    showError: inner.showError,
  };
}

/** @returns {HTMLElement} */
const optionalMark = () => h("span.soft", " (optional)");

/**
 * @param {JsonSchema} schema
 * @param {string} name
 * @returns {string}
 */
const titleOf = ({ title }, name) => (typeof title === "string" && title ? title : name);

/**
 * @param {JsonSchema} schema
 * @returns {string}
 */
const descriptionOf = ({ description }) => (typeof description === "string" ? description.replaceAll("`", "") : "");

/**
 * The placeholder of an empty control.
 * @param {JsonSchema} schema
 * @returns {string | undefined}
 */
function placeholderOf({ examples }) {
  const [example] = Array.isArray(examples) ? examples : [];
  if (example === undefined || typeof example === "string") return example;
  return JSON.stringify(example);
}

/**
 * @param {string} name
 * @param {JsonSchema} schema
 * @param {Member} member
 * @param {FieldOptions} options
 * @returns {Field}
 */
function singleField(name, schema, { isRequired, value }, { isBlank = false, root = schema }) {
  const preset = value ?? (isBlank ? undefined : schema.default);
  const kind = kindOf(schema, preset, root);
  const title = titleOf(schema, name);
  const id = `field${(fieldCount += 1)}`;
  const errorPlace = h("p.wrong", { id: `${id}-error` });
  const attributes = {
    id,
    "aria-required": isRequired && "true",
    "aria-describedby": `${id}-hint ${id}-error`,
    autocomplete: "off",
    placeholder: kind === "choice" ? undefined : placeholderOf(schema),
  };
  const control = buildControl(kind, { schema, isRequired, value: preset, attributes });
  const { input } = control;
  const isCheckbox = input.type === "checkbox";

  /** @type {Field["showError"]} */
  function showError([index = ""], text) {
    const isOfLine = kind === "lines" && /^\d+$/.test(index);
    fill(errorPlace, isOfLine ? `Entry ${Number(index) + 1}: ${text}` : text);
    input.ariaInvalid = String(text !== "");
    return true;
  }

  function read() {
    showError([], "");
    if (input.validity.badInput) {
      showError([], "Enter a number.");
      throw new Error(`${title} is not a number. Fix it and try again.`);
    }
    try {
      return control.read();
    } catch (error) {
      showError([], `${messageOf(error)}.`);
      throw new Error(`${title} is not valid JSON. Fix it and try again.`);
    }
  }

  function missing() {
    if (!isRequired || isCheckbox || read() !== undefined) return [];
    showError([], input.localName === "select" ? "Choose one." : "This is required.");
    return [title];
  }

  const label = h("label", { for: id }, title, !isRequired && !isCheckbox && optionalMark());
  const hint = h("p.soft", { id: `${id}-hint` }, hintsOf(schema, kind, isBlank));
  return {
    element: h(`div.field.${isCheckbox ? "tick" : kind}`, label, input, hint, errorPlace),
    read,
    missing,
    showError,
  };
}

/**
 * The hints below a control.
 * @param {JsonSchema} schema
 * @param {Kind} kind
 * @param {boolean} isBlank
 * @returns {Child[]}
 */
function hintsOf(schema, kind, isBlank) {
  return [
    descriptionOf(schema),
    kind === "lines" && " One per line.",
    kind === "json" && " As JSON.",
    isBlank && schema.default !== undefined && ` Suggested: ${JSON.stringify(schema.default)}.`,
  ];
}

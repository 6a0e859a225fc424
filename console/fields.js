// Forms made from JSON Schema.
import { busy, fill, h } from "./dom.js";
import { example, flat } from "./schema.js";

/** @typedef {{ blank?: boolean, root?: any, level?: number }} Style `blank`: nothing is filled in or chosen beforehand. */

const MOST_LEVELS = 2;
/** Above this a text gets more than one line. */
const LINE_LENGTH = 600;

let made = 0;

/**
 * Fields for a schema; `label` is for what has no title.
 * @param {any} schema @param {string} label @param {any} [value] @param {Style} [style]
 * @returns {Field}
 */
export function fieldsFor(schema, label, value, style = {}) {
  const root = style.root ?? schema;
  const whole = flat(schema, root);
  if (Object.keys(whole.properties ?? {}).length > 0) return group(whole, value, { ...style, root });
  const preset =
    value ?? (style.blank || whole.enum || (whole.type && whole.type !== "object") ? undefined : example(whole, root));
  return field(label, whole, true, preset, { ...style, root });
}

/** @returns {Field} */
function group(schema, value, style) {
  /** @type {[string, Field][]} */
  const fields = Object.entries(schema.properties).map(([name, part]) => [
    name,
    member(name, flat(part, style.root), schema.required?.includes(name) ?? false, value?.[name], style),
  ]);
  return {
    element: h(
      "div.fields",
      fields.map(([, one]) => one.element),
    ),
    read: () =>
      Object.fromEntries(fields.map(([name, one]) => [name, one.read()]).filter(([, read]) => read !== undefined)),
    missing: () => fields.flatMap(([, one]) => one.missing()),
    tell: ([name, ...rest], text) => fields.find(([known]) => known === name)?.[1].tell(rest, text) ?? false,
  };
}

/** @returns {Field} */
function member(name, schema, required, value, style) {
  const { level = 0 } = style;
  const isGroup =
    Object.keys(schema.properties ?? {}).length > 0 && !schema.additionalProperties?.type && level < MOST_LEVELS;
  if (!isGroup) return field(name, schema, required, value, style);
  const inner = group(schema, value, { ...style, level: level + 1 });
  const hint = typeof schema.description === "string" && h("p.soft", schema.description.replaceAll("`", ""));
  // One that may be left out is, until something is put in: its defaults alone do not ask for it.
  const untouched = JSON.stringify(required || (value ?? undefined) !== undefined ? {} : inner.read());
  const read = () => {
    const all = inner.read();
    return required || !["{}", untouched].includes(JSON.stringify(all)) ? all : undefined;
  };
  return {
    element: h(
      "fieldset",
      h("legend", titleOf(schema, name), !required && h("span.soft", " (optional)")),
      hint,
      inner.element,
    ),
    read,
    // What is left out as a whole lacks nothing.
    missing: () => (read() === undefined ? [] : inner.missing()),
    tell: inner.tell,
  };
}

const titleOf = ({ title }, name) => (typeof title === "string" && title ? title : name);

/** How a value is put in. */
function kindOf({ type, enum: choices, items, maxLength, format }, value, root) {
  const isText = value === undefined || value === null || typeof value === "string";
  if (choices) return "choice";
  if (type === "string" && isText) return maxLength > LINE_LENGTH && format !== "uri" ? "text" : "line";
  if (type === "array") {
    const each = flat(items, root);
    const isList =
      value === undefined || value === null || (Array.isArray(value) && value.every((one) => typeof one === "string"));
    return each.type === "string" && isList ? "lines" : "json";
  }
  if (type === "boolean") return "boolean";
  return ["integer", "number"].includes(type) && (typeof value === "number" || isText) ? "number" : "json";
}

const CHOOSE = "choose …";
const YES_NO = { enum: [true, false], titles: ["yes", "no"] };

/** One to choose from; nothing is chosen unless the schema or the document says so. */
function choice(attributes, { enum: choices, titles, enumNames = titles, none }, required, value) {
  const text = (one) => (typeof one === "string" ? one : JSON.stringify(one));
  const label = (one, at) =>
    Array.isArray(enumNames) && typeof enumNames[at] === "string" ? enumNames[at] : text(one);
  const options = choices.map((one, at) =>
    h("option", { value: at, selected: value !== undefined && text(one) === text(value) }, label(one, at)),
  );
  const input = h("select", attributes, h("option", { value: "" }, required ? CHOOSE : (none ?? "not set")), options);
  return { input, read: () => (input.value === "" ? undefined : choices[Number(input.value)]) };
}

/** The element to put a value in, and how to read it. */
function inputOf(kind, attributes, schema, required, value) {
  if (kind === "choice") return choice(attributes, schema, required, value);
  if (kind === "boolean") {
    // A tick cannot say that nothing was chosen.
    if (value === undefined) return choice(attributes, { ...YES_NO, none: schema.none }, required, undefined);
    const input = h("input", { ...attributes, type: "checkbox", checked: value === true });
    return { input, read: () => input.checked };
  }
  if (kind === "number") {
    const { type, minimum: min, maximum: max } = schema;
    const input = h("input", { ...attributes, type: "number", min, max, step: type === "number" ? "any" : 1, value });
    return { input, read: () => (input.value.trim() === "" ? undefined : Number(input.value)) };
  }
  if (kind === "line") {
    const input = h("input", { ...attributes, type: schema.format === "password" ? "password" : "text", value });
    return { input, read: () => (input.value.trim() === "" ? undefined : input.value) };
  }
  const text =
    value === undefined || value === null
      ? ""
      : kind === "json"
        ? JSON.stringify(value, null, 2)
        : kind === "lines"
          ? value.join("\n")
          : value;
  const input = h("textarea", { ...attributes, rows: Math.min(16, text.split("\n").length + 2), value: text });
  function lines() {
    const all = input.value
      .split("\n")
      .map((line) => line.trim())
      .filter(Boolean);
    return all.length > 0 || required ? all : undefined;
  }
  const given = () => (input.value.trim() === "" ? undefined : kind === "json" ? JSON.parse(input.value) : input.value);
  return { input, read: kind === "lines" ? lines : given };
}

/** @returns {Field} */
function field(name, schema, required, value, { blank = false, root = schema } = /** @type {Style} */ ({})) {
  const preset = value ?? (blank ? undefined : schema.default);
  const kind = kindOf(schema, preset, root);
  const title = titleOf(schema, name);
  const id = `field${(made += 1)}`;
  const wrong = h("p.wrong", { id: `${id}-wrong` });
  const hint = { lines: " One a line.", json: " As JSON." }[kind];
  const about = typeof schema.description === "string" ? schema.description.replaceAll("`", "") : "";
  const suggested = blank && schema.default !== undefined && ` Suggested: ${JSON.stringify(schema.default)}.`;
  const [sample] = Array.isArray(schema.examples) ? schema.examples : [];
  const attributes = {
    id,
    "aria-required": required && "true",
    "aria-describedby": `${id}-hint ${id}-wrong`,
    autocomplete: "off",
    placeholder:
      kind === "choice" || sample === undefined
        ? undefined
        : typeof sample === "string"
          ? sample
          : JSON.stringify(sample),
  };
  const { input, read } = inputOf(kind, attributes, schema, required, preset);
  const isTick = input.type === "checkbox";
  function tell(_path, text) {
    fill(wrong, text);
    input.ariaInvalid = String(text !== "");
    return true;
  }
  function checkedRead() {
    tell([], "");
    if (input.validity.badInput) {
      tell([], "This is not a number.");
      throw new Error(`${title} is not a number. Fix it and try again.`);
    }
    try {
      return read();
    } catch (error) {
      tell([], `${error.message}.`);
      throw new Error(`${title} is not valid JSON. Fix it and try again.`);
    }
  }
  function missing() {
    if (!required || isTick || checkedRead() !== undefined) return [];
    tell([], input.localName === "select" ? "Choose one." : "This is needed.");
    return [title];
  }
  const label = h("label", { for: id }, title, !required && !isTick && h("span.soft", " (optional)"));
  const element = h(
    `div.field.${isTick ? "tick" : kind}`,
    label,
    input,
    h("p.soft", { id: `${id}-hint` }, about, hint, suggested),
    wrong,
  );
  return { element, read: checkedRead, missing, tell };
}

/**
 * A form; fields show their own errors. `pointer`: where in the request their value goes; `place` says which field shows
 * what the gateway says of a place in the request.
 */
export function formOf({ fields, submit, send, pointer = "", place = (path) => path }) {
  const [wrong, pressed] = [h("div"), h("button.primary", submit)];
  // The form's own words instead of the browser's.
  const form = h("form", { onsubmit, novalidate: true }, fields.element, wrong, h("div", pressed));

  /** Shows each fault at its field; gives those that have none. */
  function spread(errors = []) {
    return errors.filter(({ pointer: at, detail }) => {
      const path = at
        .split("/")
        .slice(1)
        .map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
      if (pointer && path.shift() !== pointer) return true;
      return !fields.tell(place(path), `This ${detail}.`);
    });
  }

  async function trySending() {
    try {
      const lacking = fields.missing();
      if (lacking.length > 0) throw new Error(`Not sent. Still needed: ${lacking.join(", ")}.`);
      await send(fields.read());
    } catch (error) {
      const others = spread(error.errors).map(({ pointer: at, detail }) => `${at} ${detail}.`);
      form.querySelector('[aria-invalid="true"]')?.focus();
      throw others.length > 0 ? new Error([error.message, ...others].join(" ")) : error;
    }
  }

  function onsubmit(event) {
    event.preventDefault();
    void busy(pressed, wrong, trySending);
  }
  return form;
}

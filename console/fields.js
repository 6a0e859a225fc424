// Forms made from JSON Schema.
import { busy, fill, h } from "./dom.js";

let made = 0;

/** Fields for a schema; `label` is for what has no title. @returns {Field} */
export function fieldsFor(schema, label, value) {
  const properties = Object.entries(schema?.properties ?? {});
  if (properties.length === 0) return field(label, schema ?? {}, true, value ?? (schema?.type ? undefined : {}));
  /** @type {[string, Field][]} */
  const fields = properties.map(([name, part]) => [name, field(name, part, schema.required?.includes(name), value?.[name])]);
  return {
    element: h("div.fields", fields.map(([, one]) => one.element)),
    read: () => Object.fromEntries(fields.map(([name, one]) => [name, one.read()]).filter(([, read]) => read !== undefined)),
    tell: ([name, ...rest], text) => fields.find(([known]) => known === name)?.[1].tell(rest, text),
  };
}

function kindOf({ type, enum: choices, items, maxLength }) {
  const [first] = [type].flat();
  if (choices) return "choice";
  if (first === "string") return maxLength > 200 ? "text" : "line";
  if (first === "array" && items?.type === "string") return "lines";
  return first === "integer" ? "number" : ["boolean", "number"].includes(first) ? first : "json";
}

/** @returns {Field} */
function field(name, schema, required, value = schema.default ?? schema["x-default"]) {
  const kind = kindOf(schema);
  const { title = name, description, format, type, enum: choices, minimum: min, maximum: max, examples: [example] = [] } = schema;
  const must = required && kind !== "boolean";
  const id = `field${(made += 1)}`;
  const wrong = h("p.wrong", { id: `${id}-wrong` });
  const text = value === undefined ? "" : kind === "json" ? JSON.stringify(value, null, 2) : kind === "lines" ? value.join("\n") : value;
  const more = {
    boolean: { type: "checkbox", checked: value === true },
    number: { type: "number", min, max, step: type === "number" ? "any" : 1 },
    line: { type: format === "password" ? format : "text" },
  }[kind];
  const attributes = {
    id, required: must, "aria-describedby": `${id}-hint ${id}-wrong`, autocomplete: "off",
    placeholder: typeof example === "string" ? example : JSON.stringify(example), value: text, ...more,
  };
  const input = choices ? h("select", attributes, [...(must ? [] : [""]), ...choices].map((one) => h("option", { value: one, selected: one === value }, one || "any")))
    : more ? h("input", attributes) : h("textarea", { rows: Math.min(16, text.split("\n").length + 2), ...attributes });
  const tell = (_path, text) => {
    fill(wrong, text);
    input.ariaInvalid = String(text !== "");
  };
  function read() {
    tell([], "");
    const given = input.value;
    if (kind === "boolean") return input.checked;
    if (kind === "lines") return given.split("\n").map((line) => line.trim()).filter(Boolean);
    if (given.trim() === "") return undefined;
    if (kind === "number") return Number(given);
    if (choices) return choices.find((one) => String(one) === given);
    if (kind !== "json") return given;
    try {
      return JSON.parse(given);
    } catch (error) {
      tell([], error.message);
      throw new Error(`${title} is no JSON. Mend it, then send again.`);
    }
  }
  const label = h("label", { for: id }, title, !must && kind !== "boolean" && h("span.soft", " (optional)"));
  return { element: h(`div.field.${kind}`, label, input, h("p.soft", { id: `${id}-hint` }, description?.replaceAll("`", ""), { lines: " One a line.", json: " As JSON." }[kind]), wrong), read, tell };
}

/** A form. `pointer`: where in the request its value goes. */
export function formOf({ fields, submit, send, pointer = "" }) {
  const [wrong, pressed] = [h("div"), h("button.primary", submit)];
  const form = h("form", { onsubmit }, fields.element, wrong, h("div", pressed));
  async function trySending() {
    try {
      await send(fields.read());
    } catch (error) {
      for (const { pointer: at, detail } of error.errors ?? []) {
        const path = at.split("/").slice(1);
        if (!pointer || path.shift() === pointer) fields.tell(path, `This ${detail}.`);
      }
      form.querySelector('[aria-invalid="true"]')?.focus();
      throw error;
    }
  }
  function onsubmit(event) {
    event.preventDefault();
    void busy(pressed, wrong, trySending);
  }
  return form;
}

// Forms made from JSON Schema: of capabilities, of what a service asks for, of the gateway's own resources.
import { busy, fill, h } from "./dom.js";

let made = 0;

/** Fields for a value that a schema describes. @param {any} schema @param {string} label where it has no title @param {any} [value] @returns {Field} */
export function fieldsFor(schema, label, value) {
  const properties = Object.entries(schema?.properties ?? {});
  if (properties.length === 0) return field(label, schema ?? {}, true, value ?? (schema?.type ? undefined : {}));
  /** @type {[string, Field][]} */
  const fields = properties.map(([name, part]) => [name, field(name, part, schema.required?.includes(name) ?? false, value?.[name])]);
  return {
    element: h("div.fields", fields.map(([, one]) => one.element)),
    read: () => Object.fromEntries(fields.map(([name, one]) => [name, one.read()]).filter(([, read]) => read !== undefined)),
    tell: ([name, ...rest], text) => fields.find(([known]) => known === name)?.[1].tell(rest, text),
  };
}

/** @param {any} schema */
function kindOf(schema) {
  const [type] = [schema.type].flat();
  if (schema.enum) return "choice";
  if (type === "string") return schema.maxLength > 200 ? "text" : "line";
  if (type === "array" && schema.items?.type === "string") return "lines";
  return type === "integer" ? "number" : ["boolean", "number"].includes(type) ? type : "json";
}

/** @param {string} name @param {any} schema @param {boolean} required @param {any} [value] @returns {Field} */
function field(name, schema, required, value = schema.default) {
  const kind = kindOf(schema);
  const title = schema.title ?? name;
  const id = `field${(made += 1)}`;
  const [example] = schema.examples ?? [];
  const wrong = h("p.wrong", { id: `${id}-wrong` });
  const attributes = {
    id, required: required && kind !== "boolean", "aria-describedby": `${id}-hint ${id}-wrong`, autocomplete: "off", spellcheck: "false",
    placeholder: typeof example === "string" ? example : example && JSON.stringify(example),
  };
  const text = value === undefined ? "" : kind === "json" ? JSON.stringify(value, null, 2) : kind === "lines" ? value.join("\n") : value;
  const input = ({
    choice: () => h("select", attributes, [...(required ? [] : [""]), ...schema.enum].map((one) => h("option", { value: one, selected: one === value }, one || "–"))),
    boolean: () => h("input", { ...attributes, type: "checkbox", checked: value === true }),
    number: () => h("input", { ...attributes, type: "number", min: schema.minimum, max: schema.maximum, step: schema.type === "number" ? "any" : 1, value: text }),
    line: () => h("input", { ...attributes, type: schema.format === "password" ? "password" : "text", value: text }),
  }[kind] ?? (() => h("textarea", { ...attributes, class: kind, rows: Math.min(16, Math.max(3, text.split("\n").length)), value: text })))();
  const hint = [schema.description?.replaceAll("`", ""), kind === "lines" && "One a line.", kind === "json" && "As JSON."].filter(Boolean).join(" ");
  const tell = (_, text) => {
    fill(wrong, text);
    input.ariaInvalid = String(text !== "");
  };
  return {
    element: h(`div.field.${kind}`, h("label", { for: id }, title, !required && kind !== "boolean" && h("span.soft", " (optional)")), input, h("p.soft", { id: `${id}-hint` }, hint), wrong),
    read() {
      tell([], "");
      if (kind === "boolean") return input.checked;
      if (kind === "lines") return input.value.split("\n").map((line) => line.trim()).filter(Boolean);
      // What is empty is left out.
      if (input.value.trim() === "") return undefined;
      if (kind === "number") return Number(input.value);
      if (kind === "choice") return schema.enum.find((one) => String(one) === input.value);
      if (kind !== "json") return input.value;
      try {
        return JSON.parse(input.value);
      } catch (error) {
        tell([], `This is no JSON: ${/** @type {Error} */ (error).message}`);
        throw new Error(`${title} is no JSON. Mend it, then send again.`);
      }
    },
    tell,
  };
}

/**
 * A form around fields. What the gateway finds wrong with a field is said there too; `pointer` is where in the request the
 * fields' value goes.
 * @param {{ fields: Field, submit: string, send: (value: any) => unknown, pointer?: string, more?: HTMLElement[] }} options
 */
export function formOf({ fields, submit, send, pointer = "", more = [] }) {
  const wrong = h("div");
  const pressed = h("button.primary", submit);
  const form = h("form", { onsubmit }, fields.element, wrong, h("div.row", pressed, more));
  /** @param {SubmitEvent} event */
  function onsubmit(event) {
    event.preventDefault();
    void busy(pressed, wrong, async () => {
      try {
        await send(fields.read());
      } catch (error) {
        for (const one of /** @type {any} */ (error).errors ?? []) {
          const path = one.pointer.split("/").slice(1);
          if (!pointer || path.shift() === pointer) fields.tell(path, `This ${one.detail}.`);
        }
        form.querySelector('[aria-invalid="true"]')?.focus();
        throw error;
      }
    });
  }
  return form;
}

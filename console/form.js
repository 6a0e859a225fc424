// Forms: send the values of their fields, and show errors at the fields concerned.
import { ApiError } from "./api.js";
import { messageOf, runAction } from "./components.js";
import { h } from "./dom.js";
import { pointerSteps } from "./schema.js";

/** @import { FieldError } from "./api.js" */

/** An error that belongs to fields of a form. */
export class InputError extends Error {
  /**
   * @param {string} message
   * @param {FieldError[]} errors
   */
  constructor(message, errors) {
    super(message);
    this.errors = errors;
  }
}

/**
 * @typedef {object} FormOptions
 * @property {Field} fields
 * @property {string} submitLabel
 * @property {(value: any) => unknown} send
 * @property {string} [pointer] the member of the request that the fields' value goes into
 * @property {(path: string[]) => string[]} [fieldPath] the field that shows an error at a path of the request
 */

/**
 * @param {FormOptions} options
 * @returns {HTMLFormElement}
 */
export function buildForm(options) {
  const { fields, submitLabel, send } = options;
  const errorPlace = h("div");
  const submitButton = h("button.primary", submitLabel);

  async function submit() {
    try {
      const missing = fields.missing();
      if (missing.length > 0) throw new Error(`Not sent. Still needed: ${missing.join(", ")}.`);
      await send(fields.read());
    } catch (error) {
      const unplaced = showAtFields(errorsOf(error), options);
      focusFirstError(form);
      if (unplaced.length === 0) throw error;
      const rest = unplaced.map(({ pointer, detail }) => `${pointer} ${detail}.`);
      throw new Error([messageOf(error), ...rest].join(" "));
    }
  }

  /** @param {SubmitEvent} event */
  function onsubmit(event) {
    event.preventDefault();
    void runAction(submitButton, errorPlace, submit);
  }

  // `novalidate`: the form shows its own messages instead of the browser's.
  const form = h("form", { onsubmit, novalidate: true }, fields.element, errorPlace, h("div", submitButton));
  return form;
}

/**
 * @param {unknown} error
 * @returns {FieldError[]}
 */
const errorsOf = (error) => (error instanceof ApiError || error instanceof InputError ? error.errors : []);

/**
 * Shows each error at its field.
 * @param {FieldError[]} errors
 * @param {FormOptions} options
 * @returns {FieldError[]} those that have no field
 */
function showAtFields(errors, { fields, pointer = "", fieldPath = (path) => path }) {
  return errors.filter((error) => {
    const path = pointerSteps(error.pointer);
    if (pointer && path.shift() !== pointer) return true;
    return !fields.showError(fieldPath(path), sentenceOf(error));
  });
}

/**
 * @param {FieldError} error
 * @returns {string}
 */
const sentenceOf = ({ detail }) => (detail.startsWith("there ") ? `T${detail.slice(1)}.` : `This ${detail}.`);

/**
 * @param {HTMLFormElement} form
 * @returns {void}
 */
function focusFirstError(form) {
  /** @type {HTMLElement | null} */
  const field = form.querySelector('[aria-invalid="true"]');
  field?.focus();
}

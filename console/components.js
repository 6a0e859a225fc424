// The small parts of screens: buttons, links, badges, times, texts to copy, messages.
import { fill, h } from "./dom.js";
import { fullTime, relativeTime, words } from "./format.js";

const TOAST_MS = 6000;
const TIMES_MS = 5000;
/** Longer texts are shown truncated, as they slow browsers down. */
const MAX_SHOWN_LENGTH = 200_000;

/**
 * Shows a message for a few seconds.
 * @param {string} text
 * @returns {void}
 */
export function toast(text) {
  const message = h("p", text);
  document.getElementById("toast")?.replaceChildren(message);
  setTimeout(() => message.remove(), TOAST_MS);
}

/**
 * @param {unknown} error
 * @returns {string}
 */
export const messageOf = (error) => (error instanceof Error ? error.message : String(error));

/**
 * @param {unknown} error
 * @returns {HTMLElement}
 */
export const errorAlert = (error) => h("p.fault", { role: "alert" }, messageOf(error));

/**
 * Runs the action of a button, once at a time; an error is shown in `errorPlace`.
 * @param {HTMLButtonElement} pressed
 * @param {Element} errorPlace
 * @param {() => unknown} act
 * @returns {Promise<void>}
 */
export async function runAction(pressed, errorPlace, act) {
  if (pressed.ariaDisabled) return;
  pressed.ariaDisabled = "true";
  fill(errorPlace);
  try {
    await act();
  } catch (error) {
    fill(errorPlace, errorAlert(error));
  }
  pressed.ariaDisabled = null;
}

/**
 * A button that shows its errors next to it.
 * @param {string} text
 * @param {() => unknown} act
 * @param {{ kind?: string, key?: string }} [options] `kind`: its class; `key`: what a redraw finds it by
 * @returns {HTMLElement}
 */
export function button(text, act, { kind = "", key = text } = {}) {
  const errorPlace = h("span", { "data-own": true });
  /** @param {{ currentTarget: HTMLButtonElement }} event */
  const onclick = ({ currentTarget }) => {
    // A redraw may have handed this handler to an older button, which has its own place for errors.
    void runAction(currentTarget, currentTarget.nextElementSibling ?? errorPlace, act);
  };
  return h("span", { "data-key": key }, h("button", { type: "button", class: kind, onclick }, text), errorPlace);
}

/**
 * @param {string} text
 * @param {string} href
 * @param {string} [className]
 * @returns {HTMLAnchorElement}
 */
export const link = (text, href, className = "") => h("a", { href, class: className }, text);

/**
 * Links to the parts of a screen.
 * @param {string} label
 * @param {{ name: string, href: string, isCurrent: boolean }[]} parts
 * @returns {HTMLElement}
 */
export function tabList(label, parts) {
  const items = parts.map(({ name, href, isCurrent }) =>
    h("li", h("a", { href, "aria-current": isCurrent && "page" }, name)),
  );
  return h("nav", { "aria-label": label }, h("ul.tabs.plain", items));
}

/**
 * Runs an action that cannot be undone, if the user confirms it.
 * @template T
 * @param {string} question
 * @param {() => T} act
 * @returns {T | undefined}
 */
export const confirmed = (question, act) => (confirm(question) ? act() : undefined);

/**
 * @param {string} text
 * @param {string} what what is copied, in words
 * @returns {HTMLElement}
 */
function copyButton(text, what) {
  async function onclick() {
    try {
      // Browsers offer the clipboard only to pages served over https or from localhost.
      await navigator.clipboard.writeText(text);
      toast(`Copied: ${what}.`);
    } catch {
      toast("Your browser blocked copying. Select the text instead.");
    }
  }
  return h("button.quiet", { type: "button", "aria-label": `Copy ${what}`, onclick }, "Copy");
}

/**
 * @param {string} text
 * @param {string} what
 * @returns {HTMLElement}
 */
export const copyable = (text, what) => h("span.row", h("code", text), copyButton(text, what));

/**
 * @param {string} what
 * @param {string} secret
 * @returns {HTMLElement}
 */
export function secretShownOnce(what, secret) {
  const warning = h("p", h("strong", `${what}. `), "Save it now: it will not be shown again.");
  return h("div.note", { role: "status" }, warning, copyable(secret, what));
}

/**
 * Text to read and copy.
 * @param {string} label
 * @param {string} text
 * @returns {HTMLElement}
 */
export function textBlock(label, text) {
  const isCut = text.length > MAX_SHOWN_LENGTH;
  const shown = isCut
    ? `${text.slice(0, MAX_SHOWN_LENGTH)}… Truncated here. The text has ${text.length} characters; Copy copies all of it.`
    : text;
  const pre = h("pre", { tabindex: 0, role: "region", "aria-label": label }, shown);
  return h("figure", h("figcaption", label, copyButton(text, label)), pre);
}

/**
 * @param {string} label
 * @param {unknown} value
 * @returns {HTMLElement}
 */
export const jsonBlock = (label, value) => textBlock(label, JSON.stringify(value, null, 2));

/**
 * @param {string} title
 * @param {...Child} children
 * @returns {HTMLElement}
 */
export const section = (title, ...children) => h("section", h("h2", title), ...children);

/**
 * Names with their values; empty values are left out.
 * @param {Record<string, Child>} values
 * @returns {HTMLElement}
 */
export function facts(values) {
  const present = Object.entries(values).filter(([, value]) => value || value === 0);
  return h(
    "dl",
    present.map(([name, value]) => h("div", h("dt", name), h("dd", value))),
  );
}

/**
 * A screen's heading, with content next to it.
 * @param {string} text
 * @param {Child} beside
 * @returns {HTMLElement}
 */
export const screenTitle = (text, beside) =>
  h("div.title", h("h1", { tabindex: -1 }, text), h("span", { role: "status" }, beside));

/**
 * A status in its color.
 * @param {string} status
 * @returns {HTMLElement}
 */
export const badge = (status) => h(`span.badge.is-${status}`, words(status));

/**
 * A time with its full form as the tooltip.
 * @param {string} iso
 * @param {string} [text] shown instead of the relative time
 * @returns {HTMLElement}
 */
export function time(iso, text) {
  const attributes = { datetime: iso, title: fullTime(iso), class: text === undefined && "relative" };
  return h("time", attributes, text ?? relativeTime(iso));
}

/** @returns {void} */
function updateRelativeTimes() {
  for (const element of document.querySelectorAll("time.relative")) {
    element.textContent = relativeTime(/** @type {HTMLTimeElement} */ (element).dateTime);
  }
}

setInterval(updateRelativeTimes, TIMES_MS);

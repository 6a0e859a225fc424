// Elements are built here and nowhere else: what comes from outside goes in as text, never as markup.

/**
 * `h("p.soft", { title }, "text")`: an element with its classes, attributes and children. What is false or missing is
 * left out; attributes that begin with `on` are listeners.
 * @param {string} what @param {...any} rest @returns {any}
 */
export function h(what, ...rest) {
  const [tag = "", ...classes] = what.split(".");
  const element = document.createElement(tag);
  element.classList.add(...classes);
  if (Object.getPrototypeOf(rest[0] ?? "") === Object.prototype) set(element, rest.shift());
  return fill(element, ...rest);
}

/** @param {Element} element @param {Record<string, any>} attributes */
function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") /** @type {any} */ (element).value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
}

/** Replaces what is inside. @param {Element} element @param {...any} children */
export function fill(element, ...children) {
  const shown = children.flat(3).filter((child) => child !== false && child !== null && child !== undefined);
  element.replaceChildren(...shown);
  return element;
}

/** Bars in a picture that says what it shows. @param {string} kind @param {number} width @param {string} label @param {Record<string, any>[]} rects */
export function bars(kind, width, label, rects) {
  const make = (tag, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    set(element, attributes);
    return element;
  };
  const svg = make("svg", { class: kind, viewBox: `0 0 ${width} 20`, preserveAspectRatio: "none", role: "img", "aria-label": label });
  svg.append(...rects.map((rect) => make("rect", rect)));
  return svg;
}

/**
 * Shows items as children and leaves in place what looks as before, so that focus stays.
 * @template T @param {Element} parent @param {T[]} items @param {(item: T) => string} key @param {(item: T) => string} look
 * @param {(item: T) => HTMLElement} build
 */
export function keep(parent, items, key, look, build) {
  const old = new Map([...parent.children].map((child) => [/** @type {HTMLElement} */ (child).dataset.key, child]));
  const shown = items.map((item) => {
    const there = /** @type {HTMLElement | undefined} */ (old.get(key(item)));
    if (there?.dataset.look === look(item)) return there;
    const built = build(item);
    Object.assign(built.dataset, { key: key(item), look: look(item) });
    return built;
  });
  const focused = /** @type {HTMLElement | null} */ (document.activeElement?.closest("[data-key]"));
  for (const child of [...parent.children]) if (!shown.includes(/** @type {HTMLElement} */ (child))) child.remove();
  shown.forEach((child, at) => { if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null); });
  if (focused && !focused.isConnected) shown.find((child) => child.dataset.key === focused.dataset.key)?.querySelector("a")?.focus();
}

/** Said to everybody, screen readers too. @param {string} text */
export function say(text) {
  const line = h("p", text);
  document.getElementById("said")?.replaceChildren(line);
  setTimeout(() => line.remove(), 6000);
}

/** @param {unknown} error */
export const fault = (error) => h("p.fault", { role: "alert" }, error instanceof Error ? error.message : String(error));

/** Does something once at a time, and shows in `place` what went wrong. @param {HTMLElement} pressed @param {Element} place @param {() => unknown} act */
export async function busy(pressed, place, act) {
  if (pressed.ariaDisabled) return;
  pressed.ariaDisabled = "true";
  fill(place);
  try {
    await act();
  } catch (error) {
    fill(place, fault(error));
  }
  pressed.ariaDisabled = null;
}

/** @param {string} text @param {() => unknown} act @param {string} [kind] */
export function button(text, act, kind = "") {
  const wrong = h("span.told");
  return h("span", h("button", { type: "button", class: kind, onclick: (event) => busy(event.currentTarget, wrong, act) }, text), wrong);
}

/** @param {string} text @param {string} href @param {string} [kind] */
export const link = (text, href, kind = "") => h("a", { href, class: kind }, text);

/** Asks before what cannot be undone. @param {string} question @param {string} detail @param {string} yes @param {() => unknown} act */
export function confirm(question, detail, yes, act) {
  /** @type {HTMLDialogElement} */
  const dialog = h("dialog", { "aria-labelledby": "question", onclose: () => dialog.remove() }, h("h2", { id: "question" }, question), h("p", detail),
    h("div.row", button(yes, async () => { await act(); dialog.close(); }, "danger"), button("No, keep it", () => dialog.close())));
  document.body.append(dialog);
  dialog.showModal();
}

/** @param {string} text @param {string} what */
function copy(text, what) {
  const act = async () => { await navigator.clipboard.writeText(text); say(`Copied: ${what}.`); };
  return h("button.quiet", { type: "button", "aria-label": `Copy ${what}`, onclick: act }, "Copy");
}

/** @param {string} text @param {string} what it is */
export const copyable = (text, what) => h("span.row", h("code", text), copy(text, what));

/** @param {string} what @param {string} secret */
export const secretOnce = (what, secret) => h("div.note", { role: "status" }, h("p", h("strong", `${what}. `), "Keep it now: it is not shown again."), copyable(secret, what));

/** Text as it is, with a button to copy it. @param {string} label @param {string} text */
export const block = (label, text) => h("figure", h("figcaption", label, copy(text, label)), h("pre", { tabindex: 0, role: "region", "aria-label": label }, text));

/** @param {string} label @param {unknown} value */
export const json = (label, value) => block(label, JSON.stringify(value, null, 2));

/** What is known of something; what is missing is left out. @param {Record<string, any>} pairs */
export const facts = (pairs) => h("dl", Object.entries(pairs).filter(([, value]) => value || value === 0).map(([name, value]) => h("div", h("dt", name), h("dd", value))));

/** @param {string} name of a state */
export const badge = (name) => h(`span.badge.is-${name}`, name.replaceAll("_", " "));

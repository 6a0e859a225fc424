// Builds elements: what comes from outside is text, never markup. Formats times.

/** `h("p.soft", { id }, "text")`: classes, attributes, children; false ones are left out. @returns {any} */
export function h(what, ...rest) {
  const [tag, ...classes] = what.split(".");
  const element = document.createElement(tag);
  element.classList.add(...classes);
  if (Object.getPrototypeOf(rest[0] ?? "") === Object.prototype) set(element, rest.shift());
  return fill(element, ...rest);
}

const isThere = (value) => value !== undefined && value !== null && value !== false;

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (!isThere(value)) continue;
    // A property, so that a redraw can hand it on.
    if (name.startsWith("on")) element[name] = value;
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  return element;
}

/** Replaces the children. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(3).filter(isThere));
  return element;
}

/** A picture of bars, with what it says. */
export function bars(kind, width, label, rects) {
  const make = (tag, attributes) => set(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes);
  const svg = make("svg", {
    class: kind,
    viewBox: `0 0 ${width} 20`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": label,
  });
  svg.append(...rects.map((rect) => make("rect", rect)));
  return svg;
}

export function say(text) {
  const line = h("p", text);
  document.getElementById("said")?.replaceChildren(line);
  setTimeout(() => line.remove(), 6000);
}

export const fault = (error) => h("p.fault", { role: "alert" }, error.message);

/** Acts once at a time; errors are shown in `place`. */
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

/** `key`: what it is known by when the screen is redrawn; its text otherwise. */
export function button(text, act, kind = "", key = text) {
  const onclick = ({ currentTarget }) => busy(currentTarget, currentTarget.nextElementSibling, act);
  return h(
    "span",
    { "data-key": key },
    h("button", { type: "button", class: kind, onclick }, text),
    h("span", { "data-own": true }),
  );
}

export const link = (text, href, kind = "") => h("a", { href, class: kind }, text);

/** Does what cannot be undone, after asking. */
export const sure = (question, act) => confirm(question) && act();

function copy(text, what) {
  // Browsers have a clipboard for pages of https and of the machine itself only.
  const onclick = () =>
    (navigator.clipboard?.writeText(text) ?? Promise.reject()).then(
      () => say(`Copied: ${what}.`),
      () => say("The browser did not allow copying. Select the text instead."),
    );
  return h("button.quiet", { type: "button", "aria-label": `Copy ${what}`, onclick }, "Copy");
}

export const copyable = (text, what) => h("span.row", h("code", text), copy(text, what));

export const secretOnce = (what, secret) =>
  h(
    "div.note",
    { role: "status" },
    h("p", h("strong", `${what}. `), "Keep it now: it is not shown again."),
    copyable(secret, what),
  );

/** A text to read and copy; of a long one, which slows browsers, the beginning. */
export const block = (label, text) =>
  h(
    "figure",
    h("figcaption", label, copy(text, label)),
    h(
      "pre",
      { tabindex: 0, role: "region", "aria-label": label },
      text.length > 2e5 ? `${text.slice(0, 2e5)}… ${text.length} characters; Copy has all.` : text,
    ),
  );

export const json = (label, value) => block(label, JSON.stringify(value, null, 2));

export const section = (title, ...rest) => h("section", h("h2", title), ...rest);

/** A list of facts; empty ones are left out. */
export const facts = (pairs) =>
  h(
    "dl",
    Object.entries(pairs).map(([name, value]) => (value || value === 0) && h("div", h("dt", name), h("dd", value))),
  );

export const title = (text, beside) =>
  h("div.title", h("h1", { tabindex: -1 }, text), h("span", { role: "status" }, beside));

/** A state, by its name and colour. */
export const badge = (state) => h(`span.badge.is-${state}`, state.replaceAll("_", " "));

export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return ms < 1 ? "< 1 ms" : `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
  const [many, unit, rest, small] = s < 3600 ? [s / 60, "min", s % 60, "s"] : [s / 3600, "h", (s % 3600) / 60, "min"];
  return `${Math.floor(many)} ${unit}${rest < 1 ? "" : ` ${Math.floor(rest)} ${small}`}`;
}

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
/** @type {[Intl.RelativeTimeFormatUnit, number][]} */
const UNITS = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
  ["second", 1000],
];

function away(iso) {
  const ms = Date.parse(iso) - Date.now();
  const [unit, size] = UNITS.find(([, size]) => Math.abs(ms) >= size) ?? ["second", 1000];
  return relative.format(Math.trunc(ms / size), unit);
}

/** A relative time, or a text, titled with the full time. */
export function when(iso, text) {
  const title = new Date(iso).toLocaleString("en", { dateStyle: "medium", timeStyle: "long" });
  return h("time", { datetime: iso, title, class: !text && "away" }, text ?? away(iso));
}

setInterval(
  () =>
    document.querySelectorAll("time").forEach((time) => {
      if (time.className) time.textContent = away(time.dateTime);
    }),
  5000,
);

export const moment = (iso) => new Date(iso).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });

/** A time of today by the clock, others with their day. */
export function clock(iso) {
  const at = new Date(iso);
  const isToday = at.toDateString() === new Date().toDateString();
  return at.toLocaleString("en", {
    ...(!isToday && { month: "short", day: "numeric" }),
    hour: "numeric",
    minute: "2-digit",
  });
}

/** When something was last used, which the gateway keeps to the hour. */
export function lastUsed(iso) {
  if (!iso) return "never used";
  return Date.now() - Date.parse(iso) < 3_600_000 ? "used within this hour" : `used about ${away(iso)}`;
}

export const number = (count) => count.toLocaleString("en");

/** A part of a whole in percent: 100% and 0% only where that is exact. */
export function percent(part, whole) {
  if (!whole) return "–";
  if (part === 0 || part === whole) return `${(part / whole) * 100}%`;
  return `${Math.min(99.9, Math.max(0.1, Math.round((part / whole) * 1000) / 10))}%`;
}

/** A small document in a line. */
export function brief(value) {
  if (!(value instanceof Object)) return String(value);
  return Object.entries(value)
    .map(([name, one]) => `${name} ${JSON.stringify(one)}`)
    .join(", ");
}

// Creates elements. Content from outside becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Creates an element: `h("p.soft", { id: "about" }, "text")`.
 * @template {string} Selector
 * @param {Selector} selector the tag's name and classes
 * @param {...(Attributes | Child)} rest attributes, which may be left out, then children
 * @returns {ElementOf<Selector>}
 */
export function h(selector, ...rest) {
  const [tag = "", ...classes] = selector.split(".");
  const element = document.createElement(tag);
  element.classList.add(...classes);
  const [first, ...others] = rest;
  if (isAttributes(first)) {
    setAttributes(element, first);
    fill(element, .../** @type {Child[]} */ (others));
  } else {
    fill(element, .../** @type {Child[]} */ (rest));
  }
  return /** @type {ElementOf<Selector>} */ (element);
}

/**
 * @param {unknown} value
 * @returns {value is Attributes}
 */
const isAttributes = (value) => value instanceof Object && Object.getPrototypeOf(value) === Object.prototype;

/**
 * @param {any} element
 * @param {Attributes} attributes
 * @returns {void}
 */
function setAttributes(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (!isPresent(value)) continue;
    // Handlers are properties, so that a redraw can hand them on.
    if (name.startsWith("on")) element[name] = value;
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
}

/**
 * @param {unknown} value
 * @returns {boolean}
 */
const isPresent = (value) => value !== undefined && value !== null && value !== false;

/**
 * Flattens children and leaves out absent ones.
 * @param {Child[]} children
 * @returns {(Node | string)[]}
 */
export function presentChildren(children) {
  const all = /** @type {Child[]} */ (children.flat(3));
  return /** @type {(Node | string)[]} */ (all.filter(isPresent));
}

/**
 * Replaces an element's children.
 * @template {Element} T
 * @param {T} element
 * @param {...Child} children
 * @returns {T}
 */
export function fill(element, ...children) {
  element.replaceChildren(...presentChildren(children));
  return element;
}

/**
 * A picture made of rectangles, 20 units high.
 * @param {string} className
 * @param {number} width
 * @param {string} label the same in words
 * @param {Attributes[]} bars each rectangle's attributes
 * @returns {SVGElement}
 */
export function barChart(className, width, label, bars) {
  const svg = document.createElementNS(SVG, "svg");
  setAttributes(svg, {
    class: className,
    viewBox: `0 0 ${width} 20`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": label,
  });
  for (const bar of bars) {
    const rect = document.createElementNS(SVG, "rect");
    setAttributes(rect, bar);
    svg.append(rect);
  }
  return svg;
}

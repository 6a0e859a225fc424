// Redraws in place: elements that are already there stay, and with them focus, scroll position and selection.
//
// An element is matched with the one drawn before by its key (`data-key`, id or address), or else by its order. An
// element with `data-own` keeps its own children.
import { presentChildren } from "./dom.js";

const HANDLERS = /** @type {const} */ (["onclick", "onchange", "onsubmit"]);
/** Attributes that the user or the screen may have changed since the element was drawn. */
const KEPT_ATTRIBUTES = ["open", "tabindex", "aria-disabled"];

/**
 * Replaces an element's children, reusing those that are already there.
 * @template {Element} T
 * @param {T} parent
 * @param {...Child} children
 * @returns {T}
 */
export function patch(parent, ...children) {
  const { activeElement } = document;
  const focused = activeElement instanceof HTMLElement && parent.contains(activeElement) ? activeElement : undefined;
  const nodes = presentChildren(children).map((child) => (child instanceof Node ? child : new Text(String(child))));
  replaceChildren(parent, nodes);
  if (focused) keepFocus(focused);
  return parent;
}

/**
 * Restores the focus. If its element is gone, the heading gets it, never another row.
 * @param {HTMLElement} focused
 * @returns {void}
 */
function keepFocus(focused) {
  const target = focused.isConnected ? focused : /** @type {HTMLElement | null} */ (document.querySelector("main h1"));
  if (document.activeElement !== target) target?.focus({ preventScroll: true });
}

/**
 * Identifies a node among its siblings, whatever its text.
 * @param {Node} node
 * @returns {string | undefined}
 */
function keyOf(node) {
  if (!(node instanceof Element)) return undefined;
  const { key } = /** @type {HTMLElement | SVGElement} */ (node).dataset;
  return key || node.id || node.getAttribute("href") || undefined;
}

/**
 * @param {Element} parent
 * @param {Node[]} wanted
 * @returns {void}
 */
function replaceChildren(parent, wanted) {
  const present = [...parent.childNodes];
  const findPresent = finderAmong(present);
  const nodes = wanted.map((next) => {
    const known = findPresent(next);
    return known?.nodeName === next.nodeName ? updated(known, next) : next;
  });
  const staying = new Set(nodes);
  for (const node of present) {
    if (!staying.has(node)) node.remove();
  }
  putInOrder(parent, nodes);
}

/**
 * Finds the present node that matches a new one; each is found once.
 * @param {Node[]} present
 * @returns {(next: Node) => Node | undefined}
 */
function finderAmong(present) {
  const keyed = new Map(present.filter(keyOf).map((node) => [keyOf(node), node]));
  const keyless = present.filter((node) => !keyOf(node));
  return (next) => {
    const key = keyOf(next);
    if (key) {
      const known = keyed.get(key);
      keyed.delete(key);
      return known;
    }
    const at = keyless.findIndex((node) => node.nodeName === next.nodeName);
    return at < 0 ? undefined : keyless.splice(at, 1)[0];
  };
}

/**
 * @param {Element} parent
 * @param {Node[]} nodes
 * @returns {void}
 */
function putInOrder(parent, nodes) {
  let place = parent.firstChild;
  for (const node of nodes) {
    if (node === place) place = place.nextSibling;
    // Moving keeps the focus, in browsers that can do it.
    else if (node.isConnected && "moveBefore" in parent) /** @type {any} */ (parent).moveBefore(node, place);
    else parent.insertBefore(node, place);
  }
}

/**
 * Makes a node look and act like another of the same kind.
 * @param {Node} node
 * @param {Node} next
 * @returns {Node}
 */
function updated(node, next) {
  if (!(node instanceof Element && next instanceof Element)) {
    if (node.nodeValue !== next.nodeValue) node.nodeValue = next.nodeValue;
    return node;
  }
  updateAttributes(node, next);
  const element = /** @type {HTMLElement} */ (node);
  const nextElement = /** @type {HTMLElement} */ (next);
  for (const handler of HANDLERS) element[handler] = /** @type {any} */ (nextElement[handler]);
  if (!("own" in element.dataset)) replaceChildren(node, [...next.childNodes]);
  return node;
}

/**
 * @param {Element} element
 * @param {Element} next
 * @returns {void}
 */
function updateAttributes(element, next) {
  for (const { name, value } of next.attributes) {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  }
  for (const { name } of [...element.attributes]) {
    if (!next.hasAttribute(name) && !KEPT_ATTRIBUTES.includes(name)) element.removeAttribute(name);
  }
}

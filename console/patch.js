// Redraws in place: elements that are there already stay, and with them focus, scroll position and selection.

const HANDLERS = ["onclick", "onchange", "onsubmit"];
/** What the reader or the screen has set since it was drawn. */
const KEPT = ["open", "tabindex", "aria-disabled"];

/** What an element is known by among its siblings, whatever its text says. */
const keyOf = (node) => node.dataset?.key || node.id || node.getAttribute?.("href") || undefined;

const isThere = (value) => value !== undefined && value !== null && value !== false;

/** Shows these children instead of the present ones. */
export function patch(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? /** @type {any} */ (document.activeElement) : undefined;
  const wanted = children
    .flat(3)
    .filter(isThere)
    .map((one) => (one instanceof Node ? one : document.createTextNode(one)));
  replace(parent, wanted);
  if (!focused) return parent;
  // What had the focus and is gone leaves it to the heading, never to another row.
  const heir = focused.isConnected ? focused : document.querySelector("main h1");
  if (document.activeElement !== heir) heir?.focus({ preventScroll: true });
  return parent;
}

function replace(parent, wanted) {
  const present = [...parent.childNodes];
  const keyed = new Map(present.filter(keyOf).map((node) => [keyOf(node), node]));
  const plain = present.filter((node) => !keyOf(node));
  const matched = wanted.map((next) => {
    const key = keyOf(next);
    const at = key ? -1 : plain.findIndex((node) => node.nodeName === next.nodeName);
    const [known] = key ? [keyed.get(key)] : at < 0 ? [] : plain.splice(at, 1);
    keyed.delete(key);
    return known?.nodeName === next.nodeName ? update(known, next) : next;
  });
  const staying = new Set(matched);
  for (const node of present) if (!staying.has(node)) node.remove();
  let place = parent.firstChild;
  for (const node of matched) {
    if (node === place) place = place.nextSibling;
    // Moving keeps the focus where the browser can do that.
    else if (node.isConnected && parent.moveBefore) parent.moveBefore(node, place);
    else parent.insertBefore(node, place);
  }
}

/** Makes an element look and act as another. */
function update(node, next) {
  if (node.nodeType !== Node.ELEMENT_NODE) {
    if (node.data !== next.data) node.data = next.data;
    return node;
  }
  for (const { name, value } of next.attributes) if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  for (const { name } of [...node.attributes])
    if (!next.hasAttribute(name) && !KEPT.includes(name)) node.removeAttribute(name);
  for (const handler of HANDLERS) node[handler] = next[handler];
  if (!("own" in node.dataset)) replace(node, [...next.childNodes]);
  return node;
}

// Remembers where the user was on each page of the history, so that going back restores scroll position and focus.

/** @typedef {{ scroll: number, focus: string }} Place `focus`: the address of the focused link, if there was one. */

/** By the history's entry, and by address. @type {Map<string, Place>} */
const places = new Map();
/** The last address of each screen, with its filters. @type {Map<string, string>} */
const lastAddresses = new Map();
/** @type {{ entry: string, address: string } | undefined} */
let current;
/** The address that a link back leads to. @type {string | undefined} */
let returnAddress;

history.scrollRestoration = "manual";

/**
 * @param {string} address
 * @returns {string}
 */
const screenOf = (address) => address.split("?")[0] ?? "";

/**
 * @param {{ entry: string, address: string }} left
 * @returns {void}
 */
function rememberPlace({ entry, address }) {
  const focused = document.activeElement;
  // After a mouse click, the focus is not worth restoring.
  const focus = focused?.matches(":focus-visible") ? focused.getAttribute("href") : undefined;
  const place = { scroll: scrollY, focus: focus ?? "" };
  places.set(entry, place).set(address, place);
}

/**
 * Call this when the address has changed.
 * @returns {Place | undefined} the place to restore, if the user returns to this page
 */
export function arrive() {
  if (current) rememberPlace(current);
  const address = location.hash || "#/now";
  const knownEntry = history.state?.entry;
  const entry = knownEntry ?? `${Date.now()} ${Math.random()}`;
  if (!knownEntry) history.replaceState({ entry }, "");
  const place = placeToRestore(address, knownEntry);
  returnAddress = undefined;
  current = { entry, address };
  lastAddresses.set(screenOf(address), address);
  return place;
}

/**
 * @param {string} address
 * @param {string | undefined} knownEntry
 * @returns {Place | undefined}
 */
function placeToRestore(address, knownEntry) {
  if (knownEntry) return places.get(knownEntry);
  return returnAddress === address ? places.get(address) : undefined;
}

/**
 * Restores a place on the current screen, or else goes to its top and focuses its heading.
 * @param {Place | undefined} place
 * @param {HTMLElement} heading
 * @returns {void}
 */
export function restorePlace(place, heading) {
  const selector = `main a[href="${CSS.escape(place?.focus ?? "")}"]`;
  const target = place?.focus ? document.querySelector(selector) : undefined;
  /** @type {HTMLElement} */ (target ?? heading).focus({ preventScroll: true });
  scrollTo(0, place?.scroll ?? 0);
}

/**
 * Makes a link return to a screen as the user left it, with its filters.
 * @param {HTMLAnchorElement} link
 * @returns {HTMLAnchorElement}
 */
export function leadBack(link) {
  const address = lastAddresses.get(screenOf(link.hash)) ?? link.hash;
  link.href = address;
  link.onclick = () => {
    returnAddress = address;
  };
  return link;
}

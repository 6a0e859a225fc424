// Where the reader was on each page of the history, so that going back leads there: scroll position and focus.

/** @type {Map<string, { y: number, focus: string }>} by the history's entry and by address */
const places = new Map();
/** The address last seen of each screen, with its filters. */
const addresses = new Map();
let here;
let returning;

history.scrollRestoration = "manual";

const screenOf = (address) => address.split("?")[0];

function leave() {
  const focused = document.activeElement;
  // By a mouse the focus is nowhere in particular.
  const place = { y: scrollY, focus: (focused?.matches(":focus-visible") && focused.getAttribute("href")) || "" };
  places.set(here.entry, place).set(here.address, place);
}

/** Call when the address has changed; gives the place to return to, if this is a return. */
export function arrive() {
  if (here) leave();
  const address = location.hash || "#/now";
  const known = history.state?.entry;
  const entry = known ?? `${Date.now()} ${Math.random()}`;
  if (!known) history.replaceState({ entry }, "");
  const place = known ? places.get(entry) : returning === address ? places.get(address) : undefined;
  returning = undefined;
  here = { entry, address };
  addresses.set(screenOf(address), address);
  return place;
}

/** Goes to a place on the present screen, else to its top and its heading. */
export function settle(place, heading) {
  const link = place?.focus && document.querySelector(`main a[href="${CSS.escape(place.focus)}"]`);
  (link || heading).focus({ preventScroll: true });
  scrollTo(0, place?.y ?? 0);
}

/** Leads back to a screen as it was left, with its filters. */
export function markReturn(link) {
  const address = addresses.get(screenOf(link.hash)) ?? link.hash;
  link.href = address;
  link.onclick = () => {
    returning = address;
  };
  return link;
}

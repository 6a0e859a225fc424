// Lists that hold still while they are read: rows change where they stand, and new ones wait until they are wanted.
import { h, number } from "./dom.js";
import { patch } from "./patch.js";

const ANNOUNCED_MS = 10_000;
const MOST_COUNTED = 99;

/**
 * A list that is read while the pointer is over it, the focus is in it, or the page is scrolled into it. Then its rows keep
 * their places, and `news` says how many there are besides.
 * `build` makes a row, with the item's `id` as its key; `fresh` gives an item that is not among the latest as it is now. Unless
 * told otherwise it `isGone`: its row keeps the place, with nothing to press.
 */
export function steady({ list, name, signal, build, fresh = (item) => ({ ...item, isGone: true }) }) {
  let [latest, shown, rest] = /** @type {any[][]} */ ([[], [], []]);
  let seen = new Set();
  let most = Infinity;
  let [isUnderPointer, isHolding] = [false, false];
  let announcedAt = 0;
  const pressed = h("button.unseen", { type: "button", hidden: true, onclick: release });
  const announcement = h("span.hidden", { role: "status" });

  const isScrolled = () => scrollY > 0 && list.getBoundingClientRect().top < innerHeight / 2;
  const hasFocus = () => list.contains(document.activeElement) || document.activeElement === pressed;
  const isRead = () => shown.length > 0 && (isUnderPointer || hasFocus() || isScrolled());

  /** The rows that are shown, as they are now, and older ones behind them. */
  function held() {
    const byId = new Map(latest.map((item) => [item.id, item]));
    const ids = new Set(shown.map(({ id }) => id));
    const last = latest.findIndex(({ id }) => id === shown.findLast((item) => byId.has(item.id))?.id);
    const older = last < 0 ? [] : latest.slice(last + 1).filter(({ id }) => !ids.has(id) && !seen.has(id));
    return [...shown.map((item) => byId.get(item.id) ?? fresh(item)), ...older].slice(0, Math.max(most, shown.length));
  }

  function draw(isHeld = isRead()) {
    isHolding = isHeld;
    shown = isHeld ? held() : latest.slice(0, most);
    if (!isHeld) seen = new Set();
    for (const { id } of isHeld ? shown : latest) seen.add(id);
    patch(list, shown.map(build), rest);
    announce(isHeld ? latest.filter(({ id }) => !seen.has(id)).length : 0);
  }

  function announce(count) {
    pressed.hidden = count === 0;
    pressed.textContent = `${count > MOST_COUNTED ? `${MOST_COUNTED}+` : number(count)} new`;
    // Now and then: each one would drown what is read out.
    if (count > 0 && Date.now() - announcedAt < ANNOUNCED_MS) return;
    announcedAt = count > 0 ? Date.now() : 0;
    announcement.textContent =
      count > 0 ? `${pressed.textContent} in ${name}. The list holds still while you read it.` : "";
  }

  function release({ detail }) {
    draw(false);
    // By the keyboard, which needs a place to go on from.
    if (detail === 0) list.querySelector("a, button")?.focus();
  }

  const letGo = () => {
    if (isHolding && !isRead()) draw();
  };
  // A list that is drawn below a resting pointer is not read by that.
  list.onpointermove = ({ movementX, movementY }) => {
    if (movementX || movementY) isUnderPointer = true;
  };
  list.onpointerleave = () => {
    isUnderPointer = false;
    letGo();
  };
  // On the way from the list to the button the focus is nowhere for a moment.
  for (const one of [list, pressed]) one.addEventListener("focusout", () => setTimeout(letGo));
  addEventListener("scroll", letGo, { passive: true, signal });

  return {
    news: h("span.news", pressed, announcement),
    /** Shows these items, at most so many, and `after` behind them; `now`: also while the list is read. */
    show(items, { limit = Infinity, after = /** @type {any[]} */ ([]), now = false } = {}) {
      [latest, most, rest] = [items, limit, after];
      draw(!now && isRead());
    },
  };
}

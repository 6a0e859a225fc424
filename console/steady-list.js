// Lists that hold still while they are read: rows change in place, and new ones wait until the user asks for them.
import { h } from "./dom.js";
import { number } from "./format.js";
import { patch } from "./patch.js";

/** The shortest time between announcements: announcing every row would drown out everything else. */
const ANNOUNCE_MS = 10_000;
const MAX_COUNTED = 99;

/**
 * @typedef {object} ListOptions
 * @property {HTMLElement} element the element that holds the rows
 * @property {string} name for announcements
 * @property {AbortSignal} signal of the screen
 * @property {(item: any) => HTMLElement} buildRow makes a row, with the item's id as its `data-key`
 * @property {(item: any) => Item} [current] the present state of an item that has a row but is not among the latest; by
 *   default it `isGone`: its row keeps its place, without actions
 */

/**
 * A list counts as read while the pointer is over it, the focus is in it, or the page is scrolled into it. During that
 * time its rows keep their places, and `news` shows how many new ones are waiting.
 */
export class SteadyList {
  /** @type {ListOptions} */
  #options;
  /** @type {Item[]} all items, as they are now */
  #latest = [];
  /** @type {Item[]} items that have a row */
  #shown = [];
  /** @type {Child[]} what stands below the rows */
  #after = [];
  /** Ids that the user has had a chance to see. @type {Set<string>} */
  #seen = new Set();
  #limit = Infinity;
  #isUnderPointer = false;
  #isHolding = false;
  #announcedAt = 0;
  #showNew = h("button.show-new", {
    type: "button",
    hidden: true,
    onclick: (/** @type {MouseEvent} */ event) => this.#release(event),
  });
  #announcement = h("span.hidden", { role: "status" });

  /** Shows how many new items there are, with a button to show them. */
  news = h("span.news", this.#showNew, this.#announcement);

  /** @param {ListOptions} options */
  constructor(options) {
    this.#options = options;
    const { element, signal } = options;
    const letGo = () => this.#letGo();
    element.onpointermove = ({ movementX, movementY }) => {
      // A list that appears under a resting pointer is not being read.
      if (movementX || movementY) this.#isUnderPointer = true;
    };
    element.onpointerleave = () => {
      this.#isUnderPointer = false;
      letGo();
    };
    for (const part of [element, this.#showNew]) {
      // On the way between list and button, the focus is nowhere for a moment.
      part.addEventListener("focusout", () => setTimeout(letGo));
    }
    addEventListener("scroll", letGo, { passive: true, signal });
  }

  /**
   * Shows items, as soon as the list is not being read.
   * @param {Item[]} items
   * @param {{ limit?: number, after?: Child[], now?: boolean }} [options] `limit`: how many rows at most; `after`: what
   *   stands below them; `now`: at once, even if the list is being read
   * @returns {void}
   */
  show(items, { limit = Infinity, after = [], now = false } = {}) {
    this.#latest = items;
    this.#limit = limit;
    this.#after = after;
    this.#draw(!now && this.#isRead());
  }

  /** @returns {boolean} */
  #isRead() {
    return this.#shown.length > 0 && (this.#isUnderPointer || this.#hasFocus() || this.#isScrolledTo());
  }

  /** @returns {boolean} */
  #hasFocus() {
    const { activeElement } = document;
    return this.#options.element.contains(activeElement) || activeElement === this.#showNew;
  }

  /** @returns {boolean} */
  #isScrolledTo() {
    return scrollY > 0 && this.#options.element.getBoundingClientRect().top < innerHeight / 2;
  }

  /**
   * @param {boolean} isHeld
   * @returns {void}
   */
  #draw(isHeld) {
    const { element, buildRow } = this.#options;
    this.#isHolding = isHeld;
    if (isHeld) {
      this.#shown = this.#heldItems();
      for (const { id } of this.#shown) this.#seen.add(id);
    } else {
      this.#shown = this.#latest.slice(0, this.#limit);
      this.#seen = new Set(this.#latest.map(({ id }) => id));
    }
    patch(element, this.#shown.map(buildRow), this.#after);
    this.#announce(this.#latest.filter(({ id }) => !this.#seen.has(id)).length);
  }

  /**
   * The items that have a row, as they are now, and older ones behind them.
   * @returns {Item[]}
   */
  #heldItems() {
    const { current = markGone } = this.#options;
    const latestById = new Map(this.#latest.map((item) => [item.id, item]));
    const shownIds = new Set(this.#shown.map(({ id }) => id));
    const lastShown = this.#shown.findLast(({ id }) => latestById.has(id));
    const lastIndex = this.#latest.findIndex(({ id }) => id === lastShown?.id);
    const isOlder = (/** @type {Item} */ { id }) => !shownIds.has(id) && !this.#seen.has(id);
    const older = lastIndex < 0 ? [] : this.#latest.slice(lastIndex + 1).filter(isOlder);
    const rows = this.#shown.map((item) => latestById.get(item.id) ?? current(item));
    return [...rows, ...older].slice(0, Math.max(this.#limit, rows.length));
  }

  /**
   * @param {number} count
   * @returns {void}
   */
  #announce(count) {
    const text = `${count > MAX_COUNTED ? `${MAX_COUNTED}+` : number(count)} new`;
    this.#showNew.hidden = count === 0;
    this.#showNew.textContent = text;
    if (count === 0) {
      this.#announcedAt = 0;
      this.#announcement.textContent = "";
    } else if (Date.now() - this.#announcedAt >= ANNOUNCE_MS) {
      this.#announcedAt = Date.now();
      this.#announcement.textContent = `${text} in ${this.#options.name}. The list does not move while you read it.`;
    }
  }

  /**
   * Shows the new items when the user asks for them.
   * @param {MouseEvent} click
   * @returns {void}
   */
  #release({ detail }) {
    this.#draw(false);
    const isByKeyboard = detail === 0;
    // Keyboard users need a place to continue from.
    if (isByKeyboard) /** @type {HTMLElement | null} */ (this.#options.element.querySelector("a, button"))?.focus();
  }

  /** @returns {void} */
  #letGo() {
    if (this.#isHolding && !this.#isRead()) this.#draw(false);
  }
}

/**
 * @param {Item} item
 * @returns {Item}
 */
const markGone = (item) => ({ ...item, isGone: true });

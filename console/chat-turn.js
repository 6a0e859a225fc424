// One turn of a chat: a message, the response as it arrives, and what is known about the call.
import { badge, errorAlert, link } from "./components.js";
import { fill, h } from "./dom.js";
import { costText, usageText } from "./model-words.js";
import { may } from "./session.js";

/** @import { Served } from "./chat-stream.js" */

/**
 * A message and its response.
 * @typedef {object} Turn
 * @property {string} question
 * @property {string} answer
 * @property {boolean} isRunning
 * @property {string} note how it ended, if not as usual
 * @property {string} error why it failed, if it did
 * @property {Served} [served]
 * @property {Context} [record] of the call
 */

export class TurnView {
  #turn;
  #text = new Text();
  #error = h("div");
  #facts = h("p.soft.row");
  /** @type {number | undefined} */
  #frame;
  element;

  /**
   * @param {Turn} turn
   * @param {string} model
   */
  constructor(turn, model) {
    this.#turn = turn;
    this.element = h(
      "div.stack",
      h("div.said", h("p.soft", "You"), h("p.text", turn.question)),
      h("div", h("p.soft", model), h("p.text", this.#text), this.#error, this.#facts),
    );
    this.update();
  }

  /**
   * Shows the text that has arrived with the next frame: pieces may arrive faster than a browser can draw them.
   * @param {() => void} onShown
   * @returns {void}
   */
  updateSoon(onShown) {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = undefined;
      this.#showText();
      onShown();
    });
  }

  /** @returns {void} */
  update() {
    const { error } = this.#turn;
    this.#showText();
    fill(this.#error, error && errorAlert(error));
    fill(this.#facts, this.#buildFacts());
  }

  /** @returns {void} */
  #showText() {
    const { answer } = this.#turn;
    const shownLength = this.#text.length;
    if (answer.length > shownLength) this.#text.appendData(answer.slice(shownLength));
  }

  /** @returns {Child[]} */
  #buildFacts() {
    const { served, isRunning, note, record } = this.#turn;
    const { service, model, context } = served ?? {};
    return [
      isRunning && !served && h("span", "Waiting for the response…"),
      note && h("strong", note),
      service && h("span", "by ", may("services:read") ? link(service, `#/services/${service}`) : service),
      model && h("span", "as ", h("code", model)),
      record && record.status !== "completed" && badge(record.status),
      record?.usage && h("span", `tokens: ${usageText(record.usage)}`),
      record?.cost && h("span", `cost: ${costText(record.cost)}`),
      context && may("contexts:read") && !isRunning && link("View context", `#/contexts/${context}`),
    ];
  }
}

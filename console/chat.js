// A chat with a model, streamed. Its turns are in this page's memory and nowhere else.
import { ApiError, getIfAllowed } from "./api.js";
import { servedBy, streamChat } from "./chat-stream.js";
import { TurnView } from "./chat-turn.js";
import { messageOf } from "./components.js";
import { fill, h } from "./dom.js";
import { fieldsFor } from "./fields.js";
import { buildForm } from "./form.js";
import { follow } from "./live.js";
import { currentIdentity, may } from "./session.js";

/** @import { Message } from "./chat-stream.js" */
/** @import { Turn } from "./chat-turn.js" */

const RELOAD_MS = 200;
/** A longer response is stopped, as it would slow the browser down. */
const MAX_LENGTH = 500_000;
const TOO_LONG = "Stopped: the response is longer than this page shows.";

/** Reasons to stop that need words. @type {Record<string, string>} */
const REASONS = {
  length: "The response reached its maximum length.",
  content_filter: "The provider's filter ended the response.",
};

/**
 * @param {boolean | undefined} isKept
 * @returns {JsonSchema}
 */
function fieldsOf(isKept) {
  const keeping = { true: "The gateway keeps it.", false: "The gateway does not keep it.", undefined: "" };
  const description = `Enter sends it, Shift and Enter begin a new line. ${keeping[`${isKept}`]}`;
  const message = { title: "Message", type: "string", maxLength: 1_000_000, description };
  return { required: ["message"], properties: { message } };
}

/**
 * The conversations by model, kept while the page is open; another identity must not see them.
 * @type {{ identity: unknown, turns: Map<string, Turn[]> }}
 */
let kept = { identity: undefined, turns: new Map() };

/**
 * @param {string} model
 * @returns {Turn[]}
 */
function turnsOf(model) {
  const identity = currentIdentity();
  if (kept.identity !== identity) kept = { identity, turns: new Map() };
  const turns = kept.turns.get(model) ?? [];
  kept.turns.set(model, turns);
  return turns;
}

export class Chat {
  #model;
  #signal;
  #onSend;
  #turns;
  /** Ends the call that is running. @type {AbortController | undefined} */
  #call;
  #log = h("div.scroll.chat.stack", { role: "log", tabindex: 0, "aria-label": "Conversation" });
  #form;
  #stop = h("button", { type: "button", hidden: true, onclick: () => this.#call?.abort() }, "Stop");
  #clear = h("button.quiet", { type: "button", onclick: () => this.#forget() }, "New conversation");
  element;

  /**
   * @param {string} model
   * @param {object} options
   * @param {AbortSignal} options.signal
   * @param {boolean | undefined} options.isKept whether the gateway keeps what is said; undefined if that is not known
   * @param {(messages: Message[]) => void} options.onSend
   */
  constructor(model, { signal, isKept, onSend }) {
    this.#model = model;
    this.#signal = signal;
    this.#onSend = onSend;
    this.#turns = turnsOf(model);
    const fields = fieldsFor(fieldsOf(isKept), "");
    this.#form = buildForm({ fields, submitLabel: "Send", send: ({ message }) => this.#send(message) });
    this.element = h("div.card.stack", this.#log, this.#form);
    const buttons = this.#form.lastElementChild;
    buttons?.classList.add("row");
    buttons?.append(this.#stop, this.#clear);
    this.#form.addEventListener("keydown", (event) => this.#onKey(event));
    signal.addEventListener("abort", () => this.#call?.abort());
    for (const turn of this.#turns) this.#awaitRecord(turn, this.#show(turn));
    this.#clear.hidden = this.#turns.length === 0;
  }

  /** @returns {HTMLTextAreaElement} */
  get #input() {
    return /** @type {HTMLTextAreaElement} */ (this.#form.querySelector("textarea"));
  }

  /**
   * The conversation so far, without turns that failed.
   * @returns {Message[]}
   */
  get messages() {
    const answered = this.#turns.filter(({ answer, error }) => answer && !error);
    return answered.flatMap(({ question, answer }) => [
      { role: "user", content: question },
      { role: "assistant", content: answer },
    ]);
  }

  /**
   * @param {KeyboardEvent} event
   * @returns {void}
   */
  #onKey(event) {
    const sends = event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target === this.#input;
    if (!sends) return;
    event.preventDefault();
    this.#form.requestSubmit();
  }

  /**
   * @param {Turn} turn
   * @returns {TurnView}
   */
  #show(turn) {
    const view = new TurnView(turn, this.#model);
    this.#log.append(view.element);
    return view;
  }

  /**
   * Sends a message, and shows the response as it arrives.
   * @param {string} question
   * @returns {Promise<void>}
   */
  async #send(question) {
    /** @type {Message[]} */
    const messages = [...this.messages, { role: "user", content: question }];
    /** @type {Turn} */
    const turn = { question, answer: "", isRunning: true, note: "", error: "" };
    this.#turns.push(turn);
    const view = this.#show(turn);
    this.#input.value = "";
    this.#call = new AbortController();
    this.#setRunning(true);
    this.#onSend(messages);
    this.#showEnd();
    await this.#run(turn, view, messages);
    turn.isRunning = false;
    this.#setRunning(false);
    view.update();
    this.#showEnd();
    // What was not answered can be sent again.
    if (turn.error && this.#input.value === "") this.#input.value = question;
    this.#awaitRecord(turn, view);
  }

  /**
   * @param {Turn} turn
   * @param {TurnView} view
   * @param {Message[]} messages
   * @returns {Promise<void>}
   */
  async #run(turn, view, messages) {
    const call = /** @type {AbortController} */ (this.#call);
    try {
      const reason = await streamChat({
        model: this.#model,
        messages,
        signal: call.signal,
        onBegin(served) {
          turn.served = served;
          view.update();
        },
        onText: (text) => {
          turn.answer += text;
          if (turn.answer.length > MAX_LENGTH) call.abort(TOO_LONG);
          const isAtEnd = this.#isAtEnd();
          view.updateSoon(() => isAtEnd && this.#showEnd());
        },
      });
      turn.note = REASONS[reason] ?? (turn.answer ? "" : "The response has no text.");
    } catch (error) {
      if (call.signal.aborted) turn.note = call.signal.reason === TOO_LONG ? TOO_LONG : "Stopped.";
      else turn.error = messageOf(error);
      if (error instanceof ApiError) turn.served = servedBy(error.headers);
    }
  }

  /**
   * @param {boolean} isRunning
   * @returns {void}
   */
  #setRunning(isRunning) {
    // Screen readers wait for the whole response instead of reading each piece.
    this.#log.ariaBusy = String(isRunning);
    if (!isRunning && document.activeElement === this.#stop) this.#input.focus();
    this.#stop.hidden = !isRunning;
    this.#clear.hidden = isRunning;
  }

  /** @returns {boolean} */
  #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    return scrollHeight - scrollTop - clientHeight < 40;
  }

  /** @returns {void} */
  #showEnd() {
    this.#log.scrollTop = this.#log.scrollHeight;
  }

  /** @returns {void} */
  #forget() {
    this.#turns.length = 0;
    fill(this.#log);
    this.#clear.hidden = true;
    this.#onSend([]);
    this.#input.focus();
  }

  /**
   * Shows tokens and cost when the gateway has recorded the call, which it does after the response.
   * @param {Turn} turn
   * @param {TurnView} view
   * @returns {void}
   */
  #awaitRecord(turn, view) {
    const id = turn.served?.context;
    if (!id || turn.record || this.#signal.aborted || !may("contexts:read")) return;
    const isFound = new AbortController();
    async function load() {
      const record = await getIfAllowed(`/v1/contexts/${id}`);
      if (!record) return;
      turn.record = record;
      isFound.abort();
      view.update();
    }
    const signal = AbortSignal.any([this.#signal, isFound.signal]);
    // It may have been recorded already, before its event could be followed.
    follow({ signal, everyMs: RELOAD_MS, load, onEvent: ({ subject }) => subject === id })();
  }
}

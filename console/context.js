// The screen of one context: its error with help, its history, attempts, parameters and result.
import { ApiError, get, postAsync } from "./api.js";
import {
  badge,
  button,
  confirmed,
  copyable,
  facts,
  jsonBlock,
  link,
  screenTitle,
  section,
  time,
} from "./components.js";
import { fill, h } from "./dom.js";
import { fieldsFor } from "./fields.js";
import { buildForm } from "./form.js";
import { dateAndTime, duration, durationBetween, oneLine, timeOfDay } from "./format.js";
import { follow } from "./live.js";
import { modelHash } from "./model-catalogue.js";
import { costText, usageText } from "./model-words.js";
import { leadBack } from "./navigation.js";
import { buildError, isKept } from "./outcome.js";
import { patch } from "./patch.js";
import { principalName } from "./principals.js";
import { hasEnded, isScheduled, meaningOf, shownStatus } from "./statuses.js";

const RELOAD_MS = 200;
const NO_LONGER_KEPT =
  "Not replayed: the content of this capability’s calls is no longer kept, so they cannot run in the background. Try " +
  "it on the page of its service.";

/** @typedef {{ message: string, schema: JsonSchema }} InputRequest */

/**
 * @param {Visit} visit
 * @returns {Promise<void>}
 */
export async function context({ view, id = "", signal }) {
  const screen = new ContextScreen(id);
  const load = () => screen.load();
  follow({ signal, everyMs: RELOAD_MS, load, onEvent: ({ subject }) => subject === id });
  await load();
  fill(view, leadBack(link("← Contexts", "#/contexts")), screen.elements);
}

class ContextScreen {
  #path;
  #top = h("div.stack");
  #question = h("div");
  #body = h("div.stack");
  /** The input request that the form is for, as JSON. */
  #asked = "";
  elements = [this.#top, this.#question, this.#body];

  /** @param {string} id */
  constructor(id) {
    this.#path = `/v1/contexts/${id}`;
  }

  /**
   * Loads the context and shows it.
   * @returns {Promise<void>}
   */
  async load() {
    /** @type {Context} */
    const context = await get(this.#path);
    const { capability, progress } = context;
    patch(this.#top, screenTitle(capability, badge(shownStatus(context))), this.#buildAction(context));
    patch(
      this.#body,
      buildError(context),
      progress && buildProgress(progress),
      buildFacts(context),
      buildDetails(context),
    );
    this.#ask(context.status === "input_required" ? context.input_request : undefined);
  }

  /**
   * @param {Context} context
   * @returns {Child}
   */
  #buildAction(context) {
    if (hasEnded(context)) return isKept(context) ? button("Replay", () => this.#replay()) : buildNoReplay();
    return button("Cancel", () => confirmed("Cancel this context?", () => this.#post("cancel")), { kind: "danger" });
  }

  /** @returns {Promise<void>} */
  async #replay() {
    try {
      const { id } = await this.#post("replay");
      location.hash = `#/contexts/${id}`;
    } catch (error) {
      if (error instanceof ApiError && error.code === "content_not_kept") throw new Error(NO_LONGER_KEPT);
      throw error;
    }
  }

  /**
   * @param {"cancel" | "replay" | "input"} action
   * @param {unknown} [body]
   * @returns {Promise<Context>}
   */
  async #post(action, body) {
    const context = await postAsync(`${this.#path}/${action}`, body);
    await this.load();
    return context;
  }

  /**
   * Shows the form for an input request, unless it is already there, perhaps half filled in.
   * @param {InputRequest | undefined} request
   * @returns {void}
   */
  #ask(request) {
    const asked = JSON.stringify(request ?? null);
    if (asked !== this.#asked) fill(this.#question, request && this.#buildQuestion(request));
    this.#asked = asked;
  }

  /**
   * @param {InputRequest} request
   * @returns {HTMLElement}
   */
  #buildQuestion({ message, schema }) {
    const form = buildForm({
      // No defaults: the user has to decide.
      fields: fieldsFor(schema, "Input", undefined, { isBlank: true }),
      submitLabel: "Send",
      pointer: "input",
      send: (input) => this.#post("input", { input }),
    });
    return h("div.card", section("Input required", h("p", message), form));
  }
}

/** @returns {HTMLElement} */
const buildNoReplay = () =>
  h("p.soft", { "data-key": "no-replay" }, "This context cannot be replayed: its parameters were not kept.");

/**
 * @param {{ data: unknown }} progress
 * @returns {HTMLElement}
 */
const buildProgress = ({ data }) => h("p", { role: "status", "data-key": "progress" }, "Progress: ", oneLine(data));

/**
 * @param {Context} context
 * @returns {HTMLElement}
 */
function buildFacts(context) {
  const { id, service, execution_time_ms, run_at, replay_of, model, usage } = context;
  return facts({
    ID: copyable(id, "context ID"),
    Service: link(service, `#/services/${service}`),
    Model: model && link(model, modelHash(model)),
    Tokens: usage && usageText(usage),
    Cost: context.cost !== undefined && [context.cost, ...(context.other_costs ?? [])].map(costText).join(", "),
    "Finish reason": context.finish_reason,
    Version: context.version,
    Created: time(context.created_at),
    "Scheduled for": run_at && dateAndTime(run_at),
    "Execution time": execution_time_ms !== null && duration(execution_time_ms),
    Deadline: !hasEnded(context) && time(context.expires_at),
    Owner: principalName(context.owner, context.owner_name),
    Priority: context.priority,
    "Replay of": replay_of && link(replay_of, `#/contexts/${replay_of}`),
    "Idempotency key": context.idempotency_key,
  });
}

/**
 * @param {Context} context
 * @returns {HTMLElement}
 */
function buildDetails(context) {
  const { history, parameters, status, result, metadata } = context;
  return h(
    "div.halves",
    { "data-key": "details" },
    section("Timeline", h("ol.steps.plain", history.map(buildStep))),
    section("Attempts", buildAttempts(context)),
    isKept(context) ? jsonBlock("Parameters", parameters) : buildNotKept(),
    isKept(context) && status === "completed" && jsonBlock("Result", result),
    metadata && jsonBlock("Metadata", metadata),
  );
}

/** @returns {HTMLElement} */
const buildNotKept = () =>
  h("p.note", "Content not kept: the gateway does not store the parameters or the result of this call.");

/** @typedef {{ status: string, at: string }} Step */

/**
 * @param {Step} step
 * @param {number} index
 * @param {Step[]} steps
 * @returns {HTMLElement}
 */
function buildStep({ status, at }, index, [first]) {
  const text = index > 0 && first ? `after ${durationBetween(first.at, at)}` : timeOfDay(at);
  return h("li", badge(status), time(at, text));
}

/**
 * The attempts, or why there are none.
 * @param {Context} context
 * @returns {HTMLElement}
 */
function buildAttempts(context) {
  const { error, run_at } = context;
  /** @type {Attempt[]} */
  const attempts = context.attempts;
  if (attempts.length > 0) {
    const rows = attempts.map((attempt, at) => buildAttempt(attempt, at === attempts.length - 1 ? error : undefined));
    return h("ol.steps.plain", rows);
  }
  if (isScheduled(context)) return h("p.soft", `None yet: scheduled for ${dateAndTime(run_at ?? "")}.`);
  if (!hasEnded(context)) return h("p.soft", "None yet.");
  const code = error && [" (", h("code", error.code), ")"];
  return h("p.soft", "None: the context ended before a service was called", code, ".");
}

/**
 * @param {Attempt} attempt
 * @param {ContextError | null} [error] the context's own, if this was its last attempt
 * @returns {HTMLElement}
 */
function buildAttempt({ number, service, outcome, code, started_at, ended_at, status_code }, error) {
  const figures = [durationBetween(started_at, ended_at), status_code && `HTTP ${status_code}`];
  const reason = error?.code === code && error?.message ? error.message : meaningOf(code);
  return h(
    "li",
    h("strong", `${number}. ${service}`),
    badge(outcome),
    h("span.soft", figures.filter(Boolean).join(", ")),
    code && h("p.soft", h("code", code), reason && `: ${reason}`),
  );
}

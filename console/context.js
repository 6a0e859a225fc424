// One context: its error and what helps, its history, attempts, parameters and result.
import { ask, get } from "./api.js";
import {
  badge,
  brief,
  button,
  copyable,
  duration,
  facts,
  fill,
  h,
  json,
  link,
  moment,
  section,
  sure,
  title,
  when,
} from "./dom.js";
import { fieldsFor, formOf } from "./fields.js";
import { follow } from "./live.js";
import { principal } from "./names.js";
import { patch } from "./patch.js";
import { markReturn } from "./places.js";
import { help, isOver, isScheduled, meaning, shownStatus } from "./states.js";

const after = (at, before) => duration(Date.parse(at) - Date.parse(before));
const contextLink = (id) => id && link(id, `#/contexts/${id}`);

const step = ({ status, at }, place, [first]) =>
  h("li", badge(status), when(at, place ? `after ${after(at, first.at)}` : new Date(at).toLocaleTimeString("en")));

/** `error`: the context's own, when this was its last attempt. */
function attempt({ number, service, outcome, code, started_at, ended_at, status_code }, error) {
  const why = error?.code === code && error?.message ? error.message : meaning(code);
  return h(
    "li",
    h("strong", `${number}. ${service}`),
    badge(outcome),
    h("span.soft", [after(ended_at, started_at), status_code && `HTTP ${status_code}`].filter(Boolean).join(", ")),
    code && h("p.soft", h("code", code), why && `: ${why}`),
  );
}

/** The attempts, or why there is none. */
function attemptsOf(one) {
  const { attempts, error } = one;
  if (attempts.length > 0)
    return h(
      "ol.steps.plain",
      attempts.map((each, at) => attempt(each, at === attempts.length - 1 ? error : undefined)),
    );
  if (!isOver(one))
    return h("p.soft", isScheduled(one) ? `None yet: scheduled for ${moment(one.run_at)}.` : "None yet.");
  return h("p.soft", "None: it ended before a service was called", error && [" (", h("code", error.code), ")"], ".");
}

const problem = ({ code, message, details }) =>
  h(
    "div.fault",
    { "data-key": "fault" },
    h("p", h("strong", code), `: ${message} ${help(code)}`),
    details && json("Details", details),
  );

const factsOf = (one) =>
  facts({
    Id: copyable(one.id, "context id"),
    Service: link(one.service, `#/services/${one.service}`),
    Version: one.version,
    Created: when(one.created_at),
    "Scheduled for": one.run_at && moment(one.run_at),
    Execution: one.execution_time_ms !== null && duration(one.execution_time_ms),
    Deadline: !isOver(one) && when(one.expires_at),
    Owner: principal(one.owner, one.owner_name),
    Priority: one.priority,
    "Replay of": contextLink(one.replay_of),
    "Idempotency key": one.idempotency_key,
  });

export async function context({ view, id, signal }) {
  const [top, question, body] = [h("div.stack"), h("div"), h("div.stack")];
  let asked = "";

  async function post(what, body) {
    const { json } = await ask("POST", `/v1/contexts/${id}/${what}`, { body, headers: { prefer: "respond-async" } });
    await load();
    return json;
  }
  const cancel = () => sure("Cancel this context?", () => post("cancel"));
  const replay = async () => {
    location.hash = `#/contexts/${(await post("replay")).id}`;
  };
  // Nothing is filled in: an answer is somebody's decision.
  const answering = ({ message, schema }) =>
    h(
      "div.card",
      section(
        "Input required",
        h("p", message),
        formOf({
          fields: fieldsFor(schema, "Answer", undefined, { blank: true }),
          submit: "Send",
          pointer: "input",
          send: (input) => post("input", { input }),
        }),
      ),
    );

  async function load() {
    const one = await get(`/v1/contexts/${id}`);
    const { error, history, progress, metadata, status } = one;
    patch(
      top,
      title(one.capability, badge(shownStatus(one))),
      isOver(one) ? button("Replay", replay) : button("Cancel", cancel, "danger"),
    );
    patch(
      body,
      error && problem(error),
      progress && h("p", { role: "status", "data-key": "progress" }, "Progress: ", brief(progress.data)),
      factsOf(one),
      h(
        "div.halves",
        { "data-key": "halves" },
        section("Timeline", h("ol.steps.plain", history.map(step))),
        section("Attempts", attemptsOf(one)),
        json("Parameters", one.parameters),
        status === "completed" && json("Result", one.result),
        metadata && json("Metadata", metadata),
      ),
    );
    // A form being filled in stays.
    const wanted = status === "input_required" && one.input_request;
    if (JSON.stringify(wanted) !== asked) fill(question, wanted && answering(wanted));
    asked = JSON.stringify(wanted);
  }

  follow(signal, 200, load, ({ subject }) => subject === id);
  await load();
  fill(view, markReturn(link("← Contexts", "#/contexts")), top, question, body);
}

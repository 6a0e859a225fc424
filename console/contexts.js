// Contexts: search, and one with its history, attempts, parameters and result.
import { ask, everybodys, get } from "./api.js";
import { badge, brief, button, copyable, duration, facts, fill, h, json, keep, link, section, sure, title, when } from "./dom.js";
import { fieldsFor, formOf } from "./fields.js";
import { follow } from "./live.js";

const LIVE = ["created", "validated", "queued", "executing", "input_required"];
export const ENDED = ["completed", "failed", "timed_out", "cancelled"];
const SEARCH = { properties: {
  id: { title: "Context id", type: "string", examples: ["ctx_…"] },
  status: { title: "Status", enum: [...LIVE, ...ENDED] },
  capability: { title: "Capability", type: "string" },
  service: { title: "Service", type: "string" },
} };

/** What helps, by the code of the error. */
const HELP = {
  service_unavailable: "See whether it runs and its address is right, then replay.",
  circuit_open: "Replay in a while.",
  upstream_invalid_response: "It has to answer JSON with a result or an error.",
  deadline_exceeded: "Raise timeout_seconds, or look why the service takes long.",
  outcome_unknown: "The work may be done: look there first.",
};

export async function contexts({ view, query, signal }) {
  const [list, more, shown] = [h("ul.rows.plain"), h("div"), new Map()];
  async function load(cursor = "") {
    const filters = new URLSearchParams(cursor ? [...query, ["cursor", cursor]] : query);
    const { data, next_cursor } = await get(`/v1/contexts?limit=50${everybodys()}&${filters}`);
    if (query.has("status")) for (const [id, { status }] of shown) if (status !== query.get("status")) shown.delete(id);
    for (const one of data) shown.set(one.id, one);
    if (cursor || shown.size === data.length) fill(more, next_cursor && button("Older ones", () => load(next_cursor)));
    const sorted = [...shown.values()].sort((a, b) => (a.created_at < b.created_at ? 1 : -1));
    const none = query.size ? "No context fits. Take a filter away." : "No context yet. Try a capability of a service.";
    keep(list, sorted, ({ status }) => status, (one) => h("li", h("a.card", { href: `#/contexts/${one.id}` },
      h("strong", one.capability), h("span.soft", one.service), badge(one.status),
      h("span", duration(one.execution_time_ms)), when(one.created_at), h("code", one.id))), sorted.length === 0 && h("li.card.soft", none));
  }
  follow(signal, 500, () => load(), ({ type, subject, data }) => {
    if (data.status) Object.assign(shown.get(subject) ?? {}, { status: data.status });
    return type.startsWith("context.");
  });
  await load();
  const search = ({ id, ...filters }) => { location.hash = `#/contexts${id ? `/${id}` : `?${new URLSearchParams(filters)}`}`; };
  fill(view, h("h1", "Contexts"), h("search", formOf({ fields: fieldsFor(SEARCH, "", Object.fromEntries(query)), submit: "Search", send: search })), list, more);
}

export async function context({ view, id, signal }) {
  const [top, question, body] = [h("div.stack"), h("div"), h("div.stack")];
  let asked = "";

  async function post(what, body) {
    const { json } = await ask("POST", `/v1/contexts/${id}/${what}`, { body, headers: { prefer: "respond-async" } });
    await load();
    return json;
  }
  const cancel = () => sure("Cancel this context?", () => post("cancel"));
  const replay = async () => { location.hash = `#/contexts/${(await post("replay")).id}`; };
  const answering = ({ message, schema }) => h("div.card", section("Input required", h("p", message),
    formOf({ fields: fieldsFor(schema, "Answer"), submit: "Send", pointer: "input", send: (input) => post("input", { input }) })));

  async function load() {
    const one = await get(`/v1/contexts/${id}`);
    const { error, history, attempts, progress, metadata, status } = one;
    const isLive = LIVE.includes(status);
    const after = (at, before) => duration(Date.parse(at) - Date.parse(before));
    fill(top, title(one.capability, badge(status)), isLive ? button("Cancel", cancel, "danger") : button("Replay", replay));
    fill(body,
      error && h("div.fault", h("p", h("strong", error.code), `: ${error.message} ${HELP[error.code] ?? ""}`), error.details && json("Details", error.details)),
      progress && h("p", { role: "status" }, "Progress: ", brief(progress.data)),
      facts({ Id: copyable(one.id, "context id"), Service: link(one.service, `#/services/${one.service}`), Version: one.version,
        Created: when(one.created_at), Execution: duration(one.execution_time_ms), "Must end": isLive && when(one.expires_at),
        Owner: one.owner, Priority: one.priority, "Not before": one.run_at && when(one.run_at), "Idempotency key": one.idempotency_key }),
      h("div.halves",
        section("Timeline", h("ol.steps.plain", history.map(({ status, at }, place) =>
          h("li", badge(status), when(at, place ? `after ${after(at, history[0].at)}` : new Date(at).toLocaleTimeString()))))),
        section("Attempts", attempts.length === 0 && h("p.soft", "None yet."), h("ol.steps.plain", attempts.map(({ number, service, outcome, started_at, ended_at, status_code }) =>
          h("li", h("strong", `${number}. ${service}`), badge(outcome), h("span.soft", after(ended_at, started_at), status_code && `, HTTP ${status_code}`))))),
        json("Parameters", one.parameters), status === "completed" && json("Result", one.result), metadata && json("Metadata", metadata)));
    // A form being filled in stays.
    const wanted = status === "input_required" && one.input_request;
    if (JSON.stringify(wanted) !== asked) fill(question, wanted && answering(wanted));
    asked = JSON.stringify(wanted);
  }

  follow(signal, 200, load, ({ subject }) => subject === id);
  await load();
  fill(view, link("← Contexts", "#/contexts"), top, question, body);
}

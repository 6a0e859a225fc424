// Contexts: found by what they are, and one with its way, its attempts, what went in and what came out.
import { ask, everybodys, get } from "./api.js";
import { badge, button, confirm, copyable, facts, fill, h, json, keep, link, say } from "./dom.js";
import { fieldsFor, formOf } from "./fields.js";
import { brief, duration, when } from "./format.js";
import { listen, soon } from "./live.js";

const LIVE = ["created", "validated", "queued", "executing", "input_required"];
const ENDED = ["completed", "failed", "cancelled", "timed_out"];
const SEARCH = { properties: {
  id: { title: "Context id", type: "string", examples: ["ctx_…"] }, status: { title: "Status", enum: [...LIVE, ...ENDED] },
  capability: { title: "Capability", type: "string" }, service: { title: "Service", type: "string" },
} };

/** What helps, by the code of the error. @type {Record<string, string>} */
const HELP = {
  service_unavailable: "See whether the service runs and its address is right, then replay.",
  circuit_open: "It is tried again by itself in a while: replay then.",
  upstream_error: "The details have the service's own words.",
  upstream_invalid_response: "The service has to answer JSON with a result or an error.",
  deadline_exceeded: "Look why the service takes long, or raise timeout_seconds.",
  outcome_unknown: "Look at the service before you replay: the work may have been done.",
};

/** @param {Place} place */
export async function contexts({ view, query, signal }) {
  const [list, more, shown] = [h("ul.rows.plain"), h("div"), new Map()];
  const load = async (cursor = "") => {
    const page = await get(`/v1/contexts?limit=50${everybodys()}&${new URLSearchParams(cursor ? [...query, ["cursor", cursor]] : query)}`, signal);
    // What an event has moved out of the filter is gone.
    if (query.has("status")) for (const [id, { status }] of shown) if (status !== query.get("status")) shown.delete(id);
    for (const one of page.data) shown.set(one.id, one);
    if (cursor || shown.size === page.data.length) fill(more, page.next_cursor && button("Show older ones", () => load(page.next_cursor)));
    const sorted = [...shown.values()].sort((a, b) => (a.created_at < b.created_at ? 1 : -1));
    keep(list, sorted, ({ id }) => id, ({ status }) => status, (one) => h("li", h("a.card", { href: `#/contexts/${one.id}` },
      h("strong", one.capability), h("span.soft", one.service), badge(one.status), h("span", duration(one.execution_time_ms)), when(one.created_at), h("code", one.id))));
    if (sorted.length === 0) fill(list, h("li.card.soft", query.size ? "No context fits. Take a filter away." : "No context yet. Try a capability on its service's page, or connect a program."));
  };
  await load();
  fill(view, h("h1", "Contexts"), h("search", formOf({
    fields: fieldsFor(SEARCH, "Search", Object.fromEntries(query)), submit: "Search",
    send: ({ id, ...filters }) => { location.hash = id ? `#/contexts/${id}` : `#/contexts?${new URLSearchParams(filters)}`; },
  })), list, more);
  const again = soon(signal, 500, load);
  listen(signal, {
    event({ type, subject, data }) {
      if (!type.startsWith("context.") || type === "context.attempt") return;
      Object.assign(shown.get(subject) ?? {}, { status: data.status });
      again();
    },
    again,
  });
}

/** @param {Place} place */
export async function context({ view, id, signal }) {
  const path = `/v1/contexts/${encodeURIComponent(id)}`;
  const [top, question, body] = [h("div.stack"), h("div"), h("div.stack")];
  let asked;

  async function load() {
    const one = await get(path, signal);
    const isLive = LIVE.includes(one.status);
    const offset = (at) => Date.parse(at) - Date.parse(one.history[0].at);
    fill(top,
      h("div.title", h("h1", { tabindex: -1 }, one.capability), h("span", { role: "status" }, badge(one.status))),
      isLive ? button("Cancel", () => confirm("Cancel this context?", "What its service has done already is not undone.", "Cancel it", () => post("cancel")), "danger") : button("Replay", async () => {
        const { json } = await post("replay");
        say("Replayed as a new context.");
        location.hash = `#/contexts/${json.id}`;
      }));
    fill(body,
      one.error && h("div.fault", h("p", h("strong", one.error.code), `: ${one.error.message} ${HELP[one.error.code] ?? ""}`), one.error.details && json("Details", one.error.details)),
      one.progress && h("p", { role: "status" }, "Progress: ", brief(one.progress.data)),
      facts({ Id: copyable(one.id, "context id"), Service: link(one.service, `#/services/${one.service}`), Version: one.version, Created: when(one.created_at), Execution: duration(one.execution_time_ms), "Must end": isLive && when(one.expires_at),
        Owner: one.owner, Priority: one.priority, Source: one.source, "Not before": one.run_at && when(one.run_at), "Idempotency key": one.idempotency_key }),
      h("div.halves",
        h("section", h("h2", "Timeline"), h("ol.steps.plain", one.history.map(({ status, at }) => h("li", badge(status), when(at, offset(at) ? `+${duration(offset(at))}` : "at first"))))),
        h("section", h("h2", "Attempts"), one.attempts.length === 0 && h("p.soft", "None yet."), h("ol.steps.plain", one.attempts.map((attempt) =>
          h("li", h("strong", `${attempt.number}. ${attempt.service}`), badge(attempt.outcome), h("span.soft", duration(Date.parse(attempt.ended_at) - Date.parse(attempt.started_at)), attempt.status_code && `, HTTP ${attempt.status_code}`))))),
        json("Parameters", one.parameters), one.status === "completed" && json("Result", one.result), one.metadata && json("Metadata", one.metadata)));
    // What somebody has begun to fill in stays.
    const wanted = one.status === "input_required" ? one.input_request : undefined;
    if (JSON.stringify(wanted) !== asked) fill(question, wanted && answering(wanted));
    asked = JSON.stringify(wanted);
  }

  async function post(what, body = {}) {
    const answer = await ask("POST", `${path}/${what}`, { body, headers: { prefer: "respond-async" } });
    await load();
    return answer;
  }
  const answering = ({ message, schema }) => h("section.card", h("h2", "Input required"), h("p", message),
    formOf({ fields: fieldsFor(schema, "Answer"), submit: "Send", pointer: "input", send: (input) => post("input", { input }) }));

  await load();
  fill(view, link("← Contexts", "#/contexts"), top, question, body);
  const again = soon(signal, 200, load);
  listen(signal, { event: ({ subject }) => { if (subject === id) again(); }, again });
}

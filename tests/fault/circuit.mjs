// @ts-check
// Checks the service's circuit, as the event stream reports it, against the calls that the proxy saw.

/** A call that was decided while the circuit was closed may come this much later. */
const UNDER_WAY_MS = 300;
/** A call after the probe may be let through this long before the change is published. */
const NEWS_MS = 300;

/**
 * The changes of the circuit, from `service.status` events.
 * @param {import("./stream.mjs").StreamEvent[]} events @returns {import("./invariants.mjs").Change[]}
 */
export function changesOf(events) {
  /** @type {import("./invariants.mjs").Change[]} */
  const changes = [];
  for (const { type, at, data } of events) {
    if (type === "service.status" && data.breaker !== (changes.at(-1)?.state ?? "closed"))
      changes.push({ state: data.breaker, at });
  }
  return changes;
}

/**
 * The maximum number of concurrent calls. An inconclusive call (a 429, a deadline too soon) may be followed by another
 * while the circuit is still half open.
 * @param {import("./proxy.mjs").Passage[]} calls in the order they came
 */
const mostAtOnce = (calls) =>
  Math.max(
    0,
    ...calls.map(
      ({ at }, index) => calls.slice(0, index + 1).filter(({ closed }) => closed === null || closed > at).length,
    ),
  );

/**
 * How often the circuit entered each state, and the calls while it was not closed.
 * @param {import("./invariants.mjs").Evidence} evidence
 */
export function circuitFigures({ circuit, passages }) {
  const figures = { opened: 0, half: 0, closed: 0, callsWhileOpen: 0, mostProbes: 0 };
  circuit.forEach(({ state, at }, index) => {
    const until = circuit[index + 1]?.at ?? Infinity;
    const calls = (passages ?? []).filter(
      (call) => at + (state === "open" ? UNDER_WAY_MS : 0) < call.at && call.at < until - NEWS_MS,
    );
    if (state === "open") {
      figures.opened++;
      figures.callsWhileOpen += calls.length;
    } else if (state === "half_open") {
      figures.half++;
      figures.mostProbes = Math.max(figures.mostProbes, mostAtOnce(calls));
    } else figures.closed++;
  });
  return figures;
}

/** @param {import("./invariants.mjs").Evidence} evidence @param {import("./invariants.mjs").Report} report */
export function checkCircuit(evidence, report) {
  const { circuit, passages, kills } = evidence;
  if (passages === null) return;
  const { opened, callsWhileOpen, mostProbes } = circuitFigures(evidence);
  const last = circuit.at(-1)?.state ?? "closed";
  if (last !== "closed") report(`the circuit stayed ${last}`);
  // A kill may separate a change from its event.
  if (kills.length > 0) return;
  if (opened === 0) report("the circuit never opened");
  if (callsWhileOpen > 0) report(`${callsWhileOpen} calls came while the circuit was open`);
  if (mostProbes > 1) report(`${mostProbes} calls were under way at once while the circuit was half open`);
}

// The health of services over the last day, and as it changes.
import { barChart } from "./dom.js";
import { timeOfDay } from "./format.js";
import { follow, pastEvents } from "./live.js";
import { may } from "./session.js";

const DAY_MS = 86_400_000;
const RELOAD_MS = 200;
/** How many changes the chart's label describes. */
const MAX_IN_WORDS = 5;

/**
 * Collects the status events of all services, past and new.
 * @param {AbortSignal} signal
 * @param {() => unknown} load called when there are more
 * @returns {StreamEvent[]} oldest first; grows
 */
export function watchHealth(signal, load) {
  /** @type {StreamEvent[]} */
  const history = [];
  const loadSoon = follow({
    signal,
    everyMs: RELOAD_MS,
    load,
    onEvent(event) {
      if (event.type === "service.status") history.push(event);
      return event.type.startsWith("service.");
    },
  });
  async function readLog() {
    try {
      history.unshift(...(await pastEvents("service.status", signal)));
      loadSoon();
    } catch {
      // Without the log, the chart starts with the current status.
    }
  }
  if (may("events:read")) void readLog();
  return history;
}

/**
 * A service's status over the last day, as a strip.
 * @param {StreamEvent[]} history
 * @param {Pick<Service, "id" | "status" | "created_at">} service
 * @returns {SVGElement}
 */
export function healthChart(history, { id, status, created_at }) {
  const events = history.filter(({ subject }) => subject === id);
  const end = Date.now();
  const start = Math.max(end - DAY_MS, Date.parse(created_at));
  const statuses = [
    { status: events[0]?.data.previous ?? status, since: start },
    ...events.map(({ data, time }) => ({ status: data.status, since: Date.parse(time) })),
  ];
  const inWords = statuses.slice(-MAX_IN_WORDS).map(({ status, since }) => `${status} from ${timeOfDay(since)}`);
  // Each bar reaches to the end: the next one covers it.
  const bars = statuses.map(({ status, since }) => ({
    class: `is-${status}`,
    x: Math.max(0, since - start),
    width: end - Math.max(since, start),
    height: 20,
  }));
  return barChart("health", end - start, `Health: ${inWords.join(", ")}`, bars);
}

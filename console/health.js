// The health of services: as it was over the last day, and as it changes.
import { may } from "./api.js";
import { bars } from "./dom.js";
import { follow, past } from "./live.js";

const DAY_MS = 86_400_000;

/** The history of services' health, logged and live; `load`s again when it grows. */
export function watchHealth(signal, load) {
  const history = [];
  const again = follow(signal, 200, load, (event) => {
    if (event.type === "service.status") history.push(event);
    return event.type.startsWith("service.");
  });
  if (may("events:read"))
    past("service.status", signal).then(
      (events) => {
        history.unshift(...events);
        again();
      },
      () => {},
    );
  return history;
}

/** Its status over the last day, as a strip. */
export function healthStrip(history, { id, status, created_at }) {
  const events = history.filter(({ subject }) => subject === id);
  const now = Date.now();
  const from = Math.max(now - DAY_MS, Date.parse(created_at));
  const steps = [
    [events[0]?.data.previous ?? status, from],
    ...events.map(({ data, time }) => [data.status, Date.parse(time)]),
  ];
  const told = steps.slice(-5).map(([status, at]) => `${status} from ${new Date(at).toLocaleTimeString("en")}`);
  // Each is drawn up to now: the next one covers it.
  const parts = steps.map(([status, at]) => ({
    class: `is-${status}`,
    x: Math.max(0, at - from),
    width: now - Math.max(at, from),
    height: 20,
  }));
  return bars("health", now - from, `Health: ${told.join(", ")}`, parts);
}

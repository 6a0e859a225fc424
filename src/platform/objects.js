// @ts-check
// Calls of Durable Objects and messages to the queues, for `objects.rs`.
import { env } from "cloudflare:workers";
import { asked, generation, resume, watch } from "./tasks.js";

/** An object's namespace. @typedef {0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8} Kind */
/** @template T @typedef {[T, T, T, T, T, T, T, T, T]} ByKind */

/** @type {["REGISTRY", "CONTEXTS", "EVENTS", "LANES", "GRANTS", "LIMITS", "SCHEDULES", "SHARDS", "SESSIONS"]} */
const NAMESPACES = ["REGISTRY", "CONTEXTS", "EVENTS", "LANES", "GRANTS", "LIMITS", "SCHEDULES", "SHARDS", "SESSIONS"];

/** Object ids by namespace and name; creating one costs a hash. */
const ids = /** @type {ByKind<Map<string, DurableObjectId>>} */ (NAMESPACES.map(() => new Map()));
const MAX_IDS = 4096;

/** The costs of this isolate's objects so far, by namespace. */
/** @typedef {{ requests: number, rowsWritten: number, rowsRead: number, alarmsSet: number }} Costs */
export const costs = /** @type {ByKind<Costs>} */ (
  NAMESPACES.map(() => ({ requests: 0, rowsWritten: 0, rowsRead: 0, alarmsSet: 0 }))
);

export function costsText() {
  const [registry, store, hub, lane, , limiter] = costs;
  const of = (/** @type {"requests" | "rowsWritten" | "rowsRead"} */ what) => ({
    store: store[what],
    hub: hub[what],
    lane: lane[what],
    registry: registry[what],
    limiter: limiter[what],
  });
  return JSON.stringify({
    rows_written: of("rowsWritten"),
    rows_read: of("rowsRead"),
    object_requests: of("requests"),
    alarms_set: costs.reduce((sum, cost) => sum + cost.alarmsSet, 0),
  });
}

/** @param {Kind} kind @param {string} name @param {DurableObjectLocationHint | ""} hint */
function stub(kind, name, hint) {
  const namespace = env[NAMESPACES[kind]];
  let id = ids[kind].get(name);
  if (id === undefined) {
    if (ids[kind].size >= MAX_IDS) ids[kind].clear();
    id = namespace.idFromName(name);
    ids[kind].set(name, id);
  }
  return hint ? namespace.get(id, { locationHint: hint }) : namespace.get(id);
}

/**
 * Calls an object; the outcome is its reply.
 * @param {number} token @param {number} family @param {Kind} kind @param {string} name
 * @param {DurableObjectLocationHint | ""} hint @param {string} message
 */
export function ask(token, family, kind, name, hint, message) {
  costs[kind].requests += 1;
  const startedIn = generation;
  let last = asked.get(family);
  if (last?.kind !== kind || last.name !== name)
    asked.set(family, (last = { kind, name, stub: stub(kind, name, hint) }));
  last.stub.call(message).then(
    (/** @type {string} */ reply) => {
      if (startedIn === generation) resume(token, true, reply);
    },
    (/** @type {unknown} */ error) => {
      // A stub may be broken after a failure.
      asked.delete(family);
      if (startedIn === generation) resume(token, false, error);
    },
  );
}

/**
 * Passes a WebSocket upgrade to an object; returns its response, or as text the place where it must be opened instead.
 * @param {number} token @param {Kind} kind @param {string} name @param {string} message
 */
export function connect(token, kind, name, message) {
  costs[kind].requests += 1;
  const url = `https://object/?${encodeURIComponent(message)}`;
  const opened = stub(kind, name, "").fetch(url, { headers: { Upgrade: "websocket" } });
  watch(
    token,
    opened.then((/** @type {Response} */ response) => response.headers.get("x-elsewhere") ?? response),
  );
}

/**
 * Sends a wake-up message by its queue, or where there are no queues directly to what would consume it.
 * @param {number} token @param {Queue<string> | undefined} queue @param {string} message
 */
function enqueue(token, queue, message) {
  if (queue) watch(token, queue.send(message, { contentType: "text" }));
  else watch(token, env.SELF?.work(message) ?? Promise.reject(new Error("there is neither a queue nor SELF")));
}

/** Sends a wake-up message for background work. @param {number} token @param {string} message */
export function enqueueWakeup(token, message) {
  enqueue(token, env.WORK, message);
}

/** Sends a wake-up message for webhook deliveries. @param {number} token @param {string} message */
export function enqueueWebhookWakeup(token, message) {
  enqueue(token, env.WEBHOOKS, message);
}

/** Sends a wake-up message for schedules. @param {number} token @param {string} message */
export function enqueueScheduleWakeup(token, message) {
  enqueue(token, env.RUNS, message);
}

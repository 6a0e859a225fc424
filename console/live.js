// The tenant's events as they happen. After a break it goes on after the last one it had, so nothing is missed; where that
// cannot be, whoever listens is told to look again.
import { ask, session, signOut } from "./api.js";

const PING_MS = 25_000;
const PONG_MS = 10_000;
const MOST_PAUSE_MS = 15_000;
const QUIET_MS = 700;

/** @type {Set<{ event?(event: StreamEvent): void, again(): void }>} */
const listeners = new Set();
/** @type {WebSocket | undefined} */
let socket;
let last = "";
let tries = 0;
let wasOpen = false;
// Which start or reconnection is the current one: whatever an older one still does counts no more.
let run = 0;
/** @type {Timer} */
let next;
/** @type {(state: "live" | "waiting" | "off", text: string) => void} */
let show = () => {};

/** Calls back for each event, and when all has to be looked at again, until the signal. @param {AbortSignal} signal @param {{ event?(event: StreamEvent): void, again(): void }} listener */
export function listen(signal, listener) {
  listeners.add(listener);
  signal.addEventListener("abort", () => listeners.delete(listener));
}

/** Does something soon, once for all who asked meanwhile, while the screen is shown. @param {AbortSignal} signal @param {number} ms @param {() => Promise<unknown> | void} act */
export function soon(signal, ms, act) {
  /** @type {Timer} */
  let waiting;
  return () => {
    waiting ??= setTimeout(async () => {
      waiting = undefined;
      // What cannot be read now is read at the next event.
      if (!signal.aborted) await act()?.catch(() => {});
    }, ms);
  };
}

/** A socket at the stream: browsers cannot set headers on one, so a ticket is the key. @param {Record<string, string>} query */
async function open(query) {
  const { ticket } = (await ask("POST", "/v1/tickets", { body: {} })).json;
  return new WebSocket(`/v1/events?${new URLSearchParams({ ...query, ticket })}`, "cloudevents.json");
}

/** @param {typeof show} shown */
export function start(shown) {
  show = shown;
  last = "";
  wasOpen = false;
  void connect();
}

export function stop() {
  run += 1;
  clearTimeout(next);
  socket?.close();
  socket = undefined;
}

async function connect() {
  stop();
  const own = run;
  show("waiting", tries ? "Reconnecting…" : "Connecting…");
  /** @type {WebSocket} */
  let current;
  try {
    current = await open(last ? { after: last } : {});
  } catch (error) {
    if (own === run && session.who) later(/** @type {any} */ (error).status === 403 ? 4403 : 1006);
    return;
  }
  if (own !== run) return current.close();
  socket = current;
  /** @type {Timer} */
  let patience;
  const pinging = setInterval(() => {
    if (current.readyState !== WebSocket.OPEN) return;
    current.send("ping");
    patience ??= setTimeout(() => current.close(), PONG_MS);
  }, PING_MS);
  current.onopen = () => {
    tries = 0;
    show("live", "Live");
    if (wasOpen && !last) again();
    wasOpen = true;
  };
  current.onmessage = ({ data }) => {
    clearTimeout(patience);
    patience = undefined;
    if (data !== "pong" && own === run) took(JSON.parse(data));
  };
  current.onclose = ({ code }) => {
    clearInterval(pinging);
    clearTimeout(patience);
    if (own === run) later(code);
  };
}

/** @param {StreamEvent} event */
function took(event) {
  if (event.type === "stream.gap") {
    last = event.sequence;
    again();
  } else if (event.sequence > last) {
    last = event.sequence;
    for (const listener of listeners) listener.event?.(event);
  }
}

function again() {
  for (const listener of listeners) listener.again();
}

/** @param {number} code how the connection ended */
function later(code) {
  if (code === 4401) return signOut("Your key was revoked or has ended. Sign in again.");
  if (code === 4403) return show("off", "Not live: your key may not read events");
  tries += 1;
  const pause = code === 4410 ? 0 : Math.min(MOST_PAUSE_MS, code === 4429 ? MOST_PAUSE_MS : 500 * 2 ** tries) * (0.5 + Math.random() / 2);
  show("waiting", `Connection lost. Reconnecting in ${Math.ceil(pause / 1000)} s`);
  next = setTimeout(connect, pause);
}

addEventListener("online", () => { if (session.who && socket?.readyState !== WebSocket.OPEN) void connect(); });

/** What the log still has of these types, oldest first. It does not say where it ends: silence does. @param {string} types @param {AbortSignal} signal @returns {Promise<StreamEvent[]>} */
export async function past(types, signal) {
  const from = await open({ types, after: "0" });
  signal.addEventListener("abort", () => from.close());
  /** @type {StreamEvent[]} */
  const events = [];
  await new Promise((resolve) => {
    /** @type {Timer} */
    let quiet;
    const wait = () => { clearTimeout(quiet); quiet = setTimeout(resolve, QUIET_MS); };
    from.onopen = wait;
    from.onmessage = ({ data }) => { events.push(JSON.parse(data)); wait(); };
    from.onclose = resolve;
  });
  from.close();
  return events.filter(({ type }) => type !== "stream.gap");
}

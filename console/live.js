// The tenant's events as they happen; after a break it resumes, or all is read again. Without the permission, all is read
// again now and then.
import { ask, session, signOut } from "./api.js";

const PING_MS = 25_000;
const PING_EVENTS = 200;
const PONG_MS = 10_000;
const MOST_PAUSE_MS = 15_000;
const QUIET_MS = 700;
const POLL_MS = 10_000;

/** @type {Set<Listener>} */
const listeners = new Set();
let socket;
let last = "";
let tries = 0;
// The current connection: older ones are ignored.
let run = 0;
let next;
let polling;
let show;

/** `hears` each event until the signal and decides whether to `load` again, at most once in `ms`. */
export function follow(signal, ms, load, hears) {
  let [timer, isLoading, isStale] = [/** @type {any} */ (undefined), false, false];
  async function reload() {
    [timer, isLoading, isStale] = [undefined, true, false];
    try {
      if (!signal.aborted) await load();
    } catch {
      // The next event tries again.
    }
    isLoading = false;
    if (isStale) again();
  }
  function again() {
    // What is being read may be older than this.
    if (isLoading) isStale = true;
    else timer ??= setTimeout(reload, ms);
  }
  const listener = { event: (event) => hears(event) && again(), again };
  listeners.add(listener);
  signal.addEventListener("abort", () => listeners.delete(listener));
  return again;
}

/** Opens the stream. Browsers cannot set headers on a socket, so it takes a ticket. */
async function open(query) {
  const { ticket } = (await ask("POST", "/v1/tickets")).json;
  return new WebSocket(`/v1/events?${new URLSearchParams({ ...query, ticket })}`, "cloudevents.json");
}

export function start(shown) {
  show = shown;
  last = "";
  void connect();
}

export function stop() {
  run += 1;
  clearTimeout(next);
  clearInterval(polling);
  socket?.close();
  socket = undefined;
}

async function connect() {
  stop();
  const own = run;
  show("waiting", tries ? "Reconnecting…" : "Connecting…");
  let current;
  try {
    current = await open(last ? { after: last } : {});
  } catch (error) {
    if (own === run && session.who) later(error.status === 403 ? 4403 : 1006);
    return;
  }
  if (own !== run) return current.close();
  socket = current;
  let patience;
  let heard = 0;
  function ping() {
    current.send("ping");
    patience ??= setTimeout(() => current.close(), PONG_MS);
  }
  const pinging = setInterval(ping, PING_MS);
  current.onopen = () => {
    tries = 0;
    show("live", "Live");
    // There is no event to resume after.
    if (!last) again();
  };
  current.onmessage = ({ data }) => {
    clearTimeout(patience);
    patience = undefined;
    // Readers that do not ping are cut off.
    if (++heard % PING_EVENTS === 0) ping();
    if (data !== "pong" && own === run) took(JSON.parse(data));
  };
  current.onclose = ({ code }) => {
    clearInterval(pinging);
    clearTimeout(patience);
    if (own === run) later(code);
  };
}

function took(event) {
  const isGap = event.type === "stream.gap";
  if (event.sequence <= last && !isGap) return;
  last = event.sequence;
  if (isGap) again();
  else for (const listener of listeners) listener.event(event);
}

function again() {
  for (const listener of listeners) listener.again();
}

/** Reconnects after this close code. */
function later(code) {
  if (code === 4401) return signOut("Your key was revoked or has ended. Sign in again.");
  if (code === 4403) return poll();
  tries += 1;
  const pause = code === 4410 ? 0 : Math.min(MOST_PAUSE_MS, 500 * 2 ** tries) * (0.5 + Math.random() / 2);
  show("waiting", `Connection lost. Reconnecting in ${Math.ceil(pause / 1000)} s`);
  next = setTimeout(connect, pause);
}

/** For keys that may not read events. */
function poll() {
  show("off", `Not live: your key may not read events. Refreshed every ${POLL_MS / 1000} s`);
  clearInterval(polling);
  polling = setInterval(again, POLL_MS);
}

addEventListener("online", () => session.who && connect());

/** The logged events of these types, oldest first. The log ends where it falls silent. */
export async function past(types, signal) {
  const from = await open({ types, after: "0" });
  signal.addEventListener("abort", () => from.close());
  const events = [];
  await new Promise((resolve) => {
    let quiet;
    const wait = () => {
      clearTimeout(quiet);
      quiet = setTimeout(resolve, QUIET_MS);
    };
    from.onopen = wait;
    from.onmessage = ({ data }) => {
      events.push(JSON.parse(data));
      wait();
    };
    from.onclose = resolve;
  });
  from.close();
  return events.filter(({ type }) => type !== "stream.gap");
}

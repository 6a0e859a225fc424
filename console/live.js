// Follows the tenant's event stream. After a break it resumes where it was; after a gap, everything is loaded again.
// For keys that may not read events, everything is loaded again periodically.
import { ApiError, request } from "./api.js";
import { currentIdentity, signOut } from "./session.js";

const PING_MS = 25_000;
/** The gateway disconnects readers that do not ping in between. */
const EVENTS_PER_PING = 200;
const PONG_MS = 10_000;
const MAX_RECONNECT_MS = 15_000;
const POLL_MS = 10_000;
/** The log of past events ends when nothing arrives for this long. */
const SILENCE_MS = 700;

const CLOSED_ABNORMALLY = 1006;
const CLOSED_UNAUTHORIZED = 4401;
const CLOSED_FORBIDDEN = 4403;
const CLOSED_PAST_RETENTION = 4410;

/** @typedef {"waiting" | "live" | "off"} ConnectionState */
/** @typedef {{ onEvent(event: StreamEvent): void, onGap(): void }} Follower */

/** @type {Set<Follower>} */
const followers = new Set();
/** @type {(state: ConnectionState, text: string) => void} */
let showState = () => {};
/** @type {WebSocket | undefined} */
let socket;
let lastSequence = "";
let failedAttempts = 0;
/** Counts connections, so that older ones are ignored. */
let generation = 0;
/** @type {number | undefined} */
let reconnectTimer;
/** @type {number | undefined} */
let pollTimer;

/**
 * Loads again when events make it necessary, until the signal is aborted.
 * @param {object} options
 * @param {AbortSignal} options.signal
 * @param {number} options.everyMs how often at most
 * @param {() => unknown} options.load
 * @param {(event: StreamEvent) => boolean} options.onEvent takes each event; true if it makes loading necessary
 * @returns {() => void} causes a load soon
 */
export function follow({ signal, everyMs, load, onEvent }) {
  /** @type {number | undefined} */
  let timer;
  let isLoading = false;
  let isStale = false;

  async function reload() {
    timer = undefined;
    isLoading = true;
    isStale = false;
    try {
      if (!signal.aborted) await load();
    } catch {
      // The next event tries again.
    }
    isLoading = false;
    if (isStale) loadSoon();
  }

  function loadSoon() {
    // What is being loaded may be older than the event.
    if (isLoading) isStale = true;
    else timer ??= setTimeout(reload, everyMs);
  }

  /** @type {Follower} */
  const follower = {
    onEvent(event) {
      if (onEvent(event)) loadSoon();
    },
    onGap: loadSoon,
  };
  followers.add(follower);
  signal.addEventListener("abort", () => followers.delete(follower));
  return loadSoon;
}

/**
 * @param {(state: ConnectionState, text: string) => void} show shows how the connection stands
 * @returns {void}
 */
export function startStream(show) {
  showState = show;
  lastSequence = "";
  void connect();
}

/** @returns {void} */
export function stopStream() {
  generation += 1;
  clearTimeout(reconnectTimer);
  clearInterval(pollTimer);
  socket?.close();
  socket = undefined;
}

/**
 * Opens the stream. Browsers cannot set headers on a WebSocket, so it takes a ticket.
 * @param {Record<string, string>} query
 * @returns {Promise<WebSocket>}
 */
async function openSocket(query) {
  const { json } = await request("POST", "/v1/tickets");
  return new WebSocket(`/v1/events?${new URLSearchParams({ ...query, ticket: json.ticket })}`, "cloudevents.json");
}

/** @returns {Promise<void>} */
async function connect() {
  stopStream();
  const own = generation;
  const isCurrent = () => own === generation;
  showState("waiting", failedAttempts > 0 ? "Reconnecting…" : "Connecting…");
  try {
    const opened = await openSocket(lastSequence ? { after: lastSequence } : {});
    if (!isCurrent()) {
      opened.close();
      return;
    }
    socket = opened;
    listen(opened, isCurrent);
  } catch (error) {
    const isForbidden = error instanceof ApiError && error.status === 403;
    if (isCurrent() && currentIdentity()) onClosed(isForbidden ? CLOSED_FORBIDDEN : CLOSED_ABNORMALLY);
  }
}

/**
 * @param {WebSocket} opened
 * @param {() => boolean} isCurrent
 * @returns {void}
 */
function listen(opened, isCurrent) {
  const pings = keepAlive(opened);
  opened.onopen = () => {
    failedAttempts = 0;
    showState("live", "Live");
    // Without an event to resume after, everything is read.
    if (!lastSequence) loadAll();
  };
  opened.onmessage = ({ data }) => {
    pings.onMessage();
    if (data !== "pong" && isCurrent()) publish(JSON.parse(data));
  };
  opened.onclose = ({ code }) => {
    pings.stop();
    if (isCurrent()) onClosed(code);
  };
}

/**
 * Sends pings, and closes a connection that does not respond.
 * @param {WebSocket} opened
 * @returns {{ onMessage(): void, stop(): void }}
 */
function keepAlive(opened) {
  /** @type {number | undefined} */
  let pongTimer;
  let messages = 0;

  function ping() {
    opened.send("ping");
    pongTimer ??= setTimeout(() => opened.close(), PONG_MS);
  }

  function clearPongTimer() {
    clearTimeout(pongTimer);
    pongTimer = undefined;
  }

  const pingTimer = setInterval(ping, PING_MS);
  return {
    onMessage() {
      clearPongTimer();
      messages += 1;
      if (messages % EVENTS_PER_PING === 0) ping();
    },
    stop() {
      clearInterval(pingTimer);
      clearPongTimer();
    },
  };
}

/**
 * @param {StreamEvent} event
 * @returns {void}
 */
function publish(event) {
  const isGap = event.type === "stream.gap";
  if (event.sequence <= lastSequence && !isGap) return;
  lastSequence = event.sequence;
  if (isGap) {
    loadAll();
    return;
  }
  for (const follower of followers) follower.onEvent(event);
}

/** @returns {void} */
function loadAll() {
  for (const follower of followers) follower.onGap();
}

/**
 * Reconnects, if this close code allows it.
 * @param {number} code
 * @returns {void}
 */
function onClosed(code) {
  if (code === CLOSED_UNAUTHORIZED) {
    signOut("Your key was revoked or has expired. Sign in again.");
  } else if (code === CLOSED_FORBIDDEN) {
    startPolling();
  } else {
    failedAttempts += 1;
    const pauseMs = code === CLOSED_PAST_RETENTION ? 0 : reconnectPause();
    showState("waiting", `Connection lost. Reconnecting in ${Math.ceil(pauseMs / 1000)} s`);
    reconnectTimer = setTimeout(connect, pauseMs);
  }
}

/** @returns {number} */
function reconnectPause() {
  const longest = Math.min(MAX_RECONNECT_MS, 500 * 2 ** failedAttempts);
  return longest * (0.5 + Math.random() / 2);
}

/** @returns {void} */
function startPolling() {
  showState("off", `Not live: your key lacks events:read. Refreshed every ${POLL_MS / 1000} s`);
  clearInterval(pollTimer);
  pollTimer = setInterval(loadAll, POLL_MS);
}

addEventListener("online", () => {
  if (currentIdentity()) void connect();
});

/**
 * Reads the logged events of some types, oldest first.
 * @param {string} types
 * @param {AbortSignal} signal
 * @returns {Promise<StreamEvent[]>}
 */
export async function pastEvents(types, signal) {
  const reader = await openSocket({ types, after: "0" });
  signal.addEventListener("abort", () => reader.close());
  /** @type {StreamEvent[]} */
  const events = [];
  await /** @type {Promise<void>} */ (
    new Promise((resolve) => {
      /** @type {number | undefined} */
      let silenceTimer;
      // The log does not say where it ends: it falls silent there.
      function waitForSilence() {
        clearTimeout(silenceTimer);
        silenceTimer = setTimeout(resolve, SILENCE_MS);
      }
      reader.onopen = waitForSilence;
      reader.onmessage = ({ data }) => {
        events.push(JSON.parse(data));
        waitForSilence();
      };
      reader.onclose = () => resolve();
    })
  );
  reader.close();
  return events.filter(({ type }) => type !== "stream.gap");
}

// @ts-check
// Many WebSocket watchers, each with the events it must receive and those it received.
import { setTimeout as pause } from "node:timers/promises";
import WebSocket from "ws";

/** @typedef {import("../support/gateway.ts").Gateway} Gateway */
/** @typedef {{ type: string, service: string | undefined, sequence: number }} LoggedEvent */

const OPEN_MS = 60_000;
/** A ping after this many messages shows that they were read. */
const PING_AFTER = 200;

/**
 * The watchers' filters, and the events that match.
 * @type {{ query: Record<string, string>, fits: (event: LoggedEvent) => boolean }[]}
 */
const WISHES = [
  { query: { types: "context.completed" }, fits: ({ type }) => type === "context.completed" },
  {
    query: { types: "context.created,context.completed" },
    fits: ({ type }) => type === "context.created" || type === "context.completed",
  },
  { query: { types: "context.comp*", owner: "me" }, fits: ({ type }) => type === "context.completed" },
  {
    query: { types: "context.completed", service: "small" },
    fits: ({ type, service }) => type === "context.completed" && service === "small",
  },
];

/** @param {Gateway} gateway @param {Record<string, string>} query */
function connect(gateway, query) {
  const url = new URL(`/v1/events?${new URLSearchParams(query)}`, gateway.url.replace("http", "ws"));
  // A lingering closing handshake would keep the object from hibernating.
  /** @type {WebSocket.ClientOptions & { closeTimeout: number }} */
  const settings = {
    headers: { authorization: `Bearer ${gateway.adminKey}` },
    handshakeTimeout: OPEN_MS,
    closeTimeout: 500,
  };
  return new WebSocket(url, "cloudevents.json", settings);
}

let opening = Promise.resolve();

/**
 * Opens sockets one at a time: in this workerd, an object never hibernates again after several sockets were opened at
 * the same moment (cloudflare/workerd#6862, fixed since).
 * @param {() => Promise<unknown>} open
 */
function inTurn(open) {
  const opened = opening.then(open);
  opening = opened.then(
    () => {},
    () => {},
  );
  return opened;
}

/**
 * The log between two sequences, as a watcher without a filter receives it.
 * @param {Gateway} gateway @param {number} after @param {number} end @param {number} timeoutMs
 */
async function readLog(gateway, after, end, timeoutMs) {
  /** @type {LoggedEvent[]} */
  const log = [];
  let unread = 0;
  /** @type {WebSocket | undefined} */
  let socket;
  const onMessage = (/** @type {WebSocket.RawData} */ data) => {
    if (String(data) === "pong") return;
    const event = JSON.parse(String(data));
    log.push({ type: event.type, service: event.data.service, sequence: Number(event.sequence) });
    if (++unread % PING_AFTER === 0) socket?.send("ping");
  };
  await inTurn(
    () =>
      new Promise((resolve, reject) => {
        socket = connect(gateway, { after: String(after) });
        socket.on("message", onMessage).on("open", resolve).on("error", reject);
      }),
  );
  const until = Date.now() + timeoutMs;
  while ((log.at(-1)?.sequence ?? after) < end && Date.now() < until) await pause(50);
  socket?.close();
  return log;
}

/**
 * Opens `count` watchers. Missing, repeated or misplaced events are added to `violations`. `logEnd` returns the log's
 * last sequence while nothing is published.
 * @param {Gateway} gateway @param {number} count @param {string[]} violations @param {() => Promise<number>} logEnd
 * @param {{ service?: string }} [only]
 */
export async function openCrowd(gateway, count, violations, logEnd, { service } = {}) {
  const wishes =
    service === undefined
      ? WISHES
      : [
          {
            query: { types: "context.completed", service },
            fits: (/** @type {LoggedEvent} */ event) => event.type === "context.completed" && event.service === service,
          },
        ];
  /** @type {number[]} */
  let delays = [];
  let stopped = false;

  class Watcher {
    /** @param {number} number */
    constructor(number) {
      this.number = number;
      this.wish = /** @type {typeof WISHES[0]} */ (wishes[number % wishes.length]);
      /** @type {number[]} */
      this.seen = [];
      this.begin = 0;
      this.unread = 0;
      /** @type {WebSocket | undefined} */
      this.socket = undefined;
      this.code = 0;
      this.wanted = true;
    }

    /** @param {number} after */
    open(after) {
      return inTurn(() => this.#open(after));
    }

    /** @param {number} after */
    async #open(after) {
      const socket = connect(gateway, { ...this.wish.query, after: String(after) });
      this.socket = socket;
      this.wanted = true;
      socket.on("message", (/** @type {Buffer} */ data) => {
        // Events still in transit on an abandoned connection are sent again on the next one.
        if (socket !== this.socket || !this.wanted || data.length === 4) return;
        const event = JSON.parse(data.toString("latin1"));
        this.seen.push(Number(event.sequence));
        delays.push(Date.now() - Date.parse(event.time));
        if (++this.unread % PING_AFTER === 0) socket.send("ping");
      });
      socket.on("close", (code, reason) => {
        if (socket !== this.socket || stopped) return;
        this.code = code;
        if (this.wanted) violations.push(`watcher ${this.number} was closed with ${code} ${reason}`);
      });
      await new Promise((resolve, reject) => {
        socket.once("open", resolve);
        socket.on("error", reject);
      });
    }

    async comeBack() {
      const socket = this.socket;
      this.wanted = false;
      const last = this.seen.at(-1) ?? this.begin;
      if (this.number % 2) socket?.terminate();
      else socket?.close();
      await this.open(last);
    }
  }

  /** The end of the log now. */
  const begin = await logEnd();
  const watchers = Array.from({ length: count }, (_, number) => new Watcher(number));
  for (const watcher of watchers) {
    watcher.begin = begin;
    await watcher.open(begin);
  }

  return {
    /**
     * Waits until every watcher has its matching events; checks that it received all of them once and in order.
     * @param {number} timeoutMs
     */
    async complete(timeoutMs) {
      const last = await logEnd();
      const log = await readLog(gateway, begin, last, timeoutMs);
      if (log.length !== last - begin) violations.push(`the log has ${log.length} events of ${last - begin}`);
      log.forEach(({ sequence }, at) => {
        if (sequence !== begin + 1 + at) violations.push(`the log has ${sequence} where ${begin + 1 + at} belongs`);
      });
      const expected = new Map(wishes.map((wish) => [wish, log.filter(wish.fits).map(({ sequence }) => sequence)]));
      const end = Date.now() + timeoutMs;
      const lacking = () => watchers.filter(({ wish, seen }) => seen.length < (expected.get(wish)?.length ?? 0));
      while (lacking().length > 0 && Date.now() < end) await pause(100);
      for (const { number, wish, seen } of watchers) {
        const all = expected.get(wish) ?? [];
        const at = all.findIndex((sequence, place) => seen[place] !== sequence);
        if (at >= 0 || seen.length !== all.length) {
          violations.push(
            `watcher ${number} has ${seen.length} events of ${all.length}; the first that differs is number ${at}`,
          );
        }
      }
    },
    /**
     * Disconnects a random watcher and resumes it, `times` times.
     * @param {number} times @param {import("./options.mjs").Dice} roll
     */
    async disconnect(times, roll) {
      let left = times;
      const busy = new Set();
      await Promise.all(
        Array.from({ length: 10 }, async () => {
          while (left > 0) {
            const watcher = /** @type {Watcher} */ (watchers[roll(watchers.length)]);
            if (busy.has(watcher)) continue;
            left -= 1;
            busy.add(watcher);
            await watcher.comeBack();
            busy.delete(watcher);
            await pause(roll(100));
          }
        }),
      );
    },
    /** Delays of events since the last call, in milliseconds. */
    delays() {
      const sorted = Float64Array.from(delays).sort();
      delays = [];
      const at = (/** @type {number} */ share) =>
        sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
      return { p50: at(0.5), p99: at(0.99) };
    },
    most: () => watchers.reduce((most, { seen }) => Math.max(most, seen.length), 0),
    stopReading() {
      for (const watcher of watchers) {
        watcher.wanted = false;
        watcher.socket?.pause();
      }
    },
    /** Reads again and finds the connection closed; returns the close code, and resumes. @param {number} timeoutMs */
    async readAgain(timeoutMs) {
      const [watcher] = watchers;
      if (!watcher) return 0;
      watcher.wanted = true;
      // Events sent before the close count; the close itself is not a violation.
      const { socket } = watcher;
      const code = await new Promise((resolve) => {
        watcher.socket = undefined;
        socket?.on(
          "message",
          (/** @type {Buffer} */ data) => void watcher.seen.push(Number(JSON.parse(data.toString("latin1")).sequence)),
        );
        socket?.on("close", resolve);
        socket?.resume();
        setTimeout(() => resolve(0), timeoutMs).unref();
      });
      await watcher.open(watcher.seen.at(-1) ?? begin);
      return /** @type {number} */ (code);
    },
    async close() {
      stopped = true;
      await Promise.all(
        watchers.map(
          ({ socket }) =>
            new Promise((resolve) => {
              if (!socket || socket.readyState === WebSocket.CLOSED) return resolve(undefined);
              const impatient = setTimeout(() => socket.terminate(), 3000);
              socket.on("close", () => {
                clearTimeout(impatient);
                resolve(undefined);
              });
              socket.close(1000);
            }),
        ),
      );
    },
  };
}

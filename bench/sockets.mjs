// @ts-check
// Events to many: opens WebSockets at `/v1/events`, publishes by creating contexts, and measures the time until
// the last socket has received each. Runs in the load's process.
import { WebSocket } from "ws";
import { Connection, requestBytes } from "./client.mjs";
import { percentile, wrong } from "./tally.mjs";

const TYPE = "context.completed";
/** How many sockets are being opened at any time. */
const OPENING = 25;
const OPEN_MS = 15_000;
const ARRIVE_MS = 10_000;

/** @type {WebSocket[]} */
let sockets = [];
/** Called for every event of the type, with the number of its socket. @type {(index: number) => void} */
let heard = () => {};
/** Unexpected messages. */
let strangers = 0;
/** @type {string | null} */
let lost = null;

/** @param {import("./load.mjs").SocketsJob} job @param {number} index @returns {Promise<WebSocket>} */
function open(job, index) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${job.port}${job.path}`, "cloudevents.json", {
      headers: job.headers,
      perMessageDeflate: false,
      handshakeTimeout: OPEN_MS,
    });
    socket.on("open", () => resolve(socket));
    socket.on("unexpected-response", (_request, response) => {
      let text = "";
      response.on("data", (chunk) => (text += chunk));
      response.on("end", () =>
        reject(new Error(`a WebSocket was refused: ${response.statusCode} ${text.slice(0, 300)}`)),
      );
    });
    socket.on("error", (error) => reject(new Error(`a WebSocket failed: ${error.message}`)));
    socket.on("close", (code, reason) => (lost ??= `a WebSocket was closed with ${code} ${reason}`));
    socket.on("message", (/** @type {Buffer} */ data) => {
      if (data.includes(TYPE)) heard(index);
      else strangers += 1;
    });
  });
}

/** @param {import("./load.mjs").SocketsJob} job */
export async function openSockets(job) {
  await closeSockets();
  lost = null;
  strangers = 0;
  /** @type {WebSocket[]} */
  const opened = [];
  let next = 0;
  try {
    await Promise.all(
      Array.from({ length: Math.min(OPENING, job.count) }, async () => {
        while (next < job.count) opened.push(await open(job, next++));
      }),
    );
  } finally {
    sockets = opened;
  }
  return { open: sockets.length };
}

/** @param {import("./load.mjs").PublishJob} job */
export async function publish(job) {
  const bytes = requestBytes(job.request, job.port);
  const publisher = new Connection(job.port);
  /** @type {number[]} */
  const latencies = [];
  const watchdog = setTimeout(() => publisher.close(), job.events * ARRIVE_MS);
  try {
    for (let event = 0; event < job.events; event += 1) {
      /** How often each socket received this event: anything but once fails the run. */
      const times = new Uint8Array(sockets.length);
      let missing = sockets.length;
      const sent = performance.now();
      const arrived = new Promise((resolve, reject) => {
        const late = setTimeout(
          () =>
            reject(
              new Error(
                lost ?? `${missing} of ${sockets.length} sockets did not hear of an event in ${ARRIVE_MS / 1000} s`,
              ),
            ),
          ARRIVE_MS,
        );
        heard = (index) => {
          times[index] = (times[index] ?? 0) + 1;
          if (times[index] === 1) missing -= 1;
          if (missing > 0) return;
          clearTimeout(late);
          resolve(performance.now() - sent);
        };
      });
      const [latency, answer] = await Promise.all([arrived, publisher.send(bytes)]);
      const reason = wrong(answer, "completed");
      if (reason !== null) throw new Error(`the publishing request was answered ${reason}`);
      if (times.some((count) => count !== 1)) throw new Error("a socket heard the same event twice");
      latencies.push(latency);
    }
  } finally {
    clearTimeout(watchdog);
    publisher.close();
    heard = () => {};
  }
  latencies.sort((a, b) => a - b);
  return { events: job.events, p50: percentile(latencies, 0.5), p99: percentile(latencies, 0.99), strangers };
}

/** Closes with a handshake, so that the server sees no broken connections. */
export async function closeSockets() {
  const closing = sockets;
  sockets = [];
  await Promise.all(
    closing.map(
      (socket) =>
        new Promise((resolve) => {
          if (socket.readyState === WebSocket.CLOSED) return resolve(undefined);
          const impatient = setTimeout(() => socket.terminate(), 3000);
          socket.on("close", () => {
            clearTimeout(impatient);
            resolve(undefined);
          });
          socket.close(1000);
        }),
    ),
  );
  return { closed: closing.length };
}

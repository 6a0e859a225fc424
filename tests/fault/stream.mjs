// @ts-check
// A client of the event stream that resumes after its last sequence whenever its connection breaks.
import { setTimeout as pause } from "node:timers/promises";
import WebSocket from "ws";

/**
 * @typedef {{ id: string, sequence: string, type: string, subject: string, at: number, data: any,
 *   connection: number }} StreamEvent
 *   `at` is the event's own time, `data` is kept only for services, `connection` is the number of its connection
 * @typedef {{ events: StreamEvent[], connections: number, faults: string[], stop(): void }} Stream
 */

/** How long an upgrade may take. */
const OPEN_MS = 5000;

/** Reads from the beginning until stopped. @param {{ url: string, key: string }} gateway @returns {Stream} */
export function readStream(gateway) {
  /** @type {StreamEvent[]} */
  const events = [];
  /** @type {string[]} */
  const faults = [];
  /** @type {WebSocket | undefined} */
  let socket;
  let stopped = false;
  const stream = {
    events,
    faults,
    connections: 0,
    stop() {
      stopped = true;
      socket?.terminate();
    },
  };

  /** One connection, until it ends. @returns {Promise<void>} */
  const connect = () =>
    new Promise((resolve) => {
      const target = `${gateway.url.replace("http:", "ws:")}/v1/events?after=${events.at(-1)?.sequence ?? 0}`;
      const opened = new WebSocket(target, ["cloudevents.json"], {
        headers: { authorization: `Bearer ${gateway.key}` },
        handshakeTimeout: OPEN_MS,
      });
      socket = opened;
      opened.on("open", () => stream.connections++);
      opened.on("message", (text) => {
        // Events still in transit on an abandoned connection are sent again on the next one.
        if (opened !== socket || stopped) return;
        if (String(text) === "pong") return;
        const message = JSON.parse(text.toString());
        if (message.specversion === undefined) return;
        const { id, sequence, type, subject, time } = message;
        if (type === "stream.gap") faults.push(`the stream has a gap: ${JSON.stringify(message.data)}`);
        // Shows that messages are read.
        if (events.length % 200 === 199) opened.send("ping");
        events.push({
          id,
          sequence,
          type,
          subject,
          at: Date.parse(time),
          data: type.startsWith("service.") ? message.data : null,
          connection: stream.connections,
        });
      });
      // An error is followed by a close.
      opened.on("error", () => {});
      opened.on("close", (code, reason) => {
        // With 4401 … 4429 the gateway rejects this client, which did nothing wrong.
        if (code >= 4400 && !stopped) faults.push(`the stream was closed with ${code} ${reason}`);
        resolve();
      });
    });

  void (async () => {
    while (!stopped) {
      await connect();
      await pause(50);
    }
  })();
  return stream;
}

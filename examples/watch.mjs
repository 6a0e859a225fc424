// @ts-check
// Prints the events of /v1/events, one per line, and resumes after a broken connection.
// Needs only Node 22 or newer; `npx node` in this folder provides it.
//
//   ADMIN_KEY=… npx node examples/watch.mjs [--types context.*] [--after 0] [--count 5] [--json]
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: {
    url: { type: "string", default: process.env.NARTHEX ?? "http://127.0.0.1:8787" },
    /** Event types, separated by commas; `context.*` for a prefix. */
    types: { type: "string" },
    /** The id of a context or service. */
    subject: { type: "string" },
    /** Begin after this sequence; 0 is the beginning of the log. Default: only new events. */
    after: { type: "string" },
    /** Exit after this many events. */
    count: { type: "string" },
    /** Print whole events, as received. */
    json: { type: "boolean", default: false },
  },
});
const key = process.env.ADMIN_KEY;
let after = options.after;
let left = Number(options.count ?? Infinity);

/** @param {string} message @returns {never} */
function giveUp(message) {
  console.error(message);
  process.exit(1);
}

/** A socket's URL must not carry a key: a ticket opens one connection within 60 s. */
async function ticket() {
  const response = await fetch(`${options.url}/v1/tickets`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}` },
  });
  /** @type {any} */
  const body = await response.json();
  if (response.status >= 500) throw new Error(body.detail);
  return response.ok ? /** @type {string} */ (body.ticket) : giveUp(`no ticket: ${body.detail}`);
}

/** @param {any} event */
function show(event) {
  if (options.json) return console.log(JSON.stringify(event));
  const { sequence, time, type, subject, data } = event;
  const more = [data.service, data.outcome, data.error?.code].filter(Boolean).join(" ");
  console.log(`${Number(sequence)} ${time} ${type} ${subject}${more && ` (${more})`}`);
}

/** Prints until the socket closes; returns the close code. @param {URL} url @returns {Promise<number>} */
function listen(url) {
  const socket = new WebSocket(url, "cloudevents.json");
  // Shows the gateway that its messages are being read. It answers `pong`.
  const ping = () => socket.readyState === WebSocket.OPEN && socket.send("ping");
  const timer = setInterval(ping, 30_000);
  let read = 0;
  socket.addEventListener("message", ({ data }) => {
    if (data === "pong") return;
    read += 1;
    if (read % 200 === 0) ping();
    const event = JSON.parse(data);
    if (left <= 0) return;
    show(event);
    // Events are in order and without gaps, so the last one is the position to resume from.
    after = event.sequence;
    left -= 1;
    if (left === 0) socket.close(1000);
  });
  return new Promise((resolve) =>
    socket.addEventListener("close", ({ code }) => {
      clearInterval(timer);
      resolve(code);
    }),
  );
}

if (typeof WebSocket === "undefined") giveUp("this needs Node 22 or newer: npx node examples/watch.mjs");
if (!key) giveUp("ADMIN_KEY is not set: give any key that has the permission events:read");

for (let failures = 0; left > 0;) {
  const began = Date.now();
  try {
    const url = new URL("/v1/events", options.url.replace(/^http/, "ws"));
    url.searchParams.set("ticket", await ticket());
    for (const [name, value] of Object.entries({ types: options.types, subject: options.subject, after })) {
      if (value !== undefined) url.searchParams.set(name, value);
    }
    const code = await listen(url);
    if (code === 4401) giveUp("the key has ended");
    // 4410: the preceding event, stream.gap, said where the log now begins; `after` is set to it.
  } catch (error) {
    console.error(/** @type {Error} */ (error).message);
  }
  if (left <= 0) break;
  // A connection that lasted is not a failure; otherwise back off, with jitter.
  failures = Date.now() - began > 10_000 ? 0 : failures + 1;
  await pause(Math.random() * Math.min(30_000, 500 * 2 ** failures));
}

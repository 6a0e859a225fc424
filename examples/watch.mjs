// @ts-check
// Prints the events of /v1/events, a line each, and goes on where it was when the connection breaks.
// Node 22 or newer, nothing else; `npx node` in this folder is one.
//
//   ADMIN_KEY=… npx node examples/watch.mjs [--types context.*] [--after 0] [--count 5] [--json]
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: {
    url: { type: "string", default: process.env.NARTHEX ?? "http://127.0.0.1:8787" },
    /** Event types by commas; `context.*` for all that begin so. */
    types: { type: "string" },
    /** A context's or service's id. */
    subject: { type: "string" },
    /** Begin after this sequence; 0 is the beginning of the log. Without it: what happens from now on. */
    after: { type: "string" },
    /** End after so many events. */
    count: { type: "string" },
    /** Print whole events, as they came. */
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

/** A socket's URL cannot carry a key: a ticket is good for one opening, within 60 s. */
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

/** Prints until the socket closes; gives the code it closed with. @param {URL} url @returns {Promise<number>} */
function listen(url) {
  const socket = new WebSocket(url, "cloudevents.json");
  // The gateway sees by this that what it sends is read. It answers `pong`.
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
    // In order and without a gap, so the last one says how far we are.
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
    // 4410: the event before this one, stream.gap, has said where the log begins now; `after` is set to it.
  } catch (error) {
    console.error(/** @type {Error} */ (error).message);
  }
  if (left <= 0) break;
  // A connection that held is no failure; others are tried again later and later, each client at its own time.
  failures = Date.now() - began > 10_000 ? 0 : failures + 1;
  await pause(Math.random() * Math.min(30_000, 500 * 2 ** failures));
}

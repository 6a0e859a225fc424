// @ts-check
// A webhook's receiver is down while 10,000 events occur. Once it is back, each event is delivered once and signed.
import { createServer } from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import { Webhook } from "standardwebhooks";
import { buildWorker } from "../../scripts/build.mjs";
import { startGateway } from "../support/gateway.ts";
import { keepFigures, say, seconds } from "./report.mjs";

/** Events of a context that completes: created, validated, queued, executing, attempt, completed. */
const EVENTS = 6;
/** Almost as many events as may be queued for one webhook. */
const CONTEXTS = Math.floor(10_000 / EVENTS);
const CLIENTS = 12;
/** The time limit of each step. */
const ARRIVE_MS = 600_000;

/** @param {import("node:http").RequestListener} listener */
async function serve(listener) {
  const server = createServer(listener).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return { url: `http://127.0.0.1:${port}`, stop: () => void server.close().closeAllConnections() };
}

/** Closes connections while it is away; then accepts events and counts deliveries of each. */
async function startReceiver() {
  const receiver = {
    away: true,
    secret: "",
    wrong: 0,
    calls: 0,
    firstAt: 0,
    url: "",
    stop: () => {},
    /** @type {Map<string, number>} */
    seen: new Map(),
    /** @type {Map<string, Set<string>>} */
    subjects: new Map(),
  };
  const { url, stop } = await serve((request, response) => {
    receiver.calls += 1;
    if (receiver.away) return void request.socket.destroy();
    receiver.firstAt ||= Date.now();
    /** @type {Buffer[]} */
    const pieces = [];
    request
      .on("data", (piece) => void pieces.push(piece))
      .on("end", () => {
        try {
          const headers = /** @type {Record<string, string>} */ (request.headers);
          const event = /** @type {any} */ (
            new Webhook(receiver.secret).verify(Buffer.concat(pieces).toString(), headers)
          );
          receiver.seen.set(event.id, (receiver.seen.get(event.id) ?? 0) + 1);
          const types = receiver.subjects.get(event.subject) ?? new Set();
          receiver.subjects.set(event.subject, types.add(event.type));
        } catch {
          receiver.wrong += 1;
        }
        response.writeHead(204).end();
      });
  });
  return Object.assign(receiver, { url, stop });
}

/** @template T @param {() => Promise<T | null>} look @returns {Promise<T>} */
async function eventually(look) {
  for (const until = Date.now() + ARRIVE_MS; ;) {
    const seen = await look();
    if (seen !== null) return seen;
    if (Date.now() > until) throw new Error(`no result after ${seconds(ARRIVE_MS)}`);
    await pause(250);
  }
}

/**
 * True if nothing was violated.
 * @param {import("./options.mjs").Backlog} part @param {(undo: () => void) => void} atExit
 * @returns {Promise<boolean>}
 */
export async function runBacklog({ seed }, atExit) {
  const began = Date.now();
  await buildWorker();
  const service = await serve((request, response) => {
    request.resume().on("end", () => response.setHeader("content-type", "application/json").end('{"result":"done"}'));
  });
  const receiver = await startReceiver();
  // The usual back-off, only shorter: 1 s, 2 s, 4 s and so on.
  const gateway = await startGateway({ contract: false, vars: { WEBHOOK_RETRY_SECONDS: "1,86399" } });
  atExit(() => void gateway.mf.dispose());
  /** @type {string[]} */
  const violations = [];
  /** @type {import("./report.mjs").Rows} */
  const rows = [];
  const state = async () => (await gateway.request("GET", "/v1/webhooks/backlog")).json;
  try {
    const offered = {
      name: "small",
      type: "tool",
      transport: { kind: "http", url: service.url },
      capabilities: [{ name: "small" }],
    };
    await gateway.request("PUT", "/v1/services/small", { body: offered });
    const made = await gateway.request("PUT", "/v1/webhooks/backlog", {
      body: { url: receiver.url, types: ["context.*"] },
    });
    if (made.status !== 201) throw new Error(`the webhook was not made: ${made.text}`);
    receiver.secret = made.json.secret;

    /** @type {string[]} */
    const ids = [];
    let left = CONTEXTS;
    const creatingAt = Date.now();
    await Promise.all(
      Array.from({ length: CLIENTS }, async () => {
        while (left-- > 0)
          ids.push((await gateway.request("POST", "/v1/contexts", { body: { capability: "small" } })).json.id);
      }),
    );
    rows.push(["contexts, made in", `${ids.length}, ${seconds(Date.now() - creatingAt)}`]);
    const full = await eventually(async () => {
      const seen = await state();
      return seen.waiting >= ids.length * EVENTS ? seen : null;
    });
    rows.push(["queued events", full.waiting], ["calls while the receiver was away", receiver.calls]);
    if (full.status !== "active" || full.resting_until === null)
      violations.push(`the webhook does not back off: ${JSON.stringify(full)}`);
    say(`${full.waiting} events are queued; the receiver is back`);

    receiver.away = false;
    await eventually(async () => ((await state()).waiting === 0 ? true : null));
    const tookMs = Date.now() - receiver.firstAt;
    rows.push(["delivered in", seconds(tookMs)], ["… each second", Math.round((1000 * receiver.seen.size) / tookMs)]);
    const repeated = [...receiver.seen.values()].filter((times) => times > 1).length;
    rows.push(["events", receiver.seen.size], ["… delivered more than once", repeated]);
    if (receiver.wrong > 0) violations.push(`${receiver.wrong} events had a wrong signature`);
    if (receiver.seen.size !== full.waiting)
      violations.push(`${receiver.seen.size} of ${full.waiting} events were delivered`);
    if (repeated > 0) violations.push(`${repeated} events were delivered more than once, though nothing crashed`);
    for (const id of ids) {
      const types = receiver.subjects.get(id)?.size ?? 0;
      if (types !== EVENTS) violations.push(`${types} events of ${id} were delivered`);
    }
  } finally {
    await gateway.stop();
    service.stop();
    receiver.stop();
  }
  rows.push(["took", seconds(Date.now() - began)], ["violations", violations.length]);
  keepFigures(`backlog-${seed}`, { seed }, rows, violations);
  return violations.length === 0;
}

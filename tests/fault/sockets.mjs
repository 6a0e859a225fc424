// @ts-check
// Many sockets over the hub and its shards: every matching event reaches each socket once and in order, across
// disconnects, hibernation and a reader that stops reading.
import { execFileSync } from "node:child_process";
import { createServer } from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import { buildWorker } from "../../scripts/build.mjs";
import { startGateway } from "../support/gateway.ts";
import { openCrowd } from "./crowd.mjs";
import { diceOf } from "./options.mjs";
import { keepFigures, say, seconds } from "./report.mjs";

/** @typedef {import("../support/gateway.ts").Gateway} Gateway */

/** The share of all sockets that reconnect; as many watch beside one that does not read. */
const SHARE = 1 / 5;
/** The share that one object holds: the others fill a shard and half of another. */
const HELD = 2 / 5;
/** How long an object may take to hibernate: 10 s after its last activity, which may be an alarm. */
const ASLEEP_MS = 25_000;
/** The time limit for events to arrive. */
const ARRIVE_MS = 120_000;
/** The delay that a reader which does not read may add for the others. */
const ADDED_DELAY_MS = 2000;
/** A result almost as large as an event can carry. */
const LARGE = "x".repeat(15_000);
/** More large results than a socket may leave unread. */
const TOO_MUCH = 800;

/** A service that returns a `small` or `large` result, as requested. */
async function startService() {
  const server = createServer((request, response) => {
    request.resume().on("end", () => {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ result: request.url === "/large" ? LARGE : "small" }));
    });
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return { url: `http://127.0.0.1:${port}`, stop: () => void server.close().closeAllConnections() };
}

/** The last context of each store. @type {Map<string, string>} */
const lastOf = new Map();

/** @param {Gateway} gateway @param {string} capability */
async function create(gateway, capability) {
  const { status, text, json } = await gateway.request("POST", "/v1/contexts", { body: { capability } });
  if (json?.status !== "completed") throw new Error(`a context was answered with ${status}: ${text}`);
  lastOf.set(json.id.slice(0, 8), json.id);
}

/**
 * The end of the log while nothing is published: a store publishes its events before it lists a context's.
 * @param {Gateway} gateway
 */
async function logEnd(gateway) {
  const ends = [...lastOf.values()].map(async (id) => {
    const { json } = await gateway.request("GET", `/v1/contexts/${id}/events`);
    return Number(json.data.at(-1).sequence);
  });
  return Math.max(...(await Promise.all(ends)));
}

/**
 * Creates `count` contexts, one after the other, `ms` apart.
 * @param {Gateway} gateway @param {number} count @param {number} ms @param {string} [capability]
 */
async function publish(gateway, count, ms, capability = "small") {
  for (let at = 0; at < count; at++) {
    await create(gateway, capability);
    await pause(ms);
  }
}

/** How often each object was constructed: more than once means that it had been evicted. @param {Gateway} gateway */
function awakings({ logs }) {
  /** @type {Map<string, number>} */
  const times = new Map();
  for (const line of logs) {
    const name = /^awake: (.*)$/.exec(line)?.[1];
    if (name !== undefined) times.set(name, (times.get(name) ?? 0) + 1);
  }
  return times;
}

/** @param {{ p50: number, p99: number }} delays */
const label = ({ p50, p99 }) => `${p50} ms, ${p99} ms`;

/** How many files one process may have open. */
const openFiles = () =>
  Number(execFileSync("sh", ["-c", "ulimit -Hn"], { encoding: "utf8" }).replace("unlimited", "Infinity"));

/**
 * True if nothing was violated.
 * @param {import("./options.mjs").Sockets} part @param {(undo: () => void) => void} atExit
 * @returns {Promise<boolean>}
 */
export async function runSockets({ sockets, seed }, atExit) {
  // Node raises its own limit to the maximum, and workerd inherits it.
  if (openFiles() < sockets + 1000) throw new Error(`${sockets} sockets need ${sockets + 1000} open files: ulimit -Hn`);
  const [disconnects, among] = [Math.ceil(sockets * SHARE), Math.ceil(sockets * SHARE)];
  const began = Date.now();
  const roll = diceOf(seed, "sockets");
  await buildWorker();
  const service = await startService();
  const gateway = await startGateway({
    contract: false,
    tellsAwaking: true,
    vars: { HUB_SOCKETS: String(Math.ceil(sockets * HELD)) },
  });
  atExit(() => void gateway.mf.dispose());
  /** @type {string[]} */
  const violations = [];
  /** @type {import("./report.mjs").Rows} */
  const rows = [];
  try {
    for (const name of ["small", "large"]) {
      const document = {
        name,
        type: "tool",
        transport: { kind: "http", url: `${service.url}/${name}` },
        capabilities: [{ name }],
      };
      const made = await gateway.request("PUT", `/v1/services/${name}`, { body: document });
      if (made.status !== 201) throw new Error(`${name} was not registered: ${made.text}`);
    }
    await create(gateway, "small");

    const end = () => logEnd(gateway);

    const openedAt = Date.now();
    const crowd = await openCrowd(gateway, sockets, violations, end);
    rows.push(["sockets", sockets], ["… opened in", seconds(Date.now() - openedAt)]);
    say(`${sockets} sockets are open`);

    await publish(gateway, 40, 250);
    await crowd.complete(ARRIVE_MS);
    rows.push(["delay at rest, p50 and p99", label(crowd.delays())]);
    say("each had every event; now some leave and come back");

    await Promise.all([publish(gateway, 60, 250), crowd.disconnect(disconnects, roll)]);
    await crowd.complete(ARRIVE_MS);
    rows.push(
      ["disconnects with resume", disconnects],
      ["delay during disconnects, p50 and p99", label(crowd.delays())],
    );

    say("nothing happens for a while, and objects sleep");
    const before = awakings(gateway);
    await pause(ASLEEP_MS);
    await publish(gateway, 10, 250);
    await crowd.complete(ARRIVE_MS);
    const after = awakings(gateway);
    for (const [name, times] of before) {
      rows.push([`${name}: made before the rest, and after`, `${times}, ${after.get(name)}`]);
      if (after.get(name) === times) violations.push(`${name} did not leave memory`);
    }
    rows.push(["delay after sleep, p50 and p99", label(crowd.delays())], ["events a socket, at most", crowd.most()]);
    await crowd.close();

    say(`one of ${among} does not read`);
    const others = await openCrowd(gateway, among, violations, end, { service: "small" });
    let whileRead = 0;
    for (const reads of [true, false]) {
      const slow = await openCrowd(gateway, 1, violations, end, { service: "large" });
      if (!reads) slow.stopReading();
      const flood = Promise.all(Array.from({ length: 8 }, () => publish(gateway, TOO_MUCH / 8, 0, "large")));
      await Promise.all([flood, publish(gateway, 40, 250)]);
      await others.complete(ARRIVE_MS);
      const delays = others.delays();
      rows.push([`delay of the others while it ${reads ? "reads" : "does not"}, p50 and p99`, label(delays)]);
      if (reads) whileRead = delays.p99;
      else {
        if (delays.p99 > 2 * whileRead + ADDED_DELAY_MS) violations.push(`the others waited ${delays.p99} ms for it`);
        const code = await slow.readAgain(ARRIVE_MS);
        rows.push(["it was closed with", code]);
        if (code !== 1013) violations.push(`who did not read was closed with ${code}`);
      }
      // It resumes and receives everything, once.
      await slow.complete(ARRIVE_MS);
      await slow.close();
    }
    await others.close();
  } finally {
    await gateway.stop();
    service.stop();
  }
  rows.push(["took", seconds(Date.now() - began)], ["violations", violations.length]);
  keepFigures(`sockets-${seed}`, { sockets, seed }, rows, violations);
  return violations.length === 0;
}

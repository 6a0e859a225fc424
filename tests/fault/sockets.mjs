// @ts-check
// Many sockets over the hub and its shards: every event that fits reaches each once and in order, over disconnects,
// sleep and a reader that does not read.
import { createServer } from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import { buildWorker } from "../../scripts/build.mjs";
import { startGateway } from "../support/gateway.ts";
import { openCrowd } from "./crowd.mjs";
import { diceOf } from "./options.mjs";
import { keepFigures, say, seconds } from "./report.mjs";

/** @typedef {import("../support/gateway.ts").Gateway} Gateway */

/** Sockets, which are more than a hub and one shard hold. */
const SOCKETS = 5000;
const DISCONNECTS = 1000;
const AMONG = 1000;
/** What an object sleeps after. */
const IDLE_MS = 12_000;
/** How long anything may take to arrive. */
const ARRIVE_MS = 120_000;
/** A result almost as large as an event carries. */
const LARGE = "x".repeat(15_000);
/** Large results that are too many for who does not read. */
const TOO_MUCH = 800;

/** A service that says `small` or `large`, as it is asked. */
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

/** @param {Gateway} gateway @param {string} capability */
async function create(gateway, capability) {
  const answer = await gateway.request("POST", "/v1/contexts", { body: { capability } });
  if (answer.json?.status !== "completed") throw new Error(`a context was answered with ${answer.status}: ${answer.text}`);
}

/** So many contexts, one after the other, `ms` apart. @param {Gateway} gateway @param {number} count @param {number} ms @param {string} [capability] */
async function publish(gateway, count, ms, capability = "small") {
  for (let at = 0; at < count; at++) {
    await create(gateway, capability);
    await pause(ms);
  }
}

/**
 * Throws an object out of memory unless it has gone by itself; says what came of it. Where the platform finds something
 * that still refers to it, it is left to sleep by itself.
 * @param {Gateway} gateway @param {string} className @param {string} name
 */
async function asleep(gateway, className, name) {
  try {
    await gateway.evict(className, name);
    return "evicted";
  } catch (error) {
    return String(error).includes("not currently running") ? "gone before" : "left alone";
  }
}

/**
 * True when nothing was violated.
 * @param {import("./options.mjs").Sockets} part @param {(undo: () => void) => void} atExit
 * @returns {Promise<boolean>}
 */
export async function runSockets({ seed }, atExit) {
  const began = Date.now();
  const roll = diceOf(seed, "sockets");
  await buildWorker();
  const service = await startService();
  const gateway = await startGateway({ contract: false });
  atExit(() => void gateway.mf.dispose());
  /** @type {string[]} */
  const violations = [];
  /** @type {import("./report.mjs").Rows} */
  const rows = [];
  try {
    for (const name of ["small", "large"]) {
      const document = { name, type: "tool", transport: { kind: "http", url: `${service.url}/${name}` }, capabilities: [{ name }] };
      const made = await gateway.request("PUT", `/v1/services/${name}`, { body: document });
      if (made.status !== 201) throw new Error(`${name} was not registered: ${made.text}`);
    }
    await create(gateway, "small");

    const openedAt = Date.now();
    const crowd = await openCrowd(gateway, SOCKETS, violations);
    rows.push(["sockets", SOCKETS], ["… opened in", seconds(Date.now() - openedAt)]);
    say(`${SOCKETS} sockets are open`);

    await publish(gateway, 40, 250);
    await crowd.complete(ARRIVE_MS);
    rows.push(["delay at rest, p50 and p99", crowd.delays()]);
    say("each had every event; now some leave and come back");

    const publishing = publish(gateway, 60, 250);
    const disconnects = crowd.disconnect(DISCONNECTS, roll);
    await Promise.all([publishing, disconnects]);
    await crowd.complete(ARRIVE_MS);
    rows.push(["disconnects with resume", DISCONNECTS], ["delay meanwhile, p50 and p99", crowd.delays()]);

    say("nothing happens for a while, and objects sleep");
    await pause(IDLE_MS);
    rows.push(["hub, shards after that", (await Promise.all([
      asleep(gateway, "EventHub", "default"), asleep(gateway, "EventShard", "default/1"), asleep(gateway, "EventShard", "default/2"),
    ])).join(", ")]);
    await publish(gateway, 10, 250);
    await crowd.complete(ARRIVE_MS);
    rows.push(["delay after sleep, p50 and p99", crowd.delays()], ["events a socket, at most", crowd.most()]);
    await crowd.close();

    say(`one of ${AMONG} does not read`);
    const others = await openCrowd(gateway, AMONG, violations, { service: "small" });
    for (const reads of [true, false]) {
      const slow = await openCrowd(gateway, 1, violations, { service: "large" });
      if (!reads) slow.stopReading();
      const flood = Promise.all(Array.from({ length: 8 }, () => publish(gateway, TOO_MUCH / 8, 0, "large")));
      await Promise.all([flood, publish(gateway, 40, 250)]);
      await others.complete(ARRIVE_MS);
      rows.push([`delay of the others while it ${reads ? "reads" : "does not"}, p50 and p99`, others.delays()]);
      if (!reads) {
        const code = await slow.readAgain(ARRIVE_MS);
        rows.push(["it was closed with", code]);
        if (code !== 1013) violations.push(`who did not read was closed with ${code}`);
      }
      // It resumes and has everything, once.
      await slow.complete(ARRIVE_MS);
      await slow.close();
    }
    await others.close();
  } finally {
    await gateway.stop();
    service.stop();
  }
  rows.push(["took", seconds(Date.now() - began)], ["violations", violations.length]);
  keepFigures(`sockets-${seed}`, { seed }, rows, violations);
  return violations.length === 0;
}

// @ts-check
// One run: load, kills, the time to recover, the evidence, the verdict.
import { setTimeout as pause } from "node:timers/promises";
import { prepareGateway } from "./gateway.mjs";
import { startLoad } from "./load.mjs";
import { diceOf } from "./options.mjs";
import { printFigures, say, seconds } from "./report.mjs";
import { registration, startService } from "./service.mjs";
import { readStream } from "./stream.mjs";
import { isFinal, violationsOf } from "./witness.mjs";

/** @typedef {import("./load.mjs").Context} Context */

/** The whole run may take so long: the first start, so much for each kill, the end. */
const limitMs = (/** @type {number} */ kills) => 600_000 + kills * 20_000 + 180_000;
/** After the last restart; witness.mjs says from the history what came in time, this only when to stop waiting. */
const SETTLE_MS = 12_000;
/** How long the event stream may be behind after that. */
const CATCH_UP_MS = 10_000;

/**
 * Milliseconds until the next kill: mostly few, now and then enough for what was lost to be taken up again.
 * @param {import("./options.mjs").Dice} roll
 */
const lifetime = (roll) => (roll(10) === 0 ? 8500 + roll(2000) : 300 + roll(2500));

/** @param {import("./gateway.mjs").Gateway} gateway @param {string} path @param {RequestInit} [init] */
async function ask(gateway, path, init) {
  const headers = { authorization: `Bearer ${gateway.key}`, "content-type": "application/json" };
  const response = await fetch(gateway.url + path, { headers, signal: AbortSignal.timeout(20_000), ...init });
  return { status: response.status, json: /** @type {any} */ (await response.json()) };
}

/** Every id the list has. @param {import("./gateway.mjs").Gateway} gateway */
async function listedIds(gateway) {
  /** @type {Set<string>} */
  const ids = new Set();
  let query = "";
  for (;;) {
    const { status, json } = await ask(gateway, `/v1/contexts?limit=200${query}`);
    if (status !== 200) throw new Error(`the list was answered with ${status}: ${JSON.stringify(json)}`);
    for (const { id } of json.data) ids.add(id);
    if (json.next_cursor === null) return ids;
    query = `&cursor=${encodeURIComponent(json.next_cursor)}`;
  }
}

/**
 * Each of these contexts as GET gives it; those it does not know are left out.
 * @param {import("./gateway.mjs").Gateway} gateway @param {Iterable<string>} ids
 */
async function readContexts(gateway, ids) {
  /** @type {Map<string, Context>} */
  const contexts = new Map();
  const left = ids[Symbol.iterator]();
  const reader = async () => {
    for (let next = left.next(); !next.done; next = left.next()) {
      const { status, json } = await ask(gateway, `/v1/contexts/${next.value}`);
      if (status === 200) contexts.set(next.value, json);
      else if (status !== 404) throw new Error(`${next.value} was answered with ${status}: ${JSON.stringify(json)}`);
    }
  };
  await Promise.all(Array.from({ length: 8 }, reader));
  return contexts;
}

/** Waits until `done` or `ms` are over. @param {() => boolean} done @param {number} ms */
async function until(done, ms) {
  for (const end = Date.now() + ms; Date.now() < end && !done(); ) await pause(50);
}

/**
 * Runs it and prints what came of it; true when nothing was violated.
 * @param {import("./options.mjs").Options} options @returns {Promise<boolean>}
 */
export async function runTrial(options) {
  const began = Date.now();
  const gateway = await prepareGateway();
  // Whatever way this process ends, nothing it started stays.
  process.on("exit", () => gateway.remove());
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"])) {
    process.once(signal, () => {
      process.stderr.write(`fault: stopped by ${signal}\n`);
      process.exit(130);
    });
    // A second signal, which a terminal and a parent may both send, changes nothing.
    process.on(signal, () => {});
  }
  setTimeout(() => {
    process.stderr.write("fault: the run took too long\n");
    process.exit(1);
  }, limitMs(options.kills)).unref();

  const { kills, clients, seed } = options;
  say(`${kills} kills under ${clients} clients, --seed ${seed}; the first start may build`);
  const service = await startService(seed);
  await gateway.start();
  const body = JSON.stringify(registration(service.url));
  const { status, json } = await ask(gateway, "/v1/services/fault", { method: "PUT", body });
  if (status !== 201) throw new Error(`the registration was answered with ${status}: ${JSON.stringify(json)}`);

  const stream = readStream(gateway);
  const load = startLoad(gateway, options);
  const roll = diceOf(seed, "killer");
  /** @type {number[]} */
  const startsMs = [];
  let lastStart = 0;
  for (let kill = 1; kill <= kills; kill++) {
    const lived = lifetime(roll);
    await pause(lived);
    const { underWay } = load;
    await gateway.kill();
    const startMs = await gateway.start();
    lastStart = Date.now();
    startsMs.push(startMs);
    say(`kill ${kill}/${kills} after ${seconds(lived)}, ${underWay} requests under way; back in ${seconds(startMs)}`
      + `; so far ${load.told.length} answers, ${service.calls.length} calls, ${stream.events.length} events`);
  }
  await load.stop();
  // What a repeat created last is given a moment too.
  await pause(Math.max(2000, lastStart + SETTLE_MS - Date.now()));

  const ids = await listedIds(gateway);
  for (const { context } of load.told) ids.add(context.id);
  const contexts = await readContexts(gateway, ids);
  const told = () => new Set(stream.events.filter(isFinal).map(({ subject }) => subject));
  await until(() => told().size >= contexts.size, CATCH_UP_MS);
  stream.stop();
  const second = readStream(gateway);
  await until(() => second.events.length >= stream.events.length, 2 * CATCH_UP_MS);
  second.stop();
  await gateway.kill();
  service.stop();

  const evidence = {
    contexts, told: load.told, calls: service.calls, events: stream.events, readAgain: second.events, lastStart,
  };
  const unanswered = [...load.unanswered].map((key) => `the key ${key} got no answer, even after the last restart`);
  const violations = [...load.faults, ...stream.faults, ...unanswered, ...violationsOf(evidence)];
  printFigures({ ...evidence, load, startsMs, connections: stream.connections, tookMs: Date.now() - began, violations });
  return violations.length === 0;
}

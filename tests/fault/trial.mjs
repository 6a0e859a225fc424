// @ts-check
// One part: load, kills or the proxy's storms, recovery, evidence, verdict.
import { setTimeout as pause } from "node:timers/promises";
import { changesOf } from "./circuit.mjs";
import { prepareGateway } from "./gateway.mjs";
import { shortened } from "./large.mjs";
import { startLoad } from "./load.mjs";
import { diceOf } from "./options.mjs";
import { choiceOf, startProxy } from "./proxy.mjs";
import { printFigures, say, seconds } from "./report.mjs";
import { registration, startService } from "./service.mjs";
import { readStream } from "./stream.mjs";
import { isFinal, violationsOf } from "./invariants.mjs";

/** @typedef {import("./load.mjs").Context} Context */

/** The time limit of a part: the first start, each kill, the time through the proxy, the end. */
const limitMs = (/** @type {import("./options.mjs").Part} */ part) =>
  600_000 + part.kills * 45_000 + part.minutes * 60_000 + 300_000;
/** The gateway is killed once its share of contexts is acknowledged, but no later than this. */
const SHARE_MS = 20_000;
/** One call in this many gets a fault from the proxy. */
const ONE_IN = 8;
/** Behind the proxy, circuits are probed early, so that many open and close in a run. */
const VARIABLES = { BREAKER_OPEN_MS: "1000" };
/** After the last storm the circuit must close within this time: each time it opens for longer. */
const CLOSE_MS = 120_000;
/** How often progress is printed when nothing is killed. */
const PROGRESS_MS = 15_000;
/** When to stop waiting after the last restart; invariants.mjs decides from the history what ended in time. */
const SETTLE_MS = 15_000;
/** How far the event stream may lag after that. */
const CATCH_UP_MS = 10_000;

/**
 * Milliseconds until the next kill: mostly few, sometimes enough for lost work to be resumed.
 * @param {import("./options.mjs").Dice} roll
 */
const lifetime = (roll) => (roll(10) === 0 ? 8500 + roll(2000) : 300 + roll(2500));

/** @param {import("./gateway.mjs").Gateway} gateway @param {string} path @param {RequestInit} [init] */
async function ask(gateway, path, init) {
  const headers = { authorization: `Bearer ${gateway.key}`, "content-type": "application/json" };
  const response = await fetch(gateway.url + path, { headers, signal: AbortSignal.timeout(20_000), ...init });
  return { status: response.status, json: shortened(/** @type {any} */ (await response.json())) };
}

/** Every id in the list of contexts. @param {import("./gateway.mjs").Gateway} gateway */
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
 * Each of these contexts as GET returns it; unknown ones are left out.
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

/** Waits until `done()`, at most `ms`. @param {() => boolean} done @param {number} ms */
async function until(done, ms) {
  for (const end = Date.now() + ms; Date.now() < end && !done();) await pause(50);
}

/**
 * Storms, one after the other with pauses between, until stopped. The first one always opens the circuit.
 * @param {import("./proxy.mjs").Proxy} proxy @param {import("./options.mjs").Dice} roll
 */
function startWeather(proxy, roll) {
  const calm = new AbortController();
  /** @type {import("./proxy.mjs").Storm[]} */
  const kinds = ["503", "refuse", "429", "429_wait"];
  const run = async () => {
    for (let count = 0; !calm.signal.aborted; count++) {
      await pause(3000 + roll(5000), undefined, { signal: calm.signal }).catch(() => {});
      if (calm.signal.aborted) return;
      await proxy.storm(kinds[count === 0 ? 0 : roll(kinds.length)] ?? "503", 1500 + roll(1500));
    }
  };
  const running = run();
  return {
    async stop() {
      calm.abort();
      await running;
    },
  };
}

/**
 * Kills and restarts the gateway `kills` times; returns the durations of the restarts and the times of the kills.
 * @param {import("./options.mjs").Part} part @param {import("./gateway.mjs").Gateway} gateway
 * @param {import("./load.mjs").Load} load
 * @param {() => string} soFar
 */
async function killAgainAndAgain({ kills, contexts, seed }, gateway, load, soFar) {
  const roll = diceOf(seed, "killer");
  /** @type {number[]} */
  const startsMs = [];
  /** @type {number[]} */
  const times = [];
  let lastStart = 0;
  for (let kill = 1; kill <= kills; kill++) {
    const began = Date.now();
    await pause(lifetime(roll));
    await until(() => load.acknowledged.size >= (contexts * kill) / kills, SHARE_MS);
    if (gateway.lastWords !== null) throw new Error(`the gateway exited by itself: ${gateway.lastWords}`);
    const { underWay } = load;
    times.push(Date.now());
    const lived = Date.now() - began;
    await gateway.kill();
    const startMs = await gateway.start();
    lastStart = Date.now();
    startsMs.push(startMs);
    say(
      `kill ${kill}/${kills} after ${seconds(lived)}, ${underWay} requests under way; back in ${seconds(startMs)}; ${soFar()}`,
    );
  }
  return { startsMs, times, lastStart };
}

/**
 * Runs a part and prints its figures; true if nothing was violated.
 * @param {import("./options.mjs").Part} part @param {(undo: () => void) => void} atExit @returns {Promise<boolean>}
 */
export async function runTrial(part, atExit) {
  const began = Date.now();
  const { kills, clients, seed, proxied, minutes } = part;
  const gateway = await prepareGateway(proxied ? VARIABLES : {});
  atExit(() => gateway.remove());
  const limit = setTimeout(() => {
    process.stderr.write("fault: the run took too long\n");
    process.exit(1);
  }, limitMs(part)).unref();

  const what = kills > 0 ? `${kills} kills${proxied ? " and the proxy" : ""}` : `${minutes} minutes through the proxy`;
  say(`${what}, ${clients} clients, --seed ${seed}; the first start may build`);
  const service = await startService(seed);
  const proxy = proxied ? await startProxy(service.url, choiceOf(seed, ONE_IN)) : null;
  await gateway.start();
  const body = JSON.stringify(registration((proxy ?? service).url));
  const { status, json } = await ask(gateway, "/v1/services/fault", { method: "PUT", body });
  if (status !== 201) throw new Error(`the registration was answered with ${status}: ${JSON.stringify(json)}`);

  const stream = readStream(gateway);
  const load = startLoad(gateway, part);
  const weather = proxy && startWeather(proxy, diceOf(seed, "weather"));
  const soFar = () =>
    `so far ${load.acknowledged.size} contexts, ${service.calls.length} calls, ${stream.events.length} events`;
  const killed = await killAgainAndAgain(part, gateway, load, soFar);
  for (const end = Date.now() + minutes * 60_000; Date.now() < end;) {
    await pause(Math.min(PROGRESS_MS, end - Date.now()));
    if (gateway.lastWords !== null) throw new Error(`the gateway exited by itself: ${gateway.lastWords}`);
    say(`${soFar()}, ${proxy?.periods.length} storms, circuit ${changesOf(stream.events).at(-1)?.state ?? "closed"}`);
  }
  await weather?.stop();
  if (proxied) await until(() => (changesOf(stream.events).at(-1)?.state ?? "closed") === "closed", CLOSE_MS);
  await load.stop();
  // Contexts created by the last repeats need a moment too.
  await pause(Math.max(2000, killed.lastStart + SETTLE_MS - Date.now()));

  const ids = await listedIds(gateway);
  for (const id of load.acknowledged) ids.add(id);
  const lastDeadline = Math.max(...load.responses.map(({ context }) => Date.parse(context.expires_at)));
  const ended = () => new Set(stream.events.filter(isFinal).map(({ subject }) => subject));
  // Where deadlines are near, some contexts may not have reached theirs yet.
  await until(
    () => ended().size >= ids.size,
    proxied ? Math.max(0, lastDeadline - Date.now()) + CATCH_UP_MS : CATCH_UP_MS,
  );
  const contexts = await readContexts(gateway, ids);
  stream.stop();
  const second = readStream(gateway);
  await until(() => second.events.length >= stream.events.length, 2 * CATCH_UP_MS);
  second.stop();
  await gateway.kill();
  proxy?.stop();
  service.stop();
  gateway.remove();
  clearTimeout(limit);

  const evidence = {
    contexts,
    responses: load.responses,
    calls: service.calls,
    passages: proxy?.passages ?? null,
    periods: proxy?.periods ?? [],
    kills: killed.times,
    circuit: changesOf(stream.events),
    events: stream.events,
    readAgain: second.events,
    began,
    lastStart: killed.lastStart,
  };
  const unanswered = [...load.unanswered].map((key) => `the key ${key} got no response, even after the last restart`);
  const few =
    load.acknowledged.size < part.contexts
      ? [`only ${load.acknowledged.size} of ${part.contexts} contexts were acknowledged`]
      : [];
  const violations = [...few, ...load.faults, ...stream.faults, ...unanswered, ...violationsOf(evidence)];
  const { startsMs } = killed;
  printFigures({
    ...evidence,
    part,
    load,
    startsMs,
    connections: stream.connections,
    tookMs: Date.now() - began,
    violations,
  });
  return violations.length === 0;
}

// @ts-check
// Asynchronous work: a burst of contexts is accepted, and the burst is over when every one has ended.
import { Connection, header, requestBytes } from "./client.mjs";
import { Tally } from "./tally.mjs";

/** @typedef {import("./client.mjs").Answer} Answer */

/** How long a burst, or a context in it, may take to end. */
const DRAIN_MS = 30_000;
/** How many of the last contexts are watched until they have ended; `verify` checks all of them later. */
const WATCHED = 20;
const FINAL = ["completed", "failed", "cancelled", "timed_out"];

/** @param {number} ms */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {Answer} answer @returns {string} */
function contextId(answer) {
  const location = header(answer, "location");
  const id = location ? location.slice(location.lastIndexOf("/") + 1) : JSON.parse(answer.body.toString()).id;
  if (typeof id !== "string") throw new Error("a 202 answer names no context");
  return id;
}

/**
 * @param {Connection} connection @param {string} id @param {Record<string, string>} headers @returns {Promise<string>}
 */
async function statusOf(connection, id, headers) {
  const answer = await connection.send(
    requestBytes({ method: "GET", path: `/v1/contexts/${id}`, headers }, connection.port),
  );
  if (answer.status !== 200)
    throw new Error(`GET of a context was answered ${answer.status} ${answer.body.toString("utf8", 0, 300)}`);
  return JSON.parse(answer.body.toString()).status;
}

/**
 * Asks until the context has ended.
 * @param {Connection} connection @param {string} id @param {Record<string, string>} headers @param {number} until
 */
async function ended(connection, id, headers, until) {
  for (;;) {
    const status = await statusOf(connection, id, headers);
    if (FINAL.includes(status)) return status;
    if (performance.now() > until)
      throw new Error(`a context was still ${status} ${DRAIN_MS / 1000} s after the burst`);
    await pause(10);
  }
}

/** How many calls the service has answered. @param {Connection} upstream @returns {Promise<number>} */
async function served(upstream) {
  const answer = await upstream.send(requestBytes({ method: "GET", path: "/served" }, upstream.port));
  return JSON.parse(answer.body.toString()).served;
}

/** @param {import("./load.mjs").BurstJob} job */
export async function burst(job) {
  const bytes = requestBytes(job.request, job.port);
  const lanes = Array.from({ length: job.connections }, () => new Connection(job.port));
  const upstream = new Connection(job.upstreamPort);
  const before = await served(upstream);
  const tally = new Tally();
  /** @type {string[]} */
  const ids = [];
  const started = performance.now();
  let left = job.count;
  const watchdog = setTimeout(() => [...lanes, upstream].forEach((one) => one.close()), 2 * DRAIN_MS);
  try {
    await Promise.all(
      lanes.map(async (lane) => {
        while (left > 0 && tally.errors < 20) {
          left -= 1;
          const sent = performance.now();
          try {
            const answer = await lane.send(bytes);
            tally.latencies.push(performance.now() - sent);
            tally.answer(answer, "accepted");
            if (answer.status === 202) ids.push(contextId(answer));
          } catch (error) {
            tally.error(String(error));
          }
        }
      }),
    );
    const seconds = (performance.now() - started) / 1000;
    // The service's count costs the measured side nothing; only afterwards are a few contexts requested.
    const until = performance.now() + DRAIN_MS;
    while ((await served(upstream)) - before < ids.length && performance.now() < until) await pause(10);
    const watcher = /** @type {Connection} */ (lanes[0]);
    for (const id of ids.slice(-WATCHED)) await ended(watcher, id, job.headers, until);
    const drainedSeconds = (performance.now() - started) / 1000;
    return {
      ...tally.figures(ids.length, seconds),
      drainedPerSecond: ids.length / drainedSeconds,
      drainedSeconds,
      ids,
    };
  } finally {
    clearTimeout(watchdog);
    [...lanes, upstream].forEach((one) => one.close());
  }
}

/**
 * Every context of a burst must have completed: counts those that had not when first asked.
 * @param {import("./load.mjs").VerifyJob} job
 */
export async function verify(job) {
  const lanes = Array.from({ length: job.connections }, () => new Connection(job.port));
  const ids = [...job.ids];
  const until = performance.now() + DRAIN_MS;
  let late = 0;
  let notCompleted = 0;
  const watchdog = setTimeout(() => lanes.forEach((one) => one.close()), 2 * DRAIN_MS);
  try {
    await Promise.all(
      lanes.map(async (lane) => {
        for (let id = ids.pop(); id !== undefined; id = ids.pop()) {
          let status = await statusOf(lane, id, job.headers);
          if (!FINAL.includes(status)) {
            late += 1;
            status = await ended(lane, id, job.headers, until);
          }
          if (status !== "completed") notCompleted += 1;
        }
      }),
    );
    return { late, notCompleted };
  } finally {
    clearTimeout(watchdog);
    lanes.forEach((one) => one.close());
  }
}

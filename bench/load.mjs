// @ts-check
// The load generator: a separate process that receives one job at a time and returns its figures. Every job is bounded
// by a time or a count, and the process exits with its parent.
import { burst, verify } from "./burst.mjs";
import { Connection, requestBytes } from "./client.mjs";
import { EventReader } from "./pieces.mjs";
import { closeSockets, openSockets, publish } from "./sockets.mjs";
import { Tally } from "./tally.mjs";

/**
 * @typedef {import("./client.mjs").RequestSpec} RequestSpec
 * @typedef {import("./tally.mjs").Expectation} Expectation
 *
 * With `Reads`, the answers are streams, and latency is the time until the `end` of a stream, the time until its
 * `first` piece, or how late each of its `events` is.
 * @typedef {"end" | "first" | "events"} Reads
 *
 * @typedef {{ kind: "steady", port: number, requests: RequestSpec[], expect: Expectation,
 *   connections: number, seconds: number, reads?: Reads }} SteadyJob
 * @typedef {{ kind: "paced", port: number, requests: RequestSpec[], expect: Expectation,
 *   count: number, everyMs: number, reads?: Reads }} PacedJob
 * @typedef {{ kind: "burst", port: number, request: RequestSpec, headers: Record<string, string>,
 *   connections: number, count: number, upstreamPort: number }} BurstJob
 * @typedef {{ kind: "verify", port: number, headers: Record<string, string>, ids: string[],
 *   connections: number }} VerifyJob
 * @typedef {{ kind: "sockets", port: number, path: string, headers: Record<string, string>, count: number }} SocketsJob
 * @typedef {{ kind: "publish", port: number, request: RequestSpec, events: number }} PublishJob
 * @typedef {{ kind: "unplug" }} UnplugJob
 * @typedef {SteadyJob | PacedJob | BurstJob | VerifyJob | SocketsJob | PublishJob | UnplugJob} Job
 */

/** How long past its time a job may take before requests under way count as failed. */
const GRACE_MS = 20_000;

/** @param {SteadyJob | PacedJob} job */
function connection({ port, reads }) {
  return reads ? new Connection(port, () => new EventReader(reads === "events")) : new Connection(port);
}

/**
 * @param {import("./client.mjs").Answer} answer @param {Reads | undefined} reads @param {number} sent
 * @param {number} arrived
 */
function latencies({ stream }, reads, sent, arrived) {
  if (reads === "events") {
    if (!stream?.lateness.length) throw new Error("no event of a stream says when it was sent");
    return stream.lateness;
  }
  return [(reads === "first" && stream ? stream.firstAt : arrived) - sent];
}

/**
 * A closed loop: each connection sends its next request when it has its response. Throughput and latency cover the
 * responses inside the time; `answered` also counts the few under way when it ended, since their CPU is counted too.
 * @param {SteadyJob} job
 */
async function steady(job) {
  const requests = job.requests.map((spec) => requestBytes(spec, job.port));
  const lanes = Array.from({ length: job.connections }, () => connection(job));
  const tally = new Tally();
  const started = performance.now();
  const until = started + job.seconds * 1000;
  let next = 0;
  let counted = 0;
  const watchdog = setTimeout(() => lanes.forEach((lane) => lane.close()), job.seconds * 1000 + GRACE_MS);
  await Promise.all(
    lanes.map(async (lane) => {
      // No point in loading a server that only returns errors.
      while (tally.errors < 20) {
        const sent = performance.now();
        if (sent >= until) return;
        try {
          const answer = await lane.send(/** @type {Buffer} */ (requests[next++ % requests.length]));
          const arrived = performance.now();
          tally.answer(answer, job.expect);
          if (arrived <= until) {
            counted += 1;
            tally.latencies.push(...latencies(answer, job.reads, sent, arrived));
          }
        } catch (error) {
          tally.error(String(error));
        }
      }
    }),
  );
  clearTimeout(watchdog);
  lanes.forEach((lane) => lane.close());
  return tally.figures(counted, job.seconds);
}

/** One request at a time, at fixed intervals: the load of a single user. @param {PacedJob} job */
async function paced(job) {
  const requests = job.requests.map((spec) => requestBytes(spec, job.port));
  const lane = connection(job);
  const tally = new Tally();
  const started = performance.now();
  const watchdog = setTimeout(() => lane.close(), job.count * job.everyMs + GRACE_MS);
  for (let index = 0; index < job.count && tally.errors === 0; index += 1) {
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, started + index * job.everyMs - performance.now())));
    const sent = performance.now();
    try {
      const answer = await lane.send(/** @type {Buffer} */ (requests[index % requests.length]));
      tally.answer(answer, job.expect);
      tally.latencies.push(...latencies(answer, job.reads, sent, performance.now()));
    } catch (error) {
      tally.error(String(error));
    }
  }
  clearTimeout(watchdog);
  lane.close();
  return tally.figures(tally.answered, (performance.now() - started) / 1000);
}

/** @param {Job} job @returns {Promise<unknown>} */
function perform(job) {
  switch (job.kind) {
    case "steady":
      return steady(job);
    case "paced":
      return paced(job);
    case "burst":
      return burst(job);
    case "verify":
      return verify(job);
    case "sockets":
      return openSockets(job);
    case "publish":
      return publish(job);
    case "unplug":
      return closeSockets();
  }
}

process.on("message", async (/** @type {Job} */ job) => {
  try {
    process.send?.({ figures: await perform(job) });
  } catch (error) {
    process.send?.({ failed: error instanceof Error ? error.message : String(error) });
  }
});
process.on("disconnect", () => process.exit(0));
// The parent decides when to stop; Ctrl-C reaches the whole group and must not stop this one first.
process.on("SIGINT", () => {});

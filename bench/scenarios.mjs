// @ts-check
// The scenarios. Each runs one side for one round; the rounds of all sides alternate.
import { cpuMs, memoryMib, resetPeak, untilQuiet } from "./readings.mjs";
import { pages, toolCall } from "./mcp.mjs";
import { contextBody } from "./bodies.mjs";
import * as models from "./models.mjs";

/**
 * @typedef {import("./targets.mjs").Target} Target
 * @typedef {import("./targets.mjs").Side} Side
 * @typedef {import("./client.mjs").RequestSpec} RequestSpec
 * @typedef {import("./tally.mjs").LoadFigures} LoadFigures
 * @typedef {import("./tally.mjs").Expectation} Expectation
 *
 * `perform` gives a job to the load's process.
 * @typedef {{ perform(job: import("./load.mjs").Job): Promise<any>, options: import("./options.mjs").Options,
 *   upstreamPort: number }} Bench
 *
 * One side's figures in one round. `perSecond` counts what the scenario's unit says; `cpuMs` is per unit.
 * @typedef {{ perSecond: number | null, p50: number, p99: number, cpuMs: number | null, units: number,
 *   rss: number | null, peak: number | null, answerBytes?: number, answeredPerSecond?: number,
 *   strangers?: number, pieces?: number }} Cell
 *
 * `isTimed`: what matters is how much later than directly.
 * @typedef {{ key: string, title: string, sides: Side[], isTimed?: boolean,
 *   run(bench: Bench, target: Target): Promise<Cell> }} Scenario
 */

const WARM_UP_SECONDS = 1;
/** Contexts in a burst for each of `--seconds`. */
const BURST_PER_SECOND = 300;
const READ_CONTEXTS = 64;
/** Events timed per round, by number of listeners: a single one costs less than the clock's resolution. */
const EVENTS = new Map([
  [1, 60],
  [100, 30],
  [1000, 10],
]);

/** @param {"echo" | "lookup"} capability @param {string} prefer @param {Target} target @returns {RequestSpec} */
export const contextRequest = (capability, prefer, target) => ({
  method: "POST",
  path: "/v1/contexts",
  headers: { ...target.headers, Prefer: prefer },
  body: contextBody(capability),
});

/** The service's envelope, sent by the load itself. @returns {RequestSpec} */
const directCall = () => ({
  method: "POST",
  path: "/",
  body: JSON.stringify({
    context_id: "ctx_00000000000000000000000000000000",
    capability: "echo",
    version: "1.0.0",
    parameters: JSON.parse(contextBody("echo")).parameters,
    attempt: 1,
    deadline: "2026-12-01T00:00:00.000Z",
  }),
});

/** @param {LoadFigures} figures */
function insistRight(figures) {
  if (figures.errors > 0) {
    throw new Error(`${figures.errors} of ${figures.answered} answers were wrong; the first: ${figures.firstError}`);
  }
}

/**
 * Measures CPU and memory of some work, until the process is idle again.
 * @template T @param {number} pid @param {() => Promise<T>} work
 */
export async function measured(pid, work) {
  await untilQuiet(pid);
  resetPeak(pid);
  const before = cpuMs(pid);
  const result = await work();
  await untilQuiet(pid);
  const after = cpuMs(pid);
  return { result, cpu: before === null || after === null ? null : after - before, ...memoryMib(pid) };
}

/** @param {number | null} total @param {number} units */
const per = (total, units) => (total === null ? null : total / units);

/**
 * The figures of a job that is run behind another one.
 * @param {Bench} bench @param {Target} target
 * @param {import("./load.mjs").SteadyJob | import("./load.mjs").PacedJob} warmUp @param {typeof warmUp} job
 * @returns {Promise<Cell>}
 */
async function figures(bench, target, warmUp, job) {
  insistRight(await bench.perform(warmUp));
  const { result, cpu, rss, peak } = await measured(target.pid, () => bench.perform(job));
  insistRight(result);
  return {
    perSecond: result.perSecond,
    p50: result.p50,
    p99: result.p99,
    cpuMs: per(cpu, result.answered),
    units: result.answered,
    rss,
    peak,
    answerBytes: result.answerBytes,
    ...(job.reads && { pieces: result.pieces }),
  };
}

/**
 * @param {Bench} bench @param {Target} target @param {RequestSpec[]} requests @param {Expectation} expect
 * @param {Pick<Partial<import("./load.mjs").SteadyJob>, "connections" | "reads">} [more] @returns {Promise<Cell>}
 */
async function steady(bench, target, requests, expect, more = {}) {
  const { connections, seconds } = bench.options;
  /** @type {import("./load.mjs").SteadyJob} */
  const job = { kind: "steady", port: target.port, requests, expect, connections, seconds, ...more };
  return figures(bench, target, { ...job, seconds: WARM_UP_SECONDS }, job);
}

/** @param {Bench} bench @param {Target} target @returns {Promise<Cell>} */
async function asynchronous(bench, target) {
  const { connections, seconds } = bench.options;
  /** @type {import("./load.mjs").BurstJob} */
  const job = {
    kind: "burst",
    port: target.port,
    request: contextRequest("echo", "respond-async", target),
    headers: target.headers,
    connections,
    count: BURST_PER_SECOND,
    upstreamPort: bench.upstreamPort,
  };
  const { ids: warm, ...warmUp } = await bench.perform(job);
  insistRight(warmUp);
  const { result, cpu, rss, peak } = await measured(target.pid, () =>
    bench.perform({ ...job, count: BURST_PER_SECOND * seconds }),
  );
  insistRight(result);
  const ids = [...warm, ...result.ids];
  const { late, notCompleted } = await bench.perform({
    kind: "verify",
    port: target.port,
    headers: target.headers,
    ids,
    connections,
  });
  if (notCompleted > 0)
    throw new Error(`${notCompleted} of ${ids.length} contexts that were answered 202 did not complete`);
  if (late > 0 && cpu !== null)
    throw new Error(
      `${late} of ${ids.length} contexts had not ended when the process rested: their CPU is not in the figure`,
    );
  return {
    perSecond: result.drainedPerSecond,
    answeredPerSecond: result.perSecond,
    p50: result.p50,
    p99: result.p99,
    cpuMs: per(cpu, result.answered),
    units: result.answered,
    rss,
    peak,
    answerBytes: result.answerBytes,
  };
}

/** @param {Bench} bench @param {Target} target @returns {Promise<Cell>} */
async function reading(bench, target) {
  const request = contextRequest("echo", "wait=10", target);
  /** @type {RequestSpec[]} */
  const reads = [];
  for (let made = 0; made < READ_CONTEXTS; made += 1) {
    const response = await fetch(`http://127.0.0.1:${target.port}${request.path}`, {
      method: "POST",
      headers: { ...request.headers, "content-type": "application/json" },
      body: request.body ?? "",
    });
    const context = /** @type {{ id: string, status: string }} */ (await response.json());
    if (context.status !== "completed")
      throw new Error(`a context to read was answered ${response.status} ${JSON.stringify(context).slice(0, 400)}`);
    reads.push({ method: "GET", path: `/v1/contexts/${context.id}`, headers: target.headers });
  }
  return steady(bench, target, reads, "completed");
}

/**
 * A steady load of contexts that are waited for; the side without a gateway is called directly.
 * @param {"echo" | "lookup"} capability
 */
const waitedFor = (capability) => (/** @type {Bench} */ bench, /** @type {Target} */ target) =>
  target.side === "upstream"
    ? steady(bench, target, [directCall()], "ok")
    : steady(bench, target, [contextRequest(capability, "wait=10", target)], "completed");

/** @param {number} count @returns {Scenario["run"]} */
const events = (count) => async (bench, target) => {
  // The filter matches only the last event of a context, so each socket receives one per context.
  const path = "/v1/events?types=context.completed";
  const request = { ...contextRequest("echo", "wait=10", target), path: target.tellPath };
  await bench.perform({ kind: "sockets", port: target.port, path, headers: target.headers, count });
  try {
    await bench.perform({ kind: "publish", port: target.port, request, events: 3 });
    const number = EVENTS.get(count) ?? 10;
    const { result, cpu, rss, peak } = await measured(target.pid, () =>
      bench.perform({ kind: "publish", port: target.port, request, events: number }),
    );
    return {
      perSecond: null,
      p50: result.p50,
      p99: result.p99,
      cpuMs: per(cpu, number),
      units: number,
      rss,
      peak,
      strangers: result.strangers,
    };
  } finally {
    await bench.perform({ kind: "unplug" });
  }
};

/**
 * A steady load of chats.
 * @param {() => models.Exchange} made @param {Parameters<typeof steady>[4]} [more] @returns {Scenario["run"]}
 */
const chats = (made, more) => (bench, target) => {
  const { request, expect } = made();
  return steady(bench, target, [request(target)], expect, more);
};

/**
 * The streams of a single user: the work behind one has ended when the next begins.
 * @param {Bench} bench @param {Target} target
 */
function firstPieces(bench, target) {
  const { request, expect } = models.shortStream;
  const everyMs = models.APART_MS;
  const count = (bench.options.seconds * 1000) / everyMs;
  /** @type {import("./load.mjs").PacedJob} */
  const job = { kind: "paced", port: target.port, requests: [request(target)], expect, count, everyMs, reads: "first" };
  return figures(bench, target, { ...job, count: (WARM_UP_SECONDS * 1000) / everyMs }, job);
}

/** @type {Side[]} */
const BOTH = ["gateway", "comparator"];
/** @type {Side[]} */
const ALL = [...BOTH, "upstream"];
/** @type {Side[]} */
const OF_MODELS = [...BOTH, "floor", "provider"];

/** @type {Scenario[]} */
const MODEL_SCENARIOS = [
  { key: "chat", title: "a small chat", sides: OF_MODELS, run: chats(() => models.chat) },
  {
    key: "stream",
    title: "a stream of 1,000 pieces",
    sides: OF_MODELS,
    run: chats(() => models.stream, { reads: "end", connections: models.STREAMS }),
  },
  {
    key: "stream",
    title: "first piece, one stream at a time",
    sides: OF_MODELS,
    isTimed: true,
    run: firstPieces,
  },
  {
    key: "stream",
    title: `lateness of events, ${models.PACED_STREAMS} streams`,
    sides: OF_MODELS,
    isTimed: true,
    run: chats(() => models.pacedStream, { reads: "events", connections: models.PACED_STREAMS }),
  },
  {
    key: "body",
    title: "a chat with 5 MiB of picture",
    sides: OF_MODELS,
    run: chats(models.withPicture, { connections: models.PICTURES }),
  },
];

/** @type {Scenario[]} */
export const SCENARIOS = [
  {
    key: "a",
    title: "GET /health",
    sides: ALL,
    run: (bench, target) => steady(bench, target, [{ method: "GET", path: "/health" }], "ok"),
  },
  {
    key: "b",
    title: "durable context, waited for",
    sides: ALL,
    run: waitedFor("echo"),
  },
  {
    key: "c",
    title: "durable: false, waited for",
    sides: ALL,
    run: waitedFor("lookup"),
  },
  {
    key: "checks",
    title: "GET /v1/whoami with a rate limit, GET /health",
    sides: ["limited", "open"],
    run: (bench, target) => {
      const checked = { method: "GET", path: "/v1/whoami", headers: target.headers };
      return steady(bench, target, [target.side === "limited" ? checked : { method: "GET", path: "/health" }], "ok");
    },
  },
  {
    key: "mcp",
    title: "as b, by the API and as a tool's call",
    sides: ["api", "mcp"],
    run: (bench, target) =>
      steady(
        bench,
        target,
        [target.side === "mcp" ? toolCall(target) : contextRequest("echo", "wait=10", target)],
        target.side === "mcp" ? "result" : "completed",
      ),
  },
  {
    key: "tools",
    title: "a page of tools/list, of 2,000 tools",
    sides: ["many"],
    run: async (bench, target) => steady(bench, target, await pages(target), "ok"),
  },
  ...MODEL_SCENARIOS,
  { key: "d", title: "respond-async, until all have ended", sides: BOTH, run: asynchronous },
  { key: "e", title: "GET a context", sides: BOTH, run: reading },
  ...[...EVENTS.keys()].map((count) => ({
    key: "f",
    title: `one event to ${count.toLocaleString("en")} socket${count === 1 ? "" : "s"}`,
    sides: BOTH,
    run: events(count),
  })),
];

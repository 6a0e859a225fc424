// @ts-check
// One run of the benchmark, from the first process to the results.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release, tmpdir, totalmem, type } from "node:os";
import { costs } from "./costs.mjs";
import { MODEL_PARTS } from "./options.mjs";
import { endAll, endAllAtExit, startNode } from "./processes.mjs";
import { registrySizes } from "./registry.mjs";
import { report } from "./report.mjs";
import { runScenario } from "./rounds.mjs";
import { SCENARIOS } from "./scenarios.mjs";
import { sizes, startups } from "./startup.mjs";
import {
  floorOf,
  forwarding,
  startComparator,
  startGateway,
  startLimited,
  startMany,
  startProvider,
  startUpstream,
  startWithModels,
} from "./targets.mjs";
import { here } from "./workerd.mjs";

/**
 * @typedef {import("./options.mjs").Options} Options
 * @typedef {import("./targets.mjs").Target} Target
 */

/** Progress, on standard error. @param {string} line */
const say = (line) => process.stderr.write(`bench: ${line}\n`);

/** @param {string} name */
const packageVersion = (name) => JSON.parse(readFileSync(here(`../node_modules/${name}/package.json`), "utf8")).version;

const machine = () => ({
  cpu: cpus()[0]?.model ?? "unknown",
  cores: cpus().length,
  memoryGib: Math.round(totalmem() / 2 ** 30),
  system: `${type()} ${release()}`,
  loadBefore: loadavg(),
});

/** The load process, which receives one job at a time. */
function startLoad() {
  const child = startNode("load.mjs");
  /** @param {import("./load.mjs").Job} job @returns {Promise<any>} */
  return (job) =>
    new Promise((resolve, reject) => {
      const died = () => reject(new Error("the load's process ended"));
      child.once("exit", died);
      child.once("message", (/** @type {{ figures?: unknown, failed?: string }} */ answer) => {
        child.off("exit", died);
        if (answer.failed === undefined) resolve(answer.figures);
        else reject(new Error(answer.failed));
      });
      child.send(job);
    });
}

/**
 * The targets that some scenarios need.
 * @param {Set<string>} keys of the scenarios @param {string} runFolder @param {Target} upstream
 * @param {boolean} standIn whether the comparator plays the gateway
 * @returns {Promise<Partial<Record<import("./targets.mjs").Side, Target>>>}
 */
async function startTargets(keys, runFolder, upstream, standIn) {
  const { port } = upstream;
  const provider = MODEL_PARTS.some((key) => keys.has(key)) ? await startProvider() : undefined;
  const startForwarder = () => startComparator(runFolder, port, provider && forwarding(provider.port));
  const startReal = () => (provider ? startWithModels(runFolder, port, provider.port) : startGateway(runFolder, port));
  const gateway = await (standIn ? startForwarder() : startReal());
  const comparator = await startForwarder();
  const limited = keys.has("checks") ? await startLimited(runFolder, port) : undefined;
  return {
    upstream,
    gateway,
    api: { ...gateway, side: "api" },
    mcp: { ...gateway, side: "mcp" },
    comparator,
    floor: floorOf(comparator),
    ...(provider && { provider }),
    ...(keys.has("tools") && { many: await startMany(runFolder, port) }),
    ...(limited && { limited, open: { ...limited, side: "open" } }),
  };
}

/** @param {Options} options */
export async function runSuite(options) {
  const runFolder = mkdtempSync(`${tmpdir()}/narthex-bench-`);
  endAllAtExit(() => rmSync(runFolder, { recursive: true, force: true }));
  const wants = (/** @type {string} */ part) => !options.only || options.only.includes(part);
  const standIn = options.gateway === "comparator";
  /** @type {import("./report.mjs").Results} */
  const results = {
    date: new Date().toISOString(),
    options,
    machine: machine(),
    versions: { node: process.versions.node, workerd: packageVersion("workerd"), ws: packageVersion("ws") },
    sizes: sizes(),
    startup: null,
    registry: [],
    scenarios: [],
    costs: {},
  };
  try {
    const upstream = await startUpstream();
    const bench = { perform: startLoad(), options, upstreamPort: upstream.port };
    if (wants("startup")) {
      say("cold starts");
      results.startup = await startups(runFolder, options.startups, standIn);
    }
    // The comparator has no checks to measure, and no MCP endpoint.
    const scenarios = SCENARIOS.filter(
      ({ key }) => wants(key) && !(standIn && ["checks", "mcp", "tools"].includes(key)),
    );
    if (scenarios.length > 0) {
      const keys = new Set(scenarios.map(({ key }) => key));
      const targets = await startTargets(keys, runFolder, upstream, standIn);
      for (const scenario of scenarios) results.scenarios.push(await runScenario(scenario, bench, targets, say));
      await Promise.all(
        [targets.gateway, targets.comparator, targets.limited, targets.many].map((target) => target?.end()),
      );
    }
    if (wants("registry") && !standIn) results.registry = await registrySizes(runFolder, upstream.port, say);
    if (wants("costs")) {
      for (const side of /** @type {const} */ (["gateway", "comparator"])) {
        say(`costs of a context, ${side}`);
        results.costs[side] = await costs(standIn ? "comparator" : side, runFolder, bench);
      }
    }
  } finally {
    await endAll();
    rmSync(runFolder, { recursive: true, force: true });
  }
  process.stdout.write(`${report(results)}\n`);
  const folder = here("results/");
  mkdirSync(folder, { recursive: true });
  writeFileSync(new URL("latest.json", folder), `${JSON.stringify(results, null, 1)}\n`);
  say("every round's figures are in bench/results/latest.json");
}

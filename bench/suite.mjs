// @ts-check
// One run of the benchmark, from the first process to the results.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release, tmpdir, totalmem, type } from "node:os";
import { costs } from "./costs.mjs";
import { endAll, endAllAtExit, startNode } from "./processes.mjs";
import { registrySizes } from "./registry.mjs";
import { report } from "./report.mjs";
import { runScenario } from "./rounds.mjs";
import { SCENARIOS } from "./scenarios.mjs";
import { sizes, startups } from "./startup.mjs";
import { startComparator, startGateway, startLimited, startMany, startUpstream } from "./targets.mjs";
import { here } from "./workerd.mjs";

/** @typedef {import("./options.mjs").Options} Options */

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
    const has = (/** @type {string} */ wanted) => scenarios.some(({ key }) => key === wanted);
    if (scenarios.length > 0) {
      const gateway = await (standIn ? startComparator : startGateway)(runFolder, upstream.port);
      const limited = has("checks") ? await startLimited(runFolder, upstream.port) : undefined;
      const targets = {
        upstream,
        gateway,
        api: { ...gateway, side: /** @type {const} */ ("api") },
        mcp: { ...gateway, side: /** @type {const} */ ("mcp") },
        comparator: await startComparator(runFolder, upstream.port),
        ...(has("tools") && { many: await startMany(runFolder, upstream.port) }),
        ...(limited && { limited, open: { ...limited, side: /** @type {const} */ ("open") } }),
      };
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

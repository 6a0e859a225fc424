// @ts-check
// The cost of a cold start, and the size of the Worker that must be fetched for it.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { end, startWorkerd } from "./processes.mjs";
import { memoryMib, preciseCpuMs } from "./readings.mjs";
import { median } from "./rounds.mjs";
import { ownFolder } from "./targets.mjs";
import { GATEWAY_MODULES, WASM, comparatorSpec, gatewaySpec, here, writeConfig } from "./workerd.mjs";

/** @typedef {import("./workerd.mjs").WorkerSpec} WorkerSpec */

/** @param {import("./workerd.mjs").Module} module */
const gzipped = ({ path }) => gzipSync(readFileSync(path), { level: 9 }).length / 1024;

/** In KiB, at gzip's best level. */
export const sizes = () => ({
  wasmKib: readFileSync(WASM.path).length / 1024,
  wasmGzipKib: gzipped(WASM),
  workerGzipKib: GATEWAY_MODULES.reduce((total, module) => total + gzipped(module), 0),
});

/** @param {string} entry @param {boolean} wasm @returns {WorkerSpec} */
const bare = (entry, wasm) => ({
  modules: [{ name: "worker.mjs", path: here(`stand-ins/${entry}`), kind: "esModule" }, ...(wasm ? [WASM] : [])],
  vars: {},
  objects: [],
  queue: false,
  assets: false,
});

/**
 * One start: the CPU that workerd used until its first response.
 * @param {string} runFolder @param {string} name @param {WorkerSpec} spec
 */
async function start(runFolder, name, spec) {
  const folder = ownFolder(runFolder, `start-${name}`);
  const { child, ports } = await startWorkerd(folder, writeConfig(folder, spec));
  try {
    const response = await fetch(`http://127.0.0.1:${ports.worker}/health`, {
      signal: AbortSignal.timeout(10_000),
      headers: { connection: "close" },
    });
    await response.text();
    const pid = child.pid ?? 0;
    return { cpu: preciseCpuMs(pid), rss: memoryMib(pid).rss, ok: response.ok };
  } finally {
    await end(child);
  }
}

/**
 * @param {string} runFolder @param {number} times @param {boolean} standIn whether the comparator plays the gateway
 * @returns {Promise<Record<string, { cpuMs: number[], medianMs: number | null, rssMib: number | null }>>}
 */
export async function startups(runFolder, times, standIn) {
  /** @type {Record<string, WorkerSpec>} */
  const specs = {
    gateway: standIn
      ? comparatorSpec({})
      : gatewaySpec({
          ADMIN_KEY: "only-for-a-start",
          KEK_1: Buffer.alloc(32, 1).toString("base64"),
          ALLOW_LOOPBACK: "true",
        }),
    comparator: comparatorSpec({}),
    wasmOnly: bare("wasm-only.mjs", true),
    blank: bare("blank.mjs", false),
  };
  /** @type {Record<string, { cpu: number | null, rss: number | null }[]>} */
  const seen = {};
  for (let time = 0; time < times; time += 1) {
    for (const [name, spec] of Object.entries(specs)) {
      const { ok, ...reading } = await start(runFolder, name, spec);
      if (!ok) throw new Error(`the first answer of a cold start (${name}) was an error`);
      (seen[name] ??= []).push(reading);
    }
  }
  return Object.fromEntries(
    Object.entries(seen).map(([name, readings]) => {
      const cpu = readings.map((one) => one.cpu).filter((one) => one !== null);
      return [
        name,
        {
          cpuMs: cpu,
          medianMs: cpu.length ? median(cpu) : null,
          rssMib: median(readings.map((one) => one.rss ?? 0)) || null,
        },
      ];
    }),
  );
}

// @ts-check
// A registry of many services: what a write costs, what an isolate keeps, and what the first call after a start takes.
import { contextBody } from "./bodies.mjs";
import { cpuMs, memoryMib, preciseCpuMs, untilQuiet } from "./readings.mjs";
import { askCosts, restart, startGateway } from "./targets.mjs";

/**
 * @typedef {import("./targets.mjs").Target} Target
 * @typedef {{ services: number, writeCpuMs: number | null, writtenMib: number | null, startedMib: number | null,
 *   firstCallMs: number, firstCallCpuMs: number | null, objectRequests: Record<string, number>, indexKib: number,
 *   documentsMib: number }} RegistryReading
 */

/** How many services there are, in steps. */
const SIZES = [100, 600, 1000];
const CAPABILITIES = 10;
/** The writes that are measured. */
const WRITES = 20;

/** A capability whose schema has about 2,600 bytes. @param {number} service @param {number} number */
function capability(service, number) {
  const property = (/** @type {number} */ at) => [
    `member_${at}`,
    {
      type: "string",
      maxLength: 200,
      description: "What the member means to the service, in a sentence of its own. ".repeat(2),
    },
  ];
  return {
    name: `capability_${service}_${number}`,
    description: `Does what the capability with the number ${number} does, for the caller.`,
    input_schema: {
      type: "object",
      properties: Object.fromEntries(Array.from({ length: 13 }, (_, at) => property(at))),
    },
  };
}

/** @param {number} at @param {number} upstreamPort @param {number} weight */
const document = (at, upstreamPort, weight) =>
  JSON.stringify({
    name: `Service ${at}`,
    type: "tool",
    transport: { kind: "http", url: `http://127.0.0.1:${upstreamPort}/` },
    capabilities: Array.from({ length: CAPABILITIES }, (_, number) => capability(at, number)),
    weight,
  });

/**
 * @param {Target} target @param {string} method @param {string} path @param {string} [body]
 * @param {Record<string, string>} [headers]
 */
async function ask(target, method, path, body, headers = {}) {
  const response = await fetch(`http://127.0.0.1:${target.port}${path}`, {
    method,
    headers: { ...target.admin, ...headers, ...(body !== undefined && { "content-type": "application/json" }) },
    ...(body !== undefined && { body }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path} was answered ${response.status} ${text.slice(0, 400)}`);
  return JSON.parse(text);
}

/** @param {Target} target @param {number} at @param {number} upstreamPort @param {number} weight */
const put = (target, at, upstreamPort, weight) =>
  ask(
    target,
    "PUT",
    `/v1/services/many-${at}`,
    document(at, upstreamPort, weight),
    weight > 1 ? { "if-match": "*" } : {},
  );

/** CPU of the process for each of some writes. @param {Target} target @param {number} upstreamPort */
async function writeCpu(target, upstreamPort) {
  await untilQuiet(target.pid);
  const before = cpuMs(target.pid);
  for (let at = 0; at < WRITES; at += 1) await put(target, at, upstreamPort, 2 + (at % 900));
  await untilQuiet(target.pid);
  const after = cpuMs(target.pid);
  return before === null || after === null ? null : (after - before) / WRITES;
}

/** The first call after a start. @param {Target} target @param {number} service */
async function firstCall(target, service) {
  const parameters = { member_1: "a" };
  const body = JSON.stringify({
    ...JSON.parse(contextBody("echo")),
    capability: `capability_${service}_3`,
    parameters,
  });
  const [cpu, before] = [preciseCpuMs(target.pid), performance.now()];
  const context = await ask(target, "POST", "/v1/contexts", body, { prefer: "wait=20" });
  const [ms, after] = [performance.now() - before, preciseCpuMs(target.pid)];
  if (context.status !== "completed")
    throw new Error(`the first call has ended ${JSON.stringify(context).slice(0, 400)}`);
  return { ms, cpu: cpu === null || after === null ? null : after - cpu };
}

/**
 * @param {string} runFolder @param {number} upstreamPort @param {(line: string) => void} say
 * @returns {Promise<RegistryReading[]>}
 */
export async function registrySizes(runFolder, upstreamPort, say) {
  let target = await startGateway(runFolder, upstreamPort, { COUNT_COSTS: "true" });
  /** @type {RegistryReading[]} */
  const readings = [];
  let registered = 0;
  for (const services of SIZES) {
    say(`registry of ${services} services`);
    for (; registered < services; registered += 1) await put(target, registered, upstreamPort, 1);
    const writeCpuMs = await writeCpu(target, upstreamPort);
    const size = await ask(target, "GET", "/v1/registry");
    const writtenMib = memoryMib(target.pid).rss;
    target = await restart(target);
    const { ms, cpu } = await firstCall(target, services - 1);
    const { object_requests: objectRequests } = await askCosts(target);
    readings.push({
      services,
      writeCpuMs,
      writtenMib,
      startedMib: memoryMib(target.pid).rss,
      firstCallMs: ms,
      firstCallCpuMs: cpu,
      objectRequests,
      indexKib: size.index_bytes / 1024,
      documentsMib: size.bytes / 1024 / 1024,
    });
  }
  await target.end();
  return readings;
}

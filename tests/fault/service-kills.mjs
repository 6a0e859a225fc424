// @ts-check
// A connected service is killed with SIGKILL and restarted again and again under load. No acknowledged context is lost,
// and work that is not idempotent never runs twice.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { diceOf } from "./options.mjs";

/** @typedef {import("../support/gateway.ts").Gateway} Gateway */
/** @typedef {{ what: "begun" | "done", context: string, capability: string }} Line of the service's diary */

const SERVICE = "killed";
const WORKER = join(import.meta.dirname, "connected-worker.mjs");
/** Concurrent processes of the service. */
const PROCESSES = 2;
const CLIENTS = 12;
/** The time limit for everything to end. */
const END_MS = 120_000;

const document = {
  name: "A service that is killed",
  type: "tool",
  transport: { kind: "socket", grace_seconds: 1 },
  capabilities: [
    { name: "again", idempotent: true, timeout_seconds: 600 },
    { name: "once", idempotent: false, timeout_seconds: 600 },
  ],
  retry: { max_attempts: 10, base_ms: 1, cap_ms: 100 },
};

/** @param {Record<string, string>} environment */
function start(environment) {
  const child = spawn(process.execPath, [WORKER], { env: { ...process.env, ...environment }, stdio: "ignore" });
  return { kill: () => void child.kill("SIGKILL"), gone: new Promise((resolve) => child.once("exit", resolve)) };
}

/**
 * Kills it `kills` times under load; returns the figures and the violations.
 * @param {Gateway} gateway @param {{ kills: number, seed: number }} part @param {(undo: () => void) => void} atExit
 */
export async function killServices(gateway, { kills, seed }, atExit) {
  const roll = diceOf(seed, "service-kills");
  const folder = mkdtempSync(join(tmpdir(), "narthex-service-"));
  const diary = join(folder, "diary");
  writeFileSync(diary, "");
  const made = await gateway.request("PUT", `/v1/services/${SERVICE}`, { body: document });
  if (made.status !== 201) throw new Error(`the service was not registered: ${made.text}`);
  const key = await gateway.request("POST", "/v1/keys", {
    body: { name: SERVICE, role: "service", permissions: [`services:connect:${SERVICE}`] },
  });
  const environment = { GATEWAY: gateway.url, SERVICE, KEY: key.json.secret, DIARY: diary };
  const processes = Array.from({ length: PROCESSES }, () => start(environment));
  atExit(() => processes.forEach(({ kill }) => kill()));

  /** @type {string[]} */
  const violations = [];
  /** @type {Map<string, string>} */
  const acknowledged = new Map();
  let refused = 0;
  let over = false;
  const client = async (/** @type {number} */ number) => {
    const dice = diceOf(seed, `client-${number}`);
    while (!over) {
      const capability = dice(2) === 0 ? "again" : "once";
      const prefer = ["respond-async", "wait=0", "wait=20"][dice(3)] ?? "";
      const body = { capability, parameters: { ms: dice(60), n: dice(1e9) } };
      const { status, json } = await gateway.request("POST", "/v1/contexts", { body, headers: { prefer } });
      if ((status === 200 || status === 202) && json?.id) acknowledged.set(json.id, capability);
      else refused += 1;
      await pause(dice(40));
    }
  };
  const clients = Array.from({ length: CLIENTS }, (_, number) => client(number));

  for (let kill = 0; kill < kills; kill += 1) {
    await pause(300 + roll(900));
    const at = roll(PROCESSES);
    processes[at]?.kill();
    await processes[at]?.gone;
    // Sometimes it is away for longer than the gateway waits for it to resume its work.
    if (roll(4) === 0) await pause(1_500);
    processes[at] = start(environment);
  }
  await pause(500);
  over = true;
  await Promise.all(clients);

  const contexts = [];
  const until = Date.now() + END_MS;
  for (const [id, capability] of acknowledged) {
    for (;;) {
      const { status, json, text } = await gateway.request("GET", `/v1/contexts/${id}`, {
        headers: { prefer: "wait=30" },
      });
      if (status !== 200) {
        violations.push(`${id} (${capability}) was acknowledged and is gone: ${text}`);
        break;
      }
      if (["completed", "failed", "cancelled", "timed_out"].includes(json.status)) {
        contexts.push({ id, capability, ...json });
        break;
      }
      if (Date.now() > until) {
        violations.push(`${id} (${capability}) is still ${json.status}`);
        break;
      }
    }
  }
  processes.forEach(({ kill }) => kill());
  await Promise.all(processes.map(({ gone }) => gone));

  /** @type {Line[]} */
  const lines = readFileSync(diary, "utf8")
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  rmSync(folder, { recursive: true, force: true });
  const count = (/** @type {string} */ what) => {
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const line of lines) if (line.what === what) counts.set(line.context, (counts.get(line.context) ?? 0) + 1);
    return counts;
  };
  const [begun, done] = [count("begun"), count("done")];
  for (const { context, capability } of lines) {
    if (!acknowledged.has(context)) violations.push(`${context} (${capability}) was run and never acknowledged`);
  }
  let [completed, unknown, again] = [0, 0, 0];
  for (const { id, capability, status, error, result, parameters } of contexts) {
    const runs = begun.get(id) ?? 0;
    if (capability === "once" && runs > 1) violations.push(`${id} is not idempotent and was run ${runs} times`);
    if (capability === "again" && runs > 1) again += 1;
    if (status === "completed") {
      completed += 1;
      if (!done.has(id)) violations.push(`${id} completed, but no process did it`);
      if (JSON.stringify(result) !== JSON.stringify(parameters)) violations.push(`${id} has the result of another`);
    } else if (capability === "once" && error?.code === "outcome_unknown") {
      unknown += 1;
    } else {
      violations.push(`${id} (${capability}) ended as ${status}: ${JSON.stringify(error)}`);
    }
  }
  /** @type {import("./report.mjs").Rows} */
  const rows = [
    ["kills", kills],
    ["contexts acknowledged", acknowledged.size],
    ["… completed", completed],
    ["… outcome_unknown, not idempotent", unknown],
    ["… idempotent, run more than once", again],
    [
      "… not idempotent, run more than once",
      contexts.filter(({ id, capability }) => capability === "once" && (begun.get(id) ?? 0) > 1).length,
    ],
    ["requests refused", refused],
    ["runs begun", lines.filter(({ what }) => what === "begun").length],
  ];
  return { rows, violations };
}

/**
 * True if nothing was violated.
 * @param {import("./options.mjs").ServiceKills} part @param {(undo: () => void) => void} atExit
 */
export async function runServiceKills(part, atExit) {
  const { buildWorker } = await import("../../scripts/build.mjs");
  const { startGateway } = await import("../support/gateway.ts");
  const { keepFigures, seconds } = await import("./report.mjs");
  const began = Date.now();
  await buildWorker();
  const gateway = await startGateway({ contract: false });
  atExit(() => void gateway.mf.dispose());
  try {
    const { rows, violations } = await killServices(gateway, { kills: part.serviceKills, seed: part.seed }, atExit);
    rows.push(["took", seconds(Date.now() - began)], ["violations", violations.length]);
    keepFigures(`service-kills-${part.seed}`, part, rows, violations);
    return violations.length === 0;
  } finally {
    await gateway.stop();
  }
}

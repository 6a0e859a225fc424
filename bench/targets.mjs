// @ts-check
// The targets of the load: the gateway and the comparator, each in its own workerd, and the service behind both.
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync } from "node:fs";
import { contextBody } from "./bodies.mjs";
import { furnish } from "./mcp.mjs";
import { PROVIDER_KEY, offerModels } from "./models.mjs";
import { end, startNode, startWorkerd } from "./processes.mjs";
import { comparatorSpec, gatewaySpec, writeConfig } from "./workerd.mjs";

/**
 * @typedef {"gateway" | "comparator" | "upstream" | "limited" | "open" | "api" | "mcp" | "many" | "floor" |
 *   "provider"} Side
 * @typedef {{ side: Side, pid: number, port: number, folder: string | null, headers: Record<string, string>,
 *   admin: Record<string, string>, tellPath: string, chatPath: string, queuePort: number | null,
 *   end(): Promise<void> }} Target
 */

const CHAT_PATH = "/v1/chat/completions";

/** The comparator's way that no code sees. @param {Target} comparator @returns {Target} */
export const floorOf = (comparator) => ({ ...comparator, side: "floor", chatPath: `/floor${CHAT_PATH}` });

/** @param {string} folder of the run @param {string} name */
export const ownFolder = (folder, name) => mkdtempSync(`${folder}/${name}-`);

/** The service that contexts call. */
export const startUpstream = () => startService("upstream", {});

/** The provider of models. */
export const startProvider = () => startService("provider", { Authorization: `Bearer ${PROVIDER_KEY}` });

/** @param {"upstream" | "provider"} side @param {Record<string, string>} headers @returns {Promise<Target>} */
async function startService(side, headers) {
  const child = startNode(`${side}.mjs`);
  const port = await new Promise((resolve, reject) => {
    child.once("message", (/** @type {{ port: number }} */ message) => resolve(message.port));
    child.once("exit", () => reject(new Error(`the ${side} did not start`)));
  });
  return {
    side,
    pid: child.pid ?? 0,
    port,
    folder: null,
    headers,
    admin: {},
    tellPath: "",
    chatPath: CHAT_PATH,
    queuePort: null,
    end: () => end(child),
  };
}

/** The variables of a comparator that forwards chats. @param {number} providerPort */
export const forwarding = (providerPort) => ({ PROVIDER: `http://127.0.0.1:${providerPort}`, PROVIDER_KEY });

/**
 * @param {string} runFolder @param {number} upstreamPort @param {Record<string, string>} [vars]
 * @returns {Promise<Target>}
 */
export async function startComparator(runFolder, upstreamPort, vars = {}) {
  const folder = ownFolder(runFolder, "comparator");
  // Only chats are checked, but all requests have the same bytes.
  const key = randomBytes(24).toString("base64url");
  const headers = { Authorization: `Bearer ${key}` };
  const own = {
    UPSTREAM: `http://127.0.0.1:${upstreamPort}/`,
    KEY_SHA256: createHash("sha256").update(key).digest("hex"),
  };
  const sockets = writeConfig(folder, comparatorSpec({ ...own, ...vars }));
  const { child, ports } = await startWorkerd(folder, sockets);
  return {
    side: "comparator",
    pid: child.pid ?? 0,
    port: Number(ports.worker),
    folder,
    headers,
    admin: headers,
    // The gateway always publishes; the comparator only when sockets are measured, so that it writes two rows
    // otherwise.
    tellPath: "/v1/contexts?tell",
    chatPath: CHAT_PATH,
    queuePort: null,
    end: () => end(child),
  };
}

/**
 * @param {string} runFolder @param {number} upstreamPort @param {Record<string, string>} [vars]
 * @returns {Promise<Target>}
 */
export function startGateway(runFolder, upstreamPort, vars = {}) {
  return startAs("gateway", runFolder, upstreamPort, vars);
}

/**
 * A gateway that also has models.
 * @param {string} runFolder @param {number} upstreamPort @param {number} providerPort
 */
export async function startWithModels(runFolder, upstreamPort, providerPort) {
  const target = await startGateway(runFolder, upstreamPort);
  await offerModels(target, providerPort);
  return target;
}

/**
 * A gateway where the load's requests are under a rate limit that they never reach.
 * @param {string} runFolder @param {number} upstreamPort @returns {Promise<Target>}
 */
export async function startLimited(runFolder, upstreamPort) {
  const target = await startAs("limited", runFolder, upstreamPort, {});
  const limit = { kind: "requests", quota: 1_000_000_000, window_seconds: 60, binds: { role: "caller" } };
  insist(await ask(target.port, "PUT", "/v1/limits/load", target.admin, JSON.stringify(limit)), "PUT /v1/limits/load");
  return target;
}

/** A gateway with very many tools. @param {string} runFolder @param {number} upstreamPort */
export async function startMany(runFolder, upstreamPort) {
  const target = await startAs("many", runFolder, upstreamPort, {});
  await furnish(target, upstreamPort);
  return target;
}

/**
 * @param {Side} side @param {string} runFolder @param {number} upstreamPort @param {Record<string, string>} vars
 * @returns {Promise<Target>}
 */
async function startAs(side, runFolder, upstreamPort, vars) {
  const folder = ownFolder(runFolder, side);
  const adminKey = randomBytes(32).toString("base64url");
  const sockets = writeConfig(
    folder,
    gatewaySpec({
      ADMIN_KEY: adminKey,
      KEK_1: Buffer.alloc(32, 1).toString("base64"),
      ALLOW_LOOPBACK: "true",
      ...vars,
    }),
  );
  const { child, ports } = await startWorkerd(folder, sockets);
  const port = Number(ports.worker);
  const admin = { Authorization: `Bearer ${adminKey}` };
  try {
    const headers = await prepare(port, admin, upstreamPort);
    return {
      side,
      pid: child.pid ?? 0,
      port,
      folder,
      headers,
      admin,
      tellPath: "/v1/contexts",
      chatPath: CHAT_PATH,
      queuePort: ports.queue ?? null,
      end: () => end(child),
    };
  } catch (error) {
    await end(child);
    throw error;
  }
}

/** Ends a gateway and starts it again on the same storage. @param {Target} target @returns {Promise<Target>} */
export async function restart(target) {
  await target.end();
  const { child, ports } = await startWorkerd(target.folder ?? "", ["worker", "queue"]);
  const restarted = { ...target, pid: child.pid ?? 0, port: Number(ports.worker), queuePort: ports.queue ?? null };
  insist(await ask(restarted.port, "GET", "/health", {}), "GET /health");
  return { ...restarted, end: () => end(child) };
}

const INPUT_SCHEMA = {
  type: "object",
  required: ["prompt"],
  additionalProperties: false,
  properties: {
    prompt: { type: "string", maxLength: 4000 },
    max_tokens: { type: "integer", minimum: 1, maximum: 4096 },
  },
};

/**
 * @param {number} port @param {string} method @param {string} path @param {Record<string, string>} headers
 * @param {string} [body]
 */
async function ask(port, method, path, headers, body) {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    method,
    headers: { ...headers, ...(body === undefined ? {} : { "content-type": "application/json" }) },
    ...(body === undefined ? {} : { body }),
    signal: AbortSignal.timeout(15_000),
  });
  return { status: response.status, text: await response.text() };
}

/** @param {{ status: number, text: string }} answer @param {string} what */
function insist(answer, what) {
  if (answer.status < 200 || answer.status > 299) {
    throw new Error(
      `the gateway could not be set up: ${what} was answered ${answer.status} ${answer.text.slice(0, 600)}`,
    );
  }
  return answer.text;
}

/**
 * Registers the service, creates the load's key and tries both capabilities.
 * @param {number} port @param {Record<string, string>} admin @param {number} upstreamPort
 */
async function prepare(port, admin, upstreamPort) {
  insist(await ask(port, "GET", "/health", {}), "GET /health");
  insist(
    await ask(
      port,
      "PUT",
      "/v1/services/bench",
      admin,
      JSON.stringify({
        name: "Benchmark",
        type: "tool",
        transport: { kind: "http", url: `http://127.0.0.1:${upstreamPort}/` },
        capabilities: [
          {
            name: "echo",
            version: "1.0.0",
            description: "Answers at once.",
            input_schema: INPUT_SCHEMA,
            idempotent: true,
            durable: true,
          },
          {
            name: "lookup",
            version: "1.0.0",
            description: "Answers at once.",
            input_schema: INPUT_SCHEMA,
            idempotent: true,
            durable: false,
          },
        ],
      }),
    ),
    "PUT /v1/services/bench",
  );
  const key = JSON.parse(
    insist(await ask(port, "POST", "/v1/keys", admin, '{"name":"bench","role":"caller"}'), "POST /v1/keys"),
  );
  const headers = { Authorization: `Bearer ${key.secret}` };
  for (const capability of /** @type {const} */ (["echo", "lookup"])) await usable(port, headers, capability);
  return headers;
}

/**
 * Calls that touch no store may use a registry state up to two seconds old, so a new capability takes a while.
 * @param {number} port @param {Record<string, string>} headers @param {"echo" | "lookup"} capability
 */
async function usable(port, headers, capability) {
  const until = Date.now() + 10_000;
  for (;;) {
    const answer = await ask(port, "POST", "/v1/contexts", { ...headers, Prefer: "wait=10" }, contextBody(capability));
    if (answer.status === 200 && JSON.parse(answer.text).status === "completed") return;
    if (Date.now() > until) {
      throw new Error(
        `the gateway could not be set up: a context of ${capability} was answered ${answer.status} ${answer.text.slice(0, 600)}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** The response of `GET /v1/costs`, or null if there is none. @param {Target} target */
export async function askCosts(target) {
  const answer = await ask(target.port, "GET", "/v1/costs", target.admin);
  if (answer.status === 404) return null;
  return JSON.parse(insist(answer, "GET /v1/costs"));
}

/** Messages sent to the queue so far. @param {Target} target @returns {Promise<number>} */
export async function queueMessages(target) {
  if (target.queuePort === null) return 0;
  return JSON.parse((await ask(target.queuePort, "GET", "/counted", {})).text).messages;
}

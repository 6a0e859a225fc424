// @ts-check
// The service: records every call, responds late, sometimes refuses, or returns a large result.
import { once } from "node:events";
import { createServer } from "node:http";
import { resultOf } from "./large.mjs";
import { diceOf } from "./options.mjs";
import { REFUSALS, RETRY } from "./reasons.mjs";

/**
 * @typedef {{ context: string, capability: string, attempt: number, at: number, until: number | null,
 *   status: number | null }} Call
 *   `status` and `until`, the time of the response, are null until there is one
 * @typedef {{ url: string, calls: Call[], stop(): void }} Service
 */

export const ONCE = "once";
export const AGAIN = "again";

/** The registered document. @param {string} url */
export const registration = (url) => ({
  name: "fault",
  type: "tool",
  transport: { kind: "http", url },
  // Enough attempts and time that only injected faults can keep an idempotent context from completing.
  capabilities: [
    { name: ONCE, timeout_seconds: 3600 },
    { name: AGAIN, idempotent: true, timeout_seconds: 3600 },
  ],
  retry: RETRY,
});

/** Starts it. @param {number} seed @returns {Promise<Service>} */
export async function startService(seed) {
  const roll = diceOf(seed, "service");
  /** @type {Call[]} */
  const calls = [];
  const server = createServer(async (request, response) => {
    let body = "";
    try {
      for await (const chunk of request) body += chunk;
    } catch {
      // The gateway was killed while sending: this was not a call.
      return;
    }
    if (request.method !== "POST") return response.end();
    const { context_id, capability, attempt, parameters } = JSON.parse(body);
    /** @type {Call} */
    const call = { context: context_id, capability, attempt, at: Date.now(), until: null, status: null };
    calls.push(call);
    // Only first attempts are slow or refused: retries after the last kill have little time.
    const first = attempt === 1;
    const ms = first && roll(10) === 0 ? 500 + roll(1000) : roll(400);
    const status = first && roll(20) === 0 ? /** @type {number} */ (REFUSALS[roll(REFUSALS.length)]) : 200;
    setTimeout(() => {
      if (response.destroyed) return;
      call.status = status;
      call.until = Date.now();
      // A 503 without Retry-After does not promise that nothing was done.
      response.writeHead(status, { "content-type": "application/json", ...(status === 503 && { "retry-after": "0" }) });
      response.end(
        JSON.stringify(
          status === 200
            ? { result: resultOf(context_id, parameters) }
            : { error: { code: "busy", message: "Later." } },
        ),
      );
    }, ms);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    url: `http://127.0.0.1:${port}/`,
    calls,
    stop() {
      server.close();
      server.closeAllConnections();
    },
  };
}

// @ts-check
// Clients that create contexts, wait for some, and record every response.
import { setTimeout as pause } from "node:timers/promises";
import { shortened } from "./large.mjs";
import { diceOf } from "./options.mjs";
import { AGAIN, ONCE } from "./service.mjs";
import { FINAL } from "./invariants.mjs";

/**
 * @typedef {{ id: string, capability: string, status: string, result: unknown, error: any, parameters: any,
 *   idempotency_key: string | null, created_at: string, expires_at: string, history: { status: string, at: string }[],
 *   attempts: Attempt[] }} Context
 * @typedef {{ number: number, service: string, outcome: string, code?: string, started_at: string, ended_at: string,
 *   status_code: number | null }} Attempt
 * @typedef {{ context: Context, key: string | null }} Acknowledged
 *   the context of a 200 or 202, and the `key` of the request
 * @typedef {{ responses: Acknowledged[], acknowledged: Set<string>, refused: Map<string, number>, broken: number,
 *   repeats: number, faults: string[], unanswered: Set<string>, underWay: number, stop(): Promise<void> }} Load
 *   `refused` counts other responses by status and code, `broken` requests without one, `unanswered` keys without a
 *   response
 * @typedef {{ key: string | null, body: string }} Order a request that may be repeated
 */

/** How long a client waits for a response; the wait it requests from the gateway is shorter. */
const ANSWER_MS = 8000;
/** Long enough for every kill: a context must not reach its deadline before it is resumed. */
const LONG_SECONDS = 3600;
/** For runs that test deadlines: mostly enough for a few attempts, in the request and from the queue. */
const SHORT_SECONDS = [20, 30, 20, 30, 2, 3, 4];
/** After the end, clients repeat requests without a response for this long. */
const END_MS = 15_000;

/**
 * Starts the clients. Where nothing is killed, a request without a good response is a fault.
 * @param {import("./gateway.mjs").Gateway} gateway @param {import("./options.mjs").Part} part @returns {Load}
 */
export function startLoad(gateway, { clients, seed, kills, proxied }) {
  let running = true;
  let endBy = Infinity;
  /** @type {Acknowledged[]} */
  const responses = [];
  /** @type {Map<string, number>} */
  const refused = new Map();
  /** @type {Load} */
  const load = {
    responses,
    acknowledged: new Set(),
    refused,
    broken: 0,
    repeats: 0,
    faults: [],
    unanswered: new Set(),
    underWay: 0,
    async stop() {
      running = false;
      endBy = Date.now() + END_MS;
      await Promise.all(all);
    },
  };

  /**
   * Sends a request and records the response; undefined unless it has a context.
   * @param {string} path @param {Record<string, string>} headers @param {Order | null} order null for a GET
   * @returns {Promise<Context | undefined>}
   */
  async function ask(path, headers, order) {
    const init = {
      method: order ? "POST" : "GET",
      body: order?.body ?? null,
      signal: AbortSignal.timeout(ANSWER_MS),
      headers: {
        authorization: `Bearer ${gateway.key}`,
        ...headers,
        ...(order && { "content-type": "application/json" }),
        ...(order?.key && { "idempotency-key": `"${order.key}"` }),
      },
    };
    load.underWay++;
    try {
      const response = await fetch(gateway.url + path, init);
      const text = await response.text();
      if (response.status === 200 || response.status === 202) {
        /** @type {Context} */
        const context = shortened(JSON.parse(text));
        responses.push({ context, key: order?.key ?? null });
        load.acknowledged.add(context.id);
        return context;
      }
      const code = `${response.status} ${text.match(/"code":"(\w+)"/)?.[1] ?? ""}`;
      refused.set(code, (refused.get(code) ?? 0) + 1);
      if (kills === 0 || response.status < 500)
        load.faults.push(`${init.method} ${path} was answered with ${response.status}: ${text}`);
    } catch (error) {
      load.broken++;
      if (kills === 0) load.faults.push(`${init.method} ${path} had no answer: ${error}`);
    } finally {
      load.underWay--;
    }
    return undefined;
  }

  /** @param {import("./options.mjs").Dice} roll */
  const seconds = (roll) => (proxied ? SHORT_SECONDS[roll(SHORT_SECONDS.length)] : LONG_SECONDS);

  /** @param {number} number */
  async function client(number) {
    const roll = diceOf(seed, `client ${number}`);
    const keyed = number % 2 === 1;
    const preference = () => (roll(2) ? "respond-async" : "wait=2");
    /** @type {Order | undefined} */
    let last;
    let lastStart = 0;
    for (let count = 0; running; count++) {
      const parameters = { client: number, count };
      const capability = roll(2) ? ONCE : AGAIN;
      const body = JSON.stringify({ capability, parameters, timeout_seconds: seconds(roll) });
      /** @type {Order} */
      const order = { key: keyed ? `${seed}-${number}-${count}` : null, body };
      if (order.key) load.unanswered.add(order.key);
      let context = await ask("/v1/contexts", { prefer: preference() }, order);
      while (!context && keyed && Date.now() < endBy) {
        await pause(100 + roll(200));
        load.repeats++;
        context = await ask("/v1/contexts", { prefer: preference() }, order);
      }
      if (context && order.key) load.unanswered.delete(order.key);
      if (!context) await pause(100);
      else if (running && !FINAL.includes(context.status) && roll(2)) {
        await ask(`/v1/contexts/${context.id}`, { prefer: "wait=2" }, null);
      }
      // A request answered before a kill is repeated after it.
      if (keyed && last && gateway.starts !== lastStart && running) {
        load.repeats++;
        await ask("/v1/contexts", { prefer: preference() }, last);
      }
      lastStart = gateway.starts;
      if (context) last = order;
      await pause(roll(100));
    }
  }

  const all = Array.from({ length: clients }, (_, number) => client(number));
  return load;
}

// @ts-check
// A connected service, without an address of its own: it connects to the gateway and takes its work there.
// Needs only Node 22 or newer; `npx node` in this folder provides it.
//
//   GATEWAY=http://127.0.0.1:8787 SERVICE=words KEY=… npx node examples/socket-service.mjs
//
// KEY is a key with the role `service` for this service. You can kill and restart it at any time.
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";

/**
 * @typedef {{context_id: string, capability: string, attempt: number, parameters: any, input?: any}} Work
 * @typedef {{signal: AbortSignal, progress: (value: unknown) => void}} Tools
 * @typedef {(work: Work, tools: Tools) => unknown} Capability gives the result; `Asks` and `Fails` are thrown
 */

/** Input is required before the work can continue: it is delivered again, with `input`. */
export class Asks extends Error {
  /** @param {string} message @param {object} [schema] */
  constructor(message, schema) {
    super(message);
    this.schema = schema;
  }
}

/** An error of the work itself. `retryable`: another attempt may succeed. */
export class Fails extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message, retryable = false) {
    super(message);
    this.code = code;
    this.retryable = retryable;
  }
}

const SUBPROTOCOL = "narthex.service.v1";
const PING_MS = 20_000;
/** A connection that has been silent for this long is dead. */
const SILENT_MS = 60_000;
const MAX_PAUSE_MS = 15_000;

/**
 * Stays connected and works until it is stopped.
 * @param {{gateway: string, service: string, key: string, credit?: number,
 *   capabilities: Record<string, Capability>}} options
 */
export async function serve({ gateway, service, key, credit = 4, capabilities }) {
  const url = `${gateway.replace(/^http/, "ws")}/v1/services/${service}/connect`;
  /**
   * Running work, and reports not yet confirmed as stored, by delivery.
   * @type {Map<string, {stop: AbortController, report?: object}>}
   */
  const held = new Map();
  /** @type {WebSocket | undefined} */
  let socket;
  let ending = false;

  const send = (/** @type {object} */ message) => {
    // A message lost here is sent again on the next connection.
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  };

  /** @param {string} delivery @param {Work} work */
  async function run(delivery, work) {
    console.log(`${work.context_id} ${work.capability}, attempt ${work.attempt}`);
    const one = { stop: new AbortController() };
    held.set(delivery, one);
    const report = await outcome(work, {
      signal: one.stop.signal,
      progress: (progress) => send({ type: "progress", delivery, progress }),
    });
    if (held.get(delivery) !== one) return; // Cancelled in the meantime.
    // Kept until the gateway confirms that it is stored.
    held.set(delivery, { ...one, report: { delivery, ...report } });
    send({ delivery, ...report });
  }

  /** @param {Work} work @param {Tools} tools */
  async function outcome(work, tools) {
    try {
      const capability = Object.hasOwn(capabilities, work.capability) ? capabilities[work.capability] : undefined;
      if (!capability) throw new Fails("unknown_capability", `There is no ${work.capability} here.`);
      return { type: "result", result: (await capability(work, tools)) ?? null };
    } catch (error) {
      if (error instanceof Asks) {
        return {
          type: "ask",
          input_required: { message: error.message, ...(error.schema && { schema: error.schema }) },
        };
      }
      if (error instanceof Fails) {
        const { code, message, retryable } = error;
        return { type: "error", error: { code, message, retryable } };
      }
      console.error(error);
      return { type: "error", error: { code: "failed", message: "The work failed." } };
    }
  }

  /** @param {string} text */
  function hear(text) {
    const message = JSON.parse(text);
    switch (message.type) {
      case "welcome":
        console.log(`connected as ${message.connection}`);
        send({ type: "ready", credit: ending ? 0 : credit, resume: [...held.keys()] });
        for (const { report } of held.values()) if (report) send(report);
        break;
      case "work":
        void run(message.delivery, message.work);
        break;
      case "cancel":
        held.get(message.delivery)?.stop.abort();
        held.delete(message.delivery);
        break;
      case "done":
        held.delete(message.delivery);
        break;
      case "fault":
        console.error("the gateway could not read a message:", message.errors);
        break;
      default: // Messages of later versions are ignored.
    }
    if (ending && held.size === 0) socket?.close(1000);
  }

  /** One connection, from its opening to its end. @returns {Promise<{code: number, worked: boolean}>} */
  const connect = () =>
    new Promise((resolve) => {
      // Node's WebSocket accepts headers; the one in browsers does not.
      const options = /** @type {any} */ ({ protocols: [SUBPROTOCOL], headers: { authorization: `Bearer ${key}` } });
      const own = new WebSocket(url, options);
      socket = own;
      let [heard, worked] = [Date.now(), false];
      const end = (/** @type {number} */ code) => {
        clearInterval(timer);
        resolve({ code, worked });
      };
      const timer = setInterval(() => {
        if (own.readyState === WebSocket.OPEN) own.send("ping");
        if (Date.now() - heard < SILENT_MS) return;
        own.close();
        end(1006);
      }, PING_MS);
      own.addEventListener("message", ({ data }) => {
        heard = Date.now();
        worked = true;
        if (data !== "pong") hear(String(data));
      });
      own.addEventListener("error", () => {}); // A close follows.
      own.addEventListener("close", ({ code }) => end(code));
    });

  // Running work finishes; no new work is accepted.
  process.once("SIGTERM", () => {
    ending = true;
    if (held.size === 0) socket?.close(1000);
    else send({ type: "ready", credit: 0 });
  });

  for (let failures = 0; !(ending && held.size === 0);) {
    const { code, worked } = await connect();
    if (code === 4401) throw new Error("the key is no longer good");
    if (ending && held.size === 0) break;
    if (!worked) console.error(`no connection to ${url}: trying again`);
    failures = worked ? 0 : failures + 1;
    // With jitter, so that not all services reconnect at once after the gateway restarts.
    await pause(Math.random() * Math.min(MAX_PAUSE_MS, 500 * 2 ** failures));
  }
}

/** The capabilities. The gateway has validated the parameters against the schema. @type {Record<string, Capability>} */
const words = {
  word_count: ({ parameters: { text } }) => ({
    words: text.split(/\s+/u).filter(Boolean).length,
    characters: [...text].length,
    lines: text === "" ? 0 : text.split("\n").length,
  }),
  shout: ({ parameters: { text } }) => ({ text: `${text.toUpperCase()}!` }),
  count: async ({ parameters: { to } }, { signal, progress }) => {
    for (let counted = 1; counted <= to; counted += 1) {
      await pause(100, undefined, { signal });
      progress({ counted, to });
    }
    return { counted: to };
  },
  greet: ({ input }) => {
    if (input === undefined) throw new Asks("Who should I greet?", { type: "string", minLength: 1 });
    return { greeting: `Hello, ${input}!` };
  },
};

// Not when another module only imports from this one.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { GATEWAY: gateway = "http://127.0.0.1:8787", SERVICE: service = "words", KEY: key, CREDIT } = process.env;
  if (!key) {
    console.error("KEY is not set: give a key of the role service, for this service");
    process.exit(1);
  }
  await serve({ gateway, service, key, credit: Number(CREDIT ?? 4), capabilities: words });
}

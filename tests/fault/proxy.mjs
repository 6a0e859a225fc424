// @ts-check
// A proxy between gateway and service that forwards calls, and treats some as networks, proxies and overloaded services
// do. It never forges: a service receives a call at most once, exactly as the gateway sent it. Each call is recorded
// with the fault that was injected. Endless responses are bounded here, so that nothing is left behind.
import { once } from "node:events";
import { createServer, request as ask } from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import { diceOf } from "./options.mjs";

/**
 * A fault of one call. `reset_before` happens before the service receives it; all others after it has responded, and
 * perhaps done the work. `drip` delivers the whole response, in pieces.
 * @typedef {"reset_before" | "reset_inside" | "drip" | "too_long" | "too_short" | "endless" | "flood" | "late"} Fault
 * A fault of all calls for a while; the service receives none of them.
 * @typedef {"refuse" | "429" | "429_wait" | "503"} Storm
 * @typedef {{ context: string, capability: string, attempt: number, deadline: number, parameters: any }} Heard
 * @typedef {Heard & { done: Fault | Storm | "none", at: number, until: number | null, status: number | null,
 *   waitMs: number, closed: number | null }} Passage
 *   a call: when it arrived, when the last byte of its response was sent (null: never), the response's status, the
 *   requested Retry-After, and when the connection ended
 * @typedef {{ storm: Storm, from: number, to: number }} Period
 * @typedef {(call: Heard) => Fault | null} Choose
 * @typedef {{ url: string, passages: Passage[], periods: Period[], storm(kind: Storm, ms: number): Promise<void>,
 *   stop(): void }} Proxy
 */

/** The largest body that is passed on, and the size limit of a flood. */
const MAX_BYTES = 12 * 1024 * 1024;
/** The time limit of an endless response. */
const MAX_MS = 30_000;
/** How much a response is too long or too short. */
const WRONG_BYTES = 7;
/** How long after the deadline a late response is sent. */
const LATE_MS = 300;
/** Faults that use up all of a context's time are injected only if it has less than this left. */
const SHORT_MS = 5000;
/** The Retry-After of `429_wait`, in seconds. */
const WAIT_SECONDS = 1;
const STATUSES = { 429: 429, "429_wait": 429, 503: 503 };

/** @type {Fault[]} */
const QUICK = ["reset_before", "reset_inside", "drip", "drip", "too_long", "too_short", "flood"];
/** @type {Fault[]} */
const SLOW = ["endless", "late"];

/**
 * The same choice for the same call, independently of other calls.
 * @param {number} seed @param {number} oneIn one call in this many gets a fault @returns {Choose}
 */
export function choiceOf(seed, oneIn) {
  return ({ attempt, deadline, parameters }) => {
    const roll = diceOf(seed, `proxy ${parameters?.client}-${parameters?.count}-${attempt}`);
    if (roll(oneIn) !== 0) return null;
    const faults = deadline - Date.now() < SHORT_MS ? [...QUICK, ...SLOW, ...SLOW] : QUICK;
    return /** @type {Fault} */ (faults[roll(faults.length)]);
  };
}

/** @param {AsyncIterable<Buffer>} stream */
async function readAll(stream) {
  /** @type {Buffer[]} */
  const chunks = [];
  let length = 0;
  for await (const chunk of stream) {
    length += chunk.length;
    if (length > MAX_BYTES) throw new Error("the body is too large for the proxy");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** @param {string} target @param {Choose} choose @returns {Promise<Proxy>} */
export async function startProxy(target, choose) {
  /** @type {Passage[]} */
  const passages = [];
  /** @type {Period[]} */
  const periods = [];
  /** @type {Storm | null} */
  let storm = null;

  /**
   * Forwards a call; returns the service's response, or undefined if the gateway disconnected in the meantime.
   * @param {import("node:http").IncomingMessage} request @param {Buffer} body
   * @param {import("node:http").ServerResponse} response
   */
  async function forward(request, body, response) {
    const { connection, "transfer-encoding": _, ...headers } = request.headers;
    const outgoing = ask(new URL(request.url ?? "/", target), {
      method: request.method ?? "POST",
      headers: { ...headers, "content-length": body.length },
      agent: false,
    });
    const hangUp = () => outgoing.destroy();
    response.on("close", hangUp);
    outgoing.end(body);
    try {
      const [incoming] = /** @type {[import("node:http").IncomingMessage]} */ (await once(outgoing, "response"));
      const again = incoming.headers["retry-after"];
      const more = again === undefined ? {} : { "retry-after": again };
      return { status: incoming.statusCode ?? 502, headers: more, body: await readAll(incoming) };
    } catch {
      return undefined;
    } finally {
      response.off("close", hangUp);
    }
  }

  /**
   * Responds to a call with the service's response, or with the injected fault.
   * @param {import("node:http").ServerResponse} response @param {Passage} passage
   * @param {{ status: number, headers: Record<string, string>, body: Buffer }} answer
   */
  async function answer(response, passage, { status, headers, body }) {
    const { socket } = response;
    const json = { "content-type": "application/json", ...headers };
    const isOpen = () => !response.destroyed && Date.now() - passage.at < MAX_MS;
    switch (passage.done) {
      case "reset_inside":
        response.writeHead(status, { ...json, "content-length": body.length });
        response.write(body.subarray(0, body.length >> 1));
        await pause(20);
        socket?.resetAndDestroy();
        return;
      case "drip":
        response.writeHead(status, json);
        for (let at = 0; at < 8 && isOpen(); at++) {
          response.write(body.subarray((at * body.length) >> 3, ((at + 1) * body.length) >> 3));
          await pause(100);
        }
        response.end();
        break;
      case "too_long":
        // Content-Length exceeds the body.
        response.writeHead(status, { ...json, "content-length": body.length + WRONG_BYTES });
        response.write(body);
        await pause(20);
        socket?.destroy();
        return;
      case "too_short": {
        const all = { ...json, connection: "close", "content-length": body.length - WRONG_BYTES };
        const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
        socket?.write(`HTTP/1.1 ${status} Short\r\n${lines.join("")}\r\n`);
        socket?.end(body);
        return;
      }
      case "endless":
      case "flood": {
        const piece = passage.done === "flood" ? Buffer.alloc(64 * 1024, ".") : ".";
        response.writeHead(status, json);
        response.write('{"result":"');
        for (let sent = 0; isOpen() && sent < MAX_BYTES; sent += piece.length) {
          const taken = response.write(piece);
          // All of a flood must arrive: a gateway that reads slowly would only see the connection break.
          if (!taken) await Promise.race([once(response, "drain"), once(response, "close")]);
          await pause(passage.done === "flood" ? 1 : 50);
        }
        if (passage.done === "flood") response.end();
        else response.destroy();
        return;
      }
      default:
        if (passage.done === "late") await pause(Math.min(passage.deadline + LATE_MS - Date.now(), MAX_MS));
        response.writeHead(status, { ...json, "content-length": body.length });
        response.end(body);
    }
    if (response.destroyed) return;
    passage.until = Date.now();
  }

  /** @param {import("node:http").IncomingMessage} request @param {import("node:http").ServerResponse} response */
  async function pass(request, response) {
    // One connection per call: a closed port takes effect at once, and a reset affects no other call.
    response.setHeader("connection", "close");
    response.on("error", () => {});
    let body;
    try {
      body = await readAll(request);
    } catch {
      // The gateway was killed while sending: this was not a call.
      return;
    }
    if (request.method !== "POST") {
      const answered = await forward(request, body, response);
      return void response.writeHead(answered?.status ?? 502).end();
    }
    const { context_id, capability, attempt, deadline, parameters } = JSON.parse(body.toString());
    // Connections opened before the port was closed are served.
    const weather = storm === "refuse" ? null : storm;
    /** @type {Heard} */
    const heard = { context: context_id, capability, attempt, deadline: Date.parse(deadline), parameters };
    /** @type {Passage} */
    const passage = {
      ...heard,
      done: weather ?? choose(heard) ?? "none",
      at: Date.now(),
      until: null,
      status: null,
      waitMs: 0,
      closed: null,
    };
    passages.push(passage);
    response.on("close", () => void (passage.closed = Date.now()));
    const status = STATUSES[/** @type {keyof typeof STATUSES} */ (passage.done)];
    if (status) {
      passage.status = status;
      const wait = passage.done === "429_wait";
      if (wait) passage.waitMs = WAIT_SECONDS * 1000;
      // A 503 without Retry-After does not promise that nothing was done.
      const seconds = wait ? WAIT_SECONDS : status === 503 ? 0 : null;
      response.writeHead(status, seconds === null ? {} : { "retry-after": String(seconds) }).end();
      passage.until = Date.now();
    } else if (passage.done === "reset_before") {
      response.socket?.resetAndDestroy();
    } else {
      const answered = await forward(request, body, response);
      if (!answered || response.destroyed) return;
      passage.status = answered.status;
      await answer(response, passage, answered);
    }
  }

  /** @param {number} port */
  async function open(port) {
    const server = createServer((request, response) => void pass(request, response).catch(() => response.destroy()));
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    return server;
  }
  let server = await open(0);
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  /** Closed servers that may still send responses. @type {Set<import("node:http").Server>} */
  const closed = new Set();

  return {
    url: `http://127.0.0.1:${port}/`,
    passages,
    periods,
    /** One storm at a time; calls under way continue. */
    async storm(kind, ms) {
      const period = { storm: kind, from: Date.now(), to: Infinity };
      periods.push(period);
      storm = kind;
      if (kind === "refuse") {
        const old = server;
        closed.add(old);
        old.close(() => closed.delete(old));
        await pause(ms);
        server = await open(port);
      } else {
        await pause(ms);
      }
      storm = null;
      period.to = Date.now();
    },
    stop() {
      for (const one of [...closed, server]) {
        one.close();
        one.closeAllConnections();
      }
    },
  };
}

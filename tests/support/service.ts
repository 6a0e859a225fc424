// A service: a real HTTP server on a loopback port that records each call, and misbehaves in the ways that services do.
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import type { TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { PATIENCE_MS } from "./patience.ts";

/** A received call, its body read to the end. */
export type Recorded = {
  method: string;
  path: string;
  headers: IncomingHttpHeaders;
  /** The body byte for byte, as it was signed. */
  raw: Buffer;
  /** The body as JSON; undefined if it is not JSON. */
  json: any;
  /** `Date.now()` when the body was complete. */
  at: number;
  /** True once the caller has disconnected before the response. */
  abandoned: boolean;
};

/** Handles a call. */
export type Handler = (call: Recorded, response: ServerResponse) => void | Promise<void>;

export type Service = {
  /** `http://127.0.0.1:port/`. */
  url: string;
  port: number;
  /** Every call except GET and HEAD, in order of arrival. */
  calls: Recorded[];
  /** Every GET and HEAD: health probes. */
  probes: Recorded[];
  /** The handler of calls from now on. */
  handler: Handler;
  /** The handler of probes from now on. */
  probe: Handler;
  /** Waits for the call with this index (0 is the first). */
  call(index: number): Promise<Recorded>;
  /** Stops at once and cuts open connections. */
  stop(): Promise<void>;
};

/** Responds with a value as JSON. */
export const json =
  (value: unknown, status = 200, headers: Record<string, string> = {}): Handler =>
  (_, response) => {
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(JSON.stringify(value));
  };

/** `{"result": <the parameters of the call>}`. */
export const echo: Handler = (call, response) => json({ result: call.json?.parameters ?? null })(call, response);

/** A bare status, with JSON if a body is given. */
export const status = (code: number, body?: unknown, headers: Record<string, string> = {}): Handler =>
  body === undefined ? (_, response) => void response.writeHead(code, headers).end() : json(body, code, headers);

/** A web page with status 200, as an intermediate proxy might send. */
export const html: Handler = (_, response) => {
  response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>Welcome</title>");
};

/** Reads the call and never responds. */
export const hang: Handler = () => {};

/** Announces more than it sends, then cuts the connection. */
export const half: Handler = (_, response) => {
  response.writeHead(200, { "content-type": "application/json", "content-length": "1000" });
  response.write('{"result": "', () => response.destroy());
};

/** Cuts the connection without sending anything. */
export const reset: Handler = (_, response) => {
  (response.socket as Socket).resetAndDestroy();
};

/** A well-formed JSON answer of this many bytes, streamed. */
export const huge =
  (bytes = 50 * 1024 * 1024): Handler =>
  async (_, response) => {
    const open = '{"result":"';
    const end = '"}';
    const chunk = Buffer.alloc(64 * 1024, "x");
    const pieces = function* () {
      yield Buffer.from(open);
      for (let left = bytes - open.length - end.length; left > 0; left -= chunk.length) yield chunk.subarray(0, left);
      yield Buffer.from(end);
    };
    response.writeHead(200, { "content-type": "application/json" });
    // A caller that rejects the size cuts the connection, which ends the response too.
    await pipeline(pieces, response).catch(() => {});
  };

/** Waits, then calls `then`. */
export const slow =
  (ms: number, then: Handler = echo): Handler =>
  async (call, response) => {
    await pause(ms, undefined, { ref: false });
    if (!response.destroyed) await then(call, response);
  };

/** Holds every call until `open`, then calls `then`. */
export function gate(then: Handler = echo): { handler: Handler; open: () => void } {
  let open = () => {};
  const opened = new Promise<void>((resolve) => (open = resolve));
  return {
    open,
    async handler(call, response) {
      await opened;
      if (!response.destroyed) await then(call, response);
    },
  };
}

/**
 * Puts a gate in front of the service. When the test ends, also by an assertion that fails, the gate is open and
 * `afterwards` handles the calls.
 */
export function hold(t: TestContext, service: Service, afterwards: Handler, then?: Handler) {
  const held = gate(then);
  t.after(() => {
    held.open();
    service.handler = afterwards;
  });
  service.handler = held.handler;
  return held;
}

/** One handler per call, in this order; the last one remains. */
export const inTurn = (...handlers: [Handler, ...Handler[]]): Handler => {
  let served = 0;
  return (call, response) => handlers[Math.min(served++, handlers.length - 1)]!(call, response);
};

/** Starts a service on 127.0.0.1, on any free port unless one is given (to come back on the same one). */
export async function startService(
  handler: Handler = echo,
  options: { port?: number; probe?: Handler } = {},
): Promise<Service> {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch {
      return; // The caller disconnected while sending: this was not a call.
    }
    const call: Recorded = {
      method: request.method ?? "",
      path: request.url ?? "",
      headers: request.headers,
      raw: Buffer.concat(chunks),
      json: undefined,
      at: Date.now(),
      abandoned: false,
    };
    try {
      call.json = JSON.parse(call.raw.toString());
    } catch {
      // Stays undefined.
    }
    response.on("close", () => {
      call.abandoned = !response.writableEnded;
    });
    const isProbe = call.method === "GET" || call.method === "HEAD";
    (isProbe ? service.probes : service.calls).push(call);
    for (const notify of [...waiting]) notify();
    try {
      await (isProbe ? service.probe : service.handler)(call, response);
    } catch (error) {
      response.destroy(error as Error);
    }
  });
  // Idle connections stay open: closing one could break a call sent at that moment, and fail it if it is not
  // idempotent.
  server.keepAliveTimeout = 600_000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject).listen(options.port ?? 0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  const waiting = new Set<() => void>();
  const service: Service = {
    url: `http://127.0.0.1:${port}/`,
    port,
    calls: [],
    probes: [],
    handler,
    probe: options.probe ?? json({ status: "ok" }),
    call: (index) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const call = service.calls[index];
          if (!call) return;
          clearTimeout(timer);
          waiting.delete(look);
          resolve(call);
        };
        const timer = setTimeout(() => {
          waiting.delete(look);
          reject(
            new Error(`the service was called ${service.calls.length} times in ${PATIENCE_MS} ms, not ${index + 1}`),
          );
        }, PATIENCE_MS);
        waiting.add(look);
        look();
      }),
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return service;
}

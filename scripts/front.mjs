// @ts-check
// The front: the server at the address of `npm start`, before `wrangler dev`. wrangler exits when a client disconnects
// in the middle of a body, or when the Worker responds without having read all of it (cloudflare/workers-sdk#15203,
// #15709). So the front reads bodies whole, up to a bound, before wrangler sees a request; and requests that arrive
// before it is up, or after it died, wait until it serves. Responses and sockets are passed on as they arrive.
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, request as ask } from "node:http";
import { connect } from "node:net";
import { setTimeout as pause } from "node:timers/promises";

/** More than the gateway accepts of any body: longer bodies are cut here, and the gateway refuses them as too large. */
const LARGEST = 16 * 1024 * 1024;
/** The most that is read of a body, so that the client gets to read the refusal. */
const DRAINED = 64 * 1024 * 1024;
/** How long a request waits for a gateway that is starting; the first start may take this long. */
const PATIENCE_MS = 60_000;
const RETRY_MS = 100;
const LINGER_MS = 2000;
/** Larger than the gateway's own bound on headers. */
const HEADERS = 128 * 1024;

/** Headers that request another protocol. */
const UPGRADE = new Set(["connection", "upgrade", "http2-settings"]);
/** Headers of one connection (RFC 9110 §7.6.1), and the length, which is set to that of the whole body. */
const OWN = new Set([
  ...UPGRADE,
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "expect",
  "content-length",
]);
/** The client's location. Only the platform sets it; the client's own headers are dropped. */
const ADDRESS = "CF-Connecting-IP";
const CLAIMED = new Set([ADDRESS.toLowerCase()]);

/** Header lines as received, without some. @param {string[]} raw @param {Set<string>} without in lower case */
function lines(raw, without) {
  /** @type {string[]} */
  const kept = [];
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const [name, value] = [/** @type {string} */ (raw[at]), /** @type {string} */ (raw[at + 1])];
    if (!without.has(name.toLowerCase())) kept.push(name, value);
  }
  return kept;
}

/**
 * A client's address, as the platform passes it to the gateway.
 * @param {import("node:http").IncomingMessage} request
 */
function addressOf(request) {
  const address = request.socket.remoteAddress?.replace(/^::ffff:/, "").replace(/%.*$/, "");
  return address === undefined ? [] : [ADDRESS, address];
}

/**
 * A request's head, as it is sent on.
 * @param {import("node:http").IncomingMessage} request @param {string[]} headers
 */
function head(request, headers) {
  let text = `${request.method} ${request.url} HTTP/${request.httpVersion}\r\n`;
  for (let at = 0; at + 1 < headers.length; at += 2) text += `${headers[at]}: ${headers[at + 1]}\r\n`;
  return Buffer.from(`${text}\r\n`, "latin1");
}

/**
 * Whether a request opens a WebSocket. Any other `Upgrade` (Java's client sends h2c with each request) is ignored
 * (RFC 9110 §7.8), and the body is read as usual.
 * @param {import("node:http").IncomingMessage} request
 */
function opensSocket({ method, headers }) {
  const hasBody = "transfer-encoding" in headers || Number(headers["content-length"] ?? 0) > 0;
  return method === "GET" && headers.upgrade?.trim().toLowerCase() === "websocket" && !hasBody;
}

/**
 * A request's body, at most LARGEST of it. `rest` is true if the body is too long to be read to its end.
 * @param {import("node:http").IncomingMessage} request
 * @returns {Promise<{ body: Buffer, rest: boolean }>} fails when the client leaves before its end
 */
function whole(request) {
  return new Promise((resolve, reject) => {
    /** @type {Buffer[]} */
    const kept = [];
    let [length, keeps] = [0, 0];
    request.on("data", (/** @type {Buffer} */ chunk) => {
      length += chunk.length;
      const part = chunk.subarray(0, LARGEST - keeps);
      keeps += part.length;
      if (part.length > 0) kept.push(part);
      if (length <= DRAINED) return;
      request.pause();
      resolve({ body: Buffer.concat(kept), rest: true });
    });
    request.on("end", () => resolve({ body: Buffer.concat(kept), rest: false }));
    request.on("error", reject);
    request.on("close", () => reject(new Error("the client left")));
  });
}

/**
 * A client that is still sending reads the response only if the connection stays open for a while.
 * @param {import("node:http").IncomingMessage} request
 */
function linger(request) {
  request.resume();
  setTimeout(() => request.socket.destroy(), LINGER_MS).unref();
}

/**
 * The response while the gateway is down, in the form of its own refusals.
 * @param {import("node:http").ServerResponse} response @param {string} path
 */
function unserved(response, path) {
  if (response.headersSent || response.destroyed) return response.destroy();
  const id = `req_${randomUUID()}`;
  const body = JSON.stringify({
    type: "urn:narthex:problem:internal",
    title: "The gateway failed",
    status: 500,
    detail: "The development server ended while it served this, or did not start. See the terminal of `npm start`.",
    instance: path,
    code: "internal",
    request_id: id,
  });
  response
    .writeHead(500, { "content-type": "application/problem+json", "cache-control": "no-store", "x-request-id": id })
    .end(body);
}

/**
 * Listens on `host` and `port` and forwards to the gateway on this machine that `to` named last.
 * @param {string} host @param {number} port
 * @returns {Promise<{ port: number, to(port: number | undefined): void }>} fails when the address is taken
 */
export function startFront(host, port) {
  /** The gateway's port while it serves. @type {number | undefined} */
  let gateway;

  /** @param {() => boolean} left @returns {Promise<number | undefined>} */
  async function serving(left) {
    for (const end = Date.now() + PATIENCE_MS; gateway === undefined;) {
      if (left() || Date.now() > end) return undefined;
      await pause(RETRY_MS);
    }
    return gateway;
  }

  /** @param {import("node:http").IncomingMessage} request @param {import("node:http").ServerResponse} response */
  async function pass(request, response) {
    const path = (request.url ?? "/").split("?", 1)[0] ?? "/";
    // Before the body: afterwards a disconnect cannot be detected.
    const headers = [...lines(request.rawHeaders, new Set([...OWN, ...CLAIMED])), ...addressOf(request)];
    const { body, rest } = await whole(request);
    const sends = body.length > 0 || "content-length" in request.headers || "transfer-encoding" in request.headers;
    if (sends) headers.push("Content-Length", String(body.length));
    const left = () => response.destroyed;
    for (const end = Date.now() + PATIENCE_MS; ; await pause(RETRY_MS)) {
      const to = await serving(left);
      if (left()) return;
      if (to === undefined) return unserved(response, path);
      const failure = await asked(to);
      if (failure === undefined) return;
      // Refused: nothing was sent. Otherwise only safe requests are repeated.
      const again = failure.code === "ECONNREFUSED" || ["GET", "HEAD"].includes(request.method ?? "");
      if (response.headersSent || !again || Date.now() > end) return unserved(response, path);
    }

    /**
     * Sends the request once; returns the error if it failed before a response began.
     * @param {number} to @returns {Promise<NodeJS.ErrnoException | undefined>}
     */
    function asked(to) {
      return new Promise((resolve) => {
        // One connection per request: a reused one may be about to close.
        const call = ask({
          host: "127.0.0.1",
          port: to,
          method: request.method,
          path: request.url,
          headers,
          setHost: false,
          agent: false,
        });
        const leave = () => call.destroy();
        response.once("close", leave);
        call.on("error", (error) => {
          response.off("close", leave);
          resolve(response.destroyed ? undefined : error);
        });
        call.on("response", (answer) => {
          const answered = lines(answer.rawHeaders, OWN);
          const length = answer.headers["content-length"];
          if (length !== undefined) answered.push("Content-Length", length);
          response.writeHead(answer.statusCode ?? 500, answer.statusMessage ?? "", answered);
          response.flushHeaders();
          answer.on("error", () => response.destroy());
          answer.pipe(response);
          if (rest) response.once("finish", () => linger(request));
          resolve(undefined);
        });
        call.end(body);
      });
    }
  }

  /**
   * Connects to the gateway once it serves.
   * @param {() => boolean} left @returns {Promise<import("node:net").Socket | undefined>}
   */
  async function reach(left) {
    for (const end = Date.now() + PATIENCE_MS; ; await pause(RETRY_MS)) {
      const to = await serving(left);
      if (to === undefined || left()) return undefined;
      const inner = connect(to, "127.0.0.1");
      const failure = await once(inner, "connect").then(
        () => undefined,
        (error) => error,
      );
      if (failure === undefined) return inner;
      // It died, and the next one is starting.
      if (failure.code !== "ECONNREFUSED" || Date.now() > end) return undefined;
    }
  }

  /**
   * WebSockets: bytes are passed on in both directions.
   * @param {import("node:http").IncomingMessage} request @param {import("node:stream").Duplex} client
   * @param {Buffer} begun
   */
  async function join(request, client, begun) {
    client.on("error", () => client.destroy());
    const headers = [...lines(request.rawHeaders, CLAIMED), ...addressOf(request)];
    const inner = await reach(() => client.destroyed);
    if (inner === undefined) return client.destroy();
    if (client.destroyed) return inner.destroy();
    inner.write(head(request, headers));
    inner.write(begun);
    inner.pipe(client).pipe(inner);
    for (const [from, to] of /** @type {const} */ ([
      [inner, client],
      [client, inner],
    ])) {
      from.on("error", () => to.destroy());
      from.on("close", () => {
        if (!to.writableEnded) return to.destroy();
        // The last bytes are still in transit.
        to.resume();
        const leave = () => void setTimeout(() => to.destroy(), LINGER_MS).unref();
        if (to.writableFinished) leave();
        else to.once("finish", leave);
      });
    }
  }

  /**
   * Takes back a request that Node handed over because of its `Upgrade`, and reads it as if it had none.
   * @param {import("node:http").IncomingMessage} request @param {import("node:stream").Duplex} client
   * @param {Buffer} begun
   */
  function takeBack(request, client, begun) {
    client.unshift(Buffer.concat([head(request, lines(request.rawHeaders, UPGRADE)), begun]));
    server.emit("connection", client);
  }

  // Node before 24.9 and 22.21 does not call `shouldUpgradeCallback`, and hands all of them over.
  const options = { maxHeaderSize: HEADERS, keepAliveTimeout: 65_000, shouldUpgradeCallback: opensSocket };
  const server = createServer(options, (request, response) => {
    pass(request, response).catch(() => response.destroy());
  });
  server.on(
    "upgrade",
    (request, client, begun) => void (opensSocket(request) ? join : takeBack)(request, client, begun),
  );
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      const { port: taken } = /** @type {import("node:net").AddressInfo} */ (server.address());
      resolve({ port: taken, to: (next) => void (gateway = next) });
    });
  });
}

// The front before `wrangler dev` in `npm start`, against a plain server: bodies are read whole and cut, requests wait
// for a server, and unsafe requests are not repeated.
import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { createServer, type IncomingMessage, request as ask, type Server, type ServerResponse } from "node:http";
import { connect, createServer as listenFor, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import WebSocket, { WebSocketServer } from "ws";
import { startFront } from "../scripts/front.mjs";
import { eventually } from "./support/arrange.ts";
import { PATIENCE_MS } from "./support/patience.ts";

const MIB = 1024 * 1024;

type Seen = { method: string; url: string; raw: string[]; length: number };

let front: Awaited<ReturnType<typeof startFront>>;
let server: Server;
let seen: Seen[] = [];
/** The header lines of WebSocket upgrades. */
const opened: string[][] = [];
let behave: (request: IncomingMessage, response: ServerResponse) => void;

const port = (one: Server) => (one.address() as { port: number }).port;
const url = () => `http://127.0.0.1:${front.port}`;

before(async () => {
  front = await startFront("127.0.0.1", 0);
  server = createServer((request, response) => {
    let length = 0;
    request.on("data", (chunk) => (length += chunk.length));
    request.on("end", () => {
      seen.push({ method: request.method!, url: request.url!, raw: request.rawHeaders, length });
      behave(request, response);
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const sockets = new WebSocketServer({ server });
  sockets.on("connection", (socket, { rawHeaders }) => {
    opened.push(rawHeaders);
    socket.on("message", (data) => socket.send(`heard ${data}`));
  });
  front.to(port(server));
});
after(() => {
  server.close();
  // The front cannot be stopped; it ends with the process.
  setTimeout(() => process.exit(), 500).unref();
});

function fresh(
  answer: (request: IncomingMessage, response: ServerResponse) => void = (_, response) => response.end("ok"),
) {
  seen = [];
  behave = answer;
}

/** The next request for this path as the front has it, once the first part of its body has arrived there. */
function arrival(path: string): Promise<IncomingMessage> {
  const channel = "http.server.request.start";
  return new Promise((resolve, reject) => {
    function look(event: unknown): void {
      const { request } = event as { request: IncomingMessage };
      if (request.url !== path || request.socket.localPort !== front.port) return;
      unsubscribe(channel, look);
      // If the client leaves before that, this fails, and not the process.
      once(request, "data", { signal: AbortSignal.timeout(PATIENCE_MS) }).then(() => resolve(request), reject);
    }
    subscribe(channel, look);
  });
}

/** Disconnects a client within its body, once the front has begun to read that; returns when the front has noticed. */
async function leave(client: Socket, arrives: Promise<IncomingMessage>): Promise<void> {
  const request = await arrives;
  client.resetAndDestroy();
  await eventually(() => request.closed);
}

/** Asserts that requests reached the server only now: a new one overtakes none that is under way to it. */
async function assertOnlySeen(address: string): Promise<void> {
  assert.equal(await (await fetch(address)).text(), "ok");
  assert.deepEqual(
    seen.map(({ url: path }) => path),
    [new URL(address).pathname],
  );
}

test("a_request_and_its_response_are_passed_on_unchanged", async () => {
  fresh((_, response) => {
    response
      .writeHead(207, "As It Is", [
        "X-Two",
        "1",
        "X-Two",
        "2",
        "Set-Cookie",
        "a=1",
        "Set-Cookie",
        "b=2",
        "Content-Length",
        "4",
      ])
      .end("body");
  });
  const call = ask(`${url()}/a%20b?c=d&c=e`, {
    method: "PATCH",
    headers: { Host: "gateway.example:81", "X-MiXed": "Case" },
  });
  call.end("payload");
  const [answer] = (await once(call, "response")) as [IncomingMessage];
  assert.deepEqual(
    [answer.statusCode, answer.statusMessage, answer.headers["x-two"], answer.headers["content-length"]],
    [207, "As It Is", "1, 2", "4"],
  );
  assert.deepEqual(answer.headers["set-cookie"], ["a=1", "b=2"]);
  const [{ method, url: path, raw, length }] = seen as [Seen];
  assert.deepEqual([method, path, length], ["PATCH", "/a%20b?c=d&c=e", 7]);
  assert.ok(raw.includes("X-MiXed") && raw.includes("gateway.example:81"));
  assert.equal((await fetch(url(), { method: "HEAD" })).status, 207);
});

test("a_body_is_cut_above_the_gateways_limit_and_an_endless_one_is_answered_too", async () => {
  fresh((_, response) => response.writeHead(413).end("too large"));
  const long = await fetch(url(), { method: "POST", body: Buffer.alloc(20 * MIB) });
  assert.deepEqual([long.status, await long.text(), seen[0]!.length], [413, "too large", 16 * MIB]);

  fresh((_, response) => response.writeHead(413).end("too large"));
  const socket = connect(front.port, "127.0.0.1");
  socket.on("error", () => {});
  socket.write("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  const piece = Buffer.concat([Buffer.from(`${MIB.toString(16)}\r\n`), Buffer.alloc(MIB), Buffer.from("\r\n")]);
  let answer = "";
  socket.on("data", (data) => (answer += data));
  for (let sent = 0; sent < 200 && answer === ""; sent++)
    if (!socket.write(piece)) await Promise.race([once(socket, "drain").catch(() => {}), pause(200)]);
  assert.match(answer, /^HTTP\/1\.1 413 /);
  socket.destroy();
});

test("a_client_that_disconnects_within_its_body_never_reaches_the_server", async () => {
  fresh();
  for (const framing of ["Content-Length: 1000", "Transfer-Encoding: chunked"]) {
    const arrives = arrival("/left");
    const socket = connect(front.port, "127.0.0.1");
    socket.write(`POST /left HTTP/1.1\r\nHost: x\r\n${framing}\r\n\r\n5\r\nbegun\r\n`);
    await leave(socket, arrives);
  }
  await assertOnlySeen(`${url()}/later`);
});

test("a_request_waits_for_a_server_and_is_repeated_only_if_it_is_safe", async () => {
  fresh();
  front.to(undefined);
  const arrives = arrival("/early");
  const waiting = fetch(`${url()}/early`, { method: "POST", body: "{}" });
  const request = await arrives;
  await eventually(() => request.readableEnded);
  await assertOnlySeen(`http://127.0.0.1:${port(server)}/direct`);
  front.to(port(server));
  assert.equal((await waiting).status, 200);
  assert.equal(seen.length, 2);

  let broken = 1;
  const breaks = (request: IncomingMessage, response: ServerResponse) => {
    if (broken-- > 0) request.socket.destroy();
    else response.end("ok");
  };
  fresh(breaks);
  assert.equal((await fetch(url())).status, 200);
  assert.equal(seen.length, 2, "a GET is asked again");

  fresh(breaks);
  broken = 1;
  const lost = await fetch(`${url()}/v1/contexts?x=1`, { method: "POST", body: "{}" });
  const problem = (await lost.json()) as { code: string; instance: string };
  assert.deepEqual(
    [lost.status, lost.headers.get("content-type"), problem.code, problem.instance],
    [500, "application/problem+json", "internal", "/v1/contexts"],
  );
  assert.equal(seen.length, 1, "a POST may have done its work");
});

test("a_response_is_streamed_and_ends_when_the_client_disconnects", async () => {
  let left = false;
  fresh((_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
    setTimeout(() => response.write("data: 1\n\n"), 50);
    response.on("close", () => (left = true));
  });
  const ends = new AbortController();
  const response = await fetch(url(), { signal: ends.signal });
  const { value } = await response.body!.getReader().read();
  assert.equal(new TextDecoder().decode(value), "data: 1\n\n");
  ends.abort();
  await eventually(() => left);
});

test("a_socket_is_joined_both_ways_and_its_loss_ends_only_itself", async () => {
  const socket = new WebSocket(`ws://127.0.0.1:${front.port}/v1/events`);
  await once(socket, "open");
  socket.send("this");
  const [message] = await once(socket, "message");
  assert.equal(String(message), "heard this");
  socket.terminate();
  fresh();
  assert.equal((await fetch(url())).status, 200);
});

/** The values of a header, as received. */
const values = (raw: string[], name: string) =>
  raw.filter((_, at) => at % 2 === 1 && raw[at - 1]!.toLowerCase() === name);

test("a_request_that_offers_another_protocol_is_read_whole_like_any_other", async () => {
  const offer =
    "Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n";
  const send = (text: string) => {
    const socket = connect(front.port, "127.0.0.1").on("error", () => {});
    socket.write(text);
    return socket;
  };
  /** Sends a request; returns the response up to `ok`. */
  const answered = async (text: string, body = Buffer.alloc(0)) => {
    const socket = send(text);
    socket.write(body);
    let answer = "";
    for await (const data of socket) if ((answer += data).endsWith("ok")) break;
    return answer;
  };
  fresh((_, response) => response.end("ok"));
  assert.match(
    await answered(`POST /java HTTP/1.1\r\n${offer}Content-Length: ${20 * MIB}\r\n\r\n`, Buffer.alloc(20 * MIB)),
    /^HTTP\/1\.1 200 /,
  );
  assert.match(await answered(`GET /java HTTP/1.1\r\n${offer}\r\n`), /^HTTP\/1\.1 200 /);
  const socketWithBody =
    "GET /body HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 4\r\n\r\nbody";
  assert.match(await answered(socketWithBody), /^HTTP\/1\.1 200 /);
  assert.deepEqual(
    seen.map(({ method, url: path, length }) => [method, path, length]),
    [
      ["POST", "/java", 16 * MIB],
      ["GET", "/java", 0],
      ["GET", "/body", 4],
    ],
  );
  for (const { raw } of seen) assert.deepEqual([values(raw, "upgrade"), values(raw, "http2-settings")], [[], []]);

  fresh();
  const arrives = arrival("/left");
  await leave(send(`POST /left HTTP/1.1\r\n${offer}Content-Length: 1000\r\n\r\nbegun`), arrives);
  await assertOnlySeen(`${url()}/later`);
});

test("the_address_of_a_client_is_passed_on_and_its_claims_are_not", async () => {
  fresh();
  const claim = { "cf-CONNECTING-ip": "192.0.2.1" };
  await fetch(url());
  await fetch(url(), { method: "POST", body: "{}", headers: claim });
  assert.deepEqual(
    seen.map(({ raw }) => values(raw, "cf-connecting-ip")),
    [["127.0.0.1"], ["127.0.0.1"]],
  );
  const socket = new WebSocket(`ws://127.0.0.1:${front.port}/v1/events`, { headers: claim });
  await once(socket, "open");
  socket.terminate();
  assert.deepEqual(values(opened.at(-1)!, "cf-connecting-ip"), ["127.0.0.1"]);
});

test("a_socket_waits_for_a_server_and_receives_everything_sent_before_the_end", async () => {
  const head = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
  const opens = Promise.withResolvers<Socket>();
  const speaks = listenFor((socket) => {
    socket.on("error", () => {}).once("data", () => void (socket.write(head), opens.resolve(socket)));
  }).listen(0, "127.0.0.1");
  await once(speaks, "listening");
  const gone = listenFor().listen(0, "127.0.0.1");
  await once(gone, "listening");
  const { port: refusing } = gone.address() as { port: number };
  await new Promise((resolve) => gone.close(resolve));

  // The front's two sockets: the connection that it accepts, and the last one that it opens.
  const [accepted, opened]: [Socket[], Socket[]] = [[], []];
  const refusals: NodeJS.ErrnoException[] = [];
  const accepts = (event: unknown) => void accepted.push((event as { socket: Socket }).socket);
  const connects = (event: unknown) => {
    const { socket } = event as { socket: Socket };
    opened.push(socket.on("error", (error) => refusals.push(error)));
  };
  front.to(refusing);
  const client = connect(front.port, "127.0.0.1");
  subscribe("net.server.socket", accepts);
  subscribe("net.client.socket", connects);
  client.write("GET /v1/events HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  await eventually(() => refusals.length > 0);
  assert.equal(refusals[0]!.code, "ECONNREFUSED");
  front.to((speaks.address() as { port: number }).port);
  await eventually(() => client.bytesRead > 0);
  unsubscribe("net.server.socket", accepts);
  unsubscribe("net.client.socket", connects);

  // The client reads late: at the end, the front holds what it could not pass on.
  const [outer, inner, source] = [accepted[0]!, opened.at(-1)!, await opens.promise];
  let sent = head.length;
  while (outer.writableLength === 0) {
    source.write(Buffer.alloc(60 * 1024, "x"));
    sent += 60 * 1024;
    await eventually(() => inner.bytesRead === sent);
  }
  source.end();
  await eventually(() => inner.closed);
  let length = 0;
  for await (const data of client) length += (data as Buffer).length;
  assert.equal(length, sent);
  speaks.close();
  front.to(port(server));
});

test("an_address_in_use_is_an_error", async () => {
  await assert.rejects(startFront("127.0.0.1", front.port), { code: "EADDRINUSE" });
});

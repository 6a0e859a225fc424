// @ts-check
// The provider of models behind the gateway: a separate process that answers chats at once, in one piece or in as many
// as the request says. It is written on plain sockets, because a thousand pieces by node:http would cost more than what
// is measured.
import { createServer } from "node:net";
import { setImmediate as turn, setTimeout as pause } from "node:timers/promises";
import { PROVIDER_KEY, WISH, usage } from "./models.mjs";
import { BodyReader, HEAD_END, machineTime, sentAt } from "./pieces.mjs";

/** @typedef {import("node:net").Socket} Socket */

/** What a request wishes stands within its first bytes. */
const WISH_BYTES = 512;

const STREAM_HEAD =
  "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n" +
  "X-Request-Id: req_of_the_provider\r\nTransfer-Encoding: chunked\r\n\r\n";

/** @param {string} status @param {string} body */
const whole = (status, body) =>
  `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nX-Request-Id: req_of_the_provider\r\n` +
  `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

const TEXT =
  "An answer of about the length a small model gives to a small question, so that what is read and sent on is not " +
  "trivially short. It says nothing, and it says the same to everybody who asks, every time.";

/** @param {string} object */
const head = (object) => ({
  id: "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
  object,
  created: 1_764_547_200,
  model: "bench",
});

/** @param {number} bytes of the request @param {number} pieces */
const completion = (bytes, pieces) =>
  JSON.stringify({
    ...head("chat.completion"),
    choices: [{ index: 0, message: { role: "assistant", content: TEXT }, logprobs: null, finish_reason: "stop" }],
    usage: usage(bytes, pieces),
  });

/** An event as a chunk of the body. @param {object | string} data */
function event(data) {
  const text = `data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`;
  return Buffer.from(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`);
}

/** @param {string} content @param {boolean} isLast */
const delta = (content, isLast) =>
  event({
    ...head("chat.completion.chunk"),
    choices: [{ index: 0, delta: { content }, logprobs: null, finish_reason: isLast ? "stop" : null }],
    usage: null,
  });

const WORDS = TEXT.split(" ");
/** The contents of streams, by their number of pieces. @type {Map<number, Buffer[]>} */
const prepared = new Map();

/** @param {number} pieces */
function contents(pieces) {
  let events = prepared.get(pieces);
  if (!events) {
    events = Array.from({ length: pieces }, (_, at) => delta(` ${WORDS[at % WORDS.length]}`, at === pieces - 1));
    prepared.set(pieces, events);
  }
  return events;
}

/** Writes one piece, and waits if the client does not take it. @param {Socket} socket @param {Buffer} piece */
async function write(socket, piece) {
  if (socket.destroyed) throw new Error("the client has left");
  if (!socket.write(piece)) await new Promise((resolve) => socket.once("drain", resolve).once("close", resolve));
}

/** @param {Socket} socket @param {number} bytes @param {number} pieces @param {number} everyMs */
async function stream(socket, bytes, pieces, everyMs) {
  const started = performance.now();
  socket.write(STREAM_HEAD);
  for (let at = 0; at < pieces; at += 1) {
    if (everyMs > 0) await pause(Math.max(0, started + at * everyMs - performance.now()));
    // Without a turn of the event loop, Node would write many pieces at once.
    else if (at > 0) await turn();
    const piece =
      everyMs > 0 ? delta(sentAt(machineTime()), at === pieces - 1) : /** @type {Buffer} */ (contents(pieces)[at]);
    await write(socket, piece);
  }
  await turn();
  await write(socket, event({ ...head("chat.completion.chunk"), choices: [], usage: usage(bytes, pieces) }));
  await turn();
  await write(socket, Buffer.concat([event("[DONE]"), Buffer.from("0\r\n\r\n")]));
}

/** @param {Socket} socket @param {string} request @param {string} wish @param {number} bytes */
function answer(socket, request, wish, bytes) {
  if (!request.startsWith("POST /v1/chat/completions ")) {
    socket.write(whole("404 Not Found", '{"error":{"message":"There is no such path."}}'));
    return;
  }
  if (!request.includes(`Bearer ${PROVIDER_KEY}`)) {
    socket.write(whole("401 Unauthorized", '{"error":{"message":"This is not the key of the provider."}}'));
    return;
  }
  const [, kind, pieces, everyMs] = wish.match(WISH) ?? [];
  if (kind === "stream") stream(socket, bytes, Number(pieces), Number(everyMs)).catch(() => socket.destroy());
  else socket.write(whole("200 OK", completion(bytes, Number(pieces))));
}

/** @param {Socket} socket */
function serve(socket) {
  let request = Buffer.alloc(0);
  let wish = Buffer.alloc(0);
  /** @type {BodyReader | undefined} */
  let body;
  socket.setNoDelay(true);
  socket.on("error", () => socket.destroy());
  socket.on("data", (/** @type {Buffer} */ chunk) => {
    let from = 0;
    if (!body) {
      const before = request.length;
      request = Buffer.concat([request, chunk]);
      const end = request.indexOf(HEAD_END);
      if (end < 0) return;
      from = end + HEAD_END.length - before;
      request = request.subarray(0, end);
      wish = Buffer.alloc(0);
      body = new BodyReader(request.toString("latin1"), (piece) => {
        if (wish.length < WISH_BYTES) wish = Buffer.concat([wish, piece.subarray(0, WISH_BYTES)]);
      });
    }
    body.read(chunk, from);
    if (!body.isWhole) return;
    // One request at a time: the clients of this process send the next one when they have their answer.
    const bytes = body.bytes;
    const said = request.toString("latin1");
    [request, body] = [Buffer.alloc(0), undefined];
    answer(socket, said, wish.toString("latin1"), bytes);
  });
}

const server = createServer(serve);
server.listen(0, "127.0.0.1", 2048, () => {
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  process.send?.({ port: address.port });
});
process.on("disconnect", () => process.exit(0));
// The parent decides when to stop; Ctrl-C reaches the whole group and must not stop this one first.
process.on("SIGINT", () => {});

// @ts-check
// The load's own HTTP client: one keep-alive connection, one request at a time, prepared bytes out. It is written on
// plain sockets because it shares the machine with what it measures: node:http would cost more than the server.
import { connect } from "node:net";
import { HEAD_END } from "./pieces.mjs";

/**
 * @typedef {{ method: string, path: string, headers?: Record<string, string>, body?: string }} RequestSpec
 *
 * `stream`: of an answer that was read in pieces, whose `body` is only its end.
 * @typedef {{ events: number, pieces: number, firstAt: number, lateness: number[] }} StreamFigures
 * @typedef {{ status: number, head: string, body: Buffer, bytes: number, stream?: StreamFigures }} Answer
 *
 * Reads one answer; null while it is incomplete.
 * @typedef {{ take(chunk: Buffer): Answer | null }} AnswerReader
 */

/** @param {RequestSpec} spec @param {number} port @returns {Buffer} */
export function requestBytes(spec, port) {
  const body = Buffer.from(spec.body ?? "");
  const lines = [`${spec.method} ${spec.path} HTTP/1.1`, `Host: 127.0.0.1:${port}`];
  for (const [name, value] of Object.entries(spec.headers ?? {})) lines.push(`${name}: ${value}`);
  if (spec.body !== undefined) lines.push("Content-Type: application/json", `Content-Length: ${body.length}`);
  return Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`), body]);
}

/** The value of a header. @param {Answer} answer @param {string} name */
export const header = (answer, name) => answer.head.match(new RegExp(`\\r\\n${name}: *([^\\r]*)`, "i"))?.[1];

/**
 * A chunked body's bytes and the offset behind it, or null while it is incomplete.
 * @param {Buffer} buffer @param {number} start
 */
function chunked(buffer, start) {
  /** @type {Buffer[]} */
  const parts = [];
  let offset = start;
  for (;;) {
    const lineEnd = buffer.indexOf("\r\n", offset);
    if (lineEnd < 0) return null;
    const size = Number.parseInt(buffer.toString("latin1", offset, lineEnd), 16);
    if (Number.isNaN(size)) throw new Error("an answer's chunk has no size");
    const dataEnd = lineEnd + 2 + size;
    if (buffer.length < dataEnd + 2) return null;
    if (size === 0) return { body: Buffer.concat(parts), end: dataEnd + 2 };
    parts.push(buffer.subarray(lineEnd + 2, dataEnd));
    offset = dataEnd + 2;
  }
}

/** One whole answer, or null while it is incomplete. @param {Buffer} buffer @returns {Answer | null} */
export function parseAnswer(buffer) {
  const headEnd = buffer.indexOf(HEAD_END);
  if (headEnd < 0) return null;
  const head = buffer.toString("latin1", 0, headEnd);
  const status = Number(head.slice(9, 12));
  const start = headEnd + 4;
  const length = head.match(/\r\ncontent-length: *(\d+)/i)?.[1];
  if (length !== undefined) {
    const end = start + Number(length);
    return buffer.length < end ? null : { status, head, body: buffer.subarray(start, end), bytes: end };
  }
  if (/\r\ntransfer-encoding: *chunked/i.test(head)) {
    const whole = chunked(buffer, start);
    return whole && { status, head, body: whole.body, bytes: whole.end };
  }
  if (status === 204 || status === 304) return { status, head, body: Buffer.alloc(0), bytes: start };
  throw new Error(`an answer ${status} has neither a length nor chunks`);
}

/** Keeps an answer until all of it is there. @implements {AnswerReader} */
class WholeReader {
  /** @type {Buffer | null} */
  #received = null;

  /** @param {Buffer} chunk */
  take(chunk) {
    this.#received = this.#received ? Buffer.concat([this.#received, chunk]) : chunk;
    return parseAnswer(this.#received);
  }
}

export class Connection {
  /** @param {number} port @param {() => AnswerReader} [newReader] */
  constructor(port, newReader = () => new WholeReader()) {
    this.port = port;
    this.newReader = newReader;
    /** @type {import("node:net").Socket | null} */
    this.socket = null;
    /** @type {AnswerReader | null} */
    this.reader = null;
    /** @type {{ resolve(answer: Answer): void, reject(error: Error): void } | null} */
    this.pending = null;
  }

  /** @param {Buffer} bytes @returns {Promise<Answer>} */
  send(bytes) {
    return new Promise((resolve, reject) => {
      this.pending = { resolve, reject };
      this.#open().write(bytes);
    });
  }

  /** Opens the connection, or opens it again after the server closed it. */
  #open() {
    if (this.socket && !this.socket.destroyed) return this.socket;
    const socket = connect({ port: this.port, host: "127.0.0.1", noDelay: true });
    this.socket = socket;
    this.reader = null;
    socket.on("data", (chunk) => this.#take(chunk));
    socket.on("error", (error) => this.#fail(error));
    socket.on(
      "close",
      () => this.socket === socket && this.#fail(new Error("the connection was closed before an answer")),
    );
    return socket;
  }

  /** @param {Buffer} chunk */
  #take(chunk) {
    this.reader ??= this.newReader();
    let answer;
    try {
      answer = this.reader.take(chunk);
    } catch (error) {
      this.#fail(/** @type {Error} */ (error));
      return;
    }
    if (!answer) return;
    this.reader = null;
    const pending = this.pending;
    this.pending = null;
    if (/\r\nconnection: *close/i.test(answer.head)) this.close();
    pending?.resolve(answer);
  }

  /** @param {Error} error */
  #fail(error) {
    const pending = this.pending;
    this.pending = null;
    this.close();
    pending?.reject(error);
  }

  close() {
    const socket = this.socket;
    this.socket = null;
    socket?.destroy();
    // A request under way must not wait forever for a connection that we closed ourselves.
    const pending = this.pending;
    this.pending = null;
    pending?.reject(new Error("the connection was closed by the load"));
  }
}

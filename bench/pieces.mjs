// @ts-check
// Reads HTTP messages while they come: the load's answers in pieces, and the requests of the provider. A stream has a
// thousand small pieces, so nothing is read twice and nothing is kept.

export const HEAD_END = Buffer.from("\r\n\r\n");
const NEWLINE = 10;
const CRLF = 2;
/** The first letter of `data:`, by which a line of an event is known; the provider sends no other members with it. */
const D = 100;
/** The end of a body that is kept, in bytes: the last events. */
const TAIL_BYTES = 1024;

/** The monotonic time in ms. It is that of every process of the machine, unlike `performance.now()`. */
export const machineTime = () => Number(process.hrtime.bigint()) / 1e6;

/** The mark of an event with the time at which it was sent. */
const SENT = /"content":"at ([\d.]+)"/;
/** @param {number} time */
export const sentAt = (time) => `at ${time.toFixed(3)}`;

/** A message's body, with a length or in chunks. */
export class BodyReader {
  /** The bytes of the body so far. */
  bytes = 0;
  /** Chunks so far: the pieces that the sender wrote. */
  chunks = 0;
  isWhole = false;
  /** The bytes that are missing of the body, or of the present chunk. */
  #left = 0;
  #chunked = false;
  /** The beginning of a chunk's size. */
  #size = "";
  /** The line break behind a chunk. */
  #behind = 0;

  /** @param {string} head @param {(piece: Buffer) => void} take */
  constructor(head, take) {
    this.take = take;
    this.#chunked = /\r\ntransfer-encoding: *chunked/i.test(head);
    this.#left = this.#chunked ? 0 : Number(head.match(/\r\ncontent-length: *(\d+)/i)?.[1] ?? 0);
    this.isWhole = !this.#chunked && this.#left === 0;
  }

  /** @param {Buffer} buffer @param {number} from @returns {number} where the body's part of the buffer ends */
  read(buffer, from) {
    let at = from;
    while (at < buffer.length && !this.isWhole) {
      if (this.#left > 0) at = this.#data(buffer, at);
      else if (this.#behind > 0) {
        const skipped = Math.min(this.#behind, buffer.length - at);
        this.#behind -= skipped;
        at += skipped;
      } else at = this.#sizeLine(buffer, at);
    }
    return at;
  }

  /** @param {Buffer} buffer @param {number} at */
  #data(buffer, at) {
    const piece = buffer.subarray(at, at + this.#left);
    this.#left -= piece.length;
    this.bytes += piece.length;
    if (this.#left === 0) {
      if (this.#chunked) this.#behind = CRLF;
      else this.isWhole = true;
    }
    this.take(piece);
    return at + piece.length;
  }

  /** @param {Buffer} buffer @param {number} at */
  #sizeLine(buffer, at) {
    const end = buffer.indexOf(NEWLINE, at);
    this.#size += buffer.toString("latin1", at, end < 0 ? buffer.length : end);
    if (end < 0) return buffer.length;
    const size = this.#size.trim();
    this.#size = "";
    // The empty line behind the last chunk ends the body: there are no trailers here.
    if (size === "") {
      this.isWhole = true;
      return end + 1;
    }
    this.#left = Number.parseInt(size, 16);
    if (Number.isNaN(this.#left)) throw new Error("a chunk has no size");
    if (this.#left > 0) this.chunks += 1;
    return end + 1;
  }
}

/**
 * An answer in pieces: counts its events, notes when the first came, and with `times` how late each was. Its `body` is
 * only its end.
 * @implements {AnswerReader}
 * @typedef {import("./client.mjs").AnswerReader} AnswerReader
 */
export class EventReader {
  #head = Buffer.alloc(0);
  /** @type {BodyReader | undefined} */
  #body;
  /** @type {Buffer} */
  #tail = Buffer.alloc(0);
  #line = "";
  #atStart = true;
  #bytes = 0;
  #events = 0;
  #firstAt = 0;
  /** @type {number[]} */
  #lateness = [];

  /** @param {boolean} times */
  constructor(times) {
    this.times = times;
  }

  /** @param {Buffer} chunk @returns {import("./client.mjs").Answer | null} */
  take(chunk) {
    this.#bytes += chunk.length;
    let from = 0;
    if (!this.#body) {
      const before = this.#head.length;
      this.#head = Buffer.concat([this.#head, chunk]);
      const end = this.#head.indexOf(HEAD_END);
      if (end < 0) return null;
      from = end + HEAD_END.length - before;
      this.#head = this.#head.subarray(0, end);
      this.#body = new BodyReader(this.#head.toString("latin1"), (piece) => this.#piece(piece));
    }
    this.#body.read(chunk, from);
    if (!this.#body.isWhole) return null;
    const head = this.#head.toString("latin1");
    return {
      status: Number(head.slice(9, 12)),
      head,
      body: this.#tail,
      bytes: this.#bytes,
      stream: {
        events: this.#events,
        pieces: this.#body.chunks,
        firstAt: this.#firstAt,
        lateness: this.#lateness,
      },
    };
  }

  /** @param {Buffer} piece */
  #piece(piece) {
    this.#firstAt ||= performance.now();
    if (this.#atStart && piece[0] === D) this.#events += 1;
    for (let at = piece.indexOf(NEWLINE); at >= 0; at = piece.indexOf(NEWLINE, at + 1))
      if (piece[at + 1] === D) this.#events += 1;
    this.#atStart = piece[piece.length - 1] === NEWLINE;
    this.#tail = piece.length < TAIL_BYTES ? Buffer.concat([this.#tail, piece]) : piece;
    this.#tail = this.#tail.subarray(-TAIL_BYTES);
    if (this.times) this.#late(piece);
  }

  /** @param {Buffer} piece */
  #late(piece) {
    const now = machineTime();
    const lines = (this.#line + piece.toString("latin1")).split("\n");
    this.#line = lines.pop() ?? "";
    for (const line of lines) {
      const sent = line.match(SENT)?.[1];
      if (sent !== undefined) this.#lateness.push(now - Number(sent));
    }
  }
}

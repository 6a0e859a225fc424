// @ts-check
// Calls of models, for `relay.rs` and the files in `relay/`: bodies stay here, and pass by Rust in pieces.
import { reached } from "./calls.js";
import { EMPTY, headersOf, joined, read } from "./http.js";
import { generation, watch } from "./tasks.js";

const encoder = new TextEncoder();

/** A response of this size is read before it is passed on, if its size is known; in bytes. */
const WHOLE_BYTES = 256 * 1024;
/** How much of a response that is no result is read, in bytes. */
const ERROR_BYTES = 256 * 1024;
/** After so many bytes without waiting, other work runs. */
const TURN_BYTES = 256 * 1024;

// What follows a piece; `relay/observer.rs` has the same numbers.
const CONTINUES = 0;
const ENDS = 1;
const IS_TOO_LONG = 2;

/**
 * What Rust says about a piece: nothing if it passes as it is and more may come. Otherwise what follows it, and a text
 * that is written instead of it, or where the rest begins in what is held and the piece together, followed by the
 * ranges that pass. With neither, it passes as it is.
 * @type {(observer: number, piece: Uint8Array) => [number, string | undefined, number[] | undefined] | undefined}
 */
let observe;
/**
 * What Rust writes at the end: whether what is held passes, and a text behind it; or nothing if the response is broken
 * off. `how` is one of the ends below.
 * @type {(observer: number, how: number) => [boolean, string] | undefined}
 */
let conclude;
/** Whether the rest may be read though the client has left. @type {(observer: number) => boolean} */
let mayDrain;

/** @param {typeof observe} onPiece @param {typeof conclude} onEnd @param {typeof mayDrain} onLeft */
export function installObserver(onPiece, onEnd, onLeft) {
  observe = onPiece;
  conclude = onEnd;
  mayDrain = onLeft;
  // The new instance gives its calls the tokens of an instance that died.
  calls.clear();
}

/** The whole body of a request, of a known size. @param {number} token @param {Request} request */
export function wholeBody(token, request) {
  watch(
    token,
    request.arrayBuffer().then((buffer) => new Uint8Array(buffer)),
  );
}

/** The body of a request, to be read in pieces. @param {Request} request */
export function openBody(request) {
  return request.body?.getReader({ mode: "byob" });
}

/** The size of the pieces of a request, in bytes: each costs the same, whatever its size. */
const PIECE_BYTES = 128 * 1024;

/**
 * The next piece; undefined at the end.
 * @param {number} token @param {ReadableStreamBYOBReader} reader
 */
export function nextOfBody(token, reader) {
  watch(
    token,
    reader
      .readAtLeast(PIECE_BYTES, new Uint8Array(PIECE_BYTES))
      .then(({ value }) => (value?.length ? value : undefined)),
  );
}

/** @param {ReadableStreamBYOBReader} reader */
export function dropBody(reader) {
  reader.cancel().catch(() => {});
}

/** @param {(Uint8Array | string)[]} parts */
function whole(parts) {
  const bytes = parts.map((part) => (typeof part === "string" ? encoder.encode(part) : part));
  return joined(
    bytes,
    bytes.reduce((sum, part) => sum + part.length, 0),
  );
}

/** Larger bodies are sent part by part, without a copy of all; in bytes. */
const JOINED_BYTES = 1024 * 1024;

/** @param {(Uint8Array | string)[]} parts */
function bodyOf(parts) {
  const bytes = parts.map((part) => (typeof part === "string" ? encoder.encode(part) : part));
  const length = bytes.reduce((sum, part) => sum + part.length, 0);
  if (length <= JOINED_BYTES) return joined(bytes, length);
  const { readable, writable } = new FixedLengthStream(length);
  const writer = writable.getWriter();
  (async () => {
    for (const part of bytes) await writer.write(part);
    await writer.close();
  })().catch(() => {});
  return readable;
}

/**
 * @typedef {{ read(): Promise<ReadableStreamReadResult<Uint8Array>> }} PieceReader
 * @typedef {{ controller: AbortController, reader: PieceReader | undefined }} Call
 */
/** Calls under way. @type {Map<number, Call>} */
const calls = new Map();

/** The most that is read of a document at once, in bytes. */
const DOCUMENT_PIECE_BYTES = 64 * 1024;

/**
 * Reads what is there, in larger pieces than by default. A small piece does not keep the memory of a large one.
 * @param {ReadableStream<Uint8Array>} body @returns {PieceReader}
 */
function documentReader(body) {
  const reader = body.getReader({ mode: "byob" });
  return {
    async read() {
      const { value, done } = await reader.read(new Uint8Array(DOCUMENT_PIECE_BYTES));
      if (done) return { done, value: undefined };
      return { done, value: value.length < DOCUMENT_PIECE_BYTES / 2 ? value.slice() : value };
    },
  };
}

/** Aborts a call. @param {number} token */
export function abortCall(token) {
  calls.get(token)?.controller.abort();
  calls.delete(token);
}

/** Its response was read to its end. @param {number} token */
export function forgetCall(token) {
  calls.delete(token);
}

// How a call began; `relay.rs` has the same numbers.
const ANSWERED = 0;
const STREAMS = 1;
const REFUSED = 2;
const BROKEN = 3;

/**
 * Calls a model. `body` is its parts, or the readable end of an upload. A response with status 200 is read by
 * `nextOfCall`, unless it is small and not a stream of events.
 * @param {number} token @param {string | undefined} binding @param {string} url @param {string} headers
 * @param {(Uint8Array | string)[] | ReadableStream} body
 */
export function callModel(token, binding, url, headers, body) {
  /** @type {Call} */
  const call = { controller: new AbortController(), reader: undefined };
  calls.set(token, call);
  watch(token, begun(call, binding, url, headers, body));
}

/**
 * Never rejects.
 * @param {Call} call @param {string | undefined} binding @param {string} url @param {string} headers
 * @param {(Uint8Array | string)[] | ReadableStream} body
 */
async function begun(call, binding, url, headers, body) {
  const answer = {
    kind: ANSWERED,
    status: 0,
    media: "",
    retryAfter: "",
    retryAfterMs: "",
    shouldRetry: "",
    requestId: "",
    body: /** @type {Uint8Array} */ (EMPTY),
    detail: "",
  };
  try {
    const response = await reached(binding).fetch(url, {
      method: "POST",
      headers: headersOf(headers),
      body: Array.isArray(body) ? bodyOf(body) : body,
      redirect: "manual",
      signal: call.controller.signal,
    });
    const header = (/** @type {string} */ name) => response.headers.get(name) ?? "";
    answer.status = response.status;
    answer.media = header("content-type");
    answer.requestId = header("x-request-id") || header("request-id");
    if (answer.status !== 200) {
      answer.retryAfter = header("retry-after");
      answer.retryAfterMs = header("retry-after-ms");
      answer.shouldRetry = header("x-should-retry");
      answer.body = (await beginning(response)) ?? EMPTY;
      return answer;
    }
    const length = response.headers.get("content-length");
    const isSmall = length !== null && Number(length) <= WHOLE_BYTES && !response.headers.has("content-encoding");
    const isStream = /^text\/event-stream/i.test(answer.media);
    if (isSmall && !isStream) {
      answer.body = new Uint8Array(await response.arrayBuffer());
      return answer;
    }
    if (response.body) {
      answer.kind = STREAMS;
      call.reader = isStream ? response.body.getReader() : documentReader(response.body);
    }
  } catch (error) {
    const { name, message } = /** @type {Error} */ (error);
    answer.detail = `${name}: ${message}`.replaceAll(url, url.split("?", 1)[0] ?? "");
    const never = answer.status === 0 && /refused|DNS|resolve|unreachable/i.test(message);
    answer.kind = never ? REFUSED : BROKEN;
  }
  return answer;
}

/** @param {Response} response */
async function beginning(response) {
  try {
    return await read(response, ERROR_BYTES);
  } catch {
    return undefined;
  }
}

/**
 * A response that the gateway makes itself: these texts, with pauses.
 * @param {number} token @param {string[]} texts @param {number} milliseconds
 */
export function madeCall(token, texts, milliseconds) {
  const controller = new AbortController();
  const { signal } = controller;
  let at = 0;
  const stream = new ReadableStream({
    async pull(to) {
      if (at > 0) await scheduler.wait(milliseconds, { signal });
      signal.throwIfAborted();
      if (at < texts.length) to.enqueue(encoder.encode(texts[at++]));
      else to.close();
    },
  });
  calls.set(token, { controller, reader: stream.getReader() });
}

/** The next piece of a response; undefined at its end. @param {number} token @param {number} call */
export function nextOfCall(token, call) {
  const reader = calls.get(call)?.reader;
  watch(token, reader ? reader.read().then(({ value, done }) => (done ? undefined : value)) : Promise.resolve());
}

/** A response of these pieces. @param {number} status @param {string} headers @param {Uint8Array[]} pieces */
export function wholeResponse(status, headers, pieces) {
  return new Response(whole(pieces), { status, headers: headersOf(headers) });
}

// How a relayed response ended; `relay/observer.rs` has the same numbers.
const DONE = 0;
const BROKE = 1;
const IDLE = 2;
const OVERDUE = 3;
const GONE = 4;
const TOO_LONG = 5;

/** How long a provider may take to end its response behind the end marker, in milliseconds. */
const TAIL_MS = 1_000;
/** How long the client has to read the end, even after the deadline, in milliseconds. */
const FINISH_MS = 10_000;

/**
 * @typedef {{ idleMs: number, until: number, pingMs: number, ping: string, drainMs: number,
 *   client: AbortSignal | undefined }} Rules
 */

/**
 * Passes the rest of a response on to the client as it comes, behind the pieces that are there already. The token is
 * resumed with how it ended.
 * @param {number} token @param {number} call @param {number} observer @param {Uint8Array[]} first
 * @param {number} status @param {string} headers @param {Rules} rules
 */
export function relay(token, call, observer, first, status, headers, rules) {
  const { readable, writable } = new IdentityTransformStream();
  const relayed = new Relay(call, observer, writable.getWriter(), rules);
  watch(token, relayed.run(first));
  return new Response(readable, { status, headers: headersOf(headers) });
}

class Relay {
  /**
   * @param {number} token @param {number} observer @param {WritableStreamDefaultWriter<Uint8Array>} writer
   * @param {Rules} rules
   */
  constructor(token, observer, writer, rules) {
    this.token = token;
    // Not by its token: another instance may give that to another call.
    this.call = calls.get(token) ?? { controller: new AbortController(), reader: undefined };
    this.observer = observer;
    this.writer = writer;
    this.rules = rules;
    this.startedIn = generation;
    /** Pieces that are not passed on yet. @type {Uint8Array[]} */
    this.held = [];
    this.heldBytes = 0;
    /** Why it ends, once that is known. @type {number | undefined} */
    this.end = undefined;
    /** The end marker has come. */
    this.isMarked = false;
    this.cameAt = Date.now();
    this.wroteAt = this.cameAt;
    /** End the writes that wait for the client. @type {Set<() => void>} */
    this.pending = new Set();
    /** The client is there. */
    this.reads = true;
    /** The client has left, and the rest is read for its usage only. */
    this.drains = false;
    rules.client?.addEventListener("abort", () => this.left());
    writer.closed.catch(() => this.left());
  }

  /** @param {Uint8Array[]} first */
  async run(first) {
    const timer = setInterval(() => this.tick(), Math.min(5_000, this.rules.idleMs / 2, this.rules.pingMs / 3));
    try {
      if (this.rules.client?.aborted) this.left();
      for (const piece of first) if (this.end === undefined) await this.pass(piece);
      await this.pump();
    } catch (error) {
      this.end ??= BROKE;
      this.report(error);
    }
    const tail = this.tail();
    try {
      await this.finish();
    } catch (error) {
      this.breakOff();
      this.report(error);
    }
    await tail;
    clearInterval(timer);
    if (calls.get(this.token) === this.call) calls.delete(this.token);
    return this.end;
  }

  async pump() {
    const { reader } = this.call;
    let unyielded = 0;
    while (reader && this.end === undefined) {
      const { value, done } = await reader.read();
      if (done) break;
      await this.pass(value);
      // While a write waited for the client, nothing could come.
      this.cameAt = Date.now();
      unyielded += value.length;
      if (unyielded > TURN_BYTES) {
        unyielded = 0;
        await scheduler.wait(0);
      }
    }
    this.end ??= DONE;
  }

  /** @param {Uint8Array} piece */
  async pass(piece) {
    if (this.startedIn !== generation) throw new Error("the instance has died");
    const [next, text, places] = observe(this.observer, piece) ?? [CONTINUES, undefined, undefined];
    // What comes behind these does not count.
    if (next === ENDS) {
      this.isMarked = this.end === undefined;
      this.end ??= DONE;
    } else if (next === IS_TOO_LONG) this.stop(TOO_LONG);
    if (text !== undefined) return this.write(encoder.encode(text));
    if (places === undefined) return this.write(piece);
    const [rest = 0, ...ranges] = places;
    if (rest === 0) {
      this.held.push(piece);
      this.heldBytes += piece.length;
      return undefined;
    }
    const bytes = joined([...this.held, piece], this.heldBytes + piece.length);
    this.hold(bytes.subarray(rest));
    for (let at = 0; at + 1 < ranges.length; at += 2) await this.write(bytes.subarray(ranges[at], ranges[at + 1]));
    return undefined;
  }

  /** @param {Uint8Array} rest */
  hold(rest) {
    this.held = rest.length > 0 ? [rest] : [];
    this.heldBytes = rest.length;
  }

  /** Returns when the client has read it, or is given up. @param {Uint8Array} bytes */
  async write(bytes) {
    if (!this.reads || bytes.length === 0) return;
    const { promise, resolve } = /** @type {PromiseWithResolvers<void>} */ (Promise.withResolvers());
    if (this.pending.size === 0) this.wroteAt = Date.now();
    this.pending.add(resolve);
    this.writer.write(bytes).then(resolve, () => this.left());
    await promise;
    this.pending.delete(resolve);
    this.wroteAt = Date.now();
  }

  left() {
    if (!this.reads) return;
    this.noReader();
    if (this.end !== undefined) return;
    if (this.startedIn === generation && mayDrain(this.observer)) {
      this.drains = true;
      this.rules.until = Math.min(this.rules.until, Date.now() + this.rules.drainMs);
    } else this.stop(GONE);
  }

  noReader() {
    this.reads = false;
    for (const release of this.pending) release();
  }

  /** @param {number} why */
  stop(why) {
    this.end ??= why;
    this.call.controller.abort();
  }

  tick() {
    const now = Date.now();
    const { idleMs, until, ping, pingMs } = this.rules;
    if (this.startedIn !== generation) {
      this.breakOff();
      this.stop(BROKE);
    } else if (this.pending.size > 0) {
      // The client does not read.
      if (now - this.wroteAt >= idleMs || now >= until) {
        this.breakOff();
        this.stop(GONE);
      }
    } else if (this.end !== undefined) return;
    else if (now >= until) this.stop(OVERDUE);
    else if (now - this.cameAt >= idleMs) this.stop(IDLE);
    // What is held is written whole, so this comes between two events.
    else if (ping && now - this.wroteAt >= pingMs) this.write(encoder.encode(ping));
  }

  breakOff() {
    this.writer.abort(new Error("broken off")).catch(() => {});
    this.noReader();
  }

  /** Ends the call. Behind the end marker, the provider may end it, so that its connection can be used again. */
  async tail() {
    const { reader, controller } = this.call;
    if (!reader || !this.isMarked) return controller.abort();
    const timer = setTimeout(() => controller.abort(), TAIL_MS);
    try {
      while (!(await reader.read()).done);
    } catch {
      // What is behind the end marker does not count.
    }
    clearTimeout(timer);
    return controller.abort();
  }

  async finish() {
    if (this.startedIn !== generation) return this.breakOff();
    this.rules.until = Math.max(this.rules.until, Date.now() + FINISH_MS);
    const conclusion = conclude(this.observer, this.end ?? DONE);
    if (this.drains) this.end = GONE;
    if (conclusion === undefined) return this.breakOff();
    const [passesHeld, text] = conclusion;
    if (passesHeld) for (const piece of this.held) await this.write(piece);
    if (text) await this.write(encoder.encode(text));
    this.writer.close().catch(() => {});
    return undefined;
  }

  /** Rust that was trapped must be replaced: the entry guard hears of it. @param {unknown} error */
  report(error) {
    if (this.startedIn === generation && error instanceof WebAssembly.RuntimeError) Promise.reject(error);
  }
}

/**
 * A body that is sent while it comes.
 * @param {number} length
 */
export function openUpload(length) {
  const { readable, writable } = length > 0 ? new FixedLengthStream(length) : new IdentityTransformStream();
  return [readable, writable.getWriter()];
}

/** @param {number} token @param {WritableStreamDefaultWriter<Uint8Array>} writer @param {Uint8Array | string} part */
export function writeUpload(token, writer, part) {
  watch(token, writer.write(typeof part === "string" ? encoder.encode(part) : part));
}

/** @param {WritableStreamDefaultWriter<Uint8Array>} writer @param {boolean} isWhole */
export function closeUpload(writer, isWhole) {
  (isWhole ? writer.close() : writer.abort(new Error("refused"))).catch(() => {});
}

// @ts-check
// Responses that are written piece by piece, for `streams.rs`.
import { headersOf } from "./http.js";
import { onDeath, watch } from "./tasks.js";

/** @type {Map<number, { writer: WritableStreamDefaultWriter<Uint8Array>, queued: number, forget: () => void }>} */
const streams = new Map();
const encoder = new TextEncoder();

/**
 * A response whose body is written later; `resume` is called with the token when the reader is gone. Only a write
 * detects that: a silent response needs a comment from time to time.
 * @param {number} token @param {number} status @param {string} headers
 */
export function openStream(token, status, headers) {
  const { readable, writable } = new IdentityTransformStream();
  const writer = writable.getWriter();
  const breakOff = () => void writer.abort(new Error("broken off")).catch(() => {});
  streams.set(token, { writer, queued: 0, forget: onDeath(breakOff) });
  watch(
    token,
    writer.closed.catch(() => {}),
  );
  return new Response(readable, { status, headers: headersOf(headers) });
}

/** Returns the number of bytes that have not been read yet. @param {number} token @param {string} text */
export function writeStream(token, text) {
  const stream = streams.get(token);
  if (!stream) return 0;
  const bytes = encoder.encode(text);
  stream.queued += bytes.length;
  // `closed` reports a failed write.
  stream.writer.write(bytes).then(
    () => {
      stream.queued -= bytes.length;
    },
    () => {},
  );
  return stream.queued;
}

/** The number of bytes that have not been read yet. @param {number} token */
export function unreadOf(token) {
  return streams.get(token)?.queued ?? 0;
}

/**
 * Ends the body after everything written; `whole` is false if the response is incomplete.
 * @param {number} token @param {boolean} whole
 */
export function closeStream(token, whole) {
  const stream = streams.get(token);
  streams.delete(token);
  stream?.forget();
  (whole ? stream?.writer.close() : stream?.writer.abort(new Error("broken off")))?.catch(() => {});
}

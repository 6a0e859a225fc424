// @ts-check
// Requests to the Worker and its responses, for `http.rs`.
import { env } from "cloudflare:workers";
import { watch } from "./tasks.js";

/** `name\nvalue\n…` as an object, which the platform reads twice as fast as a list of pairs. @param {string} flat */
export function headersOf(flat) {
  const parts = flat.split("\n");
  /** @type {Record<string, string>} */
  const headers = {};
  for (let at = 0; at + 1 < parts.length; at += 2)
    headers[/** @type {string} */ (parts[at])] = /** @type {string} */ (parts[at + 1]);
  return headers;
}

/**
 * Method, URL, continent, peer, then the headers, one per line. Only Cloudflare states the continent, and only workerd
 * by itself the peer.
 * @param {Request} request
 */
export function describe(request) {
  const cf = /** @type {{continent?: string, clientIp?: string} | undefined} */ (request.cf);
  let text = `${request.method}\n${request.url}\n${cf?.continent ?? ""}\n${cf?.clientIp ?? ""}\n`;
  request.headers.forEach((value, name) => {
    text += `${name}\n${value}\n`;
  });
  return text;
}

/** No bytes. */
export const EMPTY = new Uint8Array();

/**
 * A stream's bytes, or undefined if there are more than `limit`.
 * @param {ReadableStream<Uint8Array>} stream @param {number} limit
 */
async function readAtMost(stream, limit) {
  const reader = stream.getReader();
  const chunks = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > limit) {
      // Not awaited: the sender may never stop.
      reader.cancel().catch(() => {});
      return undefined;
    }
    chunks.push(value);
  }
  return joined(chunks, length);
}

/** @param {Uint8Array[]} chunks @param {number} length @returns {Uint8Array} */
export function joined(chunks, length) {
  if (chunks.length === 1) return /** @type {Uint8Array} */ (chunks[0]);
  const whole = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

/** @param {Request | Response} message @param {number} limit @returns {Promise<Uint8Array | undefined>} */
export async function read(message, limit) {
  const declared = message.headers.get("content-length");
  if (declared !== null && !message.headers.has("content-encoding")) {
    if (Number(declared) > limit) {
      message.body?.cancel().catch(() => {});
      return undefined;
    }
    // Without `body`, the platform makes no stream of it.
    return new Uint8Array(await message.arrayBuffer());
  }
  return message.body === null ? EMPTY : readAtMost(message.body, limit);
}

/** @param {number} token @param {Request} request @param {number} limit */
export function readBody(token, request, limit) {
  watch(token, read(request, limit));
}

/**
 * Resolves when the client has left, as far as the platform notices it.
 * @param {number} token @param {Request} request
 */
export function whenLeft(token, request) {
  const { signal } = request;
  watch(token, new Promise((left) => (signal?.aborted ? left(true) : signal?.addEventListener("abort", left))));
}

/** @param {number} status @param {string} headers @param {string | undefined} body */
export function respond(status, headers, body) {
  return new Response(body ?? null, { status, headers: headersOf(headers) });
}

/**
 * A response with headers added. One that the platform made cannot be changed: it is copied.
 * @param {Response} response @param {string} headers
 */
export function addHeaders(response, headers) {
  const more = Object.entries(headersOf(headers));
  try {
    for (const [name, value] of more) response.headers.set(name, value);
    return response;
  } catch {
    const copy = new Response(response.body, response);
    for (const [name, value] of more) copy.headers.set(name, value);
    return copy;
  }
}

/** A file of the console. @param {number} token @param {Request} request */
export function asset(token, request) {
  watch(token, env.ASSETS.fetch(request));
}

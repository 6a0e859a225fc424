// @ts-check
// Calls of services, for `calls.rs`.
import { env } from "cloudflare:workers";
import { EMPTY, headersOf, joined, read } from "./http.js";
import { watch } from "./tasks.js";

/** The binding of addresses whose origin is allowed; `egress_address.rs` in the core has the same name. */
const PRIVATE = "PRIVATE";

/**
 * The target of a call: a bound Worker, private networks where the deployment has a binding to them, or the Internet.
 * @param {string | undefined} binding @returns {{ fetch: typeof fetch }}
 */
export function reached(binding) {
  if (binding === undefined) return globalThis;
  const target = /** @type {any} */ (env)[binding];
  return target === undefined && binding === PRIVATE ? globalThis : target;
}

/** Whether a network is called, not a bound Worker. @param {string | undefined} binding */
function isNetwork(binding) {
  return binding === undefined || binding === PRIVATE;
}

// How a call to a service ended; `calls.rs` has the same numbers.
const ANSWERED = 0;
const TOO_LARGE = 1;
const REFUSED = 2;
const BROKEN = 3;
const STREAMS = 4;

// How a response is read; `calls.rs` has the same numbers.
const READS_STREAMS = 1;
const READS_STATUS = 2;
/** In pieces, whatever the media type of a 200 is. */
const READS_PIECES = 3;
/** In pieces, unless the media type of a 200 is JSON. */
const READS_UNLESS_JSON = 4;

/** How much of a response that is not a result is read, in bytes and milliseconds. */
const BEGINNING = { bytes: 64 * 1024, milliseconds: 2_000 };

/**
 * The beginning of a body, as far as it arrives in time.
 * @param {ReadableStream<Uint8Array> | null} body @param {number} limit
 */
async function readBeginning(body, limit) {
  if (body === null) return EMPTY;
  const reader = body.getReader();
  const most = Math.min(limit, BEGINNING.bytes);
  /** @type {Uint8Array[]} */
  const chunks = [];
  let length = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const over = new Promise((resolve) => {
    timer = setTimeout(resolve, BEGINNING.milliseconds);
  });
  try {
    while (length < most) {
      const next = /** @type {ReadableStreamReadResult<Uint8Array> | undefined} */ (
        await Promise.race([reader.read(), over])
      );
      if (next === undefined || next.done) break;
      chunks.push(next.value);
      length += next.value.length;
    }
  } catch {
    /* The body is incomplete, but the status is known. */
  }
  clearTimeout(timer ?? null);
  reader.cancel().catch(() => {});
  return joined(chunks, length).subarray(0, most);
}

/**
 * Calls a service. `reading` selects how the response is read: with READS_STREAMS, Server-Sent Events are left to
 * `readPiece`.
 * @param {number} token @param {string | undefined} binding @param {string} method @param {string} url
 * @param {string} headers @param {string | undefined} body @param {number} limit @param {number} reading
 */
export function callService(token, binding, method, url, headers, body, limit, reading) {
  /** @type {Call} */
  const call = { controller: new AbortController(), reader: null };
  calls.set(token, call);
  watch(
    token,
    called(call, binding, method, url, headers, body, limit, reading).finally(() => {
      if (!call.reader) calls.delete(token);
    }),
  );
}

/** @typedef {{ controller: AbortController, reader: ReadableStreamDefaultReader<Uint8Array> | null }} Call */
/** Calls under way. @type {Map<number, Call>} */
const calls = new Map();

/** Aborts a call that is no longer needed. @param {number} token */
export function abort(token) {
  calls.get(token)?.controller.abort();
  calls.delete(token);
}

/** The next bytes of a streaming response; undefined at its end. @param {number} token @param {number} call */
export function readPiece(token, call) {
  const reader = calls.get(call)?.reader;
  watch(token, reader ? reader.read().then(({ value }) => value) : Promise.resolve());
}

/**
 * Never rejects.
 * @param {Call} call @param {string | undefined} binding @param {string} method @param {string} url
 * @param {string} headers @param {string | undefined} body @param {number} limit @param {number} reading
 */
async function called(call, binding, method, url, headers, body, limit, reading) {
  /** @typedef {{ retryAfter: string, retryAfterMs: string, location: string, session: string }} HeaderValues */
  /** @type {{ kind: number, status: number, media: string, body: Uint8Array, detail: string } & HeaderValues} */
  const answer = {
    kind: ANSWERED,
    status: 0,
    media: "",
    retryAfter: "",
    retryAfterMs: "",
    location: "",
    session: "",
    body: EMPTY,
    detail: "",
  };
  try {
    const response = await reached(binding).fetch(url, {
      method,
      headers: headersOf(headers),
      body: body ?? null,
      redirect: "manual",
      signal: call.controller.signal,
    });
    const type = response.headers.get("content-type") ?? "";
    answer.status = response.status;
    answer.media = type;
    if (answer.status !== 200) {
      answer.retryAfter = response.headers.get("retry-after") ?? "";
      answer.retryAfterMs = response.headers.get("retry-after-ms") ?? "";
    }
    if (answer.status === 202) answer.location = response.headers.get("location") ?? "";
    if (reading === READS_STREAMS) answer.session = response.headers.get("mcp-session-id") ?? "";
    const streams =
      reading === READS_PIECES ||
      (reading === READS_UNLESS_JSON && !/^[^;,]*[/+]json\s*(?:[;,]|$)/i.test(type)) ||
      (reading === READS_STREAMS && /^text\/event-stream\s*(?:;|$)/i.test(type));
    if (streams && answer.status === 200 && response.body) {
      answer.kind = STREAMS;
      call.reader = response.body.getReader();
      return answer;
    }
    if (reading === READS_STATUS) {
      response.body?.cancel().catch(() => {});
      return answer;
    }
    const bytes = answer.status === 200 ? await read(response, limit) : await readBeginning(response.body, limit);
    if (bytes === undefined) answer.kind = TOO_LARGE;
    else answer.body = bytes;
  } catch (error) {
    const { name, message } = /** @type {Error} */ (error);
    // An address may have credentials in its query, and the platform's message about it is logged.
    answer.detail = `${name}: ${message}`.replaceAll(url, url.split("?", 1)[0] ?? "");
    // Only before the response began, and only if the platform says so: otherwise the service may have acted. Errors
    // thrown by a bound Worker are its own.
    answer.kind =
      isNetwork(binding) && answer.status === 0 && /refused|DNS|resolve|unreachable/i.test(message) ? REFUSED : BROKEN;
  }
  return answer;
}

/**
 * Checks whether a service responds, without reading the body: returns the status, 0 if it cannot be reached, -1 if
 * there is no response in time. Redirects are not followed.
 * @param {number} token @param {string | undefined} binding @param {string} url
 * @param {string} headers @param {number} milliseconds
 */
export function probe(token, binding, url, headers, milliseconds) {
  const signal = AbortSignal.timeout(milliseconds);
  watch(
    token,
    reached(binding)
      .fetch(url, { headers: headersOf(headers), redirect: "manual", signal })
      .then(
        (response) => {
          response.body?.cancel().catch(() => {});
          return response.status;
        },
        (/** @type {Error} */ error) => (error.name === "TimeoutError" ? -1 : 0),
      ),
  );
}

/**
 * Reads a small document: returns its bytes, its caching headers and the status; only a 200 has bytes. Redirects are
 * not followed; a document longer than `limit` has no bytes.
 * @param {number} token @param {string | undefined} binding @param {string} url
 * @param {number} milliseconds @param {number} limit
 */
export function readDocument(token, binding, url, milliseconds, limit) {
  const signal = AbortSignal.timeout(milliseconds);
  const init = /** @type {const} */ ({ headers: { accept: "application/json" }, redirect: "manual", signal });
  watch(
    token,
    reached(binding)
      .fetch(url, init)
      .then(async (response) => {
        if (response.status !== 200) {
          response.body?.cancel().catch(() => {});
          return [new Uint8Array(), "", response.status];
        }
        const bytes = await read(response, limit);
        return bytes && [bytes, response.headers.get("cache-control") ?? "", 200];
      }),
  );
}

/**
 * The same for a cached document: conditional on its entity tag. A stranger named its URL, so it is read only from the
 * Internet. Returns the status, the bytes (only of a 200 that is not too long), and the caching headers.
 * @param {number} token @param {string} url @param {number} milliseconds @param {number} limit
 * @param {string | undefined} etag
 */
export function readConditional(token, url, milliseconds, limit, etag) {
  const signal = AbortSignal.timeout(milliseconds);
  const headers = { accept: "application/json", ...(etag && { "if-none-match": etag }) };
  watch(
    token,
    fetch(url, { headers, redirect: "manual", signal }).then(async (response) => {
      if (response.status !== 200) response.body?.cancel().catch(() => {});
      const bytes = response.status === 200 ? await read(response, limit) : undefined;
      const said = ["cache-control", "age", "expires", "date", "etag"].map((name) => response.headers.get(name) ?? "");
      return [response.status, bytes, ...said];
    }),
  );
}

// @ts-check
// The thin boundary: one function for each platform operation of the hot path; only strings, numbers and bytes
// cross it. Its Rust sides are the files beside it. It makes no decisions.
import { env } from "cloudflare:workers";

/** The Worker's bindings. */
export function environment() {
  return env;
}

/** The service bindings to other Workers, without its own files. @param {Record<string, unknown>} bound */
export function serviceBindings(bound) {
  const isService = (/** @type {unknown} */ value) => Object.prototype.toString.call(value) === "[object Fetcher]";
  return Object.keys(bound).filter((name) => name !== "ASSETS" && isService(bound[name]));
}

/**
 * The target of a call: a bound Worker, or the Internet.
 * @param {string | undefined} binding @returns {{ fetch: typeof fetch }}
 */
function reached(binding) {
  return binding === undefined ? globalThis : /** @type {any} */ (env)[binding];
}

/** The Worker's secrets whose names begin with `prefix`: [name, value, …]. @param {string} prefix */
export function secretsNamed(prefix) {
  return Object.entries(env).flatMap(([name, value]) =>
    name.startsWith(prefix) && typeof value === "string" ? [name, value] : [],
  );
}

export function hasDataset() {
  return env.USAGE !== undefined;
}

/** @param {string} points */
export function writePoints(points) {
  for (const point of JSON.parse(points)) env.USAGE?.writeDataPoint(point);
}

/** An object's namespace. @typedef {0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8} Kind */
/** @template T @typedef {[T, T, T, T, T, T, T, T, T]} ByKind */

/** @type {["REGISTRY", "CONTEXTS", "EVENTS", "LANES", "GRANTS", "LIMITS", "SCHEDULES", "SHARDS", "SESSIONS"]} */
const NAMESPACES = ["REGISTRY", "CONTEXTS", "EVENTS", "LANES", "GRANTS", "LIMITS", "SCHEDULES", "SHARDS", "SESSIONS"];

/** Object ids by namespace and name; creating one costs a hash. */
const ids = /** @type {ByKind<Map<string, DurableObjectId>>} */ (NAMESPACES.map(() => new Map()));
const MAX_IDS = 4096;

/** The costs of this isolate's objects so far, by namespace. */
/** @typedef {{ requests: number, rowsWritten: number, rowsRead: number, alarmsSet: number }} Costs */
const costs = /** @type {ByKind<Costs>} */ (
  NAMESPACES.map(() => ({ requests: 0, rowsWritten: 0, rowsRead: 0, alarmsSet: 0 }))
);

export function costsText() {
  const [registry, store, hub, lane, , limiter] = costs;
  const of = (/** @type {"requests" | "rowsWritten" | "rowsRead"} */ what) => ({
    store: store[what],
    hub: hub[what],
    lane: lane[what],
    registry: registry[what],
    limiter: limiter[what],
  });
  return JSON.stringify({
    rows_written: of("rowsWritten"),
    rows_read: of("rowsRead"),
    object_requests: of("requests"),
    alarms_set: costs.reduce((sum, cost) => sum + cost.alarmsSet, 0),
  });
}

// Asynchronous operations are started with a token; `resume` is called with it and the outcome.

/** @type {(token: number, ok: boolean, value: unknown) => void} */
let resume;
/** Tokens of an instance that died are invalid in the next one. */
let generation = 0;

/** @param {(token: number, ok: boolean, value: unknown) => void} callback */
export function install(callback) {
  resume = callback;
  generation += 1;
  // The new instance numbers its families from the beginning.
  asked.clear();
}

/** @param {number} token @param {PromiseLike<unknown>} promise */
export function watch(token, promise) {
  const startedIn = generation;
  promise.then(
    (value) => {
      if (startedIn === generation) resume(token, true, value);
    },
    (error) => {
      if (startedIn === generation) resume(token, false, error);
    },
  );
}

/**
 * Promises of Rust that are pending.
 * @type {Map<number, { resolve: (value: any) => void, reject: (error: any) => void }>}
 */
let promises = new Map();

/** @param {number} token */
export function promised(token) {
  return new Promise((resolve, reject) => promises.set(token, { resolve, reject }));
}

/** @param {number} token @param {boolean} ok @param {unknown} value */
export function settle(token, ok, value) {
  const promise = promises.get(token);
  promises.delete(token);
  if (ok) promise?.resolve(value);
  else promise?.reject(value);
}

// For the entry guard: rejects the promises of an instance that died, and delivers no more outcomes to it.
globalThis.__narthex_abandon = (error) => {
  generation += 1;
  const broken = promises;
  promises = new Map();
  for (const { reject } of broken.values()) reject(error);
};

/**
 * One timer for a family of tasks; `resume` is called with its token.
 * @param {number} token @param {number} milliseconds
 */
export function tick(token, milliseconds) {
  const startedIn = generation;
  return setTimeout(() => {
    if (startedIn === generation) resume(token, true, undefined);
  }, milliseconds);
}

/** @param {number} timer */
export function stopTick(timer) {
  clearTimeout(timer);
}

/**
 * The last stub that a family of tasks used. Most call one object twice, and creating a stub costs a third of a call; a
 * stub belongs to the request that created it, as a family does.
 * @type {Map<number, { kind: Kind, name: string, stub: any }>}
 */
const asked = new Map();

/** A family has ended. @param {number} family */
export function leave(family) {
  asked.delete(family);
}

/** @param {Kind} kind @param {string} name @param {DurableObjectLocationHint | ""} hint */
function stub(kind, name, hint) {
  const namespace = env[NAMESPACES[kind]];
  let id = ids[kind].get(name);
  if (id === undefined) {
    if (ids[kind].size >= MAX_IDS) ids[kind].clear();
    id = namespace.idFromName(name);
    ids[kind].set(name, id);
  }
  return hint ? namespace.get(id, { locationHint: hint }) : namespace.get(id);
}

/**
 * Calls an object; the outcome is its reply.
 * @param {number} token @param {number} family @param {Kind} kind @param {string} name
 * @param {DurableObjectLocationHint | ""} hint @param {string} message
 */
export function ask(token, family, kind, name, hint, message) {
  costs[kind].requests += 1;
  const startedIn = generation;
  let last = asked.get(family);
  if (last?.kind !== kind || last.name !== name)
    asked.set(family, (last = { kind, name, stub: stub(kind, name, hint) }));
  last.stub.call(message).then(
    (/** @type {string} */ reply) => {
      if (startedIn === generation) resume(token, true, reply);
    },
    (/** @type {unknown} */ error) => {
      // A stub may be broken after a failure.
      asked.delete(family);
      if (startedIn === generation) resume(token, false, error);
    },
  );
}

/**
 * Passes a WebSocket upgrade to an object; returns its response, or as text the place where it must be opened instead.
 * @param {number} token @param {Kind} kind @param {string} name @param {string} message
 */
export function connect(token, kind, name, message) {
  costs[kind].requests += 1;
  const url = `https://object/?${encodeURIComponent(message)}`;
  const opened = stub(kind, name, "").fetch(url, { headers: { Upgrade: "websocket" } });
  watch(
    token,
    opened.then((/** @type {Response} */ response) => response.headers.get("x-elsewhere") ?? response),
  );
}

/** `name\nvalue\n…` as an object, which the platform reads twice as fast as a list of pairs. @param {string} flat */
function headersOf(flat) {
  const parts = flat.split("\n");
  /** @type {Record<string, string>} */
  const headers = {};
  for (let at = 0; at + 1 < parts.length; at += 2)
    headers[/** @type {string} */ (parts[at])] = /** @type {string} */ (parts[at + 1]);
  return headers;
}

/** Method, URL, continent, then the headers, one per line. @param {Request} request */
export function describe(request) {
  const continent = /** @type {{continent?: string} | undefined} */ (request.cf)?.continent ?? "";
  let text = `${request.method}\n${request.url}\n${continent}\n`;
  request.headers.forEach((value, name) => {
    text += `${name}\n${value}\n`;
  });
  return text;
}

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
function joined(chunks, length) {
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
async function read(message, limit) {
  if (message.body === null) return new Uint8Array();
  const declared = message.headers.get("content-length");
  if (declared !== null && !message.headers.has("content-encoding")) {
    if (Number(declared) > limit) {
      message.body.cancel().catch(() => {});
      return undefined;
    }
    return new Uint8Array(await message.arrayBuffer());
  }
  return readAtMost(message.body, limit);
}

/** @param {number} token @param {Request} request @param {number} limit */
export function readBody(token, request, limit) {
  watch(token, read(request, limit));
}

/** @param {number} status @param {string} headers @param {string | undefined} body */
export function respond(status, headers, body) {
  return new Response(body ?? null, { status, headers: headersOf(headers) });
}

/** A response created elsewhere, with headers added. @param {Response} response @param {string} headers */
export function addHeaders(response, headers) {
  const copy = new Response(response.body, response);
  for (const [name, value] of Object.entries(headersOf(headers))) copy.headers.set(name, value);
  return copy;
}

// Responses that are written piece by piece.

/** @type {Map<number, { writer: WritableStreamDefaultWriter<Uint8Array>, queued: number }>} */
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
  streams.set(token, { writer, queued: 0 });
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
  (whole ? stream?.writer.close() : stream?.writer.abort(new Error("broken off")))?.catch(() => {});
}

/** A file of the console. @param {number} token @param {Request} request */
export function asset(token, request) {
  watch(token, env.ASSETS.fetch(request));
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
  if (body === null) return new Uint8Array();
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
    body: new Uint8Array(),
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
      binding === undefined && answer.status === 0 && /refused|DNS|resolve|unreachable/i.test(message)
        ? REFUSED
        : BROKEN;
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
 * @param {number} token @param {string} url @param {number} milliseconds @param {number} limit
 */
export function readDocument(token, url, milliseconds, limit) {
  const signal = AbortSignal.timeout(milliseconds);
  const init = /** @type {const} */ ({ headers: { accept: "application/json" }, redirect: "manual", signal });
  watch(
    token,
    fetch(url, init).then(async (response) => {
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
 * The same for a cached document: conditional on its entity tag. Returns the status, the bytes (only of a 200 that is
 * not too long), and the caching headers.
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

/** Lets work continue after its event. @param {ExecutionContext} context @param {Promise<unknown>} promise */
export function waitUntil(context, promise) {
  context.waitUntil(promise);
}

/**
 * Runs one statement. Integers come back as numbers, so a column beyond 2^53 must be TEXT.
 * @param {DurableObjectStorage} storage @param {Kind} kind @param {string} statement @param {any[]} parameters
 */
export function sql(storage, kind, statement, parameters) {
  const cursor = storage.sql.exec(statement, ...parameters);
  const rows = /** @type {ArrayIterator<SqlStorageValue[]>} */ (cursor.raw()).toArray();
  costs[kind].rowsWritten += cursor.rowsWritten;
  costs[kind].rowsRead += cursor.rowsRead;
  return rows;
}

/**
 * As `sql`, for statements that return no rows.
 * @param {DurableObjectStorage} storage @param {Kind} kind @param {string} statement @param {any[]} parameters
 */
export function run(storage, kind, statement, parameters) {
  const cursor = storage.sql.exec(statement, ...parameters);
  costs[kind].rowsWritten += cursor.rowsWritten;
}

/**
 * A transaction: `work` returns whether to commit.
 * @param {DurableObjectStorage} storage @param {() => boolean} work
 */
export function transaction(storage, work) {
  storage.transactionSync(() => {
    if (!work()) throw new Error("rolled back");
  });
}

/** @param {DurableObjectStorage} storage @param {Kind} kind @param {number} time */
export function setAlarm(storage, kind, time) {
  costs[kind].alarmsSet += 1;
  // The output gate holds back every response until this is on disk; a failure resets the object.
  storage.setAlarm(time).catch(() => {});
}

/** @param {DurableObjectStorage} storage */
export function deleteAlarm(storage) {
  storage.deleteAlarm().catch(() => {});
}

/** Sends a wake-up message for background work. @param {number} token @param {string} message */
export function enqueueWakeup(token, message) {
  watch(token, env.WORK.send(message, { contentType: "text" }));
}

/** Sends a wake-up message for webhook deliveries. @param {number} token @param {string} message */
export function enqueueWebhookWakeup(token, message) {
  watch(token, env.WEBHOOKS.send(message, { contentType: "text" }));
}

/** Sends a wake-up message for schedules. @param {number} token @param {string} message */
export function enqueueScheduleWakeup(token, message) {
  watch(token, env.RUNS.send(message, { contentType: "text" }));
}

/**
 * Formatters that know a zone's offset; creating one costs more than using it.
 * @type {Map<string, Intl.DateTimeFormat>}
 */
const zones = new Map();
const MAX_ZONES = 64;

/** Seconds a zone is ahead of UTC at a time; NaN for an unknown zone. @param {string} zone @param {number} time */
export function zoneOffset(zone, time) {
  let format = zones.get(zone);
  if (!format) {
    try {
      format = new Intl.DateTimeFormat("en-US", { timeZone: zone, timeZoneName: "longOffset" });
    } catch {
      return NaN;
    }
    if (zones.size >= MAX_ZONES) zones.clear();
    zones.set(zone, format);
  }
  const name = format.formatToParts(time).find(({ type }) => type === "timeZoneName")?.value ?? "";
  const [, sign, hours = "0", minutes = "0", seconds = "0"] =
    /^GMT(?:([+-])(\d\d):(\d\d)(?::(\d\d))?)?$/.exec(name) ?? [];
  return (sign === "-" ? -1 : 1) * (Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds));
}

// Hibernating sockets of an object, by a number that is valid as long as this instance.

/**
 * @typedef {{ next: number, sockets: Map<number, WebSocket>, slots: WeakMap<WebSocket, number> }} Slots
 * @type {WeakMap<DurableObjectState, Slots>}
 */
const held = new WeakMap();

/** @param {DurableObjectState} state @param {WebSocket} socket */
function hold(state, socket) {
  const table = held.get(state);
  if (!table) return 0;
  const slot = table.next++;
  table.sockets.set(slot, socket);
  table.slots.set(socket, slot);
  return slot;
}

/** Resumes the sockets that outlived the instance. Returns [slot, attachment, …]. @param {DurableObjectState} state */
export function restoreSockets(state) {
  held.set(state, { next: 0, sockets: new Map(), slots: new WeakMap() });
  state.setWebSocketAutoResponse(new WebSocketRequestResponsePair("ping", "pong"));
  const list = [];
  for (const socket of state.getWebSockets()) list.push(hold(state, socket), socket.deserializeAttachment() ?? "");
  return list;
}

/**
 * Opens a socket; returns [response, slot].
 * @param {DurableObjectState} state @param {string} attachment @param {string} headers
 */
export function acceptSocket(state, attachment, headers) {
  const { 0: client, 1: server } = new WebSocketPair();
  state.acceptWebSocket(server);
  server.serializeAttachment(attachment);
  return [new Response(null, { status: 101, webSocket: client, headers: headersOf(headers) }), hold(state, server)];
}

/** @param {DurableObjectState} state @param {WebSocket} socket */
export function slotOf(state, socket) {
  return held.get(state)?.slots.get(socket) ?? -1;
}

/** When a socket's ping was last answered; 0: never. @param {DurableObjectState} state @param {number} slot */
export function pingedAt(state, slot) {
  const socket = held.get(state)?.sockets.get(slot);
  return (socket && state.getWebSocketAutoResponseTimestamp(socket)?.getTime()) ?? 0;
}

// The Worker's end of an object's socket.

/**
 * The received text, and the token of the waiting task; 0: none.
 * @typedef {{ socket: WebSocket, text: string, ended: boolean, waiting: number }} ClientSocket
 */

/** @param {Response} response */
export function takeSocket(response) {
  const socket = /** @type {WebSocket} */ (response.webSocket);
  /** @type {ClientSocket} */
  const end = { socket, text: "", ended: false, waiting: 0 };
  const startedIn = generation;
  const came = () => {
    const token = end.waiting;
    end.waiting = 0;
    if (token !== 0 && startedIn === generation) give(token, end);
  };
  socket.addEventListener("message", ({ data }) => {
    // Everything it sends is relevant, except responses to pings.
    if (data !== "pong") end.text += data;
    if (end.text !== "") came();
  });
  const ended = () => {
    end.ended = true;
    came();
  };
  socket.addEventListener("close", ended);
  socket.addEventListener("error", ended);
  socket.accept();
  return end;
}

/** @param {number} token @param {ClientSocket} end */
function give(token, end) {
  const { text } = end;
  end.text = "";
  resume(token, true, text === "" ? undefined : text);
}

/** The received text, or undefined at the end. @param {number} token @param {ClientSocket} end */
export function nextText(token, end) {
  if (end.text === "" && !end.ended) end.waiting = token;
  else
    watch(
      token,
      Promise.resolve().then(() => {
        const { text } = end;
        end.text = "";
        return text === "" ? undefined : text;
      }),
    );
}

/** @param {ClientSocket} end */
export function pingSocket({ socket }) {
  try {
    socket.send("ping");
  } catch {
    /* It closed in the meantime. */
  }
}

/** @param {ClientSocket} end */
export function dropSocket({ socket }) {
  try {
    socket.close(1000);
  } catch {
    /* It closed in the meantime. */
  }
}

/**
 * Remembers a socket's attachment over hibernation.
 * @param {DurableObjectState} state @param {number} slot @param {string} attachment
 */
export function attach(state, slot, attachment) {
  held.get(state)?.sockets.get(slot)?.serializeAttachment(attachment);
}

/**
 * Sends one text to many sockets in one crossing. A socket that is gone is left to its close event.
 * @param {DurableObjectState} state @param {Uint32Array} slots @param {string} text
 */
export function send(state, slots, text) {
  const sockets = held.get(state)?.sockets;
  if (!sockets) return;
  for (const slot of slots) {
    try {
      sockets.get(slot)?.send(text);
    } catch {
      sockets.delete(slot);
    }
  }
}

/** @param {DurableObjectState} state @param {number} slot @param {number} code @param {string} reason */
export function closeSocket(state, slot, code, reason) {
  const table = held.get(state);
  const socket = table?.sockets.get(slot);
  table?.sockets.delete(slot);
  try {
    // A new instance finds it among the others, and must not mistake it for an open one.
    socket?.serializeAttachment("");
    socket?.close(code, reason);
  } catch {
    // It closed in the meantime.
  }
}

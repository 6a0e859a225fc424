// @ts-check
// The only responses that do not come from Rust: to a request that died with its instance, and while the gateway stops.

/**
 * What happened, as a problem says it, and after how many seconds a client may try again.
 * @typedef {{ status: number, code: string, title: string, detail: string, retryAfter?: number }} Failure
 */

/** @type {Failure} */
const DIED = {
  status: 500,
  code: "internal",
  title: "The gateway failed",
  detail: "The request was not served. Try again. If it persists, send the request id to the gateway's operator.",
};
/** @type {Failure} */
export const STORAGE_FULL = {
  status: 503,
  code: "storage_full",
  title: "The storage is full",
  detail: "The gateway could not store what the request needs. It serves again by itself once its disk has room.",
  retryAfter: 10,
};
/** @type {Failure} */
export const STOPPING = {
  status: 503,
  code: "stopping",
  title: "The gateway is stopping",
  detail: "The gateway is being stopped, and takes no more requests. Try again once it serves again.",
  retryAfter: 5,
};

/**
 * The format in which a path refuses, as `format_of_path` in `crates/core/src/models/endpoint.rs` has it for the paths
 * that are served.
 * @param {string} path @param {Headers} headers
 */
export function formatOf(path, headers) {
  const name = /^(?:\/v1){1,2}\/(chat\/completions|responses|embeddings|messages|models)(?:\/|$)/.exec(path)?.[1];
  if (name === undefined) return undefined;
  return name === "messages" || (name === "models" && headers.has("anthropic-version")) ? "Anthropic" : "OpenAI";
}

/** @param {Request} request @param {string} id @param {Failure} [problem] */
export function failure(request, id, { status, code, title, detail, retryAfter } = DIED) {
  const path = new URL(request.url).pathname;
  const format = formatOf(path, request.headers);
  const headers = new Headers({ "content-type": "application/json", "cache-control": "no-store", "x-request-id": id });
  if (retryAfter !== undefined) headers.set("retry-after", String(retryAfter));
  /** @type {unknown} */
  let body = { error: { message: detail, type: "server_error", param: null, code } };
  if (format === "Anthropic") {
    headers.set("request-id", id);
    body = { type: "error", error: { type: "api_error", message: detail }, request_id: id };
  } else if (format === undefined) {
    headers.set("content-type", "application/problem+json");
    body = { type: `urn:narthex:problem:${code}`, title, status, detail, instance: path, code, request_id: id };
  }
  return new Response(JSON.stringify(body), { status, headers });
}

// @ts-check
// The only response that does not come from Rust: that to a request which died with its instance.

const DETAIL = "The request was not served. Try again. If it persists, send the request id to the gateway's operator.";

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

/** @param {Request} request @param {string} id */
export function failure(request, id) {
  const path = new URL(request.url).pathname;
  const format = formatOf(path, request.headers);
  const headers = new Headers({ "content-type": "application/json", "cache-control": "no-store", "x-request-id": id });
  /** @type {unknown} */
  let body = { error: { message: DETAIL, type: "server_error", param: null, code: "internal" } };
  if (format === "Anthropic") {
    headers.set("request-id", id);
    body = { type: "error", error: { type: "api_error", message: DETAIL }, request_id: id };
  } else if (format === undefined) {
    headers.set("content-type", "application/problem+json");
    const type = "urn:narthex:problem:internal";
    const title = "The gateway failed";
    body = { type, title, status: 500, detail: DETAIL, instance: path, code: "internal", request_id: id };
  }
  return new Response(JSON.stringify(body), { status: 500, headers });
}

// The setup of most tests (a registered service, a key, a context) and common assertions (a refusal, a final state).
import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import { formatOf } from "./contract.ts";
import type { Answer, Client, RequestOptions } from "./client.ts";
import { PATIENCE_MS } from "./patience.ts";
import { type Handler, slow } from "./service.ts";

/** The final states. */
export const finalStates = ["completed", "failed", "cancelled", "timed_out"];

/** A capability for tests: retried at once, without a backoff. */
export type Capability = { name?: string } & Record<string, unknown>;

/** The document of a service at this address with these capabilities; `work` where none has a name. */
export function serviceAt(url: string, capabilities: Capability[] = [{}], more: Record<string, unknown> = {}) {
  return {
    name: "A service of the tests",
    type: "tool",
    transport: { kind: "http", url },
    capabilities: capabilities.map((capability) => ({ name: "work", ...capability })),
    retry: { max_attempts: 3, base_ms: 1, cap_ms: 10 },
    ...more,
  };
}

/** Registers a new service; returns the response's body. */
export async function register(gateway: Client, id: string, document: object): Promise<any> {
  const answer = await gateway.request("PUT", `/v1/services/${id}`, { body: document });
  assert.equal(answer.status, 201, answer.text);
  return answer.json;
}

/**
 * Creates a key; returns its id and its secret. The role `bare` grants nothing by itself and is created when needed.
 */
export async function makeKey(
  gateway: Client,
  role: string,
  permissions: string[] = [],
): Promise<{ id: string; secret: string }> {
  if (role === "bare") {
    const made = await gateway.request("PUT", "/v1/roles/bare", {
      body: { permissions: [] },
      headers: { "if-none-match": "*" },
    });
    assert.ok([201, 412].includes(made.status), made.text);
  }
  const answer = await gateway.request("POST", "/v1/keys", { body: { name: `a ${role}`, role, permissions } });
  assert.equal(answer.status, 201, answer.text);
  return answer.json;
}

/** Creates a context of `work`, or of the capability in `body`. */
export function create(gateway: Client, body: object = {}, options: RequestOptions = {}): Promise<Answer> {
  return gateway.request("POST", "/v1/contexts", { ...options, body: { capability: "work", ...body } });
}

/** Creates a context without waiting for it; returns the accepted context. */
export async function accepted(gateway: Client, body: object = {}, options: RequestOptions = {}): Promise<any> {
  const headers = { prefer: "respond-async", ...options.headers };
  const answer = await create(gateway, body, { ...options, headers });
  assert.equal(answer.status, 202, answer.text);
  return answer.json;
}

/** The context once it has ended. */
export async function ended(gateway: Client, id: string, options: RequestOptions = {}): Promise<any> {
  const headers = { prefer: "wait=20", ...options.headers };
  for (const until = Date.now() + PATIENCE_MS; ;) {
    const answer = await gateway.request("GET", `/v1/contexts/${id}`, { ...options, headers });
    assert.equal(answer.status, 200, answer.text);
    if (finalStates.includes(answer.json.status)) return answer.json;
    assert.ok(Date.now() < until, `${id} is ${answer.json.status} after ${PATIENCE_MS} ms`);
  }
}

/** Polls until there is a result; returns it. */
export async function eventually<T>(look: () => T | Promise<T>): Promise<NonNullable<T>> {
  const until = Date.now() + PATIENCE_MS;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > until) assert.fail(`still nothing after ${PATIENCE_MS} ms: ${look}`);
    await pause(25);
  }
}

/** Waits until the worker of a running context has recorded that its service accepted the work with a 202. */
export const acceptanceRecorded = (gateway: Client, id: string): Promise<unknown> =>
  eventually(async () => {
    const { status, updated_at, history } = (await gateway.request("GET", `/v1/contexts/${id}`)).json;
    return status !== "executing" || updated_at > history.at(-1).at;
  });

/** Tries this up to three times, until it returns something: for what a busy machine may delay beyond its bound. */
export async function inThreeTries<T>(attempt: () => Promise<T>): Promise<NonNullable<T>> {
  for (let count = 0; count < 3; count++) {
    const seen = await attempt();
    if (seen) return seen;
  }
  assert.fail(`three times nothing: ${attempt}`);
}

/** Calls `act` with each number below `count`, 50 at a time: a busy machine may reset connections beyond that. */
export async function many<T>(count: number, act: (at: number) => Promise<T>): Promise<T[]> {
  const all: T[] = [];
  for (let from = 0; from < count; from += 50) {
    const some = Array.from({ length: Math.min(50, count - from) }, (_, at) => act(from + at));
    all.push(...(await Promise.all(some)));
  }
  return all;
}

/** Asserts that a response is a problem (RFC 9457) with this status and code; returns its body. */
export function refused(answer: Answer, status: number, code: string): any {
  const { json, headers } = answer;
  assert.equal(answer.status, status, answer.text);
  assert.equal(headers.get("content-type"), "application/problem+json", answer.text);
  assert.equal(json.code, code, answer.text);
  assert.equal(json.status, status);
  for (const member of ["type", "title", "detail", "instance"]) {
    assert.equal(typeof json[member], "string", `${member} in ${answer.text}`);
    assert.notEqual(json[member], "", member);
  }
  assert.ok(json.request_id, answer.text);
  assert.equal(headers.get("x-request-id"), json.request_id);
  return json;
}

/** The codes of problems that have another name in OpenAI's format. */
const openaiCodes: Record<string, string> = { unauthenticated: "invalid_api_key", rate_limited: "rate_limit_exceeded" };
/** The types of errors in Anthropic's format. */
const anthropicTypes: Record<number, string> = {
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  408: "timeout_error",
  413: "request_too_large",
  429: "rate_limit_error",
  500: "api_error",
  503: "overloaded_error",
};

/**
 * Asserts that a response is a refusal of the gateway in the format of its path, with the code of a problem (which
 * Anthropic's format does not show); returns its body.
 */
export function refusedAt(path: string, answer: Answer, status: number, code: string, hasVersion = false): any {
  const format = formatOf(path.split("?", 1)[0]!, hasVersion);
  if (!format) return refused(answer, status, code);
  const { json, headers } = answer;
  assert.equal(answer.status, status, answer.text);
  assert.equal(headers.get("content-type"), "application/json", answer.text);
  assert.ok(json?.error?.message, answer.text);
  assert.ok(headers.get("x-request-id"), "the response has the request's id");
  if (format === "OpenAI") {
    assert.deepEqual(Object.keys(json), ["error"], answer.text);
    assert.equal(json.error.code, openaiCodes[code] ?? code, answer.text);
    return json;
  }
  assert.equal(json.type, "error", answer.text);
  assert.equal(json.error.type, anthropicTypes[status] ?? "invalid_request_error", answer.text);
  assert.equal(json.request_id, headers.get("x-request-id"));
  assert.equal(json.request_id, headers.get("request-id"));
  return json;
}

/** The pointers of all faults in a problem, sorted. */
export const pointers = (problem: { errors?: { pointer: string }[] }): string[] =>
  (problem.errors ?? []).map(({ pointer }) => pointer).sort();

/** A service that takes as long as the parameters of a call require (`ms`) and echoes them. */
export const obedient: Handler = (call, response) => slow(call.json?.parameters?.ms ?? 0)(call, response);

/** The context of a response of a model endpoint, once it is recorded. */
export function contextOf(gateway: Client, headers: Headers): Promise<any> {
  const id = headers.get("x-narthex-context");
  assert.ok(id, "the response names its context");
  return eventually(async () => {
    const { status, json } = await gateway.request("GET", `/v1/contexts/${id}`);
    return status === 200 ? json : undefined;
  });
}

// What most tests begin with (a registered service, a key, a context) and what many end with (a refusal, a final state).
import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import type { Answer, Gateway, RequestOptions } from "./gateway.ts";
import { type Handler, slow } from "./service.ts";

/** The states that never change. */
export const finalStates = ["completed", "failed", "cancelled", "timed_out"];

/** A capability as tests want it: retried at once, so that nobody waits for a backoff. */
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

/** Registers a service that is not there yet; gives the answer's body. */
export async function register(gateway: Gateway, id: string, document: object): Promise<any> {
  const answer = await gateway.request("PUT", `/v1/services/${id}`, { body: document });
  assert.equal(answer.status, 201, answer.text);
  return answer.json;
}

/** Makes a key; gives its id and its secret. The role `bare` grants nothing by itself and is made when it is needed. */
export async function makeKey(
  gateway: Gateway,
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

/** Asks for a context of `work`, or of what `body` says. */
export function create(gateway: Gateway, body: object = {}, options: RequestOptions = {}): Promise<Answer> {
  return gateway.request("POST", "/v1/contexts", { ...options, body: { capability: "work", ...body } });
}

/** Asks for a context that nobody waits for; gives it as it was accepted. */
export async function accepted(gateway: Gateway, body: object = {}, options: RequestOptions = {}): Promise<any> {
  const headers = { prefer: "respond-async", ...options.headers };
  const answer = await create(gateway, body, { ...options, headers });
  assert.equal(answer.status, 202, answer.text);
  return answer.json;
}

/** The context once it has ended; fails when it has not within `seconds`. */
export async function ended(gateway: Gateway, id: string, seconds = 10, options: RequestOptions = {}): Promise<any> {
  const headers = { prefer: `wait=${seconds}`, ...options.headers };
  const answer = await gateway.request("GET", `/v1/contexts/${id}`, { ...options, headers });
  assert.equal(answer.status, 200, answer.text);
  assert.ok(finalStates.includes(answer.json.status), `${id} is ${answer.json.status} after ${seconds} s`);
  return answer.json;
}

/** Looks until there is something to see; gives it. */
export async function eventually<T>(look: () => T | Promise<T>, timeoutMs = 5000): Promise<NonNullable<T>> {
  const until = Date.now() + timeoutMs;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > until) assert.fail(`still nothing after ${timeoutMs} ms: ${look}`);
    await pause(25);
  }
}

/** Asserts that an answer is a problem (RFC 9457) with this status and code; gives its body. */
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

/** The pointers of all faults a problem names, sorted. */
export const pointers = (problem: { errors?: { pointer: string }[] }): string[] =>
  (problem.errors ?? []).map(({ pointer }) => pointer).sort();

/** A service that takes as long as a call's parameters say (`ms`) and echoes them. */
export const obedient: Handler = (call, response) => slow(call.json?.parameters?.ms ?? 0)(call, response);

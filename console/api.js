// Calls the gateway's API.
import { bearerToken, currentIdentity, may, signOut } from "./session.js";

const TIMEOUT_MS = 60_000;
/** Requests for one page of contexts, while pages are empty. */
const MAX_SEARCHES = 25;
const listFormat = new Intl.ListFormat("en");

/** @typedef {{ pointer: string, detail: string }} FieldError */
/** @typedef {{ body?: unknown, headers?: Record<string, string>, timeoutMs?: number }} RequestOptions */
/** @typedef {{ permission?: string, roles?: string[] }} Missing a permission, and the built-in roles that have it */
/** @typedef {Missing & { code?: string, detail?: string, errors?: FieldError[] }} Refusal */
/** @typedef {{ oauth: boolean, demo: boolean }} Deployment */

/** A request that was refused, with a message for the user. */
export class ApiError extends Error {
  /**
   * @param {Response} response
   * @param {Refusal} refusal
   */
  constructor({ status, headers }, { code = "", detail, errors = [], permission = "", roles = [] }) {
    const reason =
      roles.length > 0 ? missingPermission(permission, roles) : (detail ?? `The gateway returned status ${status}.`);
    // A provider's may be a date.
    const seconds = headers.get("retry-after")?.match(/^\d+$/)?.[0];
    super(seconds ? `${reason} Try again in ${seconds} s.` : reason);
    this.status = status;
    this.code = code;
    this.errors = errors;
    this.headers = headers;
  }
}

/**
 * @param {string} permission
 * @param {string[]} roles the built-in roles that have it
 * @returns {string}
 */
function missingPermission(permission, roles) {
  const [noun, verb] = roles.length === 1 ? ["role", "has"] : ["roles", "have"];
  return `This requires the permission ${permission}, which the built-in ${noun} ${listFormat.format(roles)} ${verb}.`;
}

/**
 * Sends one request and reads the whole response.
 * @param {string} method
 * @param {string} path
 * @param {RequestOptions} [options]
 * @returns {Promise<{ json: any, headers: Headers }>}
 * @throws {ApiError} if the gateway refuses it
 */
export async function request(method, path, options = {}) {
  const signal = AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS);
  const response = await open(method, path, { ...options, signal });
  return { json: await jsonOf(response), headers: response.headers };
}

/**
 * Sends one request. The response can be read as it arrives.
 * @param {string} method
 * @param {string} path
 * @param {RequestOptions & { signal: AbortSignal }} options
 * @returns {Promise<Response>}
 * @throws {ApiError} if it is refused
 */
export async function open(method, path, { body, headers, signal }) {
  const token = await bearerToken();
  const response = await send(path, {
    method,
    headers: {
      ...headers,
      ...(token && { authorization: `Bearer ${token}` }),
      ...(body ? { "content-type": "application/json" } : {}),
    },
    ...(body ? { body: JSON.stringify(body) } : {}),
    signal,
  });
  if (response.ok) return response;
  const refusal = await refusalOf(response);
  if (response.status === 401 && currentIdentity()) signOut("Your key is no longer valid. Sign in again.");
  throw new ApiError(response, refusal);
}

/**
 * @param {Response} response
 * @returns {Promise<any>} undefined if it is not JSON
 */
async function jsonOf(response) {
  const isJson = response.headers.get("content-type")?.includes("json");
  return isJson ? response.json() : undefined;
}

/**
 * Why a request was refused: a problem, or an error in the format of the endpoints of models. The latter may be a
 * provider's, so that only its words count.
 * @param {Response} response
 * @returns {Promise<Refusal>}
 */
async function refusalOf(response) {
  const json = await jsonOf(response).catch(() => undefined);
  if (response.headers.get("content-type")?.includes("problem+json")) return json ?? {};
  const message = json?.detail ?? json?.error?.message ?? json?.error;
  return typeof message === "string" ? { detail: message } : {};
}

/**
 * @param {string} path
 * @param {RequestInit} options
 * @returns {Promise<Response>}
 */
async function send(path, options) {
  try {
    return await fetch(path, options);
  } catch {
    throw new Error("Cannot reach the gateway. Check your connection and try again.");
  }
}

/**
 * @param {string} path
 * @returns {Promise<any>}
 */
export async function get(path) {
  const { json } = await request("GET", path);
  return json;
}

/**
 * Like `get`, but undefined if the resource does not exist or the key may not read it.
 * @param {string} path
 * @returns {Promise<any>}
 */
export async function getIfAllowed(path) {
  try {
    return await get(path);
  } catch (error) {
    if (error instanceof ApiError && [403, 404].includes(error.status)) return undefined;
    throw error;
  }
}

/**
 * The first services, as far as there are so many, in pages of 100.
 * @param {number} count
 * @returns {Promise<Page<Service>>}
 */
export async function getServices(count) {
  /** @type {Page<Service>} */
  let { data, next_cursor } = await get("/v1/services?limit=100");
  while (next_cursor && data.length < count) {
    const page = await get(`/v1/services?limit=100&cursor=${encodeURIComponent(next_cursor)}`);
    data = [...data, ...page.data];
    next_cursor = page.next_cursor;
  }
  return { data, next_cursor };
}

/**
 * One page of contexts: everybody's if the key may read them, otherwise its own.
 * @param {Record<string, string>} filters
 * @returns {Promise<Page<Context>>}
 */
export async function getContexts(filters) {
  const query = new URLSearchParams(filters);
  if (may("contexts:read:*")) query.set("owner", "*");
  for (let count = 1; ; count += 1) {
    const page = await get(`/v1/contexts?${query}`);
    // What is rare among many contexts is searched for in several requests.
    if (page.data.length > 0 || !page.next_cursor || count === MAX_SEARCHES) return page;
    query.set("cursor", page.next_cursor);
  }
}

/**
 * Sends a POST about a context, without waiting for the context to end.
 * @param {string} path
 * @param {unknown} [body]
 * @returns {Promise<Context>}
 */
export async function postAsync(path, body) {
  const { json } = await request("POST", path, { body, headers: { prefer: "respond-async" } });
  return json;
}

/** @type {Promise<Deployment> | undefined} */
let deployment;

/**
 * Which features this deployment has, known before signing in.
 * @returns {Promise<Deployment>}
 */
export function getDeployment() {
  deployment ??= get("/console.json").catch((error) => {
    deployment = undefined;
    throw error;
  });
  return deployment;
}

// Asks the gateway, as who is signed in: in this page's memory, or kept for the tab when that was wished for.
import { refresh } from "./oauth.js";

const KEPT = "narthex";

/** @type {{ credential?: SignedIn | undefined, who?: any, kept: boolean, ended: (why: string) => void }} */
export const session = { kept: false, ended: () => {} };

/** What the gateway refused, in words that help. */
export class Refused extends Error {
  /** @param {number} status @param {any} problem @param {string | null} retry in seconds */
  constructor(status, problem, retry) {
    const faults = (problem.errors ?? []).map((one) => `${one.pointer} ${one.detail}`).join("; ");
    super([problem.detail ?? `The gateway answered ${status}.`, faults && `${faults}.`, retry && `Try again in ${retry} s.`].filter(Boolean).join(" "));
    this.status = status;
    /** @type {{ pointer: string, detail: string }[]} */
    this.errors = problem.errors ?? [];
  }
}

/** @param {SignedIn | undefined} credential @param {boolean} [kept] */
export function keepCredential(credential, kept = session.kept) {
  Object.assign(session, { credential, kept });
  if (credential && kept) sessionStorage.setItem(KEPT, JSON.stringify(credential));
  else sessionStorage.removeItem(KEPT);
}

/** @returns {SignedIn | undefined} */
export const keptCredential = () => JSON.parse(sessionStorage.getItem(KEPT) ?? "null") ?? undefined;

/** @param {string} why */
export function signOut(why) {
  keepCredential(undefined);
  session.who = undefined;
  session.ended(why);
}

/** @type {Promise<void> | undefined} */
let refreshing;

async function bearer() {
  const { credential } = session;
  if (credential?.refresh && (credential.until ?? 0) < Date.now() + 20_000) {
    // A refresh token is good once: whoever asks meanwhile waits for the same answer.
    refreshing ??= refresh(credential.refresh).then((fresh) => keepCredential(fresh), () => signOut("Your sign-in has ended. Sign in again.")).finally(() => { refreshing = undefined; });
    await refreshing;
  }
  return session.credential?.bearer;
}

/**
 * One request: gives its answer, or throws what helps to mend it.
 * @param {string} method @param {string} path @param {{ body?: unknown, headers?: Record<string, string> | undefined, signal?: AbortSignal | undefined }} [options]
 * @returns {Promise<{ json: any, headers: Headers }>}
 */
export async function ask(method, path, { body, headers, signal } = {}) {
  const token = await bearer();
  const sent = { ...headers, ...(token && { authorization: `Bearer ${token}` }), ...(body !== undefined && { "content-type": "application/json" }) };
  const answer = await fetch(path, { method, headers: sent, body: body === undefined ? null : JSON.stringify(body), signal: signal ?? null }).catch((error) => {
    throw signal?.aborted ? error : new Error("The gateway cannot be reached. Look at your connection, then try again.");
  });
  const json = answer.headers.get("content-type")?.includes("json") ? await answer.json() : undefined;
  if (answer.ok) return { json, headers: answer.headers };
  if (answer.status === 401 && session.who) signOut("Your key is not valid (any more). Sign in again.");
  throw new Refused(answer.status, json ?? {}, answer.headers.get("retry-after"));
}

/** @param {string} path @param {AbortSignal} [signal] */
export const get = async (path, signal) => (await ask("GET", path, { signal })).json;

/** As `get`, but nothing for what is not there or not for this key. @param {string} path @param {AbortSignal} [signal] */
export const maybe = (path, signal) => get(path, signal).catch((error) => {
  if (![403, 404].includes(error.status)) throw error;
});

/** Whether a permission that was granted covers another: `*` is one part, or at the end the rest. @param {string} granted @param {string} asked */
function covers(granted, asked) {
  const [have, need] = [granted.split(":"), asked.split(":")];
  return have.every((part, at) => part === need[at] || (part === "*" && (at < need.length || at === have.length - 1))) && (have.length === need.length || have.at(-1) === "*");
}

/** What cannot be done is not offered; the gateway decides. @param {string} permission @returns {boolean} */
export const may = (permission) => session.who?.permissions.some((granted) => covers(granted, permission)) ?? false;

/** For whoever may see everybody's contexts. */
export const everybodys = () => (may("contexts:read:*") ? "&owner=*" : "");

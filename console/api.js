// Calls the gateway with the credential in this page's memory, or kept for the tab on request.
import { refresh } from "./oauth.js";

const KEPT = "narthex";
const TIMEOUT_MS = 60_000;

/** @type {any} */
export const session = {};

const names = new Intl.ListFormat("en");

/** Which permission is missing, and which built-in roles have it. */
function missing(permission, roles) {
  const [noun, verb] = roles.length === 1 ? ["role", "has"] : ["roles", "have"];
  return `This needs the permission ${permission}. The built-in ${noun} ${names.format(roles)} ${verb} it.`;
}

/** What the gateway refused, in words that help. */
function refusal(status, { detail, errors = [], permission, roles = [] }, retry) {
  const why = roles.length > 0 ? missing(permission, roles) : (detail ?? `The gateway answered ${status}.`);
  return Object.assign(new Error(retry ? `${why} Try again in ${retry} s.` : why), { status, errors });
}

export function keepCredential(credential, kept = session.kept) {
  Object.assign(session, { credential, kept });
  if (credential && kept) sessionStorage.setItem(KEPT, JSON.stringify(credential));
  else sessionStorage.removeItem(KEPT);
}

export const keptCredential = () => JSON.parse(sessionStorage.getItem(KEPT) ?? "null");

export function signOut(why) {
  keepCredential(undefined);
  delete session.who;
  session.ended(why);
}

let refreshing;

async function bearer() {
  const { credential } = session;
  if (credential?.refresh && (credential.until ?? 0) < Date.now() + 20_000) {
    // A refresh token is good once: all wait for one answer.
    const ended = () => signOut("Your sign-in has ended. Sign in again.");
    refreshing ??= refresh(credential.refresh)
      .then((fresh) => keepCredential(fresh), ended)
      .finally(() => {
        refreshing = undefined;
      });
    await refreshing;
  }
  return session.credential?.bearer;
}

/** One request: its answer, or an error that says what to do. */
export async function ask(method, path, { body, headers } = /** @type {any} */ ({})) {
  const token = await bearer();
  const sent = {
    ...headers,
    ...(token && { authorization: `Bearer ${token}` }),
    ...(body && { "content-type": "application/json" }),
  };
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const answer = await fetch(path, { method, headers: sent, body: body && JSON.stringify(body), signal }).catch(() => {
    throw new Error("The gateway cannot be reached. Look at your connection, then try again.");
  });
  const json = answer.headers.get("content-type")?.includes("json") ? await answer.json() : undefined;
  if (answer.ok) return { json, headers: answer.headers };
  if (answer.status === 401 && session.who) signOut("Your key is no longer valid. Sign in again.");
  throw refusal(answer.status, json ?? {}, answer.headers.get("retry-after"));
}

export const get = async (path) => (await ask("GET", path)).json;

/** As `get`; nothing for 403 and 404. */
export const maybe = (path) =>
  get(path).catch((error) => {
    if (![403, 404].includes(error.status)) throw error;
  });

/** Whether one permission covers another: `*` is one part, or at the end the rest. */
function covers(granted, asked) {
  const [have, need] = [granted.split(":"), asked.split(":")];
  const fits = (part, at) => part === need[at] || (part === "*" && (at < need.length || at === have.length - 1));
  return (have.length === need.length || have.at(-1) === "*") && have.every(fits);
}

/** Only hides what the gateway would refuse. */
export const may = (permission) => session.who?.permissions.some((granted) => covers(granted, permission)) ?? false;

export const everybodys = () => (may("contexts:read:*") ? "&owner=*" : "");

let features;

/** Which parts this deployment has, known before signing in: `oauth`, `demo`. */
export function deployment() {
  features ??= get("/console.json").catch((error) => {
    features = undefined;
    throw error;
  });
  return features;
}

// The session: the credential, kept in memory or on request for the tab, and its identity and permissions.
import { refresh } from "./oauth.js";

/** @import { Credential } from "./oauth.js" */
/** @typedef {{ principal: string, name?: string, role: string, tenant: string, permissions: string[] }} Identity */

const STORAGE_KEY = "narthex-credential";
/** How long before its expiry a token is refreshed. */
const REFRESH_AHEAD_MS = 20_000;

/** @type {Credential | undefined} */
let credential;
let isKept = false;
/** @type {Identity | undefined} */
let identity;
/** @type {Promise<void> | undefined} */
let refreshing;
/** @type {(reason: string) => unknown} */
let showSignIn = () => {};

/**
 * @param {Credential | undefined} fresh undefined to forget it
 * @param {boolean} [keepForTab]
 * @returns {void}
 */
export function setCredential(fresh, keepForTab = isKept) {
  credential = fresh;
  isKept = keepForTab;
  if (fresh && keepForTab) sessionStorage.setItem(STORAGE_KEY, JSON.stringify(fresh));
  else sessionStorage.removeItem(STORAGE_KEY);
}

/** @returns {Credential | undefined} */
export const storedCredential = () => JSON.parse(sessionStorage.getItem(STORAGE_KEY) ?? "null") ?? undefined;

/** @returns {Identity | undefined} undefined before signing in */
export const currentIdentity = () => identity;

/**
 * @param {Identity} fresh
 * @returns {void}
 */
export function setIdentity(fresh) {
  identity = fresh;
}

/**
 * Sets what to call when the session ends.
 * @param {(reason: string) => unknown} show
 * @returns {void}
 */
export function onSignOut(show) {
  showSignIn = show;
}

/**
 * @param {string} reason for the user
 * @returns {void}
 */
export function signOut(reason) {
  setCredential(undefined);
  identity = undefined;
  showSignIn(reason);
}

/**
 * The bearer token to send, refreshed if it is about to expire.
 * @returns {Promise<string | undefined>}
 */
export async function bearerToken() {
  if (credential?.refreshToken && (credential.expiresAt ?? 0) < Date.now() + REFRESH_AHEAD_MS) {
    // A refresh token is good once: all requests wait for one response.
    refreshing ??= refreshCredential(credential.refreshToken).finally(() => {
      refreshing = undefined;
    });
    await refreshing;
  }
  return credential?.bearer;
}

/**
 * @param {string} refreshToken
 * @returns {Promise<void>}
 */
async function refreshCredential(refreshToken) {
  try {
    setCredential(await refresh(refreshToken));
  } catch {
    signOut("Your session has expired. Sign in again.");
  }
}

/**
 * Whether the signed-in key has a permission. This only hides what the gateway would refuse.
 * @param {string} permission
 * @returns {boolean}
 */
export const may = (permission) => identity?.permissions.some((granted) => covers(granted, permission)) ?? false;

/**
 * Whether the signed-in key has a permission to use some model. Names of models may contain any character.
 * @returns {boolean}
 */
export function mayUseModels() {
  const permissions = identity?.permissions ?? [];
  return permissions.some((one) => one.startsWith("models:use:") || covers(one, "models:use:*"));
}

/**
 * Whether one permission covers another: `*` stands for one part, or at the end for all the rest.
 * @param {string} granted
 * @param {string} needed
 * @returns {boolean}
 */
function covers(granted, needed) {
  const grantedParts = granted.split(":");
  const neededParts = needed.split(":");
  const endsOpen = grantedParts.at(-1) === "*";
  if (grantedParts.length !== neededParts.length && !endsOpen) return false;
  return grantedParts.every((part, at) => {
    if (part === neededParts[at]) return true;
    return part === "*" && (at < neededParts.length || at === grantedParts.length - 1);
  });
}

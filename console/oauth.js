// Signs in with the gateway's own OAuth server: authorization code with PKCE (RFC 7636), as the client `console`.

/** @typedef {{ bearer: string, refreshToken?: string, expiresAt?: number }} Credential */
/** @typedef {{ verifier: string, state: string, isKept: boolean, hash: string }} PendingSignIn */

const CLIENT_ID = "console";
const PENDING_KEY = "narthex-pending-sign-in";
const REDIRECT_URI = `${location.origin}/`;

/**
 * @param {ArrayBuffer | Uint8Array<ArrayBuffer>} bytes
 * @returns {string}
 */
function base64url(bytes) {
  const base64 = btoa(String.fromCharCode(...new Uint8Array(bytes)));
  return base64.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** @returns {string} */
const randomText = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

/**
 * The authorization server's metadata (RFC 8414). Deployments without OAuth have none.
 * @returns {Promise<{ issuer: string, authorization_endpoint: string }>}
 */
async function discover() {
  const response = await fetch("/.well-known/oauth-authorization-server");
  if (!response.ok) throw new Error("The gateway's OAuth server did not respond. Try again.");
  return response.json();
}

/**
 * Leaves this page for the consent page.
 * @param {boolean} isKept whether to stay signed in for the tab
 * @returns {Promise<void>}
 */
export async function beginSignIn(isKept) {
  const { authorization_endpoint } = await discover();
  /** @type {PendingSignIn} */
  const pending = { verifier: randomText(), state: randomText(), isKept, hash: location.hash };
  sessionStorage.setItem(PENDING_KEY, JSON.stringify(pending));
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(pending.verifier));
  const query = new URLSearchParams({
    response_type: "code",
    client_id: CLIENT_ID,
    redirect_uri: REDIRECT_URI,
    state: pending.state,
    code_challenge: base64url(digest),
    code_challenge_method: "S256",
  });
  location.assign(`${authorization_endpoint}?${query}`);
}

/**
 * Handles the OAuth response that opened this page.
 * @returns {Promise<{ credential: Credential, isKept: boolean } | undefined>} undefined if it opened in another way
 */
export async function finishSignIn() {
  const response = new URLSearchParams(location.search);
  if (!response.has("state")) return undefined;
  /** @type {Partial<PendingSignIn>} */
  const { verifier = "", state, isKept = false, hash = "" } = JSON.parse(sessionStorage.getItem(PENDING_KEY) ?? "{}");
  sessionStorage.removeItem(PENDING_KEY);
  // Return to the screen that was requested before signing in.
  history.replaceState(null, "", `/${hash}`);
  // RFC 9207: only this gateway's response to this tab counts.
  if (response.get("state") !== state || response.get("iss") !== (await discover()).issuer) {
    throw new Error("This sign-in did not start in this tab. Sign in again.");
  }
  const code = response.get("code");
  if (!code) throw new Error(`Not signed in. ${denialOf(response)}.`);
  const credential = await requestToken({
    grant_type: "authorization_code",
    code,
    redirect_uri: REDIRECT_URI,
    code_verifier: verifier,
  });
  return { credential, isKept };
}

/**
 * @param {URLSearchParams} response
 * @returns {string | null}
 */
function denialOf(response) {
  if (response.get("error") === "access_denied") return "You denied the request";
  return response.get("error_description") ?? response.get("error");
}

/**
 * @param {string} refreshToken
 * @returns {Promise<Credential>}
 */
export const refresh = (refreshToken) => requestToken({ grant_type: "refresh_token", refresh_token: refreshToken });

/**
 * @param {Record<string, string>} form
 * @returns {Promise<Credential>}
 */
async function requestToken(form) {
  const body = new URLSearchParams({ client_id: CLIENT_ID, ...form });
  const response = await fetch("/oauth/token", { method: "POST", body });
  const json = await response.json();
  if (!response.ok) throw new Error(`Not signed in: ${json.error_description ?? json.error}. Sign in again.`);
  return {
    bearer: json.access_token,
    refreshToken: json.refresh_token,
    expiresAt: Date.now() + json.expires_in * 1000,
  };
}

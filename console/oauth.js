// Signs in at the gateway: authorization code with PKCE (RFC 7636), as the client `console`.
const CLIENT = "console";
const BEGUN = "narthex-begun";
const here = `${location.origin}/`;

const base64url = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/[+/=]/g, (sign) => ({ "+": "-", "/": "_" })[sign] ?? "");
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

/** The authorization server's metadata (RFC 8414). Only where the deployment has one: elsewhere it is not found. */
async function discover() {
  const answer = await fetch("/.well-known/oauth-authorization-server");
  if (!answer.ok) throw new Error("The gateway's OAuth server does not answer. Try again.");
  return answer.json();
}

export async function begin(kept) {
  const { authorization_endpoint: endpoint } = await discover();
  const [verifier, state] = [random(), random()];
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  sessionStorage.setItem(BEGUN, JSON.stringify({ verifier, state, kept, wanted: location.hash }));
  location.assign(
    `${endpoint}?${new URLSearchParams({
      response_type: "code",
      client_id: CLIENT,
      redirect_uri: here,
      state,
      code_challenge: base64url(digest),
      code_challenge_method: "S256",
    })}`,
  );
}

/** The answer, when it has opened this page. */
export async function finish() {
  const answer = new URLSearchParams(location.search);
  if (!answer.has("state")) return undefined;
  const { verifier, state, kept, wanted = "" } = JSON.parse(sessionStorage.getItem(BEGUN) ?? "{}");
  sessionStorage.removeItem(BEGUN);
  // Back to the screen that was asked for before signing in.
  history.replaceState(null, "", `/${wanted}`);
  // RFC 9207: only this gateway's answer to this tab counts.
  if (answer.get("state") !== state || answer.get("iss") !== (await discover()).issuer)
    throw new Error("This sign-in was not begun here. Sign in again.");
  const code = answer.get("code");
  if (!code) {
    const why =
      answer.get("error") === "access_denied"
        ? "You denied the request"
        : (answer.get("error_description") ?? answer.get("error"));
    throw new Error(`Not signed in. ${why}.`);
  }
  return {
    credential: await token({ grant_type: "authorization_code", code, redirect_uri: here, code_verifier: verifier }),
    kept,
  };
}

export const refresh = (secret) => token({ grant_type: "refresh_token", refresh_token: secret });

async function token(form) {
  const answer = await fetch("/oauth/token", {
    method: "POST",
    body: new URLSearchParams({ client_id: CLIENT, ...form }),
  });
  const json = await answer.json();
  if (!answer.ok) throw new Error(`Not signed in: ${json.error_description ?? json.error}. Sign in again.`);
  return { bearer: json.access_token, refresh: json.refresh_token, until: Date.now() + json.expires_in * 1000 };
}

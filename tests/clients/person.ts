// A person who signs in: the client's library does its own part, and this file that of the browser.
import assert from "node:assert/strict";
import { type OAuthClientProvider, StreamableHTTPClientTransport, Client } from "@modelcontextprotocol/client";
import type { Gateway } from "../support/gateway.ts";

const callback = "http://127.0.0.1:8090/callback";

/** Stores the library's data, as an app stores it for its user. */
class Keeper implements OAuthClientProvider {
  readonly redirectUrl = callback;
  readonly clientMetadata = {
    client_name: "An app",
    redirect_uris: [callback],
    grant_types: ["authorization_code", "refresh_token"],
    token_endpoint_auth_method: "none",
  };
  readonly #kept = new Map<string, unknown>();
  #of<T>(name: string): T | undefined {
    return this.#kept.get(name) as T | undefined;
  }
  /** The address that the person was redirected to. */
  sentTo: URL | undefined;

  redirectToAuthorization(url: URL) {
    this.sentTo = url;
  }
  clientInformation = () => this.#of<{ client_id: string }>("client");
  saveClientInformation = (client: object) => void this.#kept.set("client", client);
  tokens = () => this.#of<{ access_token: string; token_type: string }>("tokens");
  saveTokens = (tokens: object) => void this.#kept.set("tokens", tokens);
  saveCodeVerifier = (verifier: string) => void this.#kept.set("verifier", verifier);
  codeVerifier = () => this.#of<string>("verifier") ?? "";
  saveDiscoveryState = (state: object) => void this.#kept.set("discovery", state);
  discoveryState = () => this.#of<never>("discovery");
}

/** The person's part on the consent page: allows the app with their own key. Returns the parameters of the redirect. */
async function allows(gateway: Gateway, page: URL, key: string): Promise<URLSearchParams> {
  const shown = await gateway.request("GET", page.pathname + page.search, { key: null });
  assert.equal(shown.status, 200, shown.text);
  assert.match(shown.text, /An app/);
  const body = new URLSearchParams([...page.searchParams, ["decision", "allow"], ["api_key", key]]).toString();
  const headers = {
    "content-type": "application/x-www-form-urlencoded",
    origin: gateway.url,
    "sec-fetch-site": "same-origin",
  };
  const sent = await gateway.request("POST", page.pathname, { key: null, body, headers });
  assert.equal(sent.status, 303, sent.text);
  return new URL(sent.headers.get("location")!).searchParams;
}

/** An app that knows only the address: connects once the person has allowed it. */
export async function signsIn(gateway: Gateway, url: string, key: string, mode: "legacy" | "auto"): Promise<Client> {
  const authProvider = new Keeper();
  const client = () => new Client({ name: "an-app", version: "1.0.0" }, { versionNegotiation: { mode } });
  const first = new StreamableHTTPClientTransport(new URL(url), { authProvider });
  await assert.rejects(client().connect(first), { name: "UnauthorizedError" });
  assert.ok(authProvider.sentTo, "the person was not redirected");
  assert.equal(authProvider.sentTo.searchParams.get("resource"), url);
  await first.finishAuth(await allows(gateway, authProvider.sentTo, key));
  const signedIn = client();
  await signedIn.connect(new StreamableHTTPClientTransport(new URL(url), { authProvider }));
  return signedIn;
}

// A client of the authorization server: `oauth4webapi`, as a client library would drive it, and raw forms.
import assert from "node:assert/strict";
import { after, before } from "node:test";
import * as oauth from "oauth4webapi";
import { register, serviceAt } from "./arrange.ts";
import { type Gateway, startGateway } from "./gateway.ts";
import { type Service, startService } from "./service.ts";

export let gateway: Gateway;
export let service: Service;
export let as: oauth.AuthorizationServer;
export let issuer: URL;
export const insecure = { [oauth.allowInsecureRequests]: true };

/** Starts the gateway of a test file, an authorization server with a service, and stops both at the end. */
export function authorizationServer(vars: Record<string, string> = {}): void {
  before(async () => {
    gateway = await startGateway({ vars: { OAUTH: "true", ...vars } });
    service = await startService();
    await register(gateway, "worker", serviceAt(service.url));
    issuer = new URL(gateway.url);
    const response = await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...insecure });
    as = await oauth.processDiscoveryResponse(issuer, response);
  });
  after(async () => {
    await gateway?.stop();
    await service?.stop();
  });
}

export const callback = "https://app.example.com/done";
export type Registered = { client: oauth.Client; secret: string; id: string };

let number = 0;
/** Registers a client; returns its configuration. */
export async function registered(body: object): Promise<Registered> {
  const id = `client${(number += 1)}`;
  const answer = await gateway.request("PUT", `/v1/clients/${id}`, {
    body: { name: "A client <b>of</b> the tests", ...body },
  });
  assert.equal(answer.status, 201, answer.text);
  return { client: { client_id: answer.json.client_id }, secret: answer.json.secret, id };
}

export const machine = (more: object = {}) =>
  registered({ grant_types: ["client_credentials"], scope: "contexts:create:* contexts:read services:read", ...more });
export const app = (more: object = {}) =>
  registered({
    grant_types: ["authorization_code", "refresh_token"],
    auth_method: "none",
    redirect_uris: [callback, "http://127.0.0.1/cb"],
    scope: "contexts:create:* contexts:read services:read",
    ...more,
  });

export const remove = (id: string) => gateway.request("DELETE", `/v1/clients/${id}`, { headers: { "if-match": "*" } });
export const whoami = (key: string) => gateway.request("GET", "/v1/whoami", { key });

export async function byCredentials(
  { client, secret }: Registered,
  parameters: Record<string, string> = {},
  auth = oauth.ClientSecretBasic(secret),
) {
  const response = await oauth.clientCredentialsGrantRequest(
    as,
    client,
    auth,
    new URLSearchParams(parameters),
    insecure,
  );
  return oauth.processClientCredentialsResponse(as, client, response);
}

/** Sends a raw form. */
export const form = (path: string, body: string | Record<string, string>, headers: Record<string, string> = {}) =>
  gateway.request("POST", path, {
    key: null,
    body: typeof body === "string" ? body : new URLSearchParams(body).toString(),
    headers: { "content-type": "application/x-www-form-urlencoded", ...headers },
  });

/**
 * An app without a secret, at another gateway than the file's own: one with other settings. `post` sends a form there;
 * `allowed` gives consent as the admin, and returns the form that redeems the code.
 */
export async function appAt(other: Gateway) {
  const post = (path: string, members: Record<string, string>) =>
    other.request("POST", path, {
      key: null,
      body: new URLSearchParams(members).toString(),
      headers: { "content-type": "application/x-www-form-urlencoded" },
    });
  const { json: client } = await other.request("PUT", "/v1/clients/app", {
    body: {
      name: "App",
      grant_types: ["authorization_code", "refresh_token"],
      auth_method: "none",
      redirect_uris: [callback],
      scope: "contexts:create:* contexts:read",
    },
  });
  const { client_id } = client;
  const allowed = async () => {
    const { asked, verifier } = await asks({ client_id });
    const sent = await post("/oauth/authorize", { ...asked, decision: "allow", api_key: other.adminKey });
    const code = new URL(sent.headers.get("location")!).searchParams.get("code")!;
    return { grant_type: "authorization_code", code, code_verifier: verifier, redirect_uri: callback, client_id };
  };
  return { post, client_id, allowed };
}

/** Requests and gives consent; returns the redirect. */
export async function consented(parameters: Record<string, string>, key: string, decision = "allow") {
  const page = await gateway.request("GET", `/oauth/authorize?${new URLSearchParams(parameters)}`, { key: null });
  assert.equal(page.status, 200, page.text);
  return form(
    "/oauth/authorize",
    { ...parameters, decision, api_key: key },
    { origin: gateway.url, "sec-fetch-site": "same-origin" },
  );
}

export type Flow = {
  tokens: oauth.TokenEndpointResponse;
  code: string;
  verifier: string;
  asked: Record<string, string>;
  back: URLSearchParams;
};

export const asks = async (client: oauth.Client, more: Record<string, string> = {}) => {
  const verifier = oauth.generateRandomCodeVerifier();
  const state = oauth.generateRandomState();
  const asked: Record<string, string> = {
    response_type: "code",
    client_id: client.client_id,
    redirect_uri: callback,
    state,
    scope: "contexts:create:* contexts:read",
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    ...more,
  };
  return { asked, verifier, state };
};

/** The whole code flow, with the library. */
export async function flow(
  { client, secret }: Registered,
  key: string,
  more: Record<string, string> = {},
): Promise<Flow> {
  const { asked, verifier, state } = await asks(client, more);
  const sent = await consented(asked, key);
  assert.equal(sent.status, 303, sent.text);
  const location = new URL(sent.headers.get("location")!);
  const back = oauth.validateAuthResponse(as, client, location, state);
  const auth = secret ? oauth.ClientSecretPost(secret) : oauth.None();
  const response = await oauth.authorizationCodeGrantRequest(
    as,
    client,
    auth,
    back,
    asked.redirect_uri!,
    verifier,
    insecure,
  );
  const tokens = await oauth.processAuthorizationCodeResponse(as, client, response);
  return { tokens, code: location.searchParams.get("code")!, verifier, asked, back };
}

export async function refreshed({ client }: Registered, token: string) {
  const response = await oauth.refreshTokenGrantRequest(as, client, oauth.None(), token, insecure);
  return oauth.processRefreshTokenResponse(as, client, response);
}

export const isError = (code: string) => (error: unknown) =>
  error instanceof oauth.ResponseBodyError && error.error === code;

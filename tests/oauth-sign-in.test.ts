// Signing in with an external issuer on the consent page: its permissions, its parameters, its browser, and the error
// that an app receives if it fails.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import * as jose from "jose";
import { eventually, pointers, refused } from "./support/arrange.ts";
import { type Answer, type Gateway, startGateway } from "./support/gateway.ts";
import { hang, json, type Service, startService, status } from "./support/service.ts";

let gateway: Gateway;
let provider: Service;
let iss: string;
let key: jose.CryptoKey;
let client_id: string;
const callback = "https://app.example.com/done";

const issuer = (change: object = {}, signIn: object = {}) => ({
  issuer: iss,
  audience: "https://api.example.com",
  algorithms: ["ES256"],
  keys: [publicKey],
  type: "JWT",
  claims: { role: "roles", scope: "scope" },
  roles: { boss: "admin", staff: "caller", reader: "viewer" },
  sign_in: {
    client_id: "narthex",
    client_secret: "a secret",
    authorization_endpoint: `${iss}/authorize`,
    token_endpoint: `${iss}/token`,
    ...signIn,
  },
  ...change,
});
let publicKey: jose.JWK;

before(async () => {
  gateway = await startGateway({ vars: { OAUTH: "true" } });
  provider = await startService();
  iss = provider.url.slice(0, -1);
  const pair = await jose.generateKeyPair("ES256", { extractable: true });
  key = pair.privateKey;
  publicKey = await jose.exportJWK(pair.publicKey);
  assert.equal((await gateway.request("PUT", "/v1/issuers/corp", { body: issuer() })).status, 201);
  const app = {
    name: "An app",
    grant_types: ["authorization_code", "refresh_token"],
    auth_method: "none",
    redirect_uris: [callback],
    scope: "*",
  };
  client_id = (await gateway.request("PUT", "/v1/clients/app", { body: app })).json.client_id;
});
after(async () => {
  await gateway?.stop();
  await provider?.stop();
});

const form = (path: string, members: Record<string, string>, headers: Record<string, string> = {}): Promise<Answer> =>
  gateway.request("POST", path, {
    key: null,
    body: new URLSearchParams(members).toString(),
    headers: { "content-type": "application/x-www-form-urlencoded", ...headers },
  });
const signed = (claims: object) => {
  const now = Math.floor(Date.now() / 1000);
  return new jose.SignJWT({ iss, sub: "ada", iat: now, exp: now + 60, ...claims })
    .setProtectedHeader({ alg: "ES256" })
    .sign(key);
};
function question(client = client_id) {
  const verifier = randomBytes(32).toString("base64url");
  const code_challenge = createHash("sha256").update(verifier).digest("base64url");
  return {
    asked: {
      response_type: "code",
      client_id: client,
      redirect_uri: callback,
      state: "s",
      code_challenge,
      code_challenge_method: "S256",
    },
    verifier,
  };
}
type Asked = ReturnType<typeof question>["asked"];

/** Begins a sign-in; returns the browser's cookie, and the parameters for the issuer. */
async function begin(asked: Asked): Promise<{ cookie: string; query: URLSearchParams }> {
  const sent = await form("/oauth/authorize", { ...asked, sign_in: "corp" });
  assert.equal(sent.status, 303, sent.text);
  return {
    cookie: sent.headers.get("set-cookie")!.split(";")[0]!,
    query: new URL(sent.headers.get("location")!).searchParams,
  };
}
const back = (query: URLSearchParams, cookie: string, members: Record<string, string>): Promise<Answer> =>
  gateway.request("GET", `/oauth/signed-in?${new URLSearchParams({ state: query.get("state")!, iss, ...members })}`, {
    key: null,
    headers: { cookie },
  });

/** Signs in; returns the page, the name shown on it, and the browser's cookie. */
async function signIn(asked: Asked, claims: object) {
  const { cookie, query } = await begin(asked);
  const id_token = await signed({ aud: "narthex", nonce: query.get("nonce"), ...claims });
  provider.handler = json({ access_token: "x", token_type: "Bearer", id_token });
  const page = await back(query, cookie, { code: "c1" });
  return { page, cookie, person: page.text.match(/name="person" value="([^"]+)"/)?.[1] ?? "" };
}
/** The headers of a browser that submits the page's own form. */
const browser = (cookie?: string) => ({
  origin: gateway.url,
  "sec-fetch-site": "same-origin",
  ...(cookie && { cookie }),
});

test("a_sign_in_grants_what_a_token_with_the_same_claims_grants", async () => {
  for (const claims of [
    { roles: ["boss"], scope: "contexts:read" },
    { roles: ["boss"], scope: "contexts:read services:*" },
    { roles: ["staff", "reader"], scope: "services:read" },
    { roles: ["staff"], scope: ["contexts:read", "keys:write"] },
    { roles: ["boss"], scope: "*" },
  ]) {
    const bearer = await gateway.request("GET", "/v1/whoami", {
      key: await signed({ aud: "https://api.example.com", ...claims }),
    });
    assert.equal(bearer.status, 200, bearer.text);
    const { asked, verifier } = question();
    const { page, cookie, person } = await signIn(asked, claims);
    assert.equal(page.status, 200, page.text);
    for (const permission of bearer.json.permissions)
      assert.ok(page.text.includes(`<code>${permission}</code>`), permission);
    const sent = await form("/oauth/authorize", { ...asked, decision: "allow", person }, browser(cookie));
    assert.equal(sent.status, 303, sent.text);
    const code = new URL(sent.headers.get("location")!).searchParams.get("code")!;
    const tokens = await form("/oauth/token", {
      grant_type: "authorization_code",
      code,
      code_verifier: verifier,
      client_id,
    });
    assert.equal(tokens.status, 200, tokens.text);
    assert.deepEqual(
      (await gateway.request("GET", "/v1/whoami", { key: tokens.json.access_token })).json,
      bearer.json,
      JSON.stringify(claims),
    );
    const next = await form("/oauth/token", {
      grant_type: "refresh_token",
      refresh_token: tokens.json.refresh_token,
      client_id,
    });
    assert.deepEqual((await gateway.request("GET", "/v1/whoami", { key: next.json.access_token })).json, bearer.json);
  }
  // An empty scope grants nothing.
  const { asked } = question();
  const { page, cookie, person } = await signIn(asked, { roles: ["boss"] });
  assert.equal(page.status, 200);
  const nothing = await form("/oauth/authorize", { ...asked, decision: "allow", person }, browser(cookie));
  assert.ok(
    nothing.status === 403 && nothing.text.includes("You have none of these permissions yourself."),
    nothing.text,
  );
});

test("a_failed_sign_in_is_reported_to_the_app_and_its_reason_logged", async () => {
  const tell = async (members: Record<string, string>, handler = provider.handler) => {
    const { asked } = question();
    const { cookie, query } = await begin(asked);
    provider.handler = handler;
    const before = gateway.logs.length;
    const response = await back(query, cookie, members);
    assert.equal(response.status, 303, response.text);
    const to = new URL(response.headers.get("location")!);
    assert.equal(to.origin + to.pathname, callback);
    assert.deepEqual(
      [to.searchParams.get("state"), to.searchParams.get("iss"), to.searchParams.get("code")],
      ["s", gateway.url, null],
    );
    const line = await eventually(() => gateway.logs.slice(before).find((one) => one.includes('"sign-in failed"')));
    assert.equal(line.includes("a secret"), false);
    return [to.searchParams.get("error"), line] as const;
  };
  for (const [said, error] of [
    ["access_denied", "access_denied"],
    ["login_required", "access_denied"],
    ["consent_required", "access_denied"],
    ["temporarily_unavailable", "temporarily_unavailable"],
    ["server_error", "server_error"],
    ["invalid_scope", "server_error"],
    ["unauthorized_client", "server_error"],
    ['a"b\nc', "server_error"],
  ] as const) {
    const [code, line] = await tell({ error: said, error_description: "because\nof <this>" });
    assert.equal(code, error, said);
    assert.ok(line.includes("because?of <this>"), line);
    JSON.parse(line);
  }
  for (const [handler, cause] of [
    [status(400, { error: "invalid_grant" }), "400 invalid_grant"],
    [status(500), "500"],
    [json({ access_token: "x" }), "no id_token"],
    [json({ id_token: "x" }), "the ID token was rejected"],
    [json({ id_token: await signed({ aud: "narthex", nonce: "x" }) }), "nonce"],
  ] as const) {
    const [code, line] = await tell({ code: "c1" }, handler);
    assert.equal(code, "server_error", cause);
    assert.ok(line.includes(cause), line);
  }
  const [none] = await tell({});
  assert.equal(none, "server_error");
  // An error for another browser is ignored.
  const { cookie, query } = await begin(question().asked);
  const other = await gateway.request("GET", `/oauth/signed-in?error=access_denied&state=${query.get("state")}`, {
    key: null,
  });
  assert.deepEqual([other.status, other.headers.get("location")], [400, null]);
  const wrong = await gateway.request("GET", "/oauth/signed-in?error=access_denied&state=another", {
    key: null,
    headers: { cookie },
  });
  assert.deepEqual([wrong.status, wrong.headers.get("location")], [400, null]);
  provider.handler = hang;
});

test("a_failed_sign_in_does_not_redirect_to_an_unregistered_app", async () => {
  const server = await startService();
  try {
    const id = `${server.url}client.json`;
    server.probe = json({ client_id: id, client_name: "Elsewhere", redirect_uris: [callback] });
    const { asked } = question(id);
    const { cookie, query } = await begin(asked);
    const page = await back(query, cookie, { error: "access_denied" });
    assert.deepEqual([page.status, page.headers.get("location")], [400, null]);
    // The person may follow the link themselves.
    assert.ok(
      page.text.includes(`href="${callback}?error=access_denied`) &&
        page.text.includes("<strong>app.example.com</strong>"),
      page.text,
    );
  } finally {
    await server.stop();
  }
});

test("a_sign_in_is_not_valid_in_another_browser", async () => {
  const { asked } = question();
  const { person, cookie } = await signIn(asked, { roles: ["boss"], scope: "*" });
  const link = await gateway.request("GET", `/oauth/authorize?${new URLSearchParams({ ...asked, person })}`, {
    key: null,
    headers: { cookie },
  });
  assert.ok(link.status === 200 && !link.text.includes("signed in as") && link.text.includes("api_key"), link.text);
  const { cookie: others } = await signIn(question().asked, { roles: ["staff"], scope: "*", sub: "eve" });
  for (const headers of [
    browser(),
    browser(others),
    browser("__Host-narthex-sign-in=x"),
    browser("a=b"),
    { "sec-fetch-site": "same-origin" },
  ] as Record<string, string>[]) {
    const page = await form("/oauth/authorize", { ...asked, decision: "allow", person }, headers);
    assert.deepEqual([page.status, page.headers.get("location")], [403, null], JSON.stringify(headers));
    assert.equal(page.text.includes("signed in as"), false);
  }
  const sent = await form("/oauth/authorize", { ...asked, decision: "allow", person }, browser(cookie));
  assert.ok(new URL(sent.headers.get("location")!).searchParams.get("code"));
});

test("the_scope_of_a_sign_in_is_configured", async () => {
  const put = (signIn: object) =>
    gateway.request("PUT", "/v1/issuers/corp", { body: issuer({}, signIn), headers: { "if-match": "*" } });
  const asksFor = {
    scopes: ["profile", "groups"],
    claims: { id_token: { groups: { essential: true } } },
    parameters: { prompt: "select_account", hd: "example.com" },
  };
  const made = await put(asksFor);
  assert.equal(made.status, 200, made.text);
  for (const [name, value] of Object.entries(asksFor)) assert.deepEqual(made.json.sign_in[name], value);
  const { query } = await begin(question().asked);
  assert.deepEqual(
    ["scope", "claims", "prompt", "hd", "response_type"].map((name) => query.getAll(name)),
    [["openid profile groups"], [JSON.stringify(asksFor.claims)], ["select_account"], ["example.com"], ["code"]],
  );
  for (const [wrong, pointer] of [
    [{ scopes: ["a b"] }, "#/sign_in/scopes/0"],
    [{ claims: [] }, "#/sign_in/claims"],
    [{ parameters: { redirect_uri: "https://evil.example.com" } }, "#/sign_in/parameters/redirect_uri"],
    [{ parameters: { state: "x" } }, "#/sign_in/parameters/state"],
    [{ parameters: { prompt: 1 } }, "#/sign_in/parameters"],
  ] as const)
    assert.deepEqual(pointers(refused(await put(wrong), 422, "validation_failed")), [pointer]);
  const plain = await put({});
  assert.deepEqual(Object.keys(plain.json.sign_in).sort(), ["authorization_endpoint", "client_id", "token_endpoint"]);
  assert.equal((await begin(question().asked)).query.get("scope"), "openid");
});

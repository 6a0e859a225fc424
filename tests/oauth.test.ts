// The authorization server, driven by `oauth4webapi` as a client library would, and checked by `jose`.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import * as jose from "jose";
import * as oauth from "oauth4webapi";
import { create, eventually, makeKey, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { json, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;
let as: oauth.AuthorizationServer;
let issuer: URL;
const insecure = { [oauth.allowInsecureRequests]: true };

before(async () => {
  gateway = await startGateway({ vars: { OAUTH: "true" } });
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

const callback = "https://app.example.com/done";
type Registered = { client: oauth.Client; secret: string; id: string };

let number = 0;
/** Registers a client; returns its configuration. */
async function registered(body: object): Promise<Registered> {
  const id = `client${(number += 1)}`;
  const answer = await gateway.request("PUT", `/v1/clients/${id}`, {
    body: { name: "A client <b>of</b> the tests", ...body },
  });
  assert.equal(answer.status, 201, answer.text);
  return { client: { client_id: answer.json.client_id }, secret: answer.json.secret, id };
}

const machine = (more: object = {}) =>
  registered({ grant_types: ["client_credentials"], scope: "contexts:create:* contexts:read services:read", ...more });
const app = (more: object = {}) =>
  registered({
    grant_types: ["authorization_code", "refresh_token"],
    auth_method: "none",
    redirect_uris: [callback, "http://127.0.0.1/cb"],
    scope: "contexts:create:* contexts:read services:read",
    ...more,
  });

const remove = (id: string) => gateway.request("DELETE", `/v1/clients/${id}`, { headers: { "if-match": "*" } });
const whoami = (key: string) => gateway.request("GET", "/v1/whoami", { key });

async function byCredentials(
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
const form = (path: string, body: string | Record<string, string>, headers: Record<string, string> = {}) =>
  gateway.request("POST", path, {
    key: null,
    body: typeof body === "string" ? body : new URLSearchParams(body).toString(),
    headers: { "content-type": "application/x-www-form-urlencoded", ...headers },
  });

/** Requests and gives consent; returns the redirect. */
async function consented(parameters: Record<string, string>, key: string, decision = "allow") {
  const page = await gateway.request("GET", `/oauth/authorize?${new URLSearchParams(parameters)}`, { key: null });
  assert.equal(page.status, 200, page.text);
  return form(
    "/oauth/authorize",
    { ...parameters, decision, api_key: key },
    { origin: gateway.url, "sec-fetch-site": "same-origin" },
  );
}

type Flow = {
  tokens: oauth.TokenEndpointResponse;
  code: string;
  verifier: string;
  asked: Record<string, string>;
  back: URLSearchParams;
};

const asks = async (client: oauth.Client, more: Record<string, string> = {}) => {
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
async function flow({ client, secret }: Registered, key: string, more: Record<string, string> = {}): Promise<Flow> {
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

async function refreshed({ client }: Registered, token: string) {
  const response = await oauth.refreshTokenGrantRequest(as, client, oauth.None(), token, insecure);
  return oauth.processRefreshTokenResponse(as, client, response);
}

const isError = (code: string) => (error: unknown) => error instanceof oauth.ResponseBodyError && error.error === code;

test("metadata_is_complete_and_public", async () => {
  assert.equal(as.issuer, gateway.url);
  assert.deepEqual(as.code_challenge_methods_supported, ["S256"]);
  for (const path of ["", "/mcp", "/mcp/worker"]) {
    const answer = await gateway.request("GET", `/.well-known/oauth-protected-resource${path}`, { key: null });
    assert.equal(answer.headers.get("access-control-allow-origin"), "*");
    assert.equal(answer.json.resource, gateway.url + path);
    assert.equal(answer.json.scopes_supported.includes("offline_access"), false);
    const response = await oauth.resourceDiscoveryRequest(new URL(gateway.url + path), insecure);
    const found = await oauth.processResourceDiscoveryResponse(new URL(gateway.url + path), response);
    assert.deepEqual(found.authorization_servers, [gateway.url]);
  }
  for (const path of ["/.well-known/oauth-protected-resource/v1", "/.well-known/openid-configuration", "/oauth/none"]) {
    refused(await gateway.request("GET", path, { key: null }), 404, "not_found");
  }
  const bare = await gateway.request("GET", "/v1/whoami", { key: null });
  const where = `resource_metadata="${gateway.url}/.well-known/oauth-protected-resource"`;
  assert.equal(bare.headers.get("www-authenticate"), `Bearer ${where}`);
  assert.equal((await whoami("wrong")).headers.get("www-authenticate"), `Bearer error="invalid_token", ${where}`);
});

test("its_keys_are_public_and_have_no_private_parts", async () => {
  const { status, json: jwks } = await gateway.request("GET", "/oauth/jwks", { key: null });
  assert.equal(status, 200);
  assert.ok(jwks.keys.length > 0);
  for (const key of jwks.keys) {
    assert.deepEqual([key.kty, key.crv, key.alg, key.use], ["EC", "P-256", "ES256", "sig"]);
    for (const secret of ["d", "p", "q", "k"]) assert.equal(key[secret], undefined);
  }
  assert.equal((await gateway.request("HEAD", "/oauth/jwks", { key: null })).status, 200);
});

test("while_it_is_disabled_nothing_of_it_exists", async () => {
  const off = await startGateway();
  try {
    for (const path of [
      "/.well-known/oauth-authorization-server",
      "/.well-known/oauth-protected-resource",
      "/oauth/jwks",
    ]) {
      refused(await off.request("GET", path, { key: null }), 404, "not_found");
    }
    assert.equal((await off.request("GET", "/v1/whoami", { key: null })).headers.get("www-authenticate"), "Bearer");
  } finally {
    await off.stop();
  }
});

test("a_client_gets_a_token_for_itself_and_calls_with_it", async () => {
  for (const [method, auth] of [
    ["client_secret_basic", oauth.ClientSecretBasic],
    ["client_secret_post", oauth.ClientSecretPost],
  ] as const) {
    const known = await machine({ auth_method: method });
    const tokens = await byCredentials(known, {}, auth(known.secret));
    assert.deepEqual([tokens.token_type, tokens.expires_in, tokens.refresh_token], ["bearer", 300, undefined]);
    const keys = jose.createRemoteJWKSet(new URL(as.jwks_uri!));
    const { payload } = await jose.jwtVerify(tokens.access_token, keys, {
      issuer: gateway.url,
      audience: gateway.url,
      typ: "at+jwt",
    });
    assert.deepEqual([payload.sub, payload.client_id], [`client:${known.client.client_id}`, known.client.client_id]);
    const me = (await whoami(tokens.access_token)).json;
    assert.deepEqual([me.principal, me.tenant], [`client:${known.client.client_id}`, "default"]);
    assert.deepEqual(me.permissions, ["contexts:create:*", "contexts:read", "services:read"]);
    assert.equal((await create(gateway, {}, { key: tokens.access_token })).status, 200);
    refused(await gateway.request("GET", "/v1/keys", { key: tokens.access_token }), 403, "permission_denied");
  }
});

test("a_token_has_the_requested_scope_and_no_more_than_its_client", async () => {
  const known = await machine();
  const narrow = await byCredentials(known, { scope: "contexts:read keys:write" });
  assert.equal(narrow.scope, "contexts:read");
  assert.deepEqual((await whoami(narrow.access_token)).json.permissions, ["contexts:read"]);
  await assert.rejects(byCredentials(known, { scope: "keys:write" }), isError("invalid_scope"));
  await assert.rejects(byCredentials(known, { scope: "a:b:c:d" }), isError("invalid_scope"));
  await assert.rejects(byCredentials(known, { resource: "https://elsewhere.example.com" }), isError("invalid_target"));
  const mcp = await byCredentials(known, { resource: `${gateway.url}/mcp` });
  refused(await whoami(mcp.access_token), 401, "unauthenticated");
});

test("all_failed_client_authentications_get_the_same_response", async () => {
  const known = await machine();
  const publicly = await app();
  const basic = (id: string, secret: string) => ({
    authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString("base64")}`,
  });
  const grant = { grant_type: "client_credentials" };
  const { client_id } = known.client;
  const tries: [Record<string, string>, Record<string, string>?][] = [
    [grant, basic(client_id, "wrong")],
    [grant, basic("default.none", known.secret)],
    [grant, basic("other.client1", known.secret)],
    [grant, basic(publicly.client.client_id, "x")],
    [{ ...grant, client_id, client_secret: known.secret }],
    [{ ...grant, client_id }],
    [{ ...grant, client_id: "default.none", client_secret: "x" }],
  ];
  const words = new Set<string>();
  for (const [body, headers] of tries) {
    const answer = await form("/oauth/token", body, headers);
    assert.equal(answer.status, 401, answer.text);
    assert.equal(answer.json.error, "invalid_client");
    assert.equal(answer.headers.get("www-authenticate"), headers ? 'Basic realm="narthex"' : null);
    words.add(answer.text);
  }
  assert.equal(words.size, 1, "unknown and wrong look the same");
});

test("a_malformed_request_is_refused_as_the_standard_specifies", async () => {
  const known = await machine();
  const headers = {
    authorization: `Basic ${Buffer.from(`${known.client.client_id}:${known.secret}`).toString("base64")}`,
  };
  for (const [body, error] of [
    ["grant_type=client_credentials&grant_type=client_credentials", "invalid_request"],
    ["scope=contexts:read", "invalid_request"],
    ["grant_type=password", "unsupported_grant_type"],
    ["grant_type=refresh_token&refresh_token=x", "unauthorized_client"],
    ["grant_type=client_credentials&client_secret=x", "invalid_request"],
    [`grant_type=client_credentials&client_id=default.other`, "invalid_request"],
    ["x".repeat(70_000), "invalid_request"],
  ] as const) {
    const answer = await form("/oauth/token", body, headers);
    assert.deepEqual([answer.status, answer.json.error], [400, error], body.slice(0, 60));
    assert.equal(answer.headers.get("cache-control"), "no-store");
  }
  const asJson = await gateway.request("POST", "/oauth/token", {
    key: null,
    body: { grant_type: "client_credentials" },
  });
  assert.equal(asJson.json.error, "invalid_request");
  refused(await gateway.request("GET", "/oauth/token", { key: null }), 405, "method_not_allowed");
});

test("a_person_allows_an_app_by_code_and_proof_key", async () => {
  const known = await app();
  const ada = await makeKey(gateway, "caller");
  const { tokens } = await flow(known, ada.secret);
  assert.equal(tokens.scope, "contexts:create:* contexts:read");
  const me = (await whoami(tokens.access_token)).json;
  assert.deepEqual([me.principal, me.role], [`key:${ada.id}`, "caller"]);
  assert.deepEqual(me.permissions, ["contexts:create:*", "contexts:read"]);
  assert.equal((await create(gateway, {}, { key: tokens.access_token })).status, 200);
  refused(await gateway.request("GET", "/v1/services", { key: tokens.access_token }), 403, "permission_denied");
  // The port of a loopback address may differ.
  const native = await flow(known, ada.secret, { redirect_uri: "http://127.0.0.1:53123/cb" });
  assert.ok(native.tokens.access_token);
  const secretive = await app({ auth_method: "client_secret_post" });
  assert.ok((await flow(secretive, ada.secret)).tokens.refresh_token);
});

test("the_page_shows_who_requests_what_and_runs_no_scripts", async () => {
  const known = await app();
  const { asked } = await asks(known.client, { state: '"><script>alert(1)</script>' });
  const page = await gateway.request("GET", `/oauth/authorize?${new URLSearchParams(asked)}`, { key: null });
  const policy = page.headers.get("content-security-policy")!;
  // Browsers would apply a form-action to every redirect after the app's address.
  assert.match(policy, /^default-src 'none'; style-src 'sha256-[^']+'; frame-ancestors 'none'; base-uri 'none'$/);
  assert.equal(page.headers.get("x-frame-options"), "DENY");
  assert.ok(page.text.includes("A client &lt;b&gt;of&lt;/b&gt; the tests asks to act for you"));
  for (const words of ["app.example.com", "have work done by any service you may use", "<code>contexts:read</code>"]) {
    assert.ok(page.text.includes(words), words);
  }
  assert.equal(page.text.includes("<script"), false);
  assert.equal(page.text.includes("http://"), false, "nothing from elsewhere");
});

test("errors_of_a_request_are_redirected_only_to_a_known_address", async () => {
  const known = await app();
  const { asked } = await asks(known.client);
  const get = (change: Record<string, string>) => {
    const query = Object.entries({ ...asked, ...change }).filter(([, value]) => value !== "");
    return gateway.request("GET", `/oauth/authorize?${new URLSearchParams(query)}`, { key: null });
  };
  for (const change of [
    { client_id: "default.none" },
    { client_id: "" },
    { redirect_uri: `${callback}/x` },
    { redirect_uri: "" },
    { redirect_uri: "https://evil.example.com/" },
  ] as Record<string, string>[]) {
    const page = await get(change);
    assert.equal(page.status, 400, JSON.stringify(change));
    assert.equal(page.headers.get("location"), null);
  }
  const machineClient = await machine();
  assert.equal((await get({ client_id: machineClient.client.client_id })).status, 400);
  for (const [change, error] of [
    [{ response_type: "token" }, "unsupported_response_type"],
    [{ response_type: "" }, "invalid_request"],
    [{ code_challenge: "" }, "invalid_request"],
    [{ code_challenge_method: "plain" }, "invalid_request"],
    [{ code_challenge_method: "" }, "invalid_request"],
    [{ code_challenge: "short" }, "invalid_request"],
    [{ scope: "keys:write" }, "invalid_scope"],
    [{ resource: "https://elsewhere.example.com" }, "invalid_target"],
  ] as [Record<string, string>, string][]) {
    const answer = await get(change);
    assert.equal(answer.status, 303, answer.text);
    const back = new URL(answer.headers.get("location")!);
    assert.equal(back.origin + back.pathname, callback);
    assert.deepEqual(
      [back.searchParams.get("error"), back.searchParams.get("state"), back.searchParams.get("iss")],
      [error, asked.state, gateway.url],
    );
  }
  const denied = await consented(asked, "", "deny");
  assert.equal(new URL(denied.headers.get("location")!).searchParams.get("error"), "access_denied");
});

test("only_a_key_with_the_permissions_can_grant_them", async () => {
  const known = await app();
  const { asked } = await asks(known.client);
  const viewer = await makeKey(gateway, "service", ["services:heartbeat:worker"]);
  const machineToken = (await byCredentials(await machine())).access_token;
  for (const key of ["", "not-a-key", viewer.secret, machineToken]) {
    const page = await consented(asked, key);
    assert.equal(page.status, 403, page.text);
    assert.equal(page.headers.get("location"), null);
    assert.ok(page.text.includes('role="alert"') && !(key && page.text.includes(key)));
  }
  const ada = await makeKey(gateway, "caller");
  const posted = { ...asked, decision: "allow", api_key: ada.secret };
  for (const headers of [{ origin: "https://evil.example.com" }, { "sec-fetch-site": "cross-site" }] as Record<
    string,
    string
  >[]) {
    assert.equal((await form("/oauth/authorize", posted, headers)).status, 400);
  }
});

test("a_code_is_valid_once_and_its_replay_revokes_its_tokens", async () => {
  const known = await app();
  const { secret } = await makeKey(gateway, "caller");
  const { tokens, back, asked, verifier } = await flow(known, secret);
  assert.equal((await whoami(tokens.access_token)).status, 200);
  const again = await oauth.authorizationCodeGrantRequest(
    as,
    known.client,
    oauth.None(),
    back,
    callback,
    verifier,
    insecure,
  );
  await assert.rejects(oauth.processAuthorizationCodeResponse(as, known.client, again), isError("invalid_grant"));
  refused(await whoami(tokens.access_token), 401, "unauthenticated");
  await assert.rejects(refreshed(known, tokens.refresh_token!), isError("invalid_grant"));
  // Wrong verifiers, other clients, other addresses.
  const other = await app();
  for (const change of [
    { code_verifier: "x".repeat(43) },
    { client_id: other.client.client_id },
    { redirect_uri: `${callback}?` },
    { code: "nxg_default.x.c.y.z" },
  ] as Record<string, string>[]) {
    const sent = await consented(asked, secret);
    const code = new URL(sent.headers.get("location")!).searchParams.get("code")!;
    const body = {
      grant_type: "authorization_code",
      code,
      code_verifier: verifier,
      redirect_uri: callback,
      client_id: known.client.client_id,
      ...change,
    };
    const answer = await form("/oauth/token", body);
    assert.deepEqual([answer.status, answer.json.error], [400, "invalid_grant"], JSON.stringify(change));
  }
});

test("twenty_concurrent_uses_of_one_code_yield_tokens_once", async () => {
  const known = await app();
  const { secret } = await makeKey(gateway, "caller");
  const { asked, verifier } = await asks(known.client);
  const code = new URL((await consented(asked, secret)).headers.get("location")!).searchParams.get("code")!;
  const body = {
    grant_type: "authorization_code",
    code,
    code_verifier: verifier,
    redirect_uri: callback,
    client_id: known.client.client_id,
  };
  const all = await Promise.all(Array.from({ length: 20 }, () => form("/oauth/token", body)));
  assert.equal(all.filter(({ status }) => status === 200).length <= 1, true);
  assert.equal(all.filter(({ json }) => json.error === "invalid_grant").length >= 19, true);
});

test("refresh_tokens_rotate_and_a_used_one_ends_the_grant", async () => {
  const known = await app();
  const { secret } = await makeKey(gateway, "caller");
  const { tokens: first } = await flow(known, secret);
  const second = await refreshed(known, first.refresh_token!);
  const third = await refreshed(known, second.refresh_token!);
  assert.notEqual(second.refresh_token, third.refresh_token);
  assert.equal((await whoami(third.access_token)).status, 200);
  await assert.rejects(refreshed(known, first.refresh_token!), isError("invalid_grant"));
  await assert.rejects(refreshed(known, third.refresh_token!), isError("invalid_grant"));
  for (const { access_token } of [first, second, third]) refused(await whoami(access_token), 401, "unauthenticated");
});

test("of_twenty_refreshes_at_once_all_are_answered_alike_and_later_reuse_ends_the_grant", async () => {
  const known = await app();
  const { secret } = await makeKey(gateway, "caller");
  const { tokens } = await flow(known, secret);
  const body = { grant_type: "refresh_token", refresh_token: tokens.refresh_token!, client_id: known.client.client_id };
  const all = await Promise.all(Array.from({ length: 20 }, () => form("/oauth/token", body)));
  assert.deepEqual(
    all.map(({ status }) => status),
    all.map(() => 200),
    all.find(({ status }) => status !== 200)?.text,
  );
  const next = new Set(all.map(({ json }) => json.refresh_token));
  assert.equal(next.size, 1, "one refresh token takes its place");
  for (const { json } of all.slice(0, 3)) assert.equal((await whoami(json.access_token)).status, 200);
  // Once the new one is in use, the old one must be a stolen copy.
  const last = await refreshed(known, [...next][0]!);
  assert.equal((await whoami(last.access_token)).status, 200);
  assert.equal((await form("/oauth/token", body)).json.error, "invalid_grant");
  await assert.rejects(refreshed(known, last.refresh_token!), isError("invalid_grant"));
  for (const { json } of all.slice(0, 3)) refused(await whoami(json.access_token), 401, "unauthenticated");
});

test("without_repeated_answers_one_of_twenty_refreshes_wins_and_the_grant_ends", async () => {
  const strict = await startGateway({ vars: { OAUTH: "true", OAUTH_RETRY_SECONDS: "0" } });
  try {
    const post = (path: string, members: Record<string, string>) =>
      strict.request("POST", path, {
        key: null,
        body: new URLSearchParams(members).toString(),
        headers: { "content-type": "application/x-www-form-urlencoded" },
      });
    const { json: client } = await strict.request("PUT", "/v1/clients/app", {
      body: {
        name: "App",
        grant_types: ["authorization_code", "refresh_token"],
        auth_method: "none",
        redirect_uris: [callback],
        scope: "contexts:create:* contexts:read",
      },
    });
    const { client_id } = client;
    const { asked, verifier } = await asks({ client_id });
    const sent = await post("/oauth/authorize", { ...asked, decision: "allow", api_key: strict.adminKey });
    const code = new URL(sent.headers.get("location")!).searchParams.get("code")!;
    const first = await post("/oauth/token", {
      grant_type: "authorization_code",
      code,
      code_verifier: verifier,
      client_id,
    });
    const body = { grant_type: "refresh_token", refresh_token: first.json.refresh_token, client_id };
    const all = await Promise.all(Array.from({ length: 20 }, () => post("/oauth/token", body)));
    const won = all.filter(({ status }) => status === 200);
    assert.ok(won.length <= 1, `${won.length} won`);
    for (const { status, json } of all)
      if (status !== 200) assert.deepEqual([status, json.error], [400, "invalid_grant"]);
    for (const { json } of won) {
      assert.equal(
        (await post("/oauth/token", { ...body, refresh_token: json.refresh_token })).json.error,
        "invalid_grant",
      );
      refused(await strict.request("GET", "/v1/whoami", { key: json.access_token }), 401, "unauthenticated");
    }
  } finally {
    await strict.stop();
  }
});

test("a_refusal_uses_up_neither_the_refresh_token_nor_the_code", async () => {
  const known = await app({ auth_method: "client_secret_post" });
  const { id, secret } = await makeKey(gateway, "caller");
  const { asked, verifier } = await asks(known.client, { resource: `${gateway.url}/mcp` });
  const code = new URL((await consented(asked, secret)).headers.get("location")!).searchParams.get("code")!;
  const proof = { client_id: known.client.client_id, client_secret: known.secret };
  const ask = async (good: Record<string, string>, change: Record<string, string>) => {
    const members = Object.entries({ ...good, ...change }).filter(([, value]) => value !== "");
    return form("/oauth/token", new URLSearchParams(members).toString());
  };
  const redeem = {
    grant_type: "authorization_code",
    code,
    code_verifier: verifier,
    redirect_uri: callback,
    resource: `${gateway.url}/mcp`,
    ...proof,
  };
  for (const [change, error] of [
    [{ resource: `${gateway.url}/mcp/other` }, "invalid_target"],
    [{ resource: "https://elsewhere.example.com" }, "invalid_target"],
    [{ client_secret: "wrong" }, "invalid_client"],
    [{ client_secret: "" }, "invalid_client"],
    [{ code_verifier: "" }, "invalid_request"],
    [{ code_verifier: "x".repeat(43) }, "invalid_grant"],
    [{ redirect_uri: `${callback}/` }, "invalid_grant"],
  ] as [Record<string, string>, string][]) {
    assert.equal((await ask(redeem, change)).json.error, error, JSON.stringify(change));
  }
  const first = await ask(redeem, {});
  assert.equal(first.status, 200, first.text);
  const refresh = { grant_type: "refresh_token", refresh_token: first.json.refresh_token, ...proof };
  for (const [change, error] of [
    [{ resource: `${gateway.url}/mcp/other` }, "invalid_target"],
    [{ resource: gateway.url }, "invalid_target"],
    [{ resource: "x" }, "invalid_target"],
    [{ scope: "keys:write" }, "invalid_scope"],
    [{ scope: "a:b:c:d" }, "invalid_scope"],
    [{ client_secret: "wrong" }, "invalid_client"],
    [{ client_secret: "" }, "invalid_client"],
    [{ refresh_token: "" }, "invalid_request"],
    [{ grant_type: "refresh" }, "unsupported_grant_type"],
  ] as [Record<string, string>, string][]) {
    assert.equal((await ask(refresh, change)).json.error, error, JSON.stringify(change));
  }
  const second = await ask(refresh, { resource: `${gateway.url}/mcp` });
  assert.equal(second.status, 200, second.text);
  assert.notEqual(second.json.refresh_token, first.json.refresh_token);
  // The person temporarily has no permissions to give: that changes nothing either.
  await gateway.request("DELETE", `/v1/keys/${id}`);
  assert.equal((await ask(refresh, { refresh_token: second.json.refresh_token })).json.error, "invalid_grant");
});

test("a_verifier_can_be_guessed_only_three_times", async () => {
  const known = await app();
  const { secret } = await makeKey(gateway, "caller");
  const { asked, verifier } = await asks(known.client);
  const code = new URL((await consented(asked, secret)).headers.get("location")!).searchParams.get("code")!;
  const redeem = (code_verifier: string) =>
    form("/oauth/token", {
      grant_type: "authorization_code",
      code,
      code_verifier,
      redirect_uri: callback,
      client_id: known.client.client_id,
    });
  const guesses = await Promise.all(["a", "b", "c"].map((letter) => redeem(letter.repeat(43))));
  assert.deepEqual(
    guesses.map(({ json }) => json.error),
    ["invalid_grant", "invalid_grant", "invalid_grant"],
  );
  assert.equal((await redeem(verifier)).json.error, "invalid_grant");
});

test("a_code_is_answered_again_to_an_authenticated_client_if_enabled", async () => {
  const kind = await startGateway({ vars: { OAUTH: "true", OAUTH_CODE_RETRY_SECONDS: "30" } });
  try {
    const post = (path: string, members: Record<string, string>) =>
      kind.request("POST", path, {
        key: null,
        body: new URLSearchParams(members).toString(),
        headers: { "content-type": "application/x-www-form-urlencoded" },
      });
    const { json: client } = await kind.request("PUT", "/v1/clients/app", {
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
      const sent = await post("/oauth/authorize", { ...asked, decision: "allow", api_key: kind.adminKey });
      const code = new URL(sent.headers.get("location")!).searchParams.get("code")!;
      return { grant_type: "authorization_code", code, code_verifier: verifier, redirect_uri: callback, client_id };
    };
    const body = await allowed();
    const twice = await Promise.all([post("/oauth/token", body), post("/oauth/token", body)]);
    assert.deepEqual(
      twice.map(({ status }) => status),
      [200, 200],
    );
    assert.equal(twice[0]!.json.refresh_token, twice[1]!.json.refresh_token);
    // Once the token is in use, the response was not lost.
    const next = await post("/oauth/token", {
      grant_type: "refresh_token",
      refresh_token: twice[0]!.json.refresh_token,
      client_id,
    });
    assert.equal(next.status, 200, next.text);
    assert.equal((await post("/oauth/token", body)).json.error, "invalid_grant");
    refused(await kind.request("GET", "/v1/whoami", { key: next.json.access_token }), 401, "unauthenticated");
    // Without the verifier it must be a stolen copy.
    const stolen = await allowed();
    const good = await post("/oauth/token", stolen);
    assert.equal(
      (await post("/oauth/token", { ...stolen, code_verifier: "x".repeat(43) })).json.error,
      "invalid_grant",
    );
    refused(await kind.request("GET", "/v1/whoami", { key: good.json.access_token }), 401, "unauthenticated");
  } finally {
    await kind.stop();
  }
});

test("unknown_words_in_a_scope_grant_nothing", async () => {
  const known = await app();
  const { secret } = await makeKey(gateway, "caller");
  const { tokens } = await flow(known, secret, { scope: "openid profile email offline_access contexts:read" });
  assert.equal(tokens.scope, "contexts:read");
  assert.deepEqual((await whoami(tokens.access_token)).json.permissions, ["contexts:read"]);
  const { tokens: all } = await flow(known, secret, { scope: "openid profile email" });
  assert.equal(
    all.scope,
    "contexts:create:* contexts:read services:read",
    "without a permission it is all the client may have",
  );
  const machineToken = await byCredentials(await machine(), { scope: "openid profile contexts:read" });
  assert.equal(machineToken.scope, "contexts:read");
});

test("a_redirect_address_is_the_registered_one_byte_for_byte", async () => {
  const known = await app({ redirect_uris: ["http://127.0.0.1/done", "https://app.example.com/done?a=b"] });
  const { secret } = await makeKey(gateway, "caller");
  for (const redirect_uri of ["http://127.0.0.1:53123/done", "https://app.example.com/done?a=b"]) {
    const { asked } = await asks(known.client, { redirect_uri });
    const sent = await consented(asked, secret);
    assert.equal(sent.status, 303, sent.text);
    const joint = redirect_uri.includes("?") ? "&" : "?";
    assert.ok(sent.headers.get("location")!.startsWith(`${redirect_uri}${joint}code=`), sent.headers.get("location")!);
  }
  for (const redirect_uri of [
    "http://127.0.0.1:99/do\nne",
    "http://127.0.0.1:99/do\tne",
    "http://127.0.0.1:99/done\r",
    " http://127.0.0.1:99/done",
    "http:\\\\127.0.0.1:99\\done",
    "http://127.0.0.1:99/./done",
    "http://127.0.0.1:99/d%6fne",
    "http://127.0.0.1:099/done",
    "http://127.0.0.1:/done",
    "HTTP://127.0.0.1:99/done",
    "http://127.1:99/done",
    "http://2130706433:99/done",
    "http://user@127.0.0.1:99/done",
    "http://127.0.0.1:99@evil.example.com/done",
    "http://127.0.0.1:99/done#",
    "https://app.example.com:443/done?a=b",
    "https://APP.example.com/done?a=b",
    "https://app.example.com/done?a=b&",
    "https://app.example.com/done?a=b\u0000",
  ]) {
    const { asked } = await asks(known.client, { redirect_uri });
    const page = await gateway.request("GET", `/oauth/authorize?${new URLSearchParams(asked)}`, { key: null });
    assert.deepEqual([page.status, page.headers.get("location")], [400, null], redirect_uri);
    const posted = await form("/oauth/authorize", { ...asked, decision: "allow", api_key: secret });
    assert.deepEqual([posted.status, posted.headers.get("location")], [400, null], redirect_uri);
  }
});

test("a_refresh_may_narrow_the_scope_and_never_widen_it", async () => {
  const known = await app();
  const { secret } = await makeKey(gateway, "caller");
  const { tokens } = await flow(known, secret);
  const refresh = (token: string, more: object) =>
    form("/oauth/token", {
      grant_type: "refresh_token",
      refresh_token: token,
      client_id: known.client.client_id,
      ...more,
    });
  const narrow = await refresh(tokens.refresh_token!, { scope: "contexts:read services:read" });
  assert.equal(narrow.json.scope, "contexts:read");
  const wide = await refresh(narrow.json.refresh_token, {});
  assert.equal(wide.json.scope, "contexts:create:* contexts:read", "what was allowed stays");
  assert.equal(
    (await refresh(wide.json.refresh_token, { resource: `${gateway.url}/mcp` })).json.error,
    "invalid_target",
  );
});

test("tokens_end_with_their_key_or_client", async () => {
  const [known, other] = [await app(), await app()];
  const [ada, bob] = [await makeKey(gateway, "caller"), await makeKey(gateway, "caller")];
  const [byAda, byBob] = [(await flow(known, ada.secret)).tokens, (await flow(other, bob.secret)).tokens];
  await gateway.request("DELETE", `/v1/keys/${ada.id}`);
  refused(await whoami(byAda.access_token), 401, "unauthenticated");
  refused(await create(gateway, {}, { key: byAda.access_token }), 401, "unauthenticated");
  await assert.rejects(refreshed(known, byAda.refresh_token!), isError("invalid_grant"));
  assert.equal((await whoami(byBob.access_token)).status, 200);
  assert.equal((await remove(other.id)).status, 204);
  refused(await whoami(byBob.access_token), 401, "unauthenticated");
});

test("a_client_revokes_only_its_own_tokens", async () => {
  const known = await app();
  const other = await app();
  const { secret } = await makeKey(gateway, "caller");
  const revoke = async (by: Registered, token: string, auth: oauth.ClientAuth = oauth.None()) =>
    oauth.processRevocationResponse(await oauth.revocationRequest(as, by.client, auth, token, insecure));
  const { tokens: one } = await flow(known, secret);
  await revoke(other, one.refresh_token!);
  await revoke(other, one.access_token);
  assert.equal((await form("/oauth/revoke", { token: "nonsense", client_id: known.client.client_id })).status, 200);
  assert.equal((await whoami(one.access_token)).status, 200);
  await revoke(known, one.refresh_token!);
  refused(await whoami(one.access_token), 401, "unauthenticated");
  await assert.rejects(refreshed(known, one.refresh_token!), isError("invalid_grant"));
  const { tokens: two } = await flow(known, secret);
  await revoke(known, two.access_token);
  refused(await whoami(two.access_token), 401, "unauthenticated");
  await assert.rejects(refreshed(known, two.refresh_token!), isError("invalid_grant"));
  const self = await machine();
  const alone = await byCredentials(self);
  const another = await byCredentials(self);
  await revoke(self, alone.access_token, oauth.ClientSecretBasic(self.secret));
  refused(await whoami(alone.access_token), 401, "unauthenticated");
  assert.equal((await whoami(another.access_token)).status, 200);
});

test("introspection_describes_a_clients_own_tokens_and_no_others", async () => {
  const asker = await machine();
  const known = await app({ auth_method: "client_secret_post" });
  const { id, secret } = await makeKey(gateway, "caller");
  const { tokens } = await flow(known, secret);
  const auth = oauth.ClientSecretBasic(asker.secret);
  const ask = async (token: string, by = asker, how = auth) =>
    oauth.processIntrospectionResponse(
      as,
      by.client,
      await oauth.introspectionRequest(as, by.client, how, token, insecure),
    );
  const introspected = await ask(tokens.access_token);
  assert.deepEqual(
    [introspected.active, introspected.sub, introspected.client_id, introspected.scope, introspected.aud],
    [true, `key:${id}`, known.client.client_id, tokens.scope, gateway.url],
  );
  assert.deepEqual(await ask(tokens.refresh_token!), { active: false }, "another client's refresh token");
  const own = await ask(tokens.refresh_token!, known, oauth.ClientSecretPost(known.secret));
  assert.deepEqual([own.active, own.client_id], [true, known.client.client_id]);
  for (const token of ["x", gateway.adminKey, secret, tokens.access_token.slice(0, -4) + "AAAA"])
    assert.deepEqual(await ask(token), { active: false });
  await gateway.request("DELETE", `/v1/keys/${id}`);
  assert.deepEqual(await ask(tokens.access_token), { active: false });
  const { client, secret: shown } = await machine({ auth_method: "client_secret_post" });
  const raw = await form("/oauth/introspect", { token: "x", client_id: client.client_id, client_secret: shown });
  assert.deepEqual([raw.status, raw.json], [200, { active: false }]);
  const publicly = await app();
  const answer = await form("/oauth/introspect", { token: "x", client_id: publicly.client.client_id });
  assert.deepEqual([answer.status, answer.json.error], [401, "invalid_client"]);
});

test("a_client_assertion_is_valid_once", async () => {
  const { publicKey, privateKey } = await jose.generateKeyPair("ES256", { extractable: true });
  const known = await machine({
    auth_method: "private_key_jwt",
    keys: [{ ...(await jose.exportJWK(publicKey)), kid: "k" }],
  });
  const tokens = await byCredentials(known, {}, oauth.PrivateKeyJwt({ key: privateKey as CryptoKey, kid: "k" }));
  assert.equal((await whoami(tokens.access_token)).status, 200);
  const { client_id } = known.client;
  const assertion = (change: object = {}) => {
    const now = Math.floor(Date.now() / 1000);
    const claims = {
      iss: client_id,
      sub: client_id,
      aud: gateway.url,
      jti: crypto.randomUUID(),
      iat: now,
      exp: now + 60,
      ...change,
    };
    return new jose.SignJWT(claims).setProtectedHeader({ alg: "ES256", kid: "k" }).sign(privateKey);
  };
  const ask = async (client_assertion: string) =>
    (
      await form("/oauth/token", {
        grant_type: "client_credentials",
        client_assertion,
        client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
      })
    ).status;
  const once = await assertion();
  assert.deepEqual([await ask(once), await ask(once)], [200, 401]);
  for (const change of [
    { aud: "https://elsewhere.example.com" },
    { iss: "default.other" },
    { exp: Math.floor(Date.now() / 1000) - 120 },
    { exp: Math.floor(Date.now() / 1000) + 86_400 },
    { jti: undefined },
    { exp: undefined },
  ])
    assert.equal(await ask(await assertion(change)), 401, JSON.stringify(change));
});

test("a_client_is_a_document_at_its_own_address", async () => {
  const server = await startService();
  try {
    const id = `${server.url}client.json`;
    const document = {
      client_id: id,
      client_name: "Elsewhere",
      redirect_uris: [callback],
      token_endpoint_auth_method: "none",
    };
    server.probe = json(document);
    const { secret } = await makeKey(gateway, "caller");
    const known = { client: { client_id: id }, secret: "", id };
    const { tokens } = await flow(known, secret);
    assert.equal((await whoami(tokens.access_token)).status, 200);
    assert.ok((await refreshed(known, tokens.refresh_token!)).access_token);
    const { asked } = await asks(known.client);
    for (const bad of [
      { ...document, client_id: `${id}x` },
      { ...document, redirect_uris: ["https://evil.example.com/"] },
      { ...document, client_secret: "x" },
    ]) {
      server.probe = json(bad);
      assert.equal(
        (await gateway.request("GET", `/oauth/authorize?${new URLSearchParams(asked)}`, { key: null })).status,
        400,
      );
    }
  } finally {
    await server.stop();
  }
});

test("a_person_signs_in_with_an_outside_issuer_instead_of_a_key", async () => {
  const provider = await startService();
  try {
    const { publicKey, privateKey } = await jose.generateKeyPair("RS256", { extractable: true });
    const iss = provider.url.slice(0, -1);
    const body = {
      issuer: iss,
      audience: "https://api.example.com",
      keys: [{ ...(await jose.exportJWK(publicKey)), kid: "k" }],
      algorithms: ["RS256"],
      claims: { role: "roles" },
      roles: { staff: "caller" },
      sign_in: {
        client_id: "narthex",
        client_secret: "a secret",
        authorization_endpoint: `${provider.url}authorize`,
        token_endpoint: `${provider.url}token`,
      },
    };
    const put = await gateway.request("PUT", "/v1/issuers/corp", { body });
    assert.equal(put.status, 201, put.text);
    assert.equal(put.text.includes("a secret"), false);
    const known = await app();
    const { asked, verifier, state } = await asks(known.client);
    const page = await gateway.request("GET", `/oauth/authorize?${new URLSearchParams(asked)}`, { key: null });
    assert.ok(page.text.includes("Sign in with corp"));
    assert.equal(
      page.headers.get("content-security-policy")!.includes("form-action"),
      false,
      "the form may lead there",
    );

    /** Begins a sign-in; returns the request to the issuer, and the browser's cookie. */
    const begin = async () => {
      const sent = await form("/oauth/authorize", { ...asked, sign_in: "corp" });
      assert.equal(sent.status, 303, sent.text);
      const cookie = sent.headers.get("set-cookie")!;
      assert.match(cookie, /^__Host-narthex-sign-in=\S+; Path=\/; Max-Age=600; HttpOnly; Secure; SameSite=Lax$/);
      return { cookie: cookie.split(";")[0]!, query: new URL(sent.headers.get("location")!).searchParams };
    };
    /** Lets the issuer respond with an ID token of these claims; returns the page after the redirect. */
    const comeBack = async (change: object = {}, more: Record<string, string> = {}, withCookie = true) => {
      const { cookie, query } = await begin();
      const now = Math.floor(Date.now() / 1000);
      const claims = {
        iss,
        aud: "narthex",
        sub: "ada",
        iat: now,
        exp: now + 60,
        nonce: query.get("nonce"),
        roles: ["staff"],
        ...change,
      };
      const id_token = await new jose.SignJWT(claims as jose.JWTPayload)
        .setProtectedHeader({ alg: "RS256", kid: "k" })
        .sign(privateKey);
      provider.handler = json({ access_token: "x", token_type: "Bearer", id_token });
      const back = new URLSearchParams({ code: "c1", state: query.get("state")!, iss, ...more });
      return gateway.request("GET", `/oauth/signed-in?${back}`, { key: null, headers: withCookie ? { cookie } : {} });
    };
    const { query } = await begin();
    assert.deepEqual(
      ["response_type", "client_id", "redirect_uri", "scope", "code_challenge_method"].map((name) => query.get(name)),
      ["code", "narthex", `${gateway.url}/oauth/signed-in`, "openid", "S256"],
    );
    const signedIn = await comeBack();
    assert.equal(signedIn.status, 200, signedIn.text);
    assert.ok(
      signedIn.text.includes("You are signed in as <strong>issuer:corp:ada</strong>") &&
        !signedIn.text.includes("api_key"),
    );
    const call = provider.calls.at(-1)!;
    assert.equal(call.headers.authorization, `Basic ${Buffer.from("narthex:a+secret").toString("base64")}`);
    const sentForm = new URLSearchParams(call.raw.toString());
    assert.deepEqual([sentForm.get("code"), sentForm.get("grant_type")], ["c1", "authorization_code"]);

    const person = signedIn.text.match(/name="person" value="([^"]+)"/)![1]!;
    const sent = await form("/oauth/authorize", { ...asked, decision: "allow", person });
    assert.equal(sent.status, 303, sent.text);
    const back = oauth.validateAuthResponse(as, known.client, new URL(sent.headers.get("location")!), state);
    const response = await oauth.authorizationCodeGrantRequest(
      as,
      known.client,
      oauth.None(),
      back,
      callback,
      verifier,
      insecure,
    );
    const tokens = await oauth.processAuthorizationCodeResponse(as, known.client, response);
    const me = (await whoami(tokens.access_token)).json;
    assert.deepEqual(
      [me.principal, me.role, me.permissions],
      ["issuer:corp:ada", "caller", ["contexts:create:*", "contexts:read"]],
    );
    assert.ok((await refreshed(known, tokens.refresh_token!)).access_token);

    const forged = person.replace(/^./, (first) => (first === "e" ? "f" : "e"));
    assert.equal((await form("/oauth/authorize", { ...asked, decision: "allow", person: forged })).status, 403);
    // Responses for another browser are ignored; all other failures are reported to the app.
    const bad: [object, Record<string, string>?, boolean?][] = [
      [{}, { state: "another" }],
      [{}, { iss: "https://evil.example.com" }],
      [{}, {}, false],
    ];
    for (const one of bad) assert.equal((await comeBack(...one)).status, 400, JSON.stringify(one));
    const failed: [string, object, Record<string, string>?][] = [
      ["server_error", { nonce: "another" }],
      ["server_error", { aud: "https://api.example.com" }],
      ["server_error", { azp: "another" }],
      ["server_error", { iss: `${iss}/` }],
      ["server_error", { exp: 1 }],
      ["access_denied", { roles: ["others"] }],
      ["server_error", {}, { code: "" }],
    ];
    for (const [error, ...one] of failed) {
      const response = await comeBack(...one);
      assert.equal(response.status, 303, JSON.stringify(one));
      const back = new URL(response.headers.get("location")!);
      assert.equal(back.origin + back.pathname, callback);
      const said = ["error", "state", "iss", "code"].map((name) => back.searchParams.get(name));
      assert.deepEqual(said, [error, state, gateway.url, null], JSON.stringify(one));
    }
    assert.equal((await form("/oauth/authorize", { ...asked, sign_in: "none" })).status, 303);
    // Deleting the issuer ends everything.
    const gone = await gateway.request("DELETE", "/v1/issuers/corp", { headers: { "if-match": "*" } });
    assert.equal(gone.status, 204);
    refused(await whoami(tokens.access_token), 401, "unauthenticated");
  } finally {
    await provider.stop();
  }
});

test("a_client_registers_itself_if_enabled", async () => {
  refused(
    await gateway.request("POST", "/oauth/register", { key: null, body: { redirect_uris: [callback] } }),
    404,
    "not_found",
  );
  const open = await startGateway({ vars: { OAUTH: "true", OAUTH_REGISTRATION: "true" } });
  try {
    const issuer = new URL(open.url);
    const found = await oauth.processDiscoveryResponse(
      issuer,
      await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...insecure }),
    );
    assert.equal(found.registration_endpoint, `${open.url}/oauth/register`);
    const metadata = {
      client_name: "Itself",
      redirect_uris: [callback],
      grant_types: ["authorization_code", "refresh_token"],
    };
    const registration = await oauth.dynamicClientRegistrationRequest(found, metadata, insecure);
    const client = await oauth.processDynamicClientRegistrationResponse(registration);
    assert.match(client.client_id, /^default\.dyn-/);
    const { asked, verifier, state } = await asks(client);
    const { json: key } = await open.request("POST", "/v1/keys", { body: { name: "ada", role: "caller" } });
    const sent = await open.request("POST", "/oauth/authorize", {
      key: null,
      body: new URLSearchParams({ ...asked, decision: "allow", api_key: key.secret }).toString(),
      headers: { "content-type": "application/x-www-form-urlencoded" },
    });
    const back = oauth.validateAuthResponse(found, client, new URL(sent.headers.get("location")!), state);
    const auth = oauth.ClientSecretBasic(client.client_secret as string);
    const response = await oauth.authorizationCodeGrantRequest(found, client, auth, back, callback, verifier, insecure);
    assert.ok((await oauth.processAuthorizationCodeResponse(found, client, response)).refresh_token);
    const post = (body: object) => open.request("POST", "/oauth/register", { key: null, body });
    for (const [body, error] of [
      [{}, "invalid_redirect_uri"],
      [{ redirect_uris: ["http://app.example.com/"] }, "invalid_redirect_uri"],
      [{ redirect_uris: [callback], grant_types: ["client_credentials"] }, "invalid_client_metadata"],
      [{ redirect_uris: [callback], token_endpoint_auth_method: "tls_client_auth" }, "invalid_client_metadata"],
      [{ redirect_uris: [callback], token_endpoint_auth_method: "private_key_jwt" }, "invalid_client_metadata"],
      [{ redirect_uris: [callback], jwks_uri: {} }, "invalid_client_metadata"],
      [{ redirect_uris: [callback], scope: "a? b?" }, "invalid_client_metadata"],
    ] as const)
      assert.equal((await post(body)).json.error, error, JSON.stringify(body));
    const publicly = await post({ redirect_uris: [callback], token_endpoint_auth_method: "none", logo_uri: "x" });
    assert.deepEqual([publicly.status, publicly.json.client_secret], [201, undefined]);
    const nameless = await post({ redirect_uris: [callback], client_name: "", scope: "" });
    assert.equal(nameless.status, 201);
    assert.ok(
      nameless.json.client_name.startsWith("dyn-") && nameless.json.scope.includes("contexts:read"),
      nameless.text,
    );
  } finally {
    await open.stop();
  }
});

test("keys_rotate_and_tokens_of_the_previous_one_stay_valid", async () => {
  // A key signs for four seconds, and is published one second before.
  const quick = await startGateway({ vars: { OAUTH: "true", OAUTH_KEY_DAYS: String(8 / 86_400) } });
  try {
    const body = {
      name: "ci",
      grant_types: ["client_credentials"],
      auth_method: "client_secret_post",
      scope: "contexts:read",
    };
    const { client_id, secret } = (await quick.request("PUT", "/v1/clients/ci", { body })).json;
    const token = async () => {
      const answer = await fetch(`${quick.url}/oauth/token`, {
        method: "POST",
        body: new URLSearchParams({ grant_type: "client_credentials", client_id, client_secret: secret }),
      });
      return ((await answer.json()) as any).access_token as string;
    };
    const published = async () =>
      ((await (await fetch(`${quick.url}/oauth/jwks`)).json()) as any).keys.map(({ kid }: any) => kid);
    const first = await token();
    const { kid } = jose.decodeProtectedHeader(first);
    assert.deepEqual(await published(), [kid]);
    // The next is known for two seconds before it signs.
    const both = await eventually(async () => {
      const kids = await published();
      return kids.length === 2 && kids;
    });
    assert.equal(jose.decodeProtectedHeader(await token()).kid, kid);
    const next = both.find((one: string) => one !== kid);
    await eventually(async () => jose.decodeProtectedHeader(await token()).kid === next);
    assert.equal((await quick.request("GET", "/v1/whoami", { key: first })).status, 200, "the last one is still known");
  } finally {
    await quick.stop();
  }
});

test("a_client_is_registered_replaced_and_deleted_under_its_entity_tag", async () => {
  const body = { name: "CI", grant_types: ["client_credentials"], scope: "contexts:read" };
  const put = (headers: Record<string, string> = {}, more: object = {}) =>
    gateway.request("PUT", "/v1/clients/document", { body: { ...body, ...more }, headers });
  const made = await put();
  assert.deepEqual([made.status, made.headers.get("etag"), made.json.client_id], [201, '"1"', "default.document"]);
  assert.ok(made.json.secret.startsWith("nxs_"));
  refused(await put(), 428, "precondition_required");
  const replaced = await put({ "if-match": '"1"' }, { scope: "contexts:read services:read" });
  assert.deepEqual([replaced.status, replaced.json.secret], [200, undefined], "the secret stays and is not shown");
  const read = await gateway.request("GET", "/v1/clients/document");
  assert.equal(read.text.includes(made.json.secret) || "secret_hash" in read.json, false);
  assert.equal(
    (await gateway.request("GET", "/v1/clients/document", { headers: { "if-none-match": '"2"' } })).status,
    304,
  );
  assert.ok((await gateway.request("GET", "/v1/clients")).json.data.some(({ id }: any) => id === "document"));
  const wrong = await gateway.request("PUT", "/v1/clients/wrong", {
    body: { grant_types: ["implicit"], redirect_uris: ["http://a.example/"], scope: "a b c:d:e:f" },
  });
  assert.deepEqual(pointers(refused(wrong, 422, "validation_failed")), [
    "#/grant_types",
    "#/name",
    "#/redirect_uris/0",
    "#/scope",
  ]);
  const half = (
    await gateway.request("POST", "/v1/keys", { body: { name: "x", role: "viewer", permissions: ["clients:*"] } })
  ).json;
  refused(
    await gateway.request("PUT", "/v1/clients/more", {
      key: half.secret,
      body: { ...body, scope: "contexts:create:*" },
    }),
    403,
    "permission_denied",
  );
  assert.equal((await remove("document")).status, 204);
  refused(await gateway.request("GET", "/v1/clients/document"), 404, "not_found");
});

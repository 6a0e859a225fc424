// The authorization server, driven by `oauth4webapi` as a client library would, and checked by `jose`.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as jose from "jose";
import * as oauth from "oauth4webapi";
import { create, eventually, makeKey, pointers, refused } from "./support/arrange.ts";
import { startGateway } from "./support/gateway.ts";
import {
  app,
  as,
  asks,
  authorizationServer,
  byCredentials,
  callback,
  consented,
  flow,
  form,
  gateway,
  insecure,
  isError,
  machine,
  refreshed,
  remove,
  whoami,
} from "./support/oauth.ts";
import { json, startService } from "./support/service.ts";

authorizationServer();

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

test("without_registration_a_client_cannot_register_itself", async () => {
  refused(
    await gateway.request("POST", "/oauth/register", { key: null, body: { redirect_uris: [callback] } }),
    404,
    "not_found",
  );
});

// What an app has for longer: its refresh tokens, their end, and its own registration.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as oauth from "oauth4webapi";
import { create, makeKey, refused } from "./support/arrange.ts";
import { startGateway } from "./support/gateway.ts";
import {
  app,
  appAt,
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
  issuer,
  machine,
  refreshed,
  remove,
  whoami,
  type Registered,
} from "./support/oauth.ts";

authorizationServer({ OAUTH_REGISTRATION: "true" });

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
    const { post, client_id, allowed } = await appAt(strict);
    // OAuth 2.1 has no redirect URI here.
    const { redirect_uri: _, ...code } = await allowed();
    const first = await post("/oauth/token", code);
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

test("a_client_registers_itself", async () => {
  const found = await oauth.processDiscoveryResponse(
    issuer,
    await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...insecure }),
  );
  assert.equal(found.registration_endpoint, `${gateway.url}/oauth/register`);
  const metadata = {
    client_name: "Itself",
    redirect_uris: [callback],
    grant_types: ["authorization_code", "refresh_token"],
  };
  const registration = await oauth.dynamicClientRegistrationRequest(found, metadata, insecure);
  const client = await oauth.processDynamicClientRegistrationResponse(registration);
  assert.match(client.client_id, /^default\.dyn-/);
  const { asked, verifier, state } = await asks(client);
  const { json: key } = await gateway.request("POST", "/v1/keys", { body: { name: "ada", role: "caller" } });
  const sent = await gateway.request("POST", "/oauth/authorize", {
    key: null,
    body: new URLSearchParams({ ...asked, decision: "allow", api_key: key.secret }).toString(),
    headers: { "content-type": "application/x-www-form-urlencoded" },
  });
  const back = oauth.validateAuthResponse(found, client, new URL(sent.headers.get("location")!), state);
  const auth = oauth.ClientSecretBasic(client.client_secret as string);
  const response = await oauth.authorizationCodeGrantRequest(found, client, auth, back, callback, verifier, insecure);
  assert.ok((await oauth.processAuthorizationCodeResponse(found, client, response)).refresh_token);
  const post = (body: object) => gateway.request("POST", "/oauth/register", { key: null, body });
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
});

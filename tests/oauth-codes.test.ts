// Authorization by a person: the page, the code, and signing in with an outside issuer.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as jose from "jose";
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
  machine,
  refreshed,
  whoami,
} from "./support/oauth.ts";
import { json, startService } from "./support/service.ts";

authorizationServer();

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
  for (const words of ["app.example.com", "run any service you may use", "<code>contexts:read</code>"]) {
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
    const { post, client_id, allowed } = await appAt(kind);
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

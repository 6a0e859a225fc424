// OAuth in every tenant: a client acts in the tenant of its id, and sees nothing of others.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import * as jose from "jose";
import { create, refused, register, serviceAt } from "./support/arrange.ts";
import { type Answer, type Gateway, startGateway } from "./support/gateway.ts";
import { echo, json, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let service: Service;
/** The first key of the tenant `beta`. */
let beta: string;

const callback = "https://app.example.com/done";
const scope = "contexts:create:* contexts:read services:read";
const machine = { name: "A machine", grant_types: ["client_credentials"], auth_method: "client_secret_post", scope };
const app = {
  name: "An app",
  grant_types: ["authorization_code", "refresh_token"],
  auth_method: "none",
  redirect_uris: [callback],
  scope,
};

before(async () => {
  gateway = await startGateway({ vars: { OAUTH: "true", OAUTH_REGISTRATION: "true" } });
  service = await startService(echo);
  await register(gateway, "alone", serviceAt(service.url));
  beta = await tenant("beta");
  const made = await gateway.request("PUT", "/v1/services/worker", { key: beta, body: serviceAt(service.url) });
  assert.equal(made.status, 201, made.text);
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

/** Creates a tenant; returns its first key. */
async function tenant(id: string): Promise<string> {
  const made = await gateway.request("PUT", `/v1/tenants/${id}`, { body: { name: id } });
  assert.equal(made.status, 201, made.text);
  return made.json.admin_key;
}

type Client = { client_id: string; client_secret: string };

/** Registers a client by a key of its tenant. */
async function registered(key: string, id: string, body: object): Promise<Client> {
  const made = await gateway.request("PUT", `/v1/clients/${id}`, { key, body });
  assert.equal(made.status, 201, made.text);
  return { client_id: made.json.client_id, client_secret: made.json.secret ?? "" };
}

const form = (path: string, members: Record<string, string>): Promise<Answer> => {
  const given = Object.entries(members).filter(([, value]) => value !== "");
  return gateway.request("POST", `/oauth/${path}`, {
    key: null,
    body: new URLSearchParams(given).toString(),
    headers: { "content-type": "application/x-www-form-urlencoded" },
  });
};
const refusedAs = (answer: Answer, error: string) => assert.equal(answer.json.error, error, answer.text);
const whoami = (key: string) => gateway.request("GET", "/v1/whoami", { key });

const byCredentials = async (client: Client): Promise<string> => {
  const answer = await form("token", { grant_type: "client_credentials", ...client });
  assert.equal(answer.status, 200, answer.text);
  return answer.json.access_token;
};

/** An app's authorization request, and its code verifier. */
function question(client: Client) {
  const verifier = randomBytes(32).toString("base64url");
  const code_challenge = createHash("sha256").update(verifier).digest("base64url");
  const asked = {
    response_type: "code",
    client_id: client.client_id,
    redirect_uri: callback,
    code_challenge,
    code_challenge_method: "S256",
  };
  return { asked, verifier };
}

/** Redeems the code of a redirect. */
async function redeemed(client: Client, sent: Answer, verifier: string): Promise<any> {
  assert.equal(sent.status, 303, sent.text);
  const code = new URL(sent.headers.get("location")!).searchParams.get("code")!;
  assert.ok(code, sent.headers.get("location")!);
  const members = {
    grant_type: "authorization_code",
    code,
    redirect_uri: callback,
    code_verifier: verifier,
    ...client,
  };
  const answer = await form("token", members);
  assert.equal(answer.status, 200, answer.text);
  return answer.json;
}

/** A person allows an app something with their key; returns its tokens. */
async function allowed(client: Client, key: string): Promise<any> {
  const { asked, verifier } = question(client);
  return redeemed(client, await form("authorize", { ...asked, decision: "allow", api_key: key }), verifier);
}

test("a_clients_token_acts_in_its_own_tenant_and_sees_no_other", async () => {
  const client = await registered(beta, "ci", machine);
  assert.equal(client.client_id, "beta.ci");
  const key = await byCredentials(client);
  const me = (await whoami(key)).json;
  assert.deepEqual([me.tenant, me.principal, me.role], ["beta", "client:beta.ci", "service"]);
  const services = (await gateway.request("GET", "/v1/services", { key })).json.data;
  assert.deepEqual(
    services.map(({ id }: any) => id),
    ["worker"],
  );
  refused(await gateway.request("GET", "/v1/services/alone", { key }), 404, "not_found");

  const own = (await create(gateway, {}, { key })).json;
  assert.deepEqual([own.status, own.tenant, own.owner], ["completed", "beta", "client:beta.ci"]);
  assert.equal((await gateway.request("GET", `/v1/contexts/${own.id}`, { key: beta })).status, 200);
  refused(await gateway.request("GET", `/v1/contexts/${own.id}`), 404, "not_found");
  const elsewhere = (await create(gateway)).json;
  refused(await gateway.request("GET", `/v1/contexts/${elsewhere.id}`, { key }), 404, "not_found");
  // The client does not exist in the deployment's tenant.
  refused(await gateway.request("GET", "/v1/clients/ci"), 404, "not_found");
  refused(await gateway.request("GET", "/v1/tenants", { key }), 403, "permission_denied");
});

test("clients_of_the_same_name_in_two_tenants_are_two_clients", async () => {
  const here = await registered(gateway.adminKey, "twin", machine);
  const there = await registered(beta, "twin", machine);
  assert.deepEqual([here.client_id, there.client_id], ["default.twin", "beta.twin"]);
  assert.deepEqual(
    [(await whoami(await byCredentials(here))).json.tenant, (await whoami(await byCredentials(there))).json.tenant],
    ["default", "beta"],
  );
  for (const [one, other] of [
    [here, there],
    [there, here],
  ] as const) {
    refusedAs(
      await form("token", { grant_type: "client_credentials", ...one, client_secret: other.client_secret }),
      "invalid_client",
    );
    // Tokens of another tenant are not described, and not revoked.
    const token = await byCredentials(one);
    assert.deepEqual((await form("introspect", { token, ...other })).json, { active: false });
    assert.equal((await form("introspect", { token, ...one })).json.active, true);
    assert.equal((await form("revoke", { token, ...other })).status, 200);
    assert.equal((await whoami(token)).status, 200);
    assert.equal((await form("revoke", { token, ...one })).status, 200);
    refused(await whoami(token), 401, "unauthenticated");
  }
  for (const client_id of ["unknown.twin", "beta.", ".twin", "beta.twin.more", "beta"]) {
    refusedAs(
      await form("token", { grant_type: "client_credentials", client_id, client_secret: here.client_secret }),
      "invalid_client",
    );
  }
  // Deleting the client ends its tokens, and the other's stay.
  const [token, others] = [await byCredentials(there), await byCredentials(here)];
  await gateway.request("DELETE", "/v1/clients/twin", { key: beta, headers: { "if-match": "*" } });
  refused(await whoami(token), 401, "unauthenticated");
  assert.equal((await whoami(others)).status, 200);
});

test("only_people_of_its_tenant_allow_a_tenants_client_something", async () => {
  const client = await registered(beta, "reader", app);
  const { asked } = question(client);
  for (const key of [
    gateway.adminKey,
    (await gateway.request("POST", "/v1/keys", { body: { name: "a", role: "admin" } })).json.secret,
  ]) {
    const page = await form("authorize", { ...asked, decision: "allow", api_key: key });
    assert.equal(page.status, 403, page.text);
    assert.ok(page.text.includes("Use an API key of a tenant that this app serves."));
  }
  const { json: person } = await gateway.request("POST", "/v1/keys", {
    key: beta,
    body: { name: "ada", role: "caller" },
  });
  const tokens = await allowed(client, person.secret);
  const me = (await whoami(tokens.access_token)).json;
  assert.deepEqual([me.tenant, me.principal], ["beta", `key:${person.id}`]);
  const next = (await form("token", { grant_type: "refresh_token", refresh_token: tokens.refresh_token, ...client }))
    .json;
  assert.equal((await whoami(next.access_token)).json.tenant, "beta");
  const here = await registered(gateway.adminKey, "reader", app);
  refusedAs(
    await form("token", { grant_type: "refresh_token", refresh_token: next.refresh_token, ...here }),
    "invalid_grant",
  );
  await gateway.request("DELETE", `/v1/keys/${person.id}`, { key: beta });
  refused(await whoami(next.access_token), 401, "unauthenticated");
  refusedAs(
    await form("token", { grant_type: "refresh_token", refresh_token: next.refresh_token, ...client }),
    "invalid_grant",
  );
});

test("a_client_that_registered_itself_serves_people_of_any_tenant_each_in_their_own", async () => {
  const body = { redirect_uris: [callback], token_endpoint_auth_method: "none", scope };
  const made = await gateway.request("POST", "/oauth/register", { key: null, body });
  assert.equal(made.status, 201, made.text);
  const client = { client_id: made.json.client_id, client_secret: "" };
  const here = await allowed(client, gateway.adminKey);
  const there = await allowed(client, beta);
  assert.deepEqual(
    [(await whoami(here.access_token)).json.tenant, (await whoami(there.access_token)).json.tenant],
    ["default", "beta"],
  );
  const next = await form("token", { grant_type: "refresh_token", refresh_token: there.refresh_token, ...client });
  assert.equal((await whoami(next.json.access_token)).json.tenant, "beta");
  const id = client.client_id.slice("default.".length);
  assert.equal((await gateway.request("DELETE", `/v1/clients/${id}`, { headers: { "if-match": "*" } })).status, 204);
  refused(await whoami(next.json.access_token), 401, "unauthenticated");
  refused(await whoami(here.access_token), 401, "unauthenticated");
});

test("a_person_who_signed_in_acts_in_the_tenant_their_issuer_names", async () => {
  const provider = await startService();
  const { privateKey, publicKey } = await jose.generateKeyPair("ES256", { extractable: true });
  const iss = provider.url.replace(/\/$/, "");
  try {
    const body = {
      issuer: iss,
      audience: "https://api.example.com",
      algorithms: ["ES256"],
      keys: [await jose.exportJWK(publicKey)],
      claims: { tenant: "org" },
      role: "caller",
      sign_in: { client_id: "narthex", authorization_endpoint: `${iss}/authorize`, token_endpoint: `${iss}/token` },
    };
    const put = (change: object, headers = {}) =>
      gateway.request("PUT", "/v1/issuers/corp", { body: { ...body, ...change }, headers });
    assert.equal((await put({})).status, 201);
    const client = await registered(beta, "people", app);
    const { asked, verifier } = question(client);
    /** Signs in as a person of this tenant; returns the page they see then. */
    const signIn = async (org: string) => {
      const sent = await form("authorize", { ...asked, sign_in: "corp" });
      assert.equal(sent.status, 303, sent.text);
      const query = new URL(sent.headers.get("location")!).searchParams;
      const now = Math.floor(Date.now() / 1000);
      const claims = { iss, aud: "narthex", sub: "ada", org, iat: now, exp: now + 60, nonce: query.get("nonce") };
      const id_token = await new jose.SignJWT(claims).setProtectedHeader({ alg: "ES256" }).sign(privateKey);
      provider.handler = json({ access_token: "x", token_type: "Bearer", id_token });
      const headers = { cookie: sent.headers.get("set-cookie")!.split(";")[0]! };
      return gateway.request(
        "GET",
        `/oauth/signed-in?${new URLSearchParams({ code: "c", state: query.get("state")! })}`,
        { key: null, headers },
      );
    };
    // The page asks for a key instead.
    const stranger = await signIn("default");
    assert.ok(stranger.text.includes("another tenant") && stranger.text.includes("api_key"), stranger.text);
    const page = await signIn("beta");
    const person = page.text.match(/name="person" value="([^"]+)"/)![1]!;
    const tokens = await redeemed(client, await form("authorize", { ...asked, decision: "allow", person }), verifier);
    const me = (await whoami(tokens.access_token)).json;
    assert.deepEqual([me.tenant, me.principal, me.role], ["beta", "issuer:corp:ada", "caller"]);
    // Whose people the issuer has is looked up each time.
    assert.equal((await put({ claims: {}, tenant: "default" }, { "if-match": "*" })).status, 200);
    refused(await whoami(tokens.access_token), 401, "unauthenticated");
    const without = await gateway.request("GET", `/oauth/authorize?${new URLSearchParams(asked)}`, { key: null });
    assert.equal(without.text.includes("Sign in with corp"), false);
    assert.equal((await put({ claims: {}, tenant: "beta" }, { "if-match": "*" })).status, 200);
    assert.equal((await whoami(tokens.access_token)).status, 200);
  } finally {
    await provider.stop();
  }
});

test("deleting_a_tenant_ends_its_clients_and_their_tokens", async () => {
  const key = await tenant("brief");
  const client = await registered(key, "ci", machine);
  const token = await byCredentials(client);
  assert.equal((await whoami(token)).json.tenant, "brief");
  const gone = await gateway.request("DELETE", "/v1/tenants/brief?force=true", { headers: { "if-match": "*" } });
  assert.equal(gone.status, 204, gone.text);
  refused(await whoami(token), 401, "unauthenticated");
  refusedAs(await form("token", { grant_type: "client_credentials", ...client }), "invalid_client");
});

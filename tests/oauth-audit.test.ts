// The audit log about refused OAuth clients and tokens, with reasons that the responses do not reveal.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import * as jose from "jose";
import { eventually, many, refused } from "./support/arrange.ts";
import { type Answer, type Gateway, startGateway } from "./support/gateway.ts";

let gateway: Gateway;
/** The first key of the tenant `beta`. */
let beta: string;
const machine = {
  name: "A machine",
  grant_types: ["client_credentials"],
  auth_method: "client_secret_post",
  scope: "audit:read",
};

before(async () => {
  gateway = await startGateway({ vars: { OAUTH: "true" } });
  beta = (await gateway.request("PUT", "/v1/tenants/beta", { body: { name: "Beta" } })).json.admin_key;
});
after(() => gateway?.stop());

let last = 0;
/** A unique address, so that each refusal is logged separately. */
const address = () => `198.51.100.${(last += 1)}`;

const token = (members: Record<string, string>, from: string, headers: Record<string, string> = {}): Promise<Answer> =>
  gateway.request("POST", "/oauth/token", {
    key: null,
    body: new URLSearchParams({ grant_type: "client_credentials", ...members }).toString(),
    headers: { "content-type": "application/x-www-form-urlencoded", "cf-connecting-ip": from, ...headers },
  });

async function registered(
  key: string,
  id: string,
  more: object = {},
): Promise<{ client_id: string; client_secret: string }> {
  const made = await gateway.request("PUT", `/v1/clients/${id}`, { key, body: { ...machine, ...more } });
  assert.equal(made.status, 201, made.text);
  return { client_id: made.json.client_id, client_secret: made.json.secret };
}
const remove = (key: string, id: string) =>
  gateway.request("DELETE", `/v1/clients/${id}`, { key, headers: { "if-match": "*" } });

/** The entry about a refusal from this address, once it exists. */
const entryFrom = (from: string, key: string): Promise<any> =>
  eventually(async () => {
    const { json } = await gateway.request("GET", "/v1/audit?action=credentials.refused&limit=200", { key });
    return json.data.find((entry: any) => entry.address === from);
  });

test("only_their_tenants_log_distinguishes_refused_clients", async () => {
  const good = await registered(beta, "good");
  const gone = await registered(beta, "gone");
  const { publicKey, privateKey } = await jose.generateKeyPair("ES256", { extractable: true });
  const signs = { auth_method: "private_key_jwt", keys: [{ ...(await jose.exportJWK(publicKey)), kid: "k" }] };
  const signer = await registered(beta, "signer", signs);
  await remove(beta, "gone");
  const assertion = (claims: object) =>
    new jose.SignJWT({ iss: signer.client_id, sub: signer.client_id, jti: "once", ...claims } as jose.JWTPayload)
      .setProtectedHeader({ alg: "ES256", kid: "k" })
      .setIssuedAt()
      .setExpirationTime("1m")
      .setAudience(gateway.url)
      .sign(privateKey);
  const asserted = async (claims: object) => ({
    client_assertion: await assertion(claims),
    client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
  });
  assert.equal((await token(await asserted({}), address())).status, 200);

  const cases: [Record<string, string>, string, string, string?, Record<string, string>?][] = [
    [{ ...good, client_secret: "nxs_wrong" }, "clients/good", "wrong"],
    [gone, "clients/gone", "revoked"],
    [{ ...gone, client_id: "beta.never" }, "clients/never", "unknown"],
    [{ client_id: good.client_id }, "clients/good", "wrong authentication method"],
    [await asserted({}), "clients/signer", "the token was used before"],
    [await asserted({ iss: "somebody" }), "clients/signer", "the token's issuer is unknown"],
    // Refusals without a tenant are logged in the deployment's own tenant.
    [{ ...good, client_id: "unknown.good" }, "clients/good", "unknown", gateway.adminKey],
    [{ ...good, client_id: "good" }, "credentials", "unknown", gateway.adminKey],
    [{ ...good, client_id: "beta.<script>" }, "credentials", "unknown", gateway.adminKey],
    [{ client_id: "https://127.0.0.1:1/app", client_secret: "x" }, "credentials", "unknown", gateway.adminKey],
    [{}, "credentials", "malformed", gateway.adminKey, { authorization: "Basic ???" }],
  ];
  const texts = new Set<string>();
  for (const [members, object, reason, key = beta, headers = {}] of cases) {
    const from = address();
    const answer = await token(members, from, headers);
    assert.equal(answer.status, 401, answer.text);
    texts.add(answer.text);
    const entry = await entryFrom(from, key);
    assert.deepEqual(
      [entry.object, entry.changes.reason, entry.actor, entry.outcome, entry.changes.count],
      [object, reason, "unknown", "refused", 1],
    );
    assert.equal(entry.request_id, answer.headers.get("x-request-id"));
  }
  assert.equal(texts.size, 1, "the answers are the same");
  const log = await gateway.request("GET", "/v1/audit?limit=200", { key: beta });
  for (const { client_secret } of [good, gone]) assert.equal(log.text.includes(client_secret), false);
});

test("refused_access_tokens_are_logged_with_the_reason_in_their_tenant", async () => {
  const client = await registered(beta, "brief");
  const { access_token: key } = (await token(client, address())).json;
  const refusedFrom = async (shown: string, log: string) => {
    const from = address();
    refused(
      await gateway.request("GET", "/v1/whoami", { key: shown, headers: { "cf-connecting-ip": from } }),
      401,
      "unauthenticated",
    );
    const { object, changes } = await entryFrom(from, log);
    return [object, changes.reason];
  };
  const [head, claims] = key.split(".");
  assert.deepEqual(await refusedFrom(`${head}.${claims}.AAAA`, beta), [
    "credentials",
    "the token's signature is invalid",
  ]);
  await remove(beta, "brief");
  assert.deepEqual(await refusedFrom(key, beta), ["credentials", "the token's client no longer exists"]);
  const again = await registered(beta, "brief");
  const other = (await token(again, address())).json.access_token;
  const revoked = await gateway.request("POST", "/oauth/revoke", {
    key: null,
    body: new URLSearchParams({ token: other, ...again }).toString(),
    headers: { "content-type": "application/x-www-form-urlencoded" },
  });
  assert.equal(revoked.status, 200);
  assert.deepEqual(await refusedFrom(other, beta), [
    "credentials",
    "the token, or the grant it came from, was revoked",
  ]);
  // Tokens that name an unknown tenant are logged in the deployment's own tenant.
  const claimed = Buffer.from(JSON.stringify({ iss: "https://elsewhere.example.com", tenant: "beta" })).toString(
    "base64url",
  );
  assert.deepEqual(await refusedFrom(`${head}.${claimed}.AAAA`, gateway.adminKey), [
    "credentials",
    "the token's issuer is unknown",
  ]);
});

test("trying_many_clients_cannot_fill_the_log", async () => {
  const count = async () =>
    (await gateway.request("GET", "/v1/audit?action=credentials.refused&limit=200")).json.data.length;
  const before = await count();
  const answers = await many(300, (at) =>
    token({ client_id: `default.guess-${at}`, client_secret: "x" }, `192.0.2.${at % 100}`),
  );
  for (const answer of answers) assert.equal(answer.status, 401);
  await entryFrom("various", gateway.adminKey);
  const added = (await count()) - before;
  assert.ok(added <= 33, `${added} entries of 300 refusals`);
});

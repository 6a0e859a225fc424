// Tokens of external issuers: the permissions of a valid one, every reason for a refusal, and the sources of the keys.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHmac } from "node:crypto";
import { after, before, test } from "node:test";
import * as jose from "jose";
import { accepted, create, ended, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Claims, type Pair, pair, seconds } from "./support/issuer.ts";
import { html, inTurn, json, type Service, startService, status } from "./support/service.ts";

let gateway: Gateway;
let service: Service;

let pairs: Record<"es" | "ed" | "rs" | "ps" | "other", Pair>;

before(async () => {
  gateway = await startGateway();
  service = await startService();
  await register(gateway, "worker", serviceAt(service.url));
  pairs = {
    es: await pair("ES256", "es"),
    ed: await pair("EdDSA", "ed"),
    rs: await pair("RS256", "rs"),
    ps: await pair("PS256", "ps"),
    other: await pair("ES256", "es"),
  };
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const audience = "https://gateway.example.com";
const algorithms = ["ES256", "EdDSA", "RS256", "PS256"];
const document = (issuer: string, more: object) => ({
  issuer,
  audience,
  algorithms,
  claims: { role: "roles" },
  roles: { staff: "caller", boss: "admin" },
  ...more,
});
const put = (name: string, body: object, headers: Record<string, string> = {}) =>
  gateway.request("PUT", `/v1/issuers/${name}`, { body, headers });
const replace = (name: string, body: object) => put(name, body, { "if-match": "*" });

let number = 0;
/** Trusts a separate issuer for one test; returns its `iss`. */
async function trust(more: object = {}): Promise<string> {
  const name = `issuer${(number += 1)}`;
  const issuer = `https://${name}.example.com`;
  const fixed = "jwks_url" in more ? {} : { keys: [pairs.es, pairs.ed, pairs.rs, pairs.ps].map(({ jwk }) => jwk) };
  const answer = await put(name, document(issuer, { ...fixed, ...more }));
  assert.equal(answer.status, 201, answer.text);
  return issuer;
}

const good = (issuer: string): Claims => ({
  iss: issuer,
  aud: audience,
  sub: "ada",
  exp: seconds() + 300,
  iat: seconds(),
  roles: ["staff"],
});

function sign(claims: Claims, by: Pair = pairs.es, header: Record<string, unknown> = {}): Promise<string> {
  const all = { alg: by.alg, typ: "at+jwt", kid: by.kid, ...header };
  return new jose.SignJWT(claims as jose.JWTPayload)
    .setProtectedHeader(all as jose.JWTHeaderParameters)
    .sign(by.privateKey);
}

const whoami = (key: string) => gateway.request("GET", "/v1/whoami", { key });

test("a_token_of_every_algorithm_is_accepted_with_its_claims", async () => {
  const issuer = await trust();
  for (const by of [pairs.es, pairs.ed, pairs.rs, pairs.ps]) {
    const { status, json } = await whoami(await sign(good(issuer), by));
    assert.equal(status, 200, by.alg);
    assert.deepEqual([json.principal, json.tenant, json.role], [`issuer:issuer${number}:ada`, "default", "caller"]);
    assert.ok(json.permissions.includes("contexts:create:*"));
  }
  const boss = await whoami(await sign({ ...good(issuer), roles: ["nothing", "boss", "staff"] }));
  assert.deepEqual([boss.json.role, boss.json.permissions[0]], ["admin", "*"]);
});

test("a_token_permits_what_a_key_of_its_role_permits", async () => {
  const issuer = await trust();
  const [ada, bob] = [await sign(good(issuer)), await sign({ ...good(issuer), sub: "bob" })];
  assert.equal((await create(gateway, {}, { key: ada })).status, 200);
  const { id } = await accepted(gateway, {}, { key: ada });
  await ended(gateway, id, { key: ada });
  assert.equal(
    (await gateway.request("GET", `/v1/contexts/${id}`, { headers: { "x-api-key": ada }, key: null })).status,
    200,
  );
  refused(await gateway.request("GET", `/v1/contexts/${id}`, { key: bob }), 404, "not_found");
  refused(await gateway.request("GET", "/v1/keys", { key: ada }), 403, "permission_denied");
});

test("a_scope_narrows_a_role", async () => {
  const issuer = await trust({ claims: { role: "/realm_access/roles", scope: "scope" } });
  const of = async (scope?: string) => {
    const claims = { ...good(issuer), realm_access: { roles: ["boss"] }, ...(scope !== undefined && { scope }) };
    return (await whoami(await sign(claims))).json.permissions;
  };
  assert.deepEqual(await of("contexts:read services:* openid"), ["contexts:read", "services:*"]);
  assert.deepEqual(await of(), []);
});

/** Refused tokens: changes of the claims, the header or the text, each with its own reason. */
const refusals: [name: string, make: (issuer: string) => Promise<string>][] = [
  ["another issuer", (issuer) => sign({ ...good(issuer), iss: `${issuer}/` })],
  ["no issuer", (issuer) => sign({ ...good(issuer), iss: undefined })],
  ["another audience", (issuer) => sign({ ...good(issuer), aud: `${audience}/` })],
  ["no audience", (issuer) => sign({ ...good(issuer), aud: undefined })],
  ["no end", (issuer) => sign({ ...good(issuer), exp: undefined })],
  ["expired, more than a minute ago", (issuer) => sign({ ...good(issuer), exp: seconds() - 62 })],
  ["not yet valid", (issuer) => sign({ ...good(issuer), nbf: seconds() + 90 })],
  ["issued in the future", (issuer) => sign({ ...good(issuer), iat: seconds() + 90 })],
  ["no subject", (issuer) => sign({ ...good(issuer), sub: undefined })],
  ["a subject with a line feed", (issuer) => sign({ ...good(issuer), sub: "a\nb" })],
  ["a subject that turns the writing around", (issuer) => sign({ ...good(issuer), sub: "a\u202eb" })],
  ["no role", (issuer) => sign({ ...good(issuer), roles: ["others"] })],
  ["an ID token", (issuer) => sign(good(issuer), pairs.es, { typ: "JWT" })],
  ["no type", (issuer) => sign(good(issuer), pairs.es, { typ: undefined })],
  ["a key of another", (issuer) => sign(good(issuer), pairs.other)],
  ["an unknown key", (issuer) => sign(good(issuer), pairs.es, { kid: "none" })],
  ["a key for another algorithm", (issuer) => sign(good(issuer), pairs.es, { kid: "ed" })],
  ["two keys that fit and no name", (issuer) => sign(good(issuer), pairs.rs, { kid: undefined })],
  [
    "a key in its own header",
    async (issuer) => {
      const { jwk, ...by } = await pair("ES256", "mine");
      return sign(good(issuer), { ...by, jwk }, { jwk, kid: undefined, jku: "https://evil.example.com/jwks" });
    },
  ],
  ["no signature at all", async (issuer) => new jose.UnsecuredJWT(good(issuer) as jose.JWTPayload).encode()],
  [
    "the algorithm none with a signature",
    async (issuer) => {
      const [, claims, signature] = (await sign(good(issuer))).split(".");
      return `${Buffer.from('{"alg":"none","typ":"at+jwt"}').toString("base64url")}.${claims}.${signature}`;
    },
  ],
  [
    "a shared secret that is the public key",
    async (issuer) => {
      const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
      const signed = `${part({ alg: "HS256", typ: "at+jwt", kid: "rs" })}.${part(good(issuer))}`;
      const pem = await jose.exportSPKI((await jose.importJWK(pairs.rs.jwk, "RS256")) as jose.CryptoKey);
      return `${signed}.${createHmac("sha256", pem).update(signed).digest("base64url")}`;
    },
  ],
  [
    "a critical extension",
    async (issuer) => {
      const token = new jose.SignJWT(good(issuer) as jose.JWTPayload);
      token.setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid: "es", crit: ["x"], x: 1 });
      return token.sign(pairs.es.privateKey, { crit: { x: true } });
    },
  ],
  [
    "a doubled member",
    async (issuer) => {
      const claims = JSON.stringify(good(issuer)).replace("{", '{"sub":"root",');
      return new jose.CompactSign(new TextEncoder().encode(claims))
        .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid: "es" })
        .sign(pairs.es.privateKey);
    },
  ],
  [
    "another claim under the same signature",
    async (issuer) => {
      const [header, , signature] = (await sign(good(issuer))).split(".");
      const claims = JSON.stringify({ ...good(issuer), roles: ["boss"] });
      return `${header}.${Buffer.from(claims).toString("base64url")}.${signature}`;
    },
  ],
  [
    "a signature in DER",
    async (issuer) => {
      const [header, claims, signature] = (await sign(good(issuer))).split(".");
      return `${header}.${claims}.${Buffer.concat([Buffer.from([0x30, 0x44]), Buffer.from(signature!, "base64url")]).toString("base64url")}`;
    },
  ],
  ["an empty signature", async (issuer) => (await sign(good(issuer))).replace(/[^.]*$/, "")],
  [
    "a signature of zeros",
    async (issuer) => (await sign(good(issuer))).replace(/[^.]*$/, Buffer.alloc(64).toString("base64url")),
  ],
  ["characters outside base64url", async (issuer) => `${await sign(good(issuer))}=`],
  ["four parts", async (issuer) => `${await sign(good(issuer))}.e30`],
  ["more than 16 KiB", (issuer) => sign({ ...good(issuer), more: "x".repeat(16384) })],
  ["nothing of it", async () => "eyJ.eyJ.x"],
];

test("every_other_token_gets_the_same_refusal", async () => {
  const issuer = await trust();
  const plain = await whoami(await sign(good(issuer)));
  assert.equal(plain.status, 200);
  const unknown = await whoami("neither a key nor a token");
  const words = ({ detail, title, code }: any) => [detail, title, code];
  for (const [name, make] of refusals) {
    const answer = await whoami(await make(issuer));
    const problem = refused(answer, 401, "unauthenticated");
    assert.deepEqual(words(problem), words(unknown.json), name);
    assert.equal(answer.headers.get("www-authenticate"), 'Bearer error="invalid_token"', name);
  }
});

/** A server that publishes keys and counts requests. */
async function keyServer(keys: () => jose.JWK[]) {
  const server = await startService();
  const serve: Service["probe"] = (call, response) => json({ keys: keys() })(call, response);
  server.probe = serve;
  return { server, serve, url: `${server.url}jwks`, asked: () => server.probes.length };
}

test("published_keys_are_fetched_once_and_again_for_a_new_one_at_most_every_thirty_seconds", async () => {
  const published = [pairs.es.jwk];
  const { server, url, asked } = await keyServer(() => published);
  try {
    const issuer = await trust({ jwks_url: url });
    const many = await Promise.all(
      Array.from({ length: 8 }, (_, at) => sign({ ...good(issuer), jti: String(at) }).then(whoami)),
    );
    assert.deepEqual(
      many.map(({ status }) => status),
      Array(8).fill(200),
    );
    assert.equal(asked(), 1, "asked once for all of them");
    assert.equal(server.probes[0]!.headers.authorization, undefined);
    // A new key, not yet half a minute after the last request.
    published.push(pairs.ed.jwk);
    for (let at = 0; at < 3; at++) assert.equal((await whoami(await sign(good(issuer), pairs.ed))).status, 401);
    assert.equal(asked(), 1);
  } finally {
    await server.stop();
  }
});

test("a_set_is_requested_again_if_a_cache_answers_for_its_server", async () => {
  for (const code of [502, 521, 530]) {
    const { server, serve, url, asked } = await keyServer(() => [pairs.es.jwk]);
    server.probe = inTurn(status(code), status(code), serve);
    try {
      const issuer = await trust({ jwks_url: url });
      assert.equal((await whoami(await sign(good(issuer)))).status, 200, `${code}`);
      assert.equal(asked(), 3);
    } finally {
      await server.stop();
    }
  }
});

test("an_unavailable_or_untrusted_key_set_admits_no_token", async () => {
  const { server, url, asked } = await keyServer(() => []);
  try {
    const key = { ...(await jose.exportJWK(pairs.es.privateKey)), kid: "es" };
    const bad: Service["probe"][] = [
      status(500),
      html,
      json({ keys: [key] }),
      json({ keys: Array(51).fill(pairs.es.jwk) }),
      json({ keys: [pairs.es.jwk], more: "x".repeat(65536) }),
      (_, response) => void response.writeHead(302, { location: `${server.url}elsewhere` }).end(),
    ];
    for (const [at, probe] of bad.entries()) {
      server.probe = probe;
      const issuer = await trust({ jwks_url: `${url}/${at}` });
      const before = asked();
      refused(await whoami(await sign(good(issuer))), 401, "unauthenticated");
      refused(await whoami(await sign(good(issuer))), 401, "unauthenticated");
      assert.equal(asked(), before + 1, `${at}: asked once, redirects not followed`);
    }
  } finally {
    await server.stop();
  }
});

test("verified_tokens_stay_valid_without_the_server_and_end_with_the_issuer", async () => {
  const { server, url } = await keyServer(() => [pairs.es.jwk]);
  const issuer = await trust({ jwks_url: url });
  const name = `issuer${number}`;
  const token = await sign(good(issuer));
  assert.equal((await whoami(token)).status, 200);
  await server.stop();
  assert.equal((await whoami(await sign({ ...good(issuer), jti: "2" }))).status, 200, "the keys are held");
  assert.equal((await replace(name, document(issuer, { jwks_url: url, audience: "another" }))).status, 200);
  refused(await whoami(token), 401, "unauthenticated");
  assert.equal((await replace(name, document(issuer, { jwks_url: url }))).status, 200);
  assert.equal((await whoami(token)).status, 200);
  const deleted = await gateway.request("DELETE", `/v1/issuers/${name}`, { headers: { "if-match": "*" } });
  assert.equal(deleted.status, 204);
  refused(await whoami(token), 401, "unauthenticated");
  refused(await create(gateway, {}, { key: token }), 401, "unauthenticated");
});

test("an_issuer_is_a_document_with_versions", async () => {
  const body = document("https://documents.example.com", { jwks_url: "https://documents.example.com/jwks" });
  const made = await put("documents", body);
  assert.deepEqual(
    [made.status, made.headers.get("etag"), made.headers.get("location")],
    [201, '"1"', "/v1/issuers/documents"],
  );
  assert.deepEqual(made.json.algorithms, algorithms);
  refused(await put("documents", body), 428, "precondition_required");
  refused(await put("documents", body, { "if-match": '"7"' }), 412, "precondition_failed");
  refused(await put("twin", body), 409, "conflict");
  assert.equal((await put("documents", body, { "if-match": '"1"' })).headers.get("etag"), '"2"');
  const read = await gateway.request("GET", "/v1/issuers/documents");
  assert.deepEqual([read.status, read.headers.get("etag"), read.json.type], [200, '"2"', "at+jwt"]);
  const same = await gateway.request("GET", "/v1/issuers/documents", { headers: { "if-none-match": '"2"' } });
  assert.equal(same.status, 304);
  const list = (await gateway.request("GET", "/v1/issuers")).json;
  assert.ok(list.data.some(({ name }: any) => name === "documents"));
  refused(await gateway.request("GET", "/v1/issuers/none"), 404, "not_found");
  refused(await gateway.request("DELETE", "/v1/issuers/none"), 404, "not_found");
  refused(await gateway.request("DELETE", "/v1/issuers/documents"), 428, "precondition_required");
});

test("all_faults_of_a_wrong_document_are_reported", async () => {
  const problem = refused(
    await put("wrong", {
      issuer: "https://10.0.0.1",
      audience: "",
      keys: [
        { ...pairs.es.jwk, d: "AQAB" },
        { kty: "oct", k: "AQAB" },
      ],
      algorithms: ["HS256"],
      claims: { role: "roles", group: "x" },
      more: 1,
    }),
    422,
    "validation_failed",
  );
  assert.deepEqual(pointers(problem), [
    "#/algorithms/0",
    "#/audience",
    "#/claims/group",
    "#/issuer",
    "#/keys/0",
    "#/keys/1",
    "#/more",
    "#/roles",
  ]);
  const unknown = document("https://roles.example.com", { keys: [pairs.es.jwk], roles: { staff: "root" } });
  assert.deepEqual(pointers(refused(await put("roles", unknown), 422, "validation_failed")), ["#/roles"]);
});

test("an_issuer_is_trusted_with_no_more_than_its_writer_has", async () => {
  const body = { name: "half", role: "caller", permissions: ["issuers:*"] };
  const { secret } = (await gateway.request("POST", "/v1/keys", { body })).json;
  const by = (more: object) =>
    gateway.request("PUT", "/v1/issuers/half", {
      key: secret,
      body: document("https://half.example.com", { keys: [pairs.es.jwk], ...more }),
    });
  refused(await by({}), 403, "permission_denied");
  refused(await by({ roles: { staff: "caller" }, role: "viewer" }), 403, "permission_denied");
  assert.equal((await by({ roles: { staff: "caller" } })).status, 201);
});

test("a_token_may_be_for_another_tenant_and_sees_that_one_only", async () => {
  for (const [id, claim] of [
    ["acme", "acme"],
    ["globex", "globex"],
  ] as const) {
    const answer = await gateway.request("PUT", `/v1/tenants/${id}`, { body: { name: claim } });
    assert.equal(answer.status, 201, answer.text);
    const [key, body] = [answer.json.admin_key, serviceAt(service.url, [{ name: `work-of-${id}` }])];
    assert.equal((await gateway.request("PUT", "/v1/services/own", { key, body })).status, 201);
  }
  const issuer = await trust({ claims: { role: "roles", tenant: "org" } });
  const of = (org: string) => sign({ ...good(issuer), org });
  for (const org of ["acme", "globex"]) {
    const key = await of(org);
    const { json } = await whoami(key);
    assert.deepEqual([json.tenant, json.role], [org, "caller"]);
    const seen = await gateway.request("GET", "/v1/capabilities", { key });
    assert.deepEqual(
      seen.json.data.map(({ name }: { name: string }) => name),
      [`work-of-${org}`],
    );
    assert.equal((await create(gateway, { capability: `work-of-${org}` }, { key })).json.tenant, org);
  }
  refused(await whoami(await of("unknown")), 401, "unauthenticated");
  const key = await of("acme");
  assert.equal((await create(gateway, { capability: "work-of-acme" }, { key })).status, 200);
  const name = `issuer${number}`;
  assert.equal((await gateway.request("DELETE", `/v1/issuers/${name}`, { headers: { "if-match": "*" } })).status, 204);
  refused(await whoami(key), 401, "unauthenticated");
});

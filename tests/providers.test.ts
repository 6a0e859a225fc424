// Real identity providers: the forms of their tokens, keys and names.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { after, before, test } from "node:test";
import { accepted, create, ended, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Claims, type Pair, pair, seconds, sign } from "./support/issuer.ts";
import { type Service, startService } from "./support/service.ts";
import { openEvents } from "./support/socket.ts";

let gateway: Gateway;
let service: Service;
let es: Pair;

before(async () => {
  gateway = await startGateway();
  service = await startService();
  await register(gateway, "worker", serviceAt(service.url));
  es = await pair("ES256", "es");
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const put = (name: string, body: object) => gateway.request("PUT", `/v1/issuers/${name}`, { body });
const whoami = (key: string) => gateway.request("GET", "/v1/whoami", { key });

let number = 0;
/** Trusts an issuer; returns its document's name, and a function that signs its tokens. */
async function trust(more: Claims = {}) {
  const name = `provider${(number += 1)}`;
  const iss = (more.issuer as string) ?? `https://${name}.example.com`;
  const document = { issuer: iss, audience: "us", algorithms: ["ES256"], keys: [es.jwk], role: "caller", ...more };
  const made = await put(name, document);
  assert.equal(made.status, 201, made.text);
  const token = (claims: Claims = {}, by: Pair = es, header = {}) =>
    sign({ iss, aud: "us", sub: "ada", ...claims }, by, header);
  return { name, iss, token, document: made.json };
}

test("one_of_several_audiences_is_enough", async () => {
  const { name, token, document } = await trust({ audience: ["a", "b"] });
  assert.deepEqual(document.audience, ["a", "b"]);
  assert.deepEqual((await gateway.request("GET", `/v1/issuers/${name}`)).json.audience, ["a", "b"]);
  for (const aud of ["a", "b", ["x", "b"]]) assert.equal((await whoami(await token({ aud }))).status, 200, String(aud));
  for (const aud of ["x", [], "a b", ["a", 1]]) refused(await whoami(await token({ aud })), 401, "unauthenticated");
});

test("several_documents_for_one_issuer_are_distinguished_by_audience", async () => {
  const first = await trust({ audience: ["api", "app"], role: "caller" });
  const second = await trust({ issuer: first.iss, audience: "admin", role: "viewer", claims: { subject: "azp" } });
  const who = async (claims: Claims) => (await whoami(await first.token(claims))).json;
  assert.deepEqual(
    [(await who({ aud: "app" })).principal, (await who({ aud: "app" })).role],
    [`issuer:${first.name}:ada`, "caller"],
  );
  assert.equal((await who({ aud: "admin", azp: "tool" })).principal, `issuer:${second.name}:tool`);
  assert.equal((await who({ aud: ["admin", "api"], azp: "tool" })).role, "viewer", "the first that the token names");
  assert.equal((await who({ aud: ["api", "admin"], azp: "tool" })).role, "caller");
  assert.equal((await who({ aud: ["admin", "api"] })).role, "caller", "the other has no subject");
  refused(await whoami(await first.token({ aud: "else" })), 401, "unauthenticated");
  const twin = { ...second.document, audience: ["else", "app"] };
  for (const member of ["name", "created_at", "updated_at", "tenant"]) delete twin[member];
  refused(await put("twin", twin), 409, "conflict");
});

test("a_token_without_aud_is_for_its_client_id", async () => {
  const { token } = await trust({ audience: ["client-1", "client-2"], audience_claim: "client_id", type: "JWT" });
  const cognito = (claims: Claims) => token({ aud: undefined, token_use: "access", ...claims }, es, { typ: undefined });
  assert.equal((await whoami(await cognito({ client_id: "client-2" }))).status, 200);
  for (const claims of [{}, { client_id: "other" }, { aud: "client-1" }, { client_id: ["client-1", 7] }]) {
    refused(await whoami(await cognito(claims)), 401, "unauthenticated");
  }
  const azp = await trust({ audience_claim: "azp" });
  assert.equal((await whoami(await azp.token({ aud: "account", azp: "us" }))).status, 200);
  refused(await whoami(await azp.token({ aud: "us", azp: "them" })), 401, "unauthenticated");
});

test("a_token_with_two_hundred_groups_is_accepted_everywhere", async () => {
  const group = (at: number) => `CN=Department ${at},OU=Groups,DC=corp,DC=example,DC=com`;
  const { token } = await trust({ claims: { role: "groups" }, roles: { [group(199)]: "caller" }, role: null });
  const key = await token({ groups: Array.from({ length: 200 }, (_, at) => group(at)) });
  assert.ok(key.length > 10_000 && key.length <= 16_384, String(key.length));
  assert.equal((await whoami(key)).json.role, "caller");
  assert.equal((await gateway.request("GET", "/v1/whoami", { key: null, headers: { "x-api-key": key } })).status, 200);
  assert.equal((await create(gateway, {}, { key })).status, 200);
  (await openEvents(gateway, { key })).close();
  const body = {
    jsonrpc: "2.0",
    id: 1,
    method: "initialize",
    params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "c", version: "1" } },
  };
  const headers = { accept: "application/json, text/event-stream" };
  assert.equal((await gateway.request("POST", "/mcp", { key, body, headers })).status, 200);
  const largest = await token({ groups: [group(199)], fill: "x".repeat(11_700) });
  assert.ok(largest.length > 15_800 && largest.length <= 16_384, String(largest.length));
  assert.equal(
    (await gateway.request("GET", "/v1/whoami", { key: largest, headers: { "x-more": "y".repeat(14_000) } })).status,
    200,
  );
});

test("a_subject_may_have_any_visible_characters_and_stays_the_same", async () => {
  const { name, token } = await trust();
  const subjects = [
    "repo:acme/app:environment:Prod EU",
    "repo:acme/app:environment:Prod%20EU",
    "Ünïcode 名前",
    "a ",
    "a",
    "key:admin",
    "x".repeat(1024),
  ];
  const seen = new Set<string>();
  for (const sub of subjects) {
    const key = await token({ sub });
    const { principal } = (await whoami(key)).json;
    assert.equal(principal, `issuer:${name}:${sub}`);
    seen.add(principal);
    const { id } = await accepted(gateway, {}, { key });
    const context = await ended(gateway, id, { key });
    assert.equal(context.owner, principal);
    const own = (await gateway.request("GET", `/v1/contexts?owner=${encodeURIComponent(principal)}`)).json.data;
    assert.deepEqual(
      own.map((one: { id: string }) => one.id),
      [id],
      sub,
    );
    const socket = await openEvents(gateway, { path: `/v1/events?owner=${encodeURIComponent(principal)}&after=0` });
    assert.equal((await socket.next(({ type }) => type === "context.completed")).subject, id);
    socket.close();
  }
  assert.equal(seen.size, subjects.length);
  for (const sub of ["a\tb", "a\u0000", "\u2066a", "x".repeat(1025), "", 7, ["ada"]]) {
    refused(await whoami(await token({ sub })), 401, "unauthenticated");
  }
});

test("another_claim_may_name_the_subject", async () => {
  const { name, token } = await trust({ claims: { subject: "azp" } });
  assert.equal((await whoami(await token({ azp: "pipeline" }))).json.principal, `issuer:${name}:pipeline`);
  assert.equal((await whoami(await token({ azp: "pipeline", sub: undefined }))).status, 200);
  refused(await whoami(await token({})), 401, "unauthenticated");
  const inside = await trust({ claims: { subject: "/act/sub" } });
  assert.equal((await whoami(await inside.token({ act: { sub: "bot" } }))).json.principal, `issuer:${inside.name}:bot`);
});

test("an_issuer_may_have_a_port_or_an_internal_host_where_its_keys_are_given", async () => {
  for (const issuer of [
    "https://sso.example.com:8443/realms/x",
    "http://keycloak:8080/realms/x",
    "http://10.1.2.3/realms/x",
  ]) {
    const { token } = await trust({ issuer });
    assert.equal((await whoami(await token())).status, 200, issuer);
    const called = {
      issuer,
      audience: "other",
      algorithms: ["ES256"],
      role: "caller",
      jwks_url: "https://sso.example.com/jwks",
    };
    assert.deepEqual(pointers(refused(await put("called", called), 422, "validation_failed")), ["#/issuer"]);
  }
});

test("scopes_map_to_permissions_and_never_exceed_the_role", async () => {
  const scopes = { "mcp:tools": ["contexts:create:*", "services:read"], root: ["*"] };
  const { name, token, document } = await trust({ claims: { scope: "scope" }, scopes });
  assert.deepEqual(document.scopes, scopes);
  const of = async (scope: unknown) => (await whoami(await token({ scope }))).json.permissions;
  assert.deepEqual(await of("openid mcp:tools profile"), ["contexts:create:*", "services:read"]);
  assert.deepEqual(await of(["mcp:tools", "contexts:read", "keys:write"]), [
    "contexts:create:*",
    "contexts:read",
    "services:read",
  ]);
  assert.ok(!(await of("root")).includes("*"), "the role bounds it");
  assert.deepEqual(await of("openid profile email offline_access"), []);
  assert.equal((await create(gateway, {}, { key: await token({ scope: "mcp:tools" }) })).status, 200);
  refused(await create(gateway, {}, { key: await token({ scope: "openid" }) }), 403, "permission_denied");
  const wrong = {
    issuer: `https://${name}.example.org`,
    audience: "us",
    algorithms: ["ES256"],
    keys: [es.jwk],
    role: "caller",
  };
  assert.deepEqual(pointers(refused(await put("wrong", { ...wrong, scopes }), 422, "validation_failed")), ["#/scopes"]);
  const unfit = { ...wrong, claims: { scope: "scope" }, scopes: { a: ["no permission"] } };
  assert.deepEqual(pointers(refused(await put("wrong", unfit), 422, "validation_failed")), ["#/scopes/a/0"]);
});

test("null_claims_count_as_absent", async () => {
  const { token } = await trust();
  assert.equal((await whoami(await token({ iat: null, nbf: null }))).status, 200);
  refused(await whoami(await token({ exp: null })), 401, "unauthenticated");
  refused(await whoami(await token({ nbf: seconds() + 120 })), 401, "unauthenticated");
});

test("tokens_of_every_common_algorithm_are_accepted", async () => {
  const algorithms = ["ES384", "RS384", "RS512", "PS384", "PS512"];
  const pairs = await Promise.all(algorithms.map((alg) => pair(alg, alg)));
  const { token } = await trust({ algorithms, keys: pairs.map(({ jwk }) => jwk) });
  for (const by of pairs) {
    assert.equal((await whoami(await token({}, by))).status, 200, by.alg);
    const [header, claims, signature] = (await token({}, by)).split(".");
    const changed = Buffer.from(signature!, "base64url");
    changed[7]! ^= 1;
    refused(await whoami(`${header}.${claims}.${changed.toString("base64url")}`), 401, "unauthenticated");
  }
  const [es384] = pairs;
  const narrow = await trust({ algorithms: ["ES256"], keys: [es384!.jwk, es.jwk] });
  refused(await whoami(await narrow.token({}, es384!)), 401, "unauthenticated");
});

test("keys_are_accepted_in_all_common_notations", async () => {
  const rs = await pair("RS256", "rs");
  const bytes = (text: string) => Buffer.from(text, "base64url");
  const zero = (text: string) => Buffer.concat([Buffer.alloc(1), bytes(text)]).toString("base64url");
  const padded = (text: string) => text + "=".repeat((4 - (text.length % 4)) % 4);
  for (const change of [zero, padded, (text: string) => padded(zero(text))]) {
    const { token } = await trust({
      algorithms: ["RS256"],
      keys: [{ ...rs.jwk, n: change(rs.jwk.n!), e: change(rs.jwk.e!) }],
    });
    assert.equal((await whoami(await token({}, rs))).status, 200);
  }
  const { token } = await trust({ keys: [{ ...es.jwk, x: zero(es.jwk.x!), y: padded(es.jwk.y!) }] });
  assert.equal((await whoami(await token())).status, 200);
});

test("without_an_authorization_server_nothing_of_it_exists", async () => {
  for (const path of [
    "/.well-known/oauth-authorization-server",
    "/.well-known/oauth-protected-resource",
    "/oauth/jwks",
  ]) {
    refused(await gateway.request("GET", path, { key: null }), 404, "not_found");
  }
  assert.equal((await gateway.request("GET", "/v1/whoami", { key: null })).headers.get("www-authenticate"), "Bearer");
});

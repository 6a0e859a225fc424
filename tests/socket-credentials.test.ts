// Sockets and tickets end with their credentials: sockets are closed with 4401, and tickets become invalid, when an
// key, an issuer, a client, a grant or a role is deleted or changed.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import * as jose from "jose";
import { accepted, create, makeKey, register, serviceAt } from "./support/arrange.ts";
import { connect, connecting } from "./support/connection.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { echo, hang, type Service, startService } from "./support/service.ts";
import { type Events, openEvents, UpgradeRefused } from "./support/socket.ts";
import { openStream } from "./support/stream.ts";

let gateway: Gateway;
let service: Service;
/** A service that never responds. */
let silent: Service;
/** The first key of the tenant `beta`. */
let beta: string;
/** Creates a token of the issuer `corp`. */
let sign: (claims?: object) => Promise<string>;
let corp: object;
const watches = ["events:read", "contexts:read:*", "services:read"];

before(async () => {
  gateway = await startGateway({ timeScale: 0.2, vars: { OAUTH: "true", OAUTH_REGISTRATION: "true" } });
  service = await startService(echo);
  await register(gateway, "worker", serviceAt(service.url));
  silent = await startService(hang);
  const capability = { name: "silent", timeout_seconds: 300, idempotent: true };
  await register(gateway, "silent", serviceAt(silent.url, [capability]));
  beta = (await gateway.request("PUT", "/v1/tenants/beta", { body: { name: "Beta" } })).json.admin_key;
  await put("/v1/roles/watcher", { permissions: watches });
  const { publicKey, privateKey } = await jose.generateKeyPair("ES256", { extractable: true });
  const iss = "https://issuer.example.com";
  corp = {
    issuer: iss,
    audience: "narthex",
    algorithms: ["ES256"],
    type: "JWT",
    keys: [await jose.exportJWK(publicKey)],
    claims: { tenant: "org", role: "roles" },
    roles: { staff: "viewer", watch: "watcher" },
  };
  sign = (claims = {}) =>
    new jose.SignJWT({ sub: "ada", org: "default", roles: ["staff"], ...claims })
      .setProtectedHeader({ alg: "ES256", typ: "JWT" })
      .setIssuer(iss)
      .setAudience("narthex")
      .setIssuedAt()
      .setExpirationTime("10m")
      .sign(privateKey);
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
  await silent?.stop();
});

const always = { "if-match": "*" };
const put = async (path: string, body: object, key = gateway.adminKey) => {
  const { status, text, json } = await gateway.request("PUT", path, { key, body });
  const answer =
    status === 428 ? await gateway.request("PUT", path, { key, body, headers: always }) : { status, text, json };
  assert.ok([200, 201].includes(answer.status), answer.text);
  return answer.json;
};
const remove = async (path: string, key = gateway.adminKey) => {
  const { status, text } = await gateway.request("DELETE", path, { key, headers: always });
  assert.equal(status, 204, text);
};

/** Opens a socket and creates a ticket with each of these credentials. */
async function opened(...keys: string[]): Promise<{ sockets: Events[]; tickets: string[] }> {
  const sockets = await Promise.all(keys.map((key) => openEvents(gateway, { key })));
  const tickets = await Promise.all(
    keys.map(async (key) => (await gateway.request("POST", "/v1/tickets", { key })).json.ticket),
  );
  return { sockets, tickets };
}

/** Asserts that all sockets were closed with 4401 and all tickets are invalid. */
async function haveEnded({ sockets, tickets }: { sockets: Events[]; tickets: string[] }): Promise<void> {
  for (const { closed } of sockets) assert.equal((await closed).code, 4401);
  for (const ticket of tickets) {
    await assert.rejects(openEvents(gateway, { ticket }), (error: any) => error.status === 401);
  }
}

/** Asserts that all of them are still valid: an event arrives, and the ticket opens a socket. */
async function goOn(
  { sockets, tickets }: { sockets: Events[]; tickets: string[] },
  key = gateway.adminKey,
): Promise<void> {
  const name = `sign-of-life-${randomBytes(4).toString("hex")}`;
  const { id } = (
    await gateway.request("PUT", `/v1/services/${name}`, { key, body: serviceAt(service.url, [{ name }]) })
  ).json;
  for (const socket of sockets)
    await socket.next(({ type, subject }) => type === "service.registered" && subject === id);
  for (const ticket of tickets) (await openEvents(gateway, { ticket })).close();
  for (const socket of sockets) socket.close();
}

const form = (path: string, members: Record<string, string>) =>
  gateway.request("POST", `/oauth/${path}`, {
    key: null,
    body: new URLSearchParams(members).toString(),
    headers: { "content-type": "application/x-www-form-urlencoded" },
  });

test("deleting_an_issuer_ends_the_sockets_of_its_people_in_every_tenant_and_no_others", async () => {
  await put("/v1/issuers/corp", corp);
  const people = await opened(await sign(), await sign({ org: "beta", sub: "bob" }));
  const [here, there] = [await opened((await makeKey(gateway, "viewer")).secret), await opened(beta)];
  await put("/v1/issuers/other", { ...corp, issuer: "https://other.example.com" });
  await put("/v1/issuers/other", { ...corp, issuer: "https://another.example.com" });
  await put("/v1/issuers/corp", corp);
  await gateway.evict("EventHub", "default");
  await remove("/v1/issuers/corp");
  await haveEnded(people);
  await goOn(here);
  await goOn(there, beta);
});

test(
  "deleting_an_issuer_ends_the_sockets_of_its_people_however_many_tenants_there_are",
  { timeout: 180_000 },
  async () => {
    const names = Array.from({ length: 110 }, (_, number) => `many-${String(number).padStart(3, "0")}`);
    for (const name of names) await gateway.request("PUT", `/v1/tenants/${name}`, { body: { name } });
    await put("/v1/issuers/corp", corp);
    // The last one to be notified, which takes more than one request.
    const people = await opened(await sign({ org: names.at(-1) }), await sign({ org: names[0] }), await sign());
    await remove("/v1/issuers/corp");
    await haveEnded(people);
  },
);

test("changing_an_issuer_makes_its_people_reconnect", async () => {
  await put("/v1/issuers/corp", corp);
  const people = await opened(await sign());
  await put("/v1/issuers/corp", { ...corp, role: "viewer" });
  await haveEnded(people);
  const again = await opened(await sign());
  await goOn(again);
  await remove("/v1/issuers/corp");
});

test("deleting_a_client_ends_the_sockets_of_its_tokens", async () => {
  const body = {
    name: "CI",
    grant_types: ["client_credentials"],
    auth_method: "client_secret_post",
    scope: "events:read services:read",
  };
  const token = async (key: string, id: string) => {
    const { client_id, secret: client_secret } = await put(`/v1/clients/${id}`, body, key);
    return (await form("token", { grant_type: "client_credentials", client_id, client_secret })).json
      .access_token as string;
  };
  const [here, there] = [await opened(await token(gateway.adminKey, "ci")), await opened(await token(beta, "ci"))];
  await remove("/v1/clients/ci", beta);
  await haveEnded(there);
  await goOn(here);
  const more = await opened(await token(gateway.adminKey, "more"));
  await put("/v1/clients/more", { ...body, scope: "services:read" });
  await haveEnded(more);
});

test("deleting_a_grant_or_a_registered_client_ends_the_sockets_opened_for_a_person", async () => {
  const redirect_uri = "https://app.example.com/done";
  const registration = {
    redirect_uris: [redirect_uri],
    token_endpoint_auth_method: "none",
    scope: "events:read services:read",
  };
  const { client_id } = (await gateway.request("POST", "/oauth/register", { key: null, body: registration })).json;
  const allowed = async (api_key: string) => {
    const verifier = randomBytes(32).toString("base64url");
    const code_challenge = createHash("sha256").update(verifier).digest("base64url");
    const asked = { response_type: "code", client_id, redirect_uri, code_challenge, code_challenge_method: "S256" };
    const sent = await form("authorize", { ...asked, decision: "allow", api_key });
    const code = new URL(sent.headers.get("location")!).searchParams.get("code")!;
    return (
      await form("token", { grant_type: "authorization_code", code, client_id, redirect_uri, code_verifier: verifier })
    ).json;
  };
  const [one, two, elsewhere] = [await allowed(gateway.adminKey), await allowed(gateway.adminKey), await allowed(beta)];
  const first = await opened(one.access_token);
  const others = await opened(two.access_token, elsewhere.access_token);
  const own = await opened(beta);
  assert.equal((await form("revoke", { token: one.refresh_token, client_id })).status, 200);
  await haveEnded(first);
  assert.equal((await gateway.request("GET", "/v1/whoami", { key: two.access_token })).status, 200);
  await remove(`/v1/clients/${client_id.slice("default.".length)}`);
  await haveEnded(others);
  await goOn(own, beta);
});

test("a_role_that_loses_the_permission_to_watch_ends_its_sockets", async () => {
  await put("/v1/issuers/corp", corp);
  await put("/v1/roles/watcher", { permissions: watches });
  const by = await makeKey(gateway, "watcher");
  const byItself = await makeKey(gateway, "watcher", ["events:read", "contexts:read:*"]);
  const withRole = await opened(by.secret, await sign({ roles: ["watch"] }));
  const without = await opened(
    byItself.secret,
    (await makeKey(gateway, "viewer")).secret,
    await sign({ roles: ["staff"] }),
  );
  // Removing other permissions ends nothing.
  await put("/v1/roles/watcher", { permissions: ["events:*", "contexts:read:*", "keys:read"] });
  const { json: context } = await create(gateway);
  for (const socket of withRole.sockets) await socket.next(({ subject }) => subject === context.id);
  // A viewer that may no longer see all contexts reconnects, and sees its own.
  await put("/v1/roles/watcher", { permissions: ["events:read"] });
  await haveEnded(withRole);
  const again = await opened(by.secret);
  await put("/v1/roles/watcher", { permissions: ["services:read"] });
  await haveEnded(again);
  await goOn(without);
  await remove("/v1/issuers/corp");
});

test("a_contexts_own_socket_ends_with_the_role_that_permits_reading_it", async () => {
  await put("/v1/roles/reader", { permissions: ["contexts:read", "contexts:create:*"] });
  const { secret: key } = await makeKey(gateway, "reader");
  const { json: context } = await create(gateway, {}, { key });
  const socket = await openEvents(gateway, { key, path: `/v1/contexts/${context.id}/events` });
  await put("/v1/roles/reader", { permissions: ["contexts:create:*"] });
  assert.equal((await socket.closed).code, 4401);
});

test("deleting_a_tenant_ends_everything_opened_there", async () => {
  const key = (await gateway.request("PUT", "/v1/tenants/brief", { body: { name: "Brief" } })).json.admin_key;
  await put("/v1/issuers/corp", corp);
  const all = await opened(key, await sign({ org: "brief" }));
  const here = await opened(gateway.adminKey);
  await remove("/v1/tenants/brief?force=true");
  await haveEnded(all);
  await goOn(here);
});

test("the_sockets_of_a_revoked_key_are_closed_with_4401", async () => {
  const { id, secret } = await makeKey(gateway, "caller");
  const { json: context } = await create(gateway, {}, { key: secret });
  const { json: made } = await gateway.request("POST", "/v1/tickets", { key: secret });
  const sockets = [
    await openEvents(gateway, { key: secret }),
    await openEvents(gateway, { key: secret, path: `/v1/contexts/${context.id}/events` }),
    await openEvents(gateway, { ticket: made.ticket }),
  ];
  const others = await openEvents(gateway);
  await gateway.request("DELETE", `/v1/keys/${id}`);
  for (const { closed } of sockets) assert.equal((await closed).code, 4401);
  await others.next((event) => event.type === "key.revoked" && event.subject === id);
  others.close();
});

test("revoking_a_key_ends_its_connections", async () => {
  await register(gateway, "revoked", connecting([{ name: "revoked" }]));
  const key = await makeKey(gateway, "service", ["services:connect:revoked"]);
  const connection = await connect(gateway, "revoked", key.secret);
  connection.ready(1);
  const answer = await gateway.request("DELETE", `/v1/keys/${key.id}`);
  assert.equal(answer.status, 204, answer.text);
  assert.equal((await connection.closed).code, 4401);
  await assert.rejects(
    connect(gateway, "revoked", key.secret),
    (error) => error instanceof UpgradeRefused && error.status === 401,
  );
});

test("a_role_that_loses_the_permission_ends_connections_too", async () => {
  await register(gateway, "demoted", connecting([{ name: "demoted" }]));
  const role = { permissions: ["services:connect:demoted"] };
  assert.equal((await gateway.request("PUT", "/v1/roles/connector", { body: role })).status, 201);
  const { secret } = await makeKey(gateway, "connector");
  const connection = await connect(gateway, "demoted", secret);
  connection.ready(1);
  const changed = await gateway.request("PUT", "/v1/roles/connector", {
    body: { permissions: [] },
    headers: { "if-match": "*" },
  });
  assert.equal(changed.status, 200, changed.text);
  assert.equal((await connection.closed).code, 4401);
});

// Streams of one context end with the credentials they were opened with; the work continues.

/** Creates a context and listens to it; returns its id, and the text of the stream once it has ended. */
async function listen(
  key: string,
  headers: Record<string, string> = {},
): Promise<{ id: string; heard: Promise<string> }> {
  const response = await gateway.open("POST", "/v1/contexts", {
    key,
    headers: { accept: "text/event-stream", ...headers },
    body: { capability: "silent" },
  });
  assert.equal(response.status, 200);
  return { id: response.headers.get("location")!.split("/").at(-1)!, heard: response.text() };
}

const ways: [string, (id: string) => Promise<unknown>][] = [
  ["is_revoked", (id) => gateway.request("DELETE", `/v1/keys/${id}`)],
  ["expires", (id) => gateway.request("POST", `/v1/keys/${id}/rotate`, { body: { overlap_seconds: 8 } })],
];

for (const [how, end] of ways) {
  test(`a_contexts_stream_of_events_ends_when_its_key_${how}`, async () => {
    const { id, secret: key } = await makeKey(gateway, "caller");
    const { id: context } = await accepted(gateway, { capability: "silent" }, { key });
    if (how === "expires") await end(id);
    const stream = await openStream(gateway, { key, path: `/v1/contexts/${context}/events` });
    const other = await openStream(gateway, { path: `/v1/contexts/${context}/events` });
    if (how !== "expires") await end(id);
    await stream.ended;
    await gateway.request("POST", `/v1/contexts/${context}/cancel`);
    await other.next(({ type }) => type === "context.cancelled");
    other.close();
  });

  test(`a_stream_opened_with_the_context_ends_when_its_key_${how}`, async () => {
    const { id, secret: key } = await makeKey(gateway, "caller");
    // A rotation ends streams opened with the old secret.
    if (how === "expires") await end(id);
    const [first, second] = [await listen(key), await listen(key, { "idempotency-key": `of-${how}` })];
    const replayed = await listen(key, { "idempotency-key": `of-${how}` });
    const others = await listen(gateway.adminKey);
    if (how !== "expires") await end(id);
    for (const { id: context, heard } of [first, second, replayed]) {
      const text = await heard;
      assert.match(text, /event: context\n/);
      assert.ok(!text.includes("event: end"), text);
      const { json } = await gateway.request("GET", `/v1/contexts/${context}`);
      assert.ok(["executing", "queued"].includes(json.status), `the work continues: ${json.status}`);
    }
    // Two of them belong to one context.
    for (const { id: context } of [first, second, others])
      await gateway.request("POST", `/v1/contexts/${context}/cancel`);
    assert.match(await others.heard, /event: end\n/);
  });
}

// Grants: their visibility, and that an ended one is invalid at once.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { eventually, makeKey, refused } from "./support/arrange.ts";
import { type Answer, type Gateway, startGateway } from "./support/gateway.ts";

let gateway: Gateway;
let beta: string;
const callback = "https://app.example.com/done";
const app = {
  name: "Reader <b>",
  grant_types: ["authorization_code", "refresh_token"],
  auth_method: "none",
  redirect_uris: [callback],
  scope: "contexts:read services:read events:read grants:read grants:write",
};

before(async () => {
  gateway = await startGateway({ vars: { OAUTH: "true" } });
  beta = (await gateway.request("PUT", "/v1/tenants/beta", { body: { name: "beta" } })).json.admin_key;
  for (const key of [gateway.adminKey, beta]) {
    for (const id of ["reader", "other"]) {
      assert.equal(
        (await gateway.request("PUT", `/v1/clients/${id}`, { key, body: { ...app, name: `${app.name} ${id}` } }))
          .status,
        201,
      );
    }
  }
});
after(() => gateway?.stop());

const form = (path: string, members: Record<string, string>): Promise<Answer> =>
  gateway.request("POST", path, {
    key: null,
    body: new URLSearchParams(members).toString(),
    headers: { "content-type": "application/x-www-form-urlencoded" },
  });
/** The owner of this key allows a client something; returns the tokens. */
async function allow(key: string, client_id = "default.reader", more: Record<string, string> = {}): Promise<any> {
  const verifier = randomBytes(32).toString("base64url");
  const code_challenge = createHash("sha256").update(verifier).digest("base64url");
  const asked = {
    response_type: "code",
    client_id,
    redirect_uri: callback,
    code_challenge,
    code_challenge_method: "S256",
    ...more,
  };
  const sent = await form("/oauth/authorize", { ...asked, decision: "allow", api_key: key });
  assert.equal(sent.status, 303, sent.text);
  const code = new URL(sent.headers.get("location")!).searchParams.get("code")!;
  const answer = await form("/oauth/token", {
    grant_type: "authorization_code",
    code,
    code_verifier: verifier,
    client_id,
  });
  assert.equal(answer.status, 200, answer.text);
  return answer.json;
}
const list = (key: string, query = "") => gateway.request("GET", `/v1/grants${query}`, { key });
const remove = (key: string, id: string) => gateway.request("DELETE", `/v1/grants/${id}`, { key });
const whoami = (key: string) => gateway.request("GET", "/v1/whoami", { key });
const refresh = (refresh_token: string, client_id = "default.reader") =>
  form("/oauth/token", { grant_type: "refresh_token", refresh_token, client_id });

test("people_see_their_own_grants_and_with_permission_all_of_the_tenant", async () => {
  const [ada, bob] = [await makeKey(gateway, "caller"), await makeKey(gateway, "caller")];
  const before = (await list(gateway.adminKey)).json.data.length;
  await allow(ada.secret, "default.reader", { scope: "contexts:read", resource: `${gateway.url}/mcp` });
  await allow(bob.secret, "default.other");
  await allow(bob.secret, "default.reader");
  const own = await list(ada.secret);
  assert.equal(own.status, 200, own.text);
  const [grant, ...others] = own.json.data;
  assert.equal(others.length, 0);
  const { id, created_at, last_used_at, expires_at, ...rest } = grant;
  assert.deepEqual(rest, {
    client_id: "default.reader",
    client_name: "Reader <b> reader",
    principal: `key:${ada.id}`,
    scope: "contexts:read",
    resource: `${gateway.url}/mcp`,
  });
  assert.match(id, /^[0-9a-z]{26}$/);
  assert.ok(
    Math.abs(Date.parse(created_at) - Date.now()) < 600_000 &&
      Date.parse(expires_at) - Date.parse(created_at) === 30 * 86_400_000,
  );
  assert.equal(Date.parse(last_used_at) % 3_600_000, 0);
  assert.equal(own.text.includes("nxg_"), false, "no token of it is shown");
  const principals = async (key: string, query = "") =>
    (await list(key, query)).json.data.map((one: any) => one.principal);
  assert.deepEqual(await principals(bob.secret), [`key:${bob.id}`, `key:${bob.id}`]);
  assert.equal((await principals(gateway.adminKey)).length, before + 3);
  assert.deepEqual(await principals(gateway.adminKey, `?owner=key:${ada.id}`), [`key:${ada.id}`]);
  assert.deepEqual(await principals(gateway.adminKey, `?owner=key:${bob.id}&client=default.other`), [`key:${bob.id}`]);
  assert.deepEqual(await principals(gateway.adminKey, "?owner=me"), []);
  assert.deepEqual(await principals(ada.secret, "?owner=me&client=default.other"), []);
  for (const query of ["?owner=*", `?owner=key:${bob.id}`])
    refused(await list(ada.secret, query), 403, "permission_denied");
  const viewer = await makeKey(gateway, "viewer");
  assert.equal((await principals(viewer.secret)).length, before + 3);
  // In pages, each once.
  const first = await list(gateway.adminKey, "?limit=2");
  const next = await list(gateway.adminKey, `?limit=2&cursor=${first.json.next_cursor}`);
  const ids = [...first.json.data, ...next.json.data].map((one: any) => one.id);
  assert.ok(first.json.data.length === 2 && next.json.data.length >= 1 && new Set(ids).size === ids.length);
  assert.match(first.headers.get("link")!, /rel="next"/);
  refused(await list(gateway.adminKey, `?limit=1&owner=me&cursor=${first.json.next_cursor}`), 400, "invalid_request");
  for (const query of ["?limit=0", "?limit=201", "?limit=x", "?surprise=1"])
    refused(await list(gateway.adminKey, query), 422, "validation_failed");
});

test("an_ended_grant_is_invalid_at_once", async () => {
  const [ada, bob] = [await makeKey(gateway, "caller"), await makeKey(gateway, "caller")];
  const tokens = await allow(ada.secret);
  const kept = await allow(bob.secret);
  const { id } = (await list(ada.secret)).json.data[0];
  refused(await remove(bob.secret, id), 403, "permission_denied");
  refused(await remove((await makeKey(gateway, "viewer")).secret, id), 403, "permission_denied");
  refused(await remove(beta, id), 404, "not_found");
  assert.equal((await whoami(tokens.access_token)).status, 200);
  const stream = await gateway.open("GET", "/v1/events", {
    key: tokens.access_token,
    headers: { accept: "text/event-stream" },
  });
  assert.equal(stream.status, 200);
  const closed = stream.text();
  assert.equal((await remove(ada.secret, id)).status, 204);
  refused(await whoami(tokens.access_token), 401, "unauthenticated");
  assert.equal((await refresh(tokens.refresh_token)).json.error, "invalid_grant");
  await closed;
  assert.deepEqual((await list(ada.secret)).json.data, []);
  refused(await remove(gateway.adminKey, id), 404, "not_found");
  assert.equal((await whoami(kept.access_token)).status, 200);
  const entry = await eventually(
    async () => (await gateway.request("GET", `/v1/audit?object=revocations/${id}`)).json.data[0],
  );
  assert.deepEqual(
    [entry.action, entry.actor, entry.changes.client],
    ["revocation.created", `key:${ada.id}`, { from: null, to: "default.reader" }],
  );
  // By a caller who may end all grants.
  const operator = await makeKey(gateway, "operator");
  const { id: others } = (await list(operator.secret, `?owner=key:${bob.id}`)).json.data[0];
  assert.equal((await remove(operator.secret, others)).status, 204);
  refused(await whoami(kept.access_token), 401, "unauthenticated");
});

test("expired_grants_are_no_longer_listed", async () => {
  const ada = await makeKey(gateway, "caller");
  const mine = async () => (await list(gateway.adminKey, `?owner=key:${ada.id}`)).json.data.length;
  const revoked = await allow(ada.secret);
  await form("/oauth/revoke", { token: revoked.refresh_token, client_id: "default.reader" });
  assert.equal(await mine(), 0);
  const byAccess = await allow(ada.secret);
  await form("/oauth/revoke", { token: byAccess.access_token, client_id: "default.reader" });
  assert.equal(await mine(), 0);
  const stolen = await allow(ada.secret);
  const second = (await refresh(stolen.refresh_token)).json;
  assert.equal(await mine(), 1);
  await refresh(second.refresh_token);
  await refresh(stolen.refresh_token);
  assert.equal(await mine(), 0, "a copy was used");
  await allow(ada.secret);
  assert.equal(await mine(), 1);
  await gateway.request("DELETE", `/v1/keys/${ada.id}`);
  assert.equal(await mine(), 0, "the key is gone");
});

test("an_app_sees_and_ends_grants_only_with_the_permission", async () => {
  const ada = await makeKey(gateway, "caller");
  const tokens = await allow(ada.secret);
  const { id } = (await list(ada.secret)).json.data[0];
  for (const query of ["", "?owner=me"]) refused(await list(tokens.access_token, query), 403, "permission_denied");
  refused(await remove(tokens.access_token, id), 403, "permission_denied");
  const operators = await makeKey(gateway, "operator");
  const strong = await allow(operators.secret);
  assert.ok((await list(strong.access_token)).json.data.length >= 2);
  assert.equal((await remove(strong.access_token, id)).status, 204);
  refused(await whoami(tokens.access_token), 401, "unauthenticated");
});

test("grants_of_another_tenant_are_invisible", async () => {
  const here = await makeKey(gateway, "caller");
  await allow(here.secret);
  const { id } = (await list(here.secret)).json.data[0];
  const tokens = await allow(beta, "beta.reader");
  const theirs = (await list(beta)).json.data;
  assert.deepEqual(
    theirs.map((one: any) => one.client_id),
    ["beta.reader"],
  );
  refused(await remove(beta, id), 404, "not_found");
  refused(await remove(gateway.adminKey, theirs[0].id), 404, "not_found");
  for (const made of ["index", "../default/index", "%2e%2e", "x".repeat(300), "01kay3v5g0w2z6qh7cng4m8rx0"]) {
    refused(await remove(gateway.adminKey, encodeURIComponent(made)), 404, "not_found");
  }
  assert.equal((await whoami(tokens.access_token)).status, 200);
});

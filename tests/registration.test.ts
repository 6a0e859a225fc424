// Clients that register themselves: as editors do, limited in rate and number, for as long as they are used.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { makeKey, pointers, refused } from "./support/arrange.ts";
import { databases } from "./support/disk.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";

const vars = { OAUTH: "true", OAUTH_REGISTRATION: "true", OAUTH_REGISTRATIONS: "1000000" };
const callback = "https://app.example.com/done";
let gateway: Gateway;

before(async () => {
  gateway = await startGateway({ vars });
});
after(() => gateway?.stop());

const post = (body: unknown, from: Gateway = gateway, address?: string) =>
  from.request("POST", "/oauth/register", {
    key: null,
    body,
    ...(address && { headers: { "cf-connecting-ip": address } }),
  });
const registered = async (body: object, from?: Gateway) => {
  const answer = await post({ token_endpoint_auth_method: "none", ...body }, from);
  assert.equal(answer.status, 201, answer.text);
  return answer.json;
};
const form = (path: string, body: Record<string, string>, from: Gateway = gateway) =>
  from.request("POST", `/oauth/${path}`, {
    key: null,
    body: new URLSearchParams(body).toString(),
    headers: { "content-type": "application/x-www-form-urlencoded" },
  });
/** A person allows it, and the app fetches its tokens. */
async function allowed(client_id: string, redirect_uri: string, from: Gateway = gateway) {
  const verifier = randomBytes(32).toString("base64url");
  const code_challenge = createHash("sha256").update(verifier).digest("base64url");
  const asked = {
    response_type: "code",
    client_id,
    redirect_uri,
    code_challenge,
    code_challenge_method: "S256",
    state: "s",
  };
  const page = await from.request("GET", `/oauth/authorize?${new URLSearchParams(asked)}`, { key: null });
  assert.equal(page.status, 200, page.text);
  const sent = await form("authorize", { ...asked, decision: "allow", api_key: from.adminKey }, from);
  assert.equal(sent.status, 303, sent.text);
  const location = sent.headers.get("location")!;
  assert.ok(location.startsWith(redirect_uri), location);
  const code = new URL(location).searchParams.get("code")!;
  const body = { grant_type: "authorization_code", code, client_id, redirect_uri, code_verifier: verifier };
  const tokens = await form("token", body, from);
  assert.equal(tokens.status, 200, tokens.text);
  return tokens.json;
}
const clients = async (from: Gateway = gateway): Promise<any[]> => (await from.request("GET", "/v1/clients")).json.data;

test("registrations_of_editors_are_accepted_and_returned_as_stored", async () => {
  const code = await registered({
    client_name: "Visual Studio Code",
    client_uri: "https://code.visualstudio.com",
    application_type: "native",
    redirect_uris: ["https://vscode.dev/redirect", "http://127.0.0.1:33418/", "vscode://callback"],
    grant_types: ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
    response_types: ["code", "token"],
    scope: null,
    logo_uri: null,
    contacts: [],
  });
  assert.deepEqual(code.grant_types, ["authorization_code", "refresh_token"]);
  assert.deepEqual(code.response_types, ["code"]);
  assert.match(code.scope, /contexts:read/);
  const cursor = "cursor://anysphere.cursor-mcp/oauth/callback";
  for (const redirect of [cursor, "com.example.app:/cb", "myapp:cb?x=1"]) {
    const app = await registered({ redirect_uris: [redirect] });
    assert.deepEqual(app.redirect_uris, [redirect]);
    assert.ok((await allowed(app.client_id, redirect)).refresh_token);
  }
  const mixed = await registered({
    redirect_uris: ["https://a.example/cb", "javascript:alert(1)", "myapp://cb", "http://a.example/", null],
  });
  assert.deepEqual(mixed.redirect_uris, ["https://a.example/cb", "myapp://cb"]);
  const claude = await registered({
    redirect_uris: ["https://claude.ai/api/mcp/auth_callback"],
    scope: "openid profile services:read",
  });
  assert.equal(claude.scope, "services:read");
});

test("forbidden_redirect_addresses_are_refused_wherever_they_are_registered", async () => {
  const bad = [
    "javascript:alert(1)",
    "JavaScript:x",
    "data:text/html,x",
    "vbscript:x",
    "file:///x",
    "blob:https://a.example/1",
    "about:blank",
    "localhost:80/cb",
  ];
  for (const uri of bad) {
    const answer = await post({ redirect_uris: [uri] });
    assert.deepEqual([answer.status, answer.json.error], [400, "invalid_redirect_uri"], uri);
    const body = {
      name: "x",
      grant_types: ["authorization_code"],
      auth_method: "none",
      scope: "contexts:read",
      redirect_uris: ["cursor://done", uri],
    };
    assert.deepEqual(
      pointers(refused(await gateway.request("PUT", "/v1/clients/x", { body }), 422, "validation_failed")),
      ["#/redirect_uris/1"],
    );
  }
  const body = {
    name: "x",
    grant_types: ["authorization_code"],
    auth_method: "none",
    scope: "contexts:read",
    redirect_uris: ["cursor://done"],
  };
  assert.equal((await gateway.request("PUT", "/v1/clients/x", { body })).status, 201);
  assert.ok((await allowed("default.x", "cursor://done")).access_token);
  assert.deepEqual(
    pointers(refused(await gateway.request("PUT", "/v1/clients/dyn-mine", { body }), 422, "validation_failed")),
    ["#/id"],
  );
});

test("bodies_that_are_too_large_or_not_json_are_refused_as_oauth_errors", async () => {
  const words = Array.from({ length: 6100 }, () => `${"a".repeat(140)}:read`).join(" ");
  const redirect_uris = ["http://127.0.0.1/cb"];
  const raw = (body: string | Buffer, type = "application/json") =>
    gateway.request("POST", "/oauth/register", { key: null, body, headers: { "content-type": type } });
  for (const [answer, status] of [
    [await post({ redirect_uris, scope: words }), 413],
    [await post({ redirect_uris, scope: words.slice(0, 5000) }), 400],
    [await post({ redirect_uris, client_name: "n".repeat(70_000) }), 413],
    [await raw("{"), 400],
    [await raw("{}", "text/plain"), 415],
  ] as const) {
    assert.deepEqual([answer.status, answer.json.error], [status, "invalid_client_metadata"], answer.text);
    assert.equal(answer.headers.get("content-type"), "application/json");
  }
  const long = await registered({ redirect_uris, client_name: "n".repeat(5000) });
  assert.equal(long.client_name.length, 200);
});

test("registrations_per_address_are_limited_without_delaying_others", async () => {
  const limited = await startGateway({ vars: { ...vars, OAUTH_REGISTRATIONS: "5" } });
  try {
    const body = { redirect_uris: [callback], token_endpoint_auth_method: "none" };
    for (let at = 0; at < 5; at += 1) assert.equal((await post(body, limited, "2001:db8:1:2::1")).status, 201);
    const refusal = await post(body, limited, "2001:db8:1:2::ffff");
    assert.deepEqual([refusal.status, refusal.json.error], [429, "temporarily_unavailable"], refusal.text);
    assert.ok(Number(refusal.headers.get("retry-after")) >= 1);
    assert.equal((await post(body, limited, "2001:db8:1:3::1")).status, 201);
    assert.equal((await post(body, limited, "192.0.2.1")).status, 201);
    // Registrations refused for their content do not count.
    for (let at = 0; at < 10; at += 1) assert.equal((await post({}, limited, "192.0.2.2")).status, 400);
    assert.equal((await post(body, limited, "192.0.2.2")).status, 201);
  } finally {
    await limited.stop();
  }
});

test("the_oldest_unused_registrations_make_room_and_used_ones_stay", async () => {
  const own = await startGateway({ vars });
  try {
    const body = { redirect_uris: [callback], token_endpoint_auth_method: "none" };
    const used = await registered(body, own);
    const tokens = await allowed(used.client_id, callback, own);
    const quiet = (await post(body, own, "192.0.2.9")).json;
    const made: string[] = [];
    for (let at = 0; at < 210; at += 1) {
      const answer = await post(body, own, "198.51.100.1");
      assert.equal(answer.status, 201, answer.text);
      made.push(answer.json.client_id);
    }
    const there = await clients(own);
    const ids = new Set(there.map(({ client_id }) => client_id));
    assert.equal(ids.size, 200);
    // A flood displaces its own registrations, the oldest first.
    assert.ok(ids.has(used.client_id) && ids.has(quiet.client_id) && !ids.has(made[0]!) && ids.has(made.at(-1)!));
    const shown = there.find(({ client_id }) => client_id === used.client_id);
    assert.match(shown.last_used_at, /:00:00/);
    assert.equal(there.find(({ client_id }) => client_id === quiet.client_id).last_used_at, null);
    const again = await form(
      "token",
      { grant_type: "refresh_token", refresh_token: tokens.refresh_token, client_id: used.client_id },
      own,
    );
    assert.equal(again.status, 200, again.text);
    const page = await own.request(
      "GET",
      `/oauth/authorize?${new URLSearchParams({ client_id: made[0]!, redirect_uri: callback })}`,
      { key: null },
    );
    assert.equal(page.status, 400);
  } finally {
    await own.stop();
  }
});

test("when_all_are_in_use_a_registration_is_refused_clearly", async () => {
  const persist = mkdtempSync(join(tmpdir(), "narthex-registration-"));
  try {
    const first = await startGateway({ persist, vars });
    const body = { redirect_uris: [callback], token_endpoint_auth_method: "none" };
    for (let at = 0; at < 200; at += 1) assert.equal((await post(body, first)).status, 201);
    await first.stop();
    databases(persist, "Registry", "documents", (database) => {
      database
        .prepare("INSERT INTO used (key, at) SELECT 'clients/' || id, ? FROM documents WHERE kind = 'client'")
        .run(Date.now());
    });
    const second = await startGateway({ persist, vars });
    try {
      const refusal = await post(body, second);
      assert.deepEqual([refusal.status, refusal.json.error], [503, "temporarily_unavailable"], refusal.text);
      assert.match(refusal.json.error_description, /in use/);
      assert.ok(Number(refusal.headers.get("retry-after")) > 0);
      const [one] = await clients(second);
      assert.equal(
        (await second.request("DELETE", `/v1/clients/${one.id}`, { headers: { "if-match": "*" } })).status,
        204,
      );
      assert.equal((await post(body, second)).status, 201);
    } finally {
      await second.stop();
    }
  } finally {
    rmSync(persist, { recursive: true, force: true });
  }
});

test("unused_registrations_are_deleted_with_their_grants", async () => {
  const hour = 3_600_000;
  const persist = mkdtempSync(join(tmpdir(), "narthex-registration-"));
  const more = { ...vars, ADMIN_KEY: "a key that outlives the restart" };
  try {
    const first = await startGateway({ persist, vars: more });
    const body = { redirect_uris: [callback], token_endpoint_auth_method: "none" };
    const [fresh, unused, idle, busy] = [
      await registered(body, first),
      await registered(body, first),
      await registered(body, first),
      await registered(body, first),
    ];
    const [ofIdle, ofBusy] = [
      await allowed(idle.client_id, callback, first),
      await allowed(busy.client_id, callback, first),
    ];
    await first.stop();
    // As if time had passed.
    const id = ({ client_id }: any) => client_id.slice("default.".length);
    databases(persist, "Registry", "documents", (database) => {
      const change = database.prepare(
        "UPDATE documents SET document = json_set(document, '$.created_at', CAST(? AS INTEGER)) WHERE kind = 'client' AND id = ?",
      );
      change.run(Date.now() - 7 * hour, id(unused));
      change.run(Date.now() - 50 * 24 * hour, id(idle));
      change.run(Date.now() - 50 * 24 * hour, id(busy));
      database.prepare("UPDATE used SET at = ? WHERE key = ?").run(Date.now() - 43 * 24 * hour, `clients/${id(idle)}`);
    });
    const second = await startGateway({ persist, vars: more });
    try {
      await second.runCron();
      const ids = (await clients(second)).map((one) => one.client_id).sort();
      assert.deepEqual(ids, [fresh.client_id, busy.client_id].sort());
      const refusal = await form(
        "token",
        { grant_type: "refresh_token", refresh_token: ofIdle.refresh_token, client_id: idle.client_id },
        second,
      );
      assert.deepEqual([refusal.status, refusal.json.error], [401, "invalid_client"]);
      const good = await form(
        "token",
        { grant_type: "refresh_token", refresh_token: ofBusy.refresh_token, client_id: busy.client_id },
        second,
      );
      assert.equal(good.status, 200, good.text);
      const deleted = (await second.request("GET", "/v1/audit?action=client.deleted")).json.data;
      assert.equal(deleted.length, 2);
      assert.ok(deleted.every(({ actor }: any) => actor === "gateway"));
    } finally {
      await second.stop();
    }
  } finally {
    rmSync(persist, { recursive: true, force: true });
  }
});

test("callers_take_away_no_more_than_they_have", async () => {
  const keeper = await makeKey(gateway, "bare", ["keys:write", "clients:write", "roles:write", "contexts:read"]);
  const stronger = await makeKey(gateway, "operator");
  const weaker = await makeKey(gateway, "bare", ["contexts:read"]);
  const as = { key: keeper.secret, headers: { "if-match": "*" } };
  refused(await gateway.request("DELETE", `/v1/keys/${stronger.id}`, as), 403, "permission_denied");
  refused(
    await gateway.request("POST", `/v1/keys/${stronger.id}/rotate`, { ...as, body: {} }),
    403,
    "permission_denied",
  );
  assert.equal((await gateway.request("GET", "/v1/whoami", { key: stronger.secret })).status, 200);
  assert.equal((await gateway.request("DELETE", `/v1/keys/${weaker.id}`, as)).status, 204);
  refused(await gateway.request("DELETE", "/v1/keys/default-000000000000", as), 404, "not_found");
  const client = { name: "strong", grant_types: ["client_credentials"], scope: "services:write" };
  assert.equal((await gateway.request("PUT", "/v1/clients/strong", { body: client })).status, 201);
  refused(await gateway.request("DELETE", "/v1/clients/strong", as), 403, "permission_denied");
  refused(
    await gateway.request("PUT", "/v1/clients/strong", { ...as, body: { ...client, scope: "contexts:read" } }),
    403,
    "permission_denied",
  );
  assert.equal(
    (await gateway.request("PUT", "/v1/roles/strong", { body: { permissions: ["services:write"] } })).status,
    201,
  );
  refused(await gateway.request("DELETE", "/v1/roles/strong", as), 403, "permission_denied");
  refused(
    await gateway.request("PUT", "/v1/roles/strong", { ...as, body: { permissions: [] } }),
    403,
    "permission_denied",
  );
  // And a key may always be revoked by its owner.
  assert.equal((await gateway.request("DELETE", `/v1/keys/${keeper.id}`, as)).status, 204);
});

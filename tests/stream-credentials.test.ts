// Everything that stays open ends with its credentials: every kind of stream and wait, and every way that credentials
// end.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { makeKey, serviceAt } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Claims, type Pair, pair, seconds, sign } from "./support/issuer.ts";
import { claim, message, modernHeaders } from "./support/mcp.ts";
import { hang, type Service, startService } from "./support/service.ts";
import { openStream } from "./support/stream.ts";

let gateway: Gateway;
let service: Service;
let es: Pair;
const always = { "if-match": "*" };
const permissions = ["contexts:create:*", "contexts:read", "events:read", "services:read"];

/** A client without a secret, to which a person grants these permissions. */
const publicClient = {
  name: "app",
  grant_types: ["authorization_code"],
  auth_method: "none",
  redirect_uris: ["https://app.example.com/done"],
  scope: permissions.join(" "),
};

before(async () => {
  gateway = await startGateway({ timeScale: 0.2, vars: { OAUTH: "true" } });
  service = await startService(hang);
  es = await pair("ES256", "es");
  assert.equal((await ask("PUT", "/v1/services/worker", offered())).status, 201);
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
});

const offered = () => serviceAt(service.url, [{ timeout_seconds: 300, idempotent: true }]);
const ask = (
  method: string,
  path: string,
  body?: object,
  key = gateway.adminKey,
  headers: Record<string, string> = {},
) => gateway.request(method, path, { key, headers, ...(body && { body }) });
const stream = { accept: "text/event-stream" };

/** Opens something: settles once it is open, and then with the status it ended with. */
type Opening = (key: string, context: string) => Promise<{ ended: Promise<number> }>;
const opening =
  (method: string, path: (context: string) => string, headers: Record<string, string>, body?: object): Opening =>
  async (key, context) => {
    const response = await gateway.open(method, path(context), { key, headers, ...(body && { body }) });
    assert.equal(response.status, 200, `${path(context)}: ${response.status}`);
    // An aborted one has ended too.
    return {
      ended: response.text().then(
        () => 200,
        () => 200,
      ),
    };
  };
/** A wait has no response before it ends, and must then be refused. */
const waiting =
  (method: string, path: (context: string) => string, headers: Record<string, string>, body?: object): Opening =>
  async (key, context) => {
    const answer = gateway.open(method, path(context), { key, headers, ...(body && { body }) });
    return { ended: answer.then(async (response) => (await response.text(), response.status)) };
  };
const call = (more: object = {}) => ({ name: "worker__work", arguments: {}, ...more });
const modern = (method: string, params: object) =>
  message(method, { ...params, _meta: { ...claim, progressToken: "p" } });

const kinds: Record<string, Opening> = {
  "what a caller hears of a new context": opening("POST", () => "/v1/contexts", stream, { capability: "work" }),
  "a context's events": opening("GET", (id) => `/v1/contexts/${id}/events`, stream),
  "all events": opening("GET", () => "/v1/events", stream),
  "a modern tool call": opening(
    "POST",
    () => "/mcp",
    modernHeaders("tools/call", call()),
    modern("tools/call", call()),
  ),
  "a modern subscription": opening(
    "POST",
    () => "/mcp",
    modernHeaders("subscriptions/listen"),
    modern("subscriptions/listen", { notifications: { toolsListChanged: true } }),
  ),
  "a legacy tool call": opening(
    "POST",
    () => "/mcp/worker",
    { accept: "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18" },
    message("tools/call", { name: "work", arguments: {}, _meta: { progressToken: "p" } }),
  ),
  "a wait for a context": waiting("GET", (id) => `/v1/contexts/${id}`, { prefer: "wait=110" }),
  "a wait for a new context": waiting("POST", () => "/v1/contexts", { prefer: "wait=110" }, { capability: "work" }),
  "a tool call without a stream": waiting(
    "POST",
    () => "/mcp/worker",
    { accept: "application/json", "mcp-protocol-version": "2025-06-18" },
    message("tools/call", { name: "work", arguments: {} }),
  ),
};

/** Opens the GET stream of a legacy session. */
async function session(key: string): Promise<{ ended: Promise<number> }> {
  const params = {
    protocolVersion: "2025-06-18",
    capabilities: { elicitation: {} },
    clientInfo: { name: "c", version: "1" },
  };
  const made = await gateway.request("POST", "/mcp", {
    key,
    body: message("initialize", params),
    headers: { accept: "application/json, text/event-stream" },
  });
  const id = made.headers.get("mcp-session-id");
  assert.ok(id, made.text);
  return opening("GET", () => "/mcp", { ...stream, "mcp-session-id": id })(key, "");
}

const form = (path: string, members: Record<string, string>) =>
  gateway.request("POST", `/oauth/${path}`, {
    key: null,
    body: new URLSearchParams(members).toString(),
    headers: { "content-type": "application/x-www-form-urlencoded" },
  });

/** Credentials for the API and for each MCP endpoint, and how they end. */
type Way = { key: (path: string) => Promise<string>; end: () => Promise<unknown> };
const same = (key: string, end: () => Promise<unknown>): Way => ({ key: async () => key, end });

async function role(name: string, key = gateway.adminKey): Promise<void> {
  assert.equal((await ask("PUT", `/v1/roles/${name}`, { permissions }, key)).status, 201);
}

async function issued(name: string, more: Claims = {}): Promise<{ token: string; document: object }> {
  const document = {
    issuer: `https://${name}.example.com`,
    audience: "us",
    algorithms: ["ES256"],
    keys: [es.jwk],
    role: "caller",
    ...more,
  };
  assert.equal((await ask("PUT", `/v1/issuers/${name}`, document)).status, 201);
  return { token: await sign({ iss: document.issuer, aud: "us", sub: "ada" }, es), document };
}

async function ofClient(id: string): Promise<{ client_id: string; client_secret: string; key: Way["key"] }> {
  const body = {
    name: id,
    grant_types: ["client_credentials"],
    auth_method: "client_secret_post",
    scope: permissions.join(" "),
  };
  const { client_id, secret: client_secret } = (await ask("PUT", `/v1/clients/${id}`, body)).json;
  const key = async (path: string) =>
    (await form("token", { grant_type: "client_credentials", client_id, client_secret, resource: gateway.url + path }))
      .json.access_token as string;
  return { client_id, client_secret, key };
}

/** A person allows an app something: by a code, for one resource. */
async function granted(client_id: string, api_key: string, path: string): Promise<string> {
  const [redirect_uri, resource, verifier] = [
    "https://app.example.com/done",
    gateway.url + path,
    randomBytes(32).toString("base64url"),
  ];
  const code_challenge = createHash("sha256").update(verifier).digest("base64url");
  const asked = {
    response_type: "code",
    client_id,
    redirect_uri,
    code_challenge,
    code_challenge_method: "S256",
    resource,
    scope: permissions.join(" "),
  };
  const sent = await form("authorize", { ...asked, decision: "allow", api_key });
  const code = new URL(sent.headers.get("location")!).searchParams.get("code")!;
  const tokens = await form("token", {
    grant_type: "authorization_code",
    code,
    client_id,
    redirect_uri,
    code_verifier: verifier,
    resource,
  });
  assert.equal(tokens.status, 200, tokens.text);
  return tokens.json.access_token;
}

const ways: Record<string, () => Promise<Way>> = {
  "its key is revoked": async () => {
    const { id, secret } = await makeKey(gateway, "caller");
    return same(secret, () => ask("DELETE", `/v1/keys/${id}`));
  },
  "its key is rotated and its overlap is over": async () => {
    const { id, secret } = await makeKey(gateway, "caller");
    assert.equal((await ask("POST", `/v1/keys/${id}/rotate`, { overlap_seconds: 20 })).status, 201);
    return same(secret, async () => {});
  },
  "its role permits no more": async () => {
    await role("streams");
    const { secret } = await makeKey(gateway, "streams");
    return same(secret, () =>
      ask("PUT", "/v1/roles/streams", { permissions: ["services:read"] }, gateway.adminKey, always),
    );
  },
  "its issuer is changed": async () => {
    const { token, document } = await issued("changed");
    return same(token, () =>
      ask("PUT", "/v1/issuers/changed", { ...document, audience: "them" }, gateway.adminKey, always),
    );
  },
  "its issuer withdraws its key": async () => {
    const { token, document } = await issued("withdrawn");
    const other = await pair("ES256", "es");
    return same(token, () =>
      ask("PUT", "/v1/issuers/withdrawn", { ...document, keys: [other.jwk] }, gateway.adminKey, always),
    );
  },
  "its issuer is deleted": async () => {
    const { token } = await issued("deleted");
    return same(token, () => ask("DELETE", "/v1/issuers/deleted", undefined, gateway.adminKey, always));
  },
  "the role its issuer gives permits no more": async () => {
    await role("given");
    const { token } = await issued("gives", { role: "given" });
    return same(token, () => ask("PUT", "/v1/roles/given", { permissions: [] }, gateway.adminKey, always));
  },
  "its token expires": async () => {
    const { document } = await issued("expires");
    // It is accepted until a minute after its expiry: for another twenty seconds.
    const { issuer: iss } = document as { issuer: string };
    return same(await sign({ iss, aud: "us", sub: "ada", exp: seconds() - 40 }, es), async () => {});
  },
  "its client is deleted": async () => {
    const { key } = await ofClient("gone");
    return { key, end: () => ask("DELETE", "/v1/clients/gone", undefined, gateway.adminKey, always) };
  },
  "its token is revoked": async () => {
    const { client_id, client_secret, key } = await ofClient("revoked");
    const tokens: string[] = [];
    const kept = async (path: string) => (tokens.push(await key(path)), tokens.at(-1)!);
    return {
      key: kept,
      end: () => Promise.all(tokens.map((token) => form("revoke", { token, client_id, client_secret }))),
    };
  },
  "the grant is revoked that it came from": async () => {
    const { client_id } = (await ask("PUT", "/v1/clients/app", publicClient)).json;
    const tokens: string[] = [];
    const key = async (path: string) => (tokens.push(await granted(client_id, gateway.adminKey, path)), tokens.at(-1)!);
    return { key, end: () => Promise.all(tokens.map((token) => form("revoke", { token, client_id }))) };
  },
  "the key is revoked of who allowed it": async () => {
    const { client_id } = (await ask("PUT", "/v1/clients/app2", publicClient)).json;
    const { id, secret } = await makeKey(gateway, "caller");
    return { key: (path) => granted(client_id, secret, path), end: () => ask("DELETE", `/v1/keys/${id}`) };
  },
  "its tenant is deleted": async () => {
    const { admin_key } = (await ask("PUT", "/v1/tenants/brief", { name: "Brief" })).json;
    assert.equal((await ask("PUT", "/v1/services/worker", offered(), admin_key)).status, 201);
    const made = await ask("POST", "/v1/keys", { name: "c", role: "caller", permissions: [] }, admin_key);
    return same(made.json.secret, () =>
      ask("DELETE", "/v1/tenants/brief?force=true", undefined, gateway.adminKey, always),
    );
  },
  "the tenant is deleted that its issuer names": async () => {
    const { admin_key } = (await ask("PUT", "/v1/tenants/named", { name: "Named" })).json;
    assert.equal((await ask("PUT", "/v1/services/worker", offered(), admin_key)).status, 201);
    const { token } = await issued("names", { tenant: "named" });
    return same(token, () => ask("DELETE", "/v1/tenants/named?force=true", undefined, gateway.adminKey, always));
  },
};

/** The promise is five seconds; a busy machine may take longer. */
const LIMIT_MS = 30_000;
let worst = 0;

for (const [how, way] of Object.entries(ways)) {
  test(`everything_that_is_open_ends_when_${how.replaceAll(" ", "_")}`, async (context) => {
    const { key, end } = await way();
    const api = await key("");
    const doors: Record<string, string> = { "/mcp": await key("/mcp"), "/mcp/worker": await key("/mcp/worker") };
    const made = await gateway.request("POST", "/v1/contexts", {
      key: api,
      body: { capability: "work" },
      headers: { prefer: "respond-async" },
    });
    assert.equal(made.status, 202, made.text);
    const of = (name: string) =>
      name.includes("modern")
        ? doors["/mcp"]!
        : name.includes("legacy") || name.startsWith("a tool")
          ? doors["/mcp/worker"]!
          : api;
    const opened = await Promise.all(
      Object.entries(kinds).map(async ([name, open]) => ({ name, ...(await open(of(name), made.json.id)) })),
    );
    opened.push({ name: "a legacy session's stream", ...(await session(doors["/mcp"]!)) });
    const others = await openStream(gateway);
    await end();
    const began = performance.now();
    const late = new Promise<"late">((resolve) => setTimeout(() => resolve("late"), LIMIT_MS).unref());
    for (const { name, ended } of opened) {
      const outcome = await Promise.race([ended, late]);
      assert.notEqual(outcome, "late", `${name} is still open`);
      const waits = name.startsWith("a wait") || name.startsWith("a tool");
      assert.equal(outcome, waits ? 401 : 200, name);
    }
    worst = Math.max(worst, performance.now() - began);
    context.diagnostic(`all of ${opened.length} ended after ${(performance.now() - began).toFixed(0)} ms`);
    // Those of others are not affected.
    const { id } = await makeKey(gateway, "caller");
    await others.next(({ type, subject }) => type === "key.created" && subject === id);
    others.close();
  });
}

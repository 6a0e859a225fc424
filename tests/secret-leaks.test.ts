// Distinguishable secrets are used wherever there can be one, and everything is used once, including errors and
// panics; then all logs, responses, events and files are searched for them.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { create, eventually, serviceAt } from "./support/arrange.ts";
import { filesOf } from "./support/disk.ts";
import { type Gateway, type RequestOptions, startGateway } from "./support/gateway.ts";
import { echo, json, type Service, startService, status } from "./support/service.ts";
import { openEvents } from "./support/socket.ts";

const persist = mkdtempSync(join(tmpdir(), "narthex-leaks-"));
const marker = (what: string) => `marker-${what}-${randomBytes(12).toString("hex")}`;
const signing = () => `whsec_${randomBytes(32).toString("base64")}`;

/** Every secret by its kind, and how many responses show it. */
const secrets = new Map<string, { value: string; shown: number }>();
function keep(what: string, value: string, shown = 0): string {
  assert.ok(value.length >= 16, what);
  secrets.set(what, { value, shown });
  return value;
}

let service: Service;
let gateway: Gateway;
let stopped: Promise<void> | undefined;
const stop = () => (stopped ??= gateway?.stop());
/** Every response, with its headers. */
const answers: string[] = [];
let published: string[] = [];

async function ask(method: string, path: string, options: RequestOptions = {}) {
  const answer = await gateway.request(method, path, options);
  answers.push(`${answer.status}\n${[...answer.headers].join("\n")}\n${answer.text}`);
  return answer;
}

async function form(path: string, fields: Record<string, string>) {
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  return ask("POST", path, { body: new URLSearchParams(fields).toString(), headers, key: null });
}

before(async () => {
  service = await startService(echo);
  const ADMIN_KEY = keep("the admin key", marker("admin-key"));
  const KEK_1 = keep("the key of the keys", randomBytes(32).toString("base64"));
  const vars = {
    ADMIN_KEY,
    KEK_1,
    OAUTH: "true",
    OAUTH_REGISTRATION: "true",
    CONTEXT_SHARDS: "1",
  };
  gateway = await startGateway({ persist, vars, crashes: true });
});
after(async () => {
  await stop();
  await service?.stop();
  rmSync(persist, { recursive: true, force: true });
});

test("everything_that_has_a_secret_is_used", async () => {
  const events = await openEvents(gateway, { query: { after: "0" } });
  // Services: registered, called, probed, rotated, refused, failing with their credentials in their errors.
  const credential = keep("a service's credentials", marker("credential"));
  const credentials = { header: "X-Service-Key", value: `Bearer ${credential}` };
  const document = {
    signing_secret: keep("a signing secret", signing()),
    credentials,
    health: { path: "/health", interval_seconds: 5 },
  };
  const offers = [{ name: "work" }, { name: "quick", durable: false }, { name: "limited" }];
  assert.equal(
    (
      await ask("PUT", "/v1/services/worker", {
        body: serviceAt(service.url, offers, { ...document, limits: { max_concurrency: 2 } }),
      })
    ).status,
    201,
  );
  const made = await ask("PUT", "/v1/services/made", { body: serviceAt(service.url, [{ name: "other" }]) });
  keep("a signing secret that was made", made.json.signing_secret, 1);
  for (const capability of ["work", "quick", "limited", "other"]) {
    const answer = await ask("POST", "/v1/contexts", { body: { capability } });
    assert.equal(answer.json.status, "completed", answer.text);
  }
  service.handler = (call, response) =>
    json({ error: { code: "no", message: `not ${call.headers["x-service-key"]}` } }, 200)(call, response);
  const refusedBy = await ask("POST", "/v1/contexts", { body: { capability: "work" } });
  assert.equal(refusedBy.json.status, "failed");
  service.handler = (call, response) => status(401, { seen: call.headers["x-service-key"] })(call, response);
  await ask("POST", "/v1/contexts", { body: { capability: "work" } });
  service.handler = echo;
  const rotated = await ask("POST", "/v1/services/made/rotate-secret", { body: { overlap_seconds: 60 } });
  keep("a rotated signing secret", rotated.json.signing_secret, 1);
  const sent = keep("a signing secret that was sent", signing());
  const again = await gateway.request("POST", "/v1/services/made/rotate-secret", { body: { signing_secret: sent } });
  assert.equal(again.json.signing_secret, sent, "it is shown to its sender");
  await ask("POST", "/v1/contexts", { body: { capability: "other" } });
  for (const id of ["worker", "made"]) await ask("POST", `/v1/services/${id}/check`);
  const wrong = keep("credentials in a wrong document", marker("wrong"));
  const bad = {
    ...serviceAt(service.url),
    credentials: { header: "Host", value: wrong },
    signing_secret: `whsec_${wrong}`,
  };
  assert.equal((await ask("PUT", "/v1/services/bad", { body: bad })).status, 422);
  await ask("PATCH", "/v1/services/worker", {
    body: { credentials: { header: "X-Service-Key", value: keep("other credentials", marker("patched")) } },
    headers: { "if-match": "*" },
  });
  await ask("POST", "/v1/contexts", { body: { capability: "work" } });

  // Work in the background, ended by its callback.
  service.handler = status(202);
  const before = service.calls.length;
  const slow = await ask("POST", "/v1/contexts", {
    body: { capability: "work" },
    headers: { prefer: "respond-async" },
  });
  const callback = (await service.call(before)).json.callback_url as string;
  keep("a callback's token", callback.split(".").at(-1)!);
  const path = new URL(callback).pathname;
  assert.equal((await ask("POST", path, { body: { more: 1 }, key: null })).status, 422);
  await eventually(async () => (await ask("POST", path, { body: { result: 1 }, key: null })).status === 200);
  await ask("POST", path, { body: { result: 2 }, key: null });
  await ask("POST", `${path}x`, { body: { result: 2 }, key: null });
  await ask("GET", `/v1/contexts/${slow.json.id}`);
  service.handler = echo;

  // Keys, tickets, and callers' headers.
  const key = await ask("POST", "/v1/keys", { body: { name: "a", role: "caller", permissions: [] } });
  keep("an API key", key.json.secret, 1);
  const renewed = await ask("POST", `/v1/keys/${key.json.id}/rotate`);
  keep("a rotated API key", renewed.json.secret, 1);
  const ticket = await ask("POST", "/v1/tickets", { key: renewed.json.secret });
  keep("a ticket", ticket.json.ticket, 1);
  const watching = await openEvents(gateway, { ticket: ticket.json.ticket, key: null });
  watching.close();
  await ask("GET", `/v1/events?ticket=${keep("a wrong ticket", marker("ticket"))}`, { key: null });
  const headers = {
    cookie: `session=${keep("a caller's cookie", marker("cookie"))}`,
    "x-api-key": keep("a wrong API key", marker("api-key")),
    "proxy-authorization": keep("a proxy's credentials", marker("proxy")),
  };
  await ask("POST", "/v1/contexts", { body: { capability: "work" }, headers, key: renewed.json.secret });
  await ask("POST", "/v1/contexts", { body: { capability: "quick" }, headers, key: null });
  await ask("GET", "/v1/whoami", { key: keep("a wrong bearer", marker("bearer")) });
  const token = `${Buffer.from('{"alg":"ES256"}').toString("base64url")}.${Buffer.from('{"iss":"x"}').toString("base64url")}.${keep("a token's signature", marker("token"))}`;
  await ask("GET", "/v1/whoami", { key: token });
  await ask("DELETE", `/v1/keys/${key.json.id}`);
  await ask("GET", "/v1/whoami", { key: renewed.json.secret });

  // Webhooks and issuers.
  const hook = await ask("PUT", "/v1/webhooks/made", { body: { url: service.url, types: ["context.*"] } });
  keep("a webhook's secret that was made", hook.json.secret, 1);
  await ask("PUT", "/v1/webhooks/sent", {
    body: { url: service.url, types: ["key.*"], secret: keep("a webhook's secret", signing()) },
  });
  for (const id of ["made", "sent"]) await ask("POST", `/v1/webhooks/${id}/test`);
  const sign_in = {
    client_id: "us",
    client_secret: keep("an issuer's client secret", marker("client-secret")),
    authorization_endpoint: `${service.url}authorize`,
    token_endpoint: `${service.url}token`,
  };
  await ask("PUT", "/v1/issuers/corp", {
    body: {
      issuer: `${service.url}corp`,
      audience: "us",
      jwks_url: `${service.url}jwks`,
      algorithms: ["ES256"],
      role: "viewer",
      sign_in,
    },
  });

  // OAuth: a client of its own, one that registers itself, tokens.
  const client = await ask("PUT", "/v1/clients/ci", {
    body: {
      name: "CI",
      grant_types: ["client_credentials"],
      auth_method: "client_secret_post",
      scope: "contexts:read",
    },
  });
  const client_secret = keep("a client's secret", client.json.secret, 1);
  const tokens = await form("/oauth/token", {
    grant_type: "client_credentials",
    client_id: client.json.client_id,
    client_secret,
  });
  const access = keep("an access token", tokens.json.access_token, 1);
  await ask("GET", "/v1/whoami", { key: access });
  await form("/oauth/introspect", { token: access, client_id: client.json.client_id, client_secret });
  await form("/oauth/token", {
    grant_type: "client_credentials",
    client_id: client.json.client_id,
    client_secret: keep("a wrong client secret", marker("not-it")),
  });
  await form("/oauth/token", {
    grant_type: "refresh_token",
    client_id: client.json.client_id,
    client_secret,
    refresh_token: keep("a wrong refresh token", marker("refresh")),
  });
  await form("/oauth/revoke", { token: access, client_id: client.json.client_id, client_secret });
  const metadata = {
    client_name: "App",
    redirect_uris: ["http://127.0.0.1:1/cb"],
    grant_types: ["client_credentials"],
    token_endpoint_auth_method: "client_secret_basic",
    scope: "contexts:read",
  };
  const registered = await ask("POST", "/oauth/register", { body: metadata, key: null });
  if (registered.json.client_secret) keep("a registered client's secret", registered.json.client_secret, 1);

  // Lists, the audit log, events as a list, and failures.
  for (const list of [
    "contexts",
    "services",
    "keys",
    "clients",
    "issuers",
    "webhooks",
    "roles",
    "audit?limit=200",
    "capabilities",
  ])
    await ask("GET", `/v1/${list}`);
  await ask("GET", `/v1/contexts/${slow.json.id}/events`);
  const panicking = { ...headers, authorization: `Bearer ${keep("a bearer in a panic", marker("panic"))}` };
  for (const place of ["worker", "object"]) {
    assert.equal((await ask("POST", `/panic/${place}`, { headers: panicking, contract: false })).status, 500);
  }
  // The lane of a service with a limit comes back without permits; others are called at once.
  await eventually(async () => (await create(gateway, { capability: "other" })).json.status === "completed");
  await gateway.runCron();
  await eventually(() => events.messages.length > 20);
  published = events.messages.map((event) => JSON.stringify(event));
  events.close();
});

test("no_secret_was_logged_returned_or_published", () => {
  const logs = gateway.logs.join("\n");
  assert.ok(
    logs.includes('"message":"request"') && answers.length > 50 && published.length > 20,
    "there is something to look in",
  );
  const calls = [...service.calls, ...service.probes].map(
    ({ path, headers, raw }) => `${path}\n${JSON.stringify(headers)}\n${raw}`,
  );
  for (const [what, { value, shown }] of secrets) {
    assert.equal(logs.includes(value), false, `${what} is in the log`);
    assert.equal(
      published.some((event) => event.includes(value)),
      false,
      `${what} is in an event`,
    );
    const found = answers.filter((answer) => answer.includes(value));
    assert.equal(found.length, shown, `${what} is in these answers:\n${found.join("\n\n")}`);
    if (/credentials$|callback/.test(what) && !/proxy|wrong/.test(what)) continue;
    assert.equal(
      calls.some((call) => call.includes(value)),
      false,
      `${what} was sent to a service`,
    );
  }
});

test("nothing_on_disk_has_an_unencrypted_secret", async () => {
  await stop();
  const files = filesOf(persist).filter(([name]) => /\.sqlite/.test(name));
  assert.ok(
    files.some(([name]) => name.includes("Registry")) && files.some(([name]) => name.includes("GrantStore")),
    "there is something to look in",
  );
  assert.ok(
    files.some(([, bytes]) => bytes.includes("X-Service-Key")),
    "what stands beside them is found",
  );
  for (const [name, bytes] of files) {
    for (const [what, { value }] of secrets) {
      const forms = [
        Buffer.from(value),
        Buffer.from(value, "utf16le"),
        Buffer.from(value, "utf16le").swap16(),
        Buffer.from(value).toString("base64"),
      ];
      if (/^whsec_/.test(value)) forms.push(Buffer.from(value.slice("whsec_".length), "base64"));
      if (what === "the key of the keys") forms.push(Buffer.from(value, "base64"));
      for (const form of forms) assert.equal(bytes.includes(form), false, `${what} is in ${name}`);
    }
    // Secrets never shown outside: the tenant's own, and the private keys that sign tokens.
    assert.equal(
      /whsec_|"d":|\\"d\\":/.test(bytes.toString("latin1")),
      false,
      `${name} has a secret of the gateway's own`,
    );
  }
});

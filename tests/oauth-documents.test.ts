// Clients that publish a metadata document: how often it is read, what happens while it is unavailable, and how far an
// unregistered client is trusted.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { eventually, refused } from "./support/arrange.ts";
import { type Answer, type Gateway, startGateway } from "./support/gateway.ts";
import { json, type Service, startService, status } from "./support/service.ts";

let gateway: Gateway;
let server: Service;
const callback = "https://app.example.com/done";

before(async () => {
  gateway = await startGateway({ vars: { OAUTH: "true", OAUTH_REGISTRATION: "true" } });
  server = await startService();
});
after(async () => {
  await gateway?.stop();
  await server?.stop();
});

let number = 0;
/** Publishes a document with these headers; returns its address, which is the client's id. */
function publish(headers: Record<string, string> = {}, more: object = {}): string {
  const id = `${server.url}app-${(number += 1)}/client.json`;
  server.probe = json({ client_id: id, client_name: "Elsewhere", redirect_uris: [callback], ...more }, 200, headers);
  return id;
}

function question(client_id: string, more: Record<string, string> = {}) {
  const verifier = randomBytes(32).toString("base64url");
  const code_challenge = createHash("sha256").update(verifier).digest("base64url");
  const asked = {
    response_type: "code",
    client_id,
    redirect_uri: callback,
    state: "s",
    code_challenge,
    code_challenge_method: "S256",
    ...more,
  };
  return { asked, verifier };
}
const view = (asked: Record<string, string>, headers: Record<string, string> = {}): Promise<Answer> =>
  gateway.request("GET", `/oauth/authorize?${new URLSearchParams(asked)}`, { key: null, headers });
const post = (path: string, members: Record<string, string>, headers: Record<string, string> = {}): Promise<Answer> =>
  gateway.request("POST", path, {
    key: null,
    body: new URLSearchParams(members).toString(),
    headers: { "content-type": "application/x-www-form-urlencoded", ...headers },
  });

/** A person allows the client something; returns its tokens. */
async function allowed(client_id: string): Promise<any> {
  const { asked, verifier } = question(client_id);
  const sent = await post("/oauth/authorize", { ...asked, decision: "allow", api_key: gateway.adminKey });
  assert.equal(sent.status, 303, sent.text);
  const code = new URL(sent.headers.get("location")!).searchParams.get("code")!;
  const answer = await post("/oauth/token", {
    grant_type: "authorization_code",
    code,
    code_verifier: verifier,
    client_id,
  });
  assert.equal(answer.status, 200, answer.text);
  return answer.json;
}
const refresh = (client_id: string, refresh_token: string) =>
  post("/oauth/token", { grant_type: "refresh_token", refresh_token, client_id });
/** The number of requests for a document. */
const fetches = (id: string) => server.probes.filter(({ path }) => id.endsWith(path)).length;

test("a_document_is_read_as_often_as_its_server_specifies", async () => {
  for (const [headers, most] of [
    [{ "cache-control": "max-age=3600" }, 1],
    [{ "cache-control": "public, s-maxage=60, max-age=0" }, 1],
    [{ expires: new Date(Date.now() + 3_600_000).toUTCString() }, 1],
    [{}, 5],
    [{ "cache-control": "no-store" }, 5],
    [{ "cache-control": "private, max-age=3600" }, 5],
    [{ "cache-control": "max-age=3600", age: "7200" }, 5],
    [{ "cache-control": "max-age=3600, no-cache" }, 5],
    [{ expires: "0" }, 5],
  ] as [Record<string, string>, number][]) {
    const id = publish(headers);
    for (let views = 0; views < 5; views++) assert.equal((await view(question(id).asked)).status, 200);
    assert.equal(fetches(id), most, JSON.stringify(headers));
  }
});

test("a_document_that_has_not_changed_is_not_sent_again", async () => {
  const id = publish({ etag: '"v1"', "cache-control": "no-cache" });
  const whole = server.probe;
  server.probe = (call, response) =>
    call.headers["if-none-match"] === '"v1"' ? status(304)(call, response) : whole(call, response);
  for (let views = 0; views < 3; views++) {
    const page = await view(question(id).asked);
    assert.ok(page.status === 200 && page.text.includes("Elsewhere"), page.text);
  }
  const asked = server.probes.filter(({ path }) => id.endsWith(path)).map(({ headers }) => headers["if-none-match"]);
  assert.deepEqual(asked, [undefined, '"v1"', '"v1"']);
});

test("many_concurrent_requests_are_served_by_one_fetch", async () => {
  const id = publish({ "cache-control": "max-age=60" });
  const whole = server.probe;
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  server.probe = async (call, response) => {
    await held;
    await whole(call, response);
  };
  const views = Promise.all(Array.from({ length: 10 }, () => view(question(id).asked)));
  await eventually(() => fetches(id) > 0);
  release();
  for (const page of await views) assert.equal(page.status, 200);
  assert.equal(fetches(id), 1);
});

test("while_its_server_is_down_an_app_continues_with_its_known_document", async () => {
  for (const headers of [{ "cache-control": "max-age=3600" }, {}, { "cache-control": "no-store" }] as Record<
    string,
    string
  >[]) {
    const id = publish(headers);
    const tokens = await allowed(id);
    const whole = server.probe;
    for (const away of [503, 500, 429]) {
      server.probe = status(away);
      const next = await refresh(id, tokens.refresh_token);
      assert.equal(next.status, 200, `${away}: ${next.text}`);
      tokens.refresh_token = next.json.refresh_token;
    }
    server.probe = whole;
    assert.equal((await refresh(id, tokens.refresh_token)).status, 200);
  }
});

test("a_document_that_was_unavailable_may_be_read_later", async () => {
  const id = publish();
  const whole = server.probe;
  server.probe = status(503);
  const page = await view(question(id).asked);
  assert.deepEqual([page.status, page.headers.get("location"), page.headers.get("retry-after")], [503, null, "30"]);
  for (const members of [
    { grant_type: "refresh_token", refresh_token: "nxg_default.x.r1.y.z" },
    { grant_type: "authorization_code", code: "x", code_verifier: "y" },
  ]) {
    const answer = await post("/oauth/token", { ...members, client_id: id });
    assert.deepEqual(
      [answer.status, answer.json.error, answer.headers.get("retry-after")],
      [503, "temporarily_unavailable", "30"],
    );
  }
  server.probe = whole;
  assert.ok((await allowed(id)).refresh_token);
  // A 404 of the server is trusted.
  for (const gone of [404, 410, 302]) {
    server.probe = status(gone);
    assert.equal((await view(question(id).asked)).status, 400);
    assert.equal(
      (await post("/oauth/token", { grant_type: "refresh_token", refresh_token: "x", client_id: id })).json.error,
      "invalid_client",
    );
  }
});

test("invented_clients_are_looked_up_only_so_often", async () => {
  server.probe = status(404);
  const before = server.probes.length;
  const headers = { "cf-connecting-ip": "203.0.113.77" };
  const answers: Answer[] = [];
  for (let n = 0; n < 60; n++)
    answers.push(await view(question(`${server.url}made-up-${n}/client.json`).asked, headers));
  assert.ok(server.probes.length - before <= 30, `${server.probes.length - before} looks`);
  refused(answers.at(-1)!, 429, "rate_limited");
  assert.ok(Number(answers.at(-1)!.headers.get("retry-after")) > 0);
  // Others are not delayed by it.
  const id = publish();
  assert.equal((await view(question(id).asked, { "cf-connecting-ip": "203.0.113.78" })).status, 200);
});

test("failed_lookups_count_as_failed_logins", async () => {
  const strict = await startGateway({ vars: { OAUTH: "true", FAILED_LOGINS: "5" } });
  try {
    server.probe = status(404);
    const before = server.probes.length;
    const look = (n: number) =>
      strict.request(
        "GET",
        `/oauth/authorize?${new URLSearchParams(question(`${server.url}none-${n}/client.json`).asked)}`,
        {
          key: null,
          headers: { "cf-connecting-ip": "203.0.113.79" },
        },
      );
    const statuses = [];
    for (let n = 0; n < 10; n++) statuses.push((await look(n)).status);
    assert.deepEqual(statuses.slice(0, 5), [400, 400, 400, 400, 400]);
    assert.ok(
      statuses.slice(6).every((status) => status === 429),
      String(statuses),
    );
    assert.ok(server.probes.length - before <= 6);
  } finally {
    await strict.stop();
  }
});

test("an_unregistered_client_redirects_no_person_before_their_decision", async () => {
  const { json: itself } = await gateway.request("POST", "/oauth/register", {
    key: null,
    body: { client_name: "Itself", redirect_uris: [callback], token_endpoint_auth_method: "none" },
  });
  for (const id of [publish({ "cache-control": "max-age=3600" }), itself.client_id]) {
    const { asked } = question(id);
    const wrong: Record<string, string>[] = [
      { response_type: "x" },
      { response_type: "token" },
      { scope: "keys:write:x" },
      { scope: "a:b:c:d" },
      { resource: "https://elsewhere.example.com" },
      { code_challenge: "short" },
      { code_challenge_method: "plain" },
      { prompt: "none", response_type: "id_token" },
    ];
    for (const change of wrong) {
      for (const answer of [
        await view({ ...asked, ...change }),
        await post("/oauth/authorize", { ...asked, ...change, decision: "deny" }),
      ]) {
        assert.deepEqual(
          [answer.status, answer.headers.get("location")],
          [400, null],
          `${id} ${JSON.stringify(change)}`,
        );
      }
    }
    // No button was pressed, or not on the gateway's page.
    const undecided = await post("/oauth/authorize", asked);
    assert.deepEqual([undecided.status, undecided.headers.get("location")], [400, null]);
    const foreign = await post(
      "/oauth/authorize",
      { ...asked, decision: "deny" },
      { origin: "https://evil.example.com" },
    );
    assert.deepEqual([foreign.status, foreign.headers.get("location")], [400, null]);
    const denied = await post(
      "/oauth/authorize",
      { ...asked, decision: "deny" },
      { origin: gateway.url, "sec-fetch-site": "same-origin" },
    );
    assert.equal(denied.status, 303);
    const back = new URL(denied.headers.get("location")!);
    assert.deepEqual(
      [back.origin + back.pathname, back.searchParams.get("error"), back.searchParams.get("state")],
      [callback, "access_denied", "s"],
    );
  }
});

test("the_page_shows_who_vouches_for_an_apps_name_and_where_it_redirects", async () => {
  const host = new URL(server.url).host;
  const id = publish({}, { redirect_uris: [callback, "http://127.0.0.1/cb", "com.example.app:/done"] });
  const page = await view(question(id).asked);
  assert.ok(
    page.text.includes(`<strong>${host}</strong>`) && page.text.includes("<strong>app.example.com</strong>"),
    page.text,
  );
  const local = await view(question(id, { redirect_uri: "http://127.0.0.1:5555/cb" }).asked);
  assert.ok(local.text.includes("a program on this computer (127.0.0.1:5555)"), local.text);
  assert.equal(local.headers.get("content-security-policy")!.includes("form-action"), false);
  const app = await view(question(id, { redirect_uri: "com.example.app:/done" }).asked);
  assert.ok(app.text.includes("com.example.app:"), app.text);
  const { json: itself } = await gateway.request("POST", "/oauth/register", {
    key: null,
    body: { client_name: "Itself", redirect_uris: [callback] },
  });
  assert.ok((await view(question(itself.client_id).asked)).text.includes("registered itself"));
});

test("addresses_that_may_not_be_called_are_not_accepted_as_clients", async () => {
  const before = server.probes.length;
  for (const id of [
    "http://169.254.169.254/latest/meta-data/",
    "https://10.0.0.1/client.json",
    "https://app.internal/client.json",
    "https://user@app.example.com/client.json",
    "https://app.example.com/",
    "https://app.example.com",
    "https://app.example.com/a/../client.json",
    "https://app.example.com/client.json#x",
    "HTTPS://app.example.com/client.json",
    `${gateway.url}/openapi.json`,
    "https://app.example.com:8443/client.json",
    `${server.url}a b`,
    `${server.url.replace("127.0.0.1", "127.1")}client.json`,
    "https://[::ffff:127.0.0.1]/client.json",
  ]) {
    const page = await view(question(id).asked);
    assert.deepEqual([page.status, page.headers.get("location")], [400, null], id);
    const answer = await post("/oauth/token", { grant_type: "refresh_token", refresh_token: "x", client_id: id });
    assert.equal(answer.json.error, "invalid_client", id);
  }
  // Nor is it read for a client with a secret, which such clients never have.
  const secretive = await post("/oauth/token", {
    grant_type: "client_credentials",
    client_id: `${server.url}app/client.json`,
    client_secret: "x",
  });
  assert.deepEqual([secretive.status, secretive.json.error], [401, "invalid_client"]);
  assert.equal(server.probes.length, before);
});

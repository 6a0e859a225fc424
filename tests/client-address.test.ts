// The address of a client without Cloudflare: that of its connection, or what a trusted proxy states; and the limits on
// failed logins, which never refuse a valid key where many clients may share an address.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { makeKey, refused } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";

let alone: Gateway;
let proxied: Gateway;
before(async () => {
  const vars = { STANDALONE: "true", FAILED_LOGINS: "20", OAUTH: "true", OAUTH_REGISTRATION: "true" };
  alone = await startGateway({ vars });
  proxied = await startGateway({ vars: { ...vars, CLIENT_IP_HEADER: "X-Forwarded-For" } });
});
after(() => Promise.all([alone?.stop(), proxied?.stop()]));

let number = 0;
/** The address that the audit log has for a write with these headers. */
async function addressOf(gateway: Gateway, headers: Record<string, string>): Promise<string> {
  const role = `role${(number += 1)}`;
  const made = await gateway.request("PUT", `/v1/roles/${role}`, { body: { permissions: [] }, headers });
  assert.equal(made.status, 201, made.text);
  const log = await gateway.request("GET", `/v1/audit?object=roles/${role}`);
  return log.json.data[0].address;
}

const whoami = (gateway: Gateway, key: string, headers: Record<string, string> = {}) =>
  gateway.request("GET", "/v1/whoami", { key, headers });

const limited = (answer: Awaited<ReturnType<typeof whoami>>) => {
  assert.deepEqual(refused(answer, 429, "rate_limited")["violated-policies"], ["failed-logins"]);
  assert.ok(Number(answer.headers.get("retry-after")) >= 1);
};

/** The counter of failed logins with this id. */
const counter = (id: string) => createHash("sha256").update(id).digest("hex").slice(0, 2);

/** A key, and a text with its id and a wrong secret. Another key than `not` is counted apart from it. */
async function forged(gateway: Gateway, not = ""): Promise<{ id: string; secret: string; wrong: string }> {
  const { id, secret } = await makeKey(gateway, "caller");
  if (counter(id) === counter(not)) return forged(gateway, not);
  const rotated = await gateway.request("POST", `/v1/keys/${id}/rotate`, { body: {} });
  assert.equal(rotated.status, 201, rotated.text);
  return { id, secret: rotated.json.secret, wrong: secret };
}

test("without_cloudflare_its_header_does_not_state_the_address", async () => {
  const own = await addressOf(alone, {});
  assert.ok(["127.0.0.1", "unknown"].includes(own), own);
  assert.equal(await addressOf(alone, { "cf-connecting-ip": "192.0.2.7", "x-forwarded-for": "192.0.2.8" }), own);
  assert.equal(await addressOf(proxied, { "cf-connecting-ip": "192.0.2.7" }), own);
});

test("the_address_is_that_of_the_connection_as_workerd_states_it", async () => {
  // miniflare's types depend on a package that is not installed.
  const { dispatchFetch } = alone.mf as unknown as { dispatchFetch: typeof fetch };
  const headers = { authorization: `Bearer ${alone.adminKey}`, "content-type": "application/json" };
  for (const [clientIp, address] of [
    ["192.0.2.7:43370", "192.0.2.7"],
    ["[2001:db8::1]:555", "2001:db8::1"],
    ["unix:/run/narthex.sock", "unknown"],
  ]) {
    const role = `peer${(number += 1)}`;
    const init = { method: "PUT", headers, body: JSON.stringify({ permissions: [] }), cf: { clientIp } };
    const made = await dispatchFetch(`${alone.url}/v1/roles/${role}`, init as RequestInit);
    assert.equal(made.status, 201, await made.text());
    const log = await alone.request("GET", `/v1/audit?object=roles/${role}`);
    assert.equal(log.json.data[0].address, address);
  }
});

test("a_trusted_proxy_states_the_address_last", async () => {
  for (const [value, address] of [
    ["192.0.2.7", "192.0.2.7"],
    ["1.2.3.4, 192.0.2.7:4711", "192.0.2.7"],
    ["192.0.2.7, [2001:db8::1]:443", "2001:db8::1"],
  ]) {
    assert.equal(await addressOf(proxied, { "x-forwarded-for": value! }), address);
  }
  assert.equal(await addressOf(proxied, { "x-forwarded-for": "192.0.2.7, x" }), await addressOf(proxied, {}));
});

test("failed_logins_are_limited_by_the_address_that_a_trusted_proxy_states", async () => {
  const { secret } = await makeKey(proxied, "caller");
  const from = (address: string, key: string) => whoami(proxied, key, { "x-forwarded-for": `10.0.0.1, ${address}` });
  for (let turn = 0; turn < 20; turn++) refused(await from("192.0.2.1", `wrong-${turn}`), 401, "unauthenticated");
  limited(await from("192.0.2.1", "wrong"));
  limited(await from("192.0.2.1", secret));
  assert.equal((await from("192.0.2.2", secret)).status, 200);
});

test("where_clients_may_share_an_address_failed_logins_are_limited_by_key", async () => {
  const one = await forged(alone);
  const other = await forged(alone, one.id);
  for (let turn = 0; turn < 20; turn++) refused(await whoami(alone, one.wrong), 401, "unauthenticated");
  limited(await whoami(alone, one.wrong));
  assert.equal((await whoami(alone, one.secret)).status, 200, "a valid key is never refused");
  refused(await whoami(alone, other.wrong), 401, "unauthenticated");
  // What names no key counts together.
  for (let turn = 0; turn < 20; turn++) refused(await whoami(alone, `wrong-${turn}`), 401, "unauthenticated");
  limited(await whoami(alone, "wrong"));
  assert.equal((await whoami(alone, alone.adminKey)).status, 200);
  // Without the proxy's header it is the same behind a proxy.
  for (let turn = 0; turn < 20; turn++) refused(await whoami(proxied, `wrong-${turn}`), 401, "unauthenticated");
  limited(await whoami(proxied, "wrong"));
  assert.equal((await whoami(proxied, proxied.adminKey)).status, 200);
});

test("failed_clients_are_limited_by_their_id_and_a_valid_secret_is_never_refused", async () => {
  const client = async (id: string) => {
    const body = {
      name: "A client",
      grant_types: ["client_credentials"],
      auth_method: "client_secret_post",
      scope: "services:read",
    };
    return (await alone.request("PUT", `/v1/clients/${id}`, { body })).json;
  };
  const token = (client_id: string, client_secret: string) =>
    alone.request("POST", "/oauth/token", {
      key: null,
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams({ client_id, client_secret, grant_type: "client_credentials" }).toString(),
    });
  const [one, other] = [await client("one"), await client("other")];
  for (let turn = 0; turn < 20; turn++) assert.equal((await token(one.client_id, "wrong")).status, 401);
  limited(await token(one.client_id, "wrong"));
  assert.equal((await token(one.client_id, one.secret)).status, 200);
  assert.equal((await token(other.client_id, "wrong")).status, 401);
});

test("failed_logins_are_limited_in_all_too", async () => {
  const gateway = await startGateway({ vars: { STANDALONE: "true", FAILED_LOGINS: "1" } });
  try {
    // 50 are allowed in all, of which one names no key.
    const codes: number[] = [];
    const { secret, wrong } = await forged(gateway);
    for (let turn = 0; turn < 60; turn++) codes.push((await whoami(gateway, `wrong-${turn}`)).status);
    assert.equal(codes.filter((code) => code === 401).length, 1);
    limited(await whoami(gateway, wrong));
    assert.equal((await whoami(gateway, secret)).status, 200);
  } finally {
    await gateway.stop();
  }
});

test("an_invalid_header_name_is_reported", async () => {
  const odd = await startGateway({ vars: { STANDALONE: "true", CLIENT_IP_HEADER: "Forwarded" } });
  try {
    const answer = refused(await odd.request("GET", "/v1/services"), 503, "not_configured");
    assert.match(answer.detail, /CLIENT_IP_HEADER must be the name of a header that lists plain addresses/);
  } finally {
    await odd.stop();
  }
});

// Internal addresses, in all spellings: refused at registration, and again before a call, in case one was stored under
// earlier rules.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { accepted, create, ended, pointers, refused, register, serviceAt } from "./support/arrange.ts";
import { changeDocuments } from "./support/disk.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Service, startService } from "./support/service.ts";

/** All point to this machine, an internal network, no host, or something that only looks like an address. */
const hostile = (port: number): string[] => [
  ...["http", "https"].flatMap((scheme) =>
    [
      "127.0.0.1",
      "127.1",
      "127.0.1",
      "127.9.9.9",
      "2130706433",
      "0x7f000001",
      "0X7F.0.0.1",
      "0177.0.0.1",
      "017700000001",
      "localhost",
      "LOCALHOST",
      "[::1]",
      "[0:0:0:0:0:0:0:1]",
      "[::ffff:127.0.0.1]",
      "[::ffff:7f00:1]",
      "[::]",
      "0",
      "0.0.0.0",
    ].map((host) => `${scheme}://${host}:${port}/`),
  ),
  ...[
    "127.0.0.1",
    "127.0.0.1.",
    "localhost.",
    "api.localhost",
    "localhost.localdomain",
    "printer.local",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "0xa9fea9fe",
    "2852039166",
    "255.255.255.255",
    "8.8.8.8",
    "1.2.3.4.5",
    "99999999999",
    "acme.com.1",
    "\uff11\uff12\uff17.0.0.1",
    "①②⑦.0.0.1",
    "ⓛocalhost",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[fe80::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[2606:4700::1111]",
    "metadata.google.internal",
    "kubernetes.default.svc.cluster.local",
    "router.home.arpa",
    "1.0.0.127.in-addr.arpa",
    "expyuzz4wqqyqhjn.onion",
    "service.test",
    "service.invalid",
    "nas.lan",
    "wiki.corp",
    "redis",
    "metadata",
    "com",
    "acme.com.",
    "127.0.0.1.nip.io",
    "169-254-169-254.sslip.io",
    "app.localtest.me",
    "app.lvh.me",
    "make-127-0-0-1-rr.1u.ms",
    "7f000001.c0a80001.rbndr.us",
    ".acme.com",
    "acme..com",
    "ac_me.com",
    "127%2e0.0.1",
    "%6c%6f%63alhost",
    "acme.com:8443",
    "acme.com:80",
    "user:pass@acme.com",
    "acme.com@127.0.0.1",
    "acme.com\\@127.0.0.1",
    "127.0\t.0.1",
    "ac\u200bme.com",
    "127。0。0。1",
    "acme.com/#x",
  ].map((host) => `https://${host}/`),
  "http://acme.com/",
  "ftp://acme.com/",
  "file:///etc/passwd",
  "data:text/plain,x",
  "javascript:alert(1)",
  "gopher://acme.com/",
  "https:acme.com",
  "https:/acme.com",
  "//127.0.0.1/",
  "127.0.0.1",
];

const persist = mkdtempSync(join(tmpdir(), "narthex-addresses-"));
const vars = { ADMIN_KEY: "a key that outlives the restart" };
let service: Service;
let gateway: Gateway;
let spellings: string[];

before(async () => {
  service = await startService();
  spellings = hostile(service.port);
  assert.ok(new Set(spellings).size >= 80, "that many spellings");
  // Registered while that is allowed, then changed on disk to a forbidden address.
  const lax = await startGateway({ persist, vars });
  const capability = { idempotent: true, durable: true };
  for (const at of spellings.keys()) {
    await register(
      lax,
      `s${at}`,
      serviceAt(service.url, [
        { name: `c${at}`, ...capability },
        { name: `look${at}`, durable: false },
      ]),
    );
  }
  for (const at of [0, 1]) {
    const issuer = {
      issuer: `https://issuer${at}.example.com`,
      audience: "us",
      jwks_url: `${service.url}jwks`,
      algorithms: ["ES256"],
      role: "viewer",
    };
    assert.equal((await lax.request("PUT", `/v1/issuers/i${at}`, { body: issuer })).status, 201);
    const webhook = { url: service.url, types: ["context.*"] };
    assert.equal((await lax.request("PUT", `/v1/webhooks/w${at}`, { body: webhook })).status, 201);
  }
  await lax.stop();
  const badly = (id: string) => spellings[Number(id.slice(1))];
  changeDocuments(persist, "service", (document, id) => {
    document.service.transport.url = badly(id);
  });
  changeDocuments(persist, "issuer", ({ document }, id) => (document.keys = { url: badly(id) }));
  changeDocuments(persist, "webhook", ({ document }, id) => (document.url = badly(id)));
  service.calls.length = service.probes.length = 0;
  gateway = await startGateway({ persist, vars: { ...vars, ALLOW_LOOPBACK: "false" } });
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
  rmSync(persist, { recursive: true, force: true });
});

test("no_hostile_spelling_is_registered", async () => {
  for (const url of spellings) {
    const put = (path: string, body: object) => gateway.request("PUT", path, { body });
    const bad = refused(await put("/v1/services/bad", serviceAt(url)), 422, "validation_failed");
    assert.deepEqual(pointers(bad), ["#/transport/url"], url);
    const hook = refused(await put("/v1/webhooks/bad", { url }), 422, "validation_failed");
    assert.deepEqual(pointers(hook), ["#/url"], url);
    const endpoints = { authorization_endpoint: url, token_endpoint: url };
    const issuer = refused(
      await put("/v1/issuers/bad", {
        issuer: url,
        audience: "us",
        jwks_url: url,
        algorithms: ["ES256"],
        role: "viewer",
        sign_in: { client_id: "us", ...endpoints },
      }),
      422,
      "validation_failed",
    );
    assert.deepEqual(
      pointers(issuer),
      ["#/issuer", "#/jwks_url", "#/sign_in/authorization_endpoint", "#/sign_in/token_endpoint"],
      url,
    );
  }
});

test("no_stored_hostile_spelling_is_called", async () => {
  for (const [at, url] of spellings.entries()) {
    const answer = await create(gateway, { capability: `c${at}` });
    assert.deepEqual(
      [answer.json.status, answer.json.error?.code],
      ["failed", "address_refused"],
      `${url}: ${answer.text}`,
    );
    assert.equal(answer.json.attempts.length, 1, "nothing changes by trying there again");
    assert.ok(!answer.json.error.message.includes(String(service.port)), "the message says the rule, not the address");
  }
  assert.deepEqual([service.calls.length, service.probes.length], [0, 0]);
});

test("no_stored_hostile_spelling_is_called_from_the_queue_unrecorded_or_by_a_probe", async () => {
  for (const at of [0, 18, 36, 46]) {
    const { id } = await accepted(gateway, { capability: `c${at}`, timeout_seconds: 60 });
    assert.equal((await ended(gateway, id)).error.code, "address_refused", spellings[at]);
    const looked = await create(gateway, { capability: `look${at}` });
    assert.equal(looked.json.error.code, "address_refused", looked.text);
    const check = await gateway.request("POST", `/v1/services/s${at}/check`);
    assert.deepEqual([check.json.healthy, check.json.error], [false, "address_refused"], check.text);
  }
  assert.deepEqual([service.calls.length, service.probes.length], [0, 0]);
});

test("no_stored_hostile_spelling_is_called_for_an_issuers_keys_or_by_a_webhook", async () => {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  for (const at of [0, 1]) {
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: `https://issuer${at}.example.com`, aud: "us", sub: "x", iat: now, exp: now + 60 };
    const key = `${part({ alg: "ES256", typ: "at+jwt", kid: "k" })}.${part(claims)}.${Buffer.alloc(64).toString("base64url")}`;
    refused(await gateway.request("GET", "/v1/whoami", { key }), 401, "unauthenticated");
    const tested = await gateway.request("POST", `/v1/webhooks/w${at}/test`);
    assert.deepEqual([tested.json.delivered, tested.json.attempt.error], [false, "refused"], tested.text);
  }
  assert.deepEqual([service.calls.length, service.probes.length], [0, 0]);
});

test("another_service_replaces_one_that_may_not_be_called", async () => {
  const folder = mkdtempSync(join(tmpdir(), "narthex-addresses-"));
  try {
    const first = await startGateway({ persist: folder, vars });
    const offer = [{ name: "shared", idempotent: true }];
    await register(first, "moved", serviceAt(service.url, offer, { tier: 0 }));
    await register(first, "stays", serviceAt(service.url, offer, { tier: 1 }));
    await first.stop();
    changeDocuments(folder, "service", (document, id) => {
      if (id === "moved") document.service.transport.url = "https://10.0.0.1/";
    });
    const second = await startGateway({ persist: folder, vars });
    const { json: context } = await create(second, { capability: "shared" });
    assert.equal(context.status, "completed", JSON.stringify(context));
    assert.deepEqual(
      context.attempts.map(({ service }: any) => service),
      ["moved", "stays"],
    );
    await second.stop();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

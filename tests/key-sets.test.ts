// Key sets of issuers: a withdrawn key, a key that reuses another's name, and the limits on fetching them.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { after, before, test } from "node:test";
import type * as jose from "jose";
import { verifies } from "../src/platform/crypto.js";
import { eventually, refused } from "./support/arrange.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { type Claims, type Pair, pair, sign } from "./support/issuer.ts";
import { json, type Service, startService } from "./support/service.ts";

let gateway: Gateway;
let server: Service;
let published: jose.JWK[];
let [one, other]: Pair[] = [];
const iss = "https://sets.example.com";
const always = { "if-match": "*" };

before(async () => {
  gateway = await startGateway({ elsewhere: true, timeScale: 0.4 });
  [one, other] = [await pair("ES256", "a"), await pair("ES256", "a")];
});
after(async () => gateway?.stop());

/** An issuer with its own key set, which its server allows to be cached for a day. */
async function trust(name: string, first: jose.JWK[]) {
  published = first;
  server = await startService();
  server.probe = (call, response) => {
    response.setHeader("cache-control", "max-age=86400");
    json({ keys: published })(call, response);
  };
  const document = {
    issuer: `${iss}/${name}`,
    audience: "us",
    jwks_url: `${server.url}${name}`,
    algorithms: ["ES256"],
    role: "caller",
  };
  const write = (headers = {}) => gateway.request("PUT", `/v1/issuers/${name}`, { body: document, headers });
  assert.equal((await write()).status, 201);
  let number = 0;
  const token = (by: Pair, claims: Claims = {}) =>
    sign({ iss: document.issuer, aud: "us", sub: "ada", jti: `${(number += 1)}`, ...claims }, by);
  return { write, token, asked: () => server.probes.length };
}
const status = async (key: string) => (await gateway.request("GET", "/v1/whoami", { key })).status;

test("writing_an_issuer_forgets_its_keys_in_every_isolate", async () => {
  const { write, token } = await trust("withdrawn", [one!.jwk]);
  const old = await token(one!);
  assert.equal(await status(old), 200);
  assert.equal(await gateway.askElsewhere("GET", "/v1/whoami", old), 200);
  published = [other!.jwk];
  assert.equal((await write(always)).status, 200);
  assert.equal(await status(old), 401, "tokens verified before are no longer valid");
  assert.equal(await status(await token(one!)), 401);
  assert.equal(await gateway.askElsewhere("GET", "/v1/whoami", old), 401);
  assert.equal(await status(await token(other!)), 200);
  assert.equal(await gateway.askElsewhere("GET", "/v1/whoami", await token(other!)), 200);
  await server.stop();
});

test("a_recreated_issuer_has_nothing_of_the_previous_one", async () => {
  const { write, token } = await trust("again", [one!.jwk]);
  assert.equal(await status(await token(one!)), 200);
  assert.equal((await gateway.request("DELETE", "/v1/issuers/again", { headers: always })).status, 204);
  published = [other!.jwk];
  assert.equal((await write()).status, 201);
  assert.equal(await status(await token(one!)), 401);
  assert.equal(await status(await token(other!)), 200);
  await server.stop();
});

test("all_keys_of_one_name_are_tried", async () => {
  const { token } = await trust("twins", [one!.jwk, other!.jwk]);
  assert.deepEqual([await status(await token(one!)), await status(await token(other!))], [200, 200]);
  await server.stop();
});

test("a_new_key_under_an_old_name_is_found_and_junk_causes_no_fetch", async () => {
  const { token, asked } = await trust("renamed", [one!.jwk]);
  assert.equal(await status(await token(one!)), 200);
  assert.equal(asked(), 1);
  published = [other!.jwk];
  const junk = async () => (await token(other!)).replace(/[^.]*$/, Buffer.alloc(64, 7).toString("base64url"));
  for (let at = 0; at < 10; at++)
    refused(await gateway.request("GET", "/v1/whoami", { key: await junk() }), 401, "unauthenticated");
  assert.equal(asked(), 1, "within 12 s, half a minute at this scale, nothing is fetched again");
  assert.equal(await status(await token(one!)), 200, "and a good token is still accepted");
  const begun = Date.now();
  await eventually(async () => (await status(await token(other!))) === 200);
  assert.equal(asked(), 2, `once, after ${Date.now() - begun} ms`);
  assert.equal(await status(await token(one!)), 401, "the old one is withdrawn");
  await server.stop();
});

test("the_signatures_of_the_standards_verify_and_altered_ones_do_not", async () => {
  // RFC 7515 A.2 (RS256) and A.3 (ES256), RFC 8037 A.4 (Ed25519).
  const claims = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
  const n =
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
  const vectors: ["RS256" | "ES256" | "EdDSA", object, string, string][] = [
    [
      "RS256",
      { kty: "RSA", n, e: "AQAB" },
      `eyJhbGciOiJSUzI1NiJ9.${claims}`,
      "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    ],
    [
      "ES256",
      {
        kty: "EC",
        crv: "P-256",
        x: "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        y: "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
      },
      `eyJhbGciOiJFUzI1NiJ9.${claims}`,
      "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    ],
    [
      "EdDSA",
      { kty: "OKP", crv: "Ed25519", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" },
      "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
      "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
    ],
  ];
  for (const [algorithm, jwk, text, signature] of vectors) {
    const bytes = Buffer.from(signature, "base64url");
    const check = (changed: Buffer, said = text) =>
      verifies(algorithm, JSON.stringify(jwk), new Uint8Array(changed), said);
    assert.equal(await check(bytes), true, algorithm);
    assert.equal(await check(bytes, `${text}A`), false, algorithm);
    for (const at of [0, 31, 63]) {
      const changed = Buffer.from(bytes);
      changed[at]! ^= 1;
      assert.equal(await check(changed), false, `${algorithm} ${at}`);
    }
  }
});

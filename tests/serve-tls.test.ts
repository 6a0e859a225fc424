// `narthex serve` with certificates: it serves HTTPS, and calls services whose authority it was given.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { accepted, create, ended, register, serviceAt } from "./support/arrange.ts";
import { pairOf, secureService } from "./support/certificates.ts";
import { newFolder, notHere, serve } from "./support/serve.ts";

describe("certificates", { concurrency: 2, skip: notHere }, () => {
  test("of_its_own_serve_https_alone", async () => {
    const { cert, key } = pairOf(newFolder());
    const ca = readFileSync(cert, "utf8");
    const gateway = await serve({ args: ["--tls-cert", cert, "--tls-key", key], ca });
    assert.match(gateway.said(), /serves on https:\/\/127\.0\.0\.1:/);
    assert.equal((await gateway.request("GET", "/v1/whoami")).json.role, "admin");
    await assert.rejects(fetch(`http://127.0.0.1:${gateway.port}/health`));
    assert.equal((await gateway.stop()).code, 0);
  });

  test("of_an_authority_of_its_own_let_it_call_a_service", async (t) => {
    const pair = pairOf(newFolder());
    const url = `${await secureService(t, pair)}/`;
    const trusting = await serve({ args: ["--ca", pair.cert] });
    await register(trusting, "worker", serviceAt(url));
    assert.equal((await create(trusting)).json.result, 1);
    await trusting.stop();
    const strict = await serve({ data: trusting.data, port: trusting.port });
    const context = await ended(strict, (await accepted(strict)).id);
    assert.equal(context.status, "failed");
    await strict.stop();
  });
});

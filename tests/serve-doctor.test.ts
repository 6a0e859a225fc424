// `narthex doctor`: one line for each check, and nothing is started or made.
import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { freePort } from "../scripts/ports.mjs";
import { pairOf } from "./support/certificates.ts";
import { newFolder, notHere, type ProgramOptions, run, serve } from "./support/serve.ts";
import { startService } from "./support/service.ts";

/** Runs it on a free port; returns what it found. */
async function doctor(args: string[], options: ProgramOptions = {}) {
  const listen = args.includes("--listen") ? [] : ["--listen", `127.0.0.1:${await freePort()}`];
  const { code, out, err } = await run(["doctor", ...listen, ...args], options);
  assert.equal(err, "");
  const lines = out.trimEnd().split("\n");
  for (const line of lines) assert.match(line, /^(ok {7}|problem  )\S/);
  const problems = lines.filter((line) => line.startsWith("problem")).map((line) => line.slice(9));
  assert.equal(code, problems.length > 0 ? 1 : 0, out);
  return { problems, out };
}

describe("the doctor", { concurrency: 4, skip: notHere }, () => {
  test("finds_a_new_folder_well_and_does_not_make_it", async () => {
    const data = join(newFolder(), "data");
    const { problems, out } = await doctor(["--data", data]);
    assert.deepEqual(problems, []);
    for (const line of [`folder ${data}: free`, "secrets", "clock", "disk: ", "gateway does not run"]) {
      assert.ok(out.includes(`ok       ${line}`), out);
    }
    assert.ok(!existsSync(data));
  });

  test("names_the_process_that_serves_and_whether_it_answers", async () => {
    const gateway = await serve();
    const listen = `127.0.0.1:${gateway.port}`;
    const { problems, out } = await doctor(["--data", gateway.data, "--listen", listen]);
    assert.deepEqual(problems, []);
    assert.ok(out.includes(`served by the process ${gateway.pid}\n`), out);
    assert.ok(out.includes(`gateway answers on http://${listen}`), out);
    const other = await doctor(["--data", newFolder(), "--listen", listen]);
    assert.match(other.problems.join("\n"), /^another process listens on/);
    process.kill(await gateway.workerd(), "SIGSTOP");
    const [health, hung] = await Promise.all([
      run(["health", "--data", gateway.data]),
      doctor(["--data", gateway.data, "--listen", listen]),
    ]);
    process.kill(await gateway.workerd(), "SIGCONT");
    assert.equal(health.code, 1);
    assert.match(hung.problems.join("\n"), /^the gateway does not answer, though the process \d+ runs$/);
    await gateway.stop();
  });

  test("names_faults_of_options_and_still_checks_the_rest", async () => {
    const data = newFolder();
    writeFileSync(join(data, "narthex"), "photo");
    const { problems } = await doctor(["--data", data, "--grace", "soon", "--listen", "x"]);
    assert.match(
      problems.join("\n"),
      /^--grace must be .*\n--listen must be .*\n.*narthex is not what the gateway writes/,
    );
  });

  test("names_faults_of_secrets", async () => {
    const data = newFolder();
    mkdirSync(join(data, "secrets"));
    writeFileSync(join(data, "secrets/ADMIN_KEY"), "0123456789abcdef");
    chmodSync(join(data, "secrets/ADMIN_KEY"), 0o644);
    const { problems } = await doctor(["--data", data], { env: { KEK_1: "short" } });
    assert.match(problems.join("\n"), /^others can read .*ADMIN_KEY.*\nKEK_1 must be 32 random bytes/);
  });

  test("names_certificates_that_cannot_be_used", async () => {
    const [one, other] = [pairOf(newFolder()), pairOf(newFolder())];
    const garbage = join(newFolder(), "garbage.pem");
    writeFileSync(garbage, "-----BEGIN CERTIFICATE-----\ngarbage\n-----END CERTIFICATE-----\n");
    const wrong = ["--tls-cert", one.cert, "--tls-key", other.key, "--ca", garbage];
    const { problems } = await doctor(["--data", newFolder(), ...wrong]);
    assert.match(
      problems.join("\n"),
      /^the certificate of --tls-cert .*KeyMismatch\nthe certificates of --ca cannot be used/,
    );
    const right = ["--tls-cert", one.cert, "--tls-key", one.key, "--ca", other.cert];
    assert.deepEqual((await doctor(["--data", newFolder(), ...right])).problems, []);
  });

  test("calls_every_allowed_origin", async (t) => {
    const { cert, key } = pairOf(newFolder());
    const plain = await startService();
    const secure = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (_, response) => response.end());
    secure.listen(0, "127.0.0.1");
    t.after(() => (plain.stop(), secure.close(), secure.closeAllConnections()));
    await new Promise((resolve) => secure.once("listening", resolve));
    const closed = `http://127.0.0.1:${await freePort()}`;
    const trusted = `https://127.0.0.1:${(secure.address() as AddressInfo).port}`;
    const origins = `${plain.url.slice(0, -1)}, ${closed},${trusted}`;
    const args = ["--data", newFolder(), "--allow-origin", origins, "--allow-origin", "http://no.such.name.invalid"];
    const { problems, out } = await doctor([...args, "--ca", cert]);
    assert.equal(problems.length, 2, out);
    assert.match(problems[0]!, new RegExp(`^origin ${closed} cannot be reached`));
    assert.match(problems[1]!, /^origin http:\/\/no\.such\.name\.invalid cannot be reached: its name has no address/);
    assert.ok(out.includes(`origin ${trusted} answers with status 200`), out);
    assert.match((await doctor(args)).problems.join("\n"), new RegExp(`origin ${trusted} cannot be reached`));
  });

  test("names_a_machine_without_public_authorities", async () => {
    const env = { SSL_CERT_FILE: "/none" };
    const { problems } = await doctor(["--data", newFolder()], { env });
    assert.match(problems.join("\n"), /^this machine has no certificates of public authorities/);
    const served = await serve({ env });
    assert.match(served.said(), /no certificates of public authorities/);
    await served.stop();
  });
});

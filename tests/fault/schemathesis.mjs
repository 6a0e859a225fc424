// @ts-check
// Schemathesis against the whole of openapi.json: valid and invalid requests, with a separate gateway and folder. Its
// configuration is in schemathesis.toml and schemathesis_hooks.py.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { schemathesis } from "../../scripts/tools.mjs";
import { prepareGateway } from "./gateway.mjs";
import { say, seconds } from "./report.mjs";
import { registration, startService } from "./service.mjs";

const here = (/** @type {string} */ name) => fileURLToPath(new URL(name, import.meta.url));

/**
 * True if no check failed.
 * @param {import("./options.mjs").Checked} part @param {(undo: () => void) => void} atExit
 * @returns {Promise<boolean>}
 */
export async function runSchemathesis({ examples, seed }, atExit) {
  const began = Date.now();
  const program = await schemathesis();
  say(`Schemathesis, ${examples} examples an operation; the first start compiles`);
  const gateway = await prepareGateway({
    OAUTH: "true",
    OAUTH_REGISTRATION: "true",
    COUNT_COSTS: "true",
    // It tries bad credentials and registrations, thousands of times from one address.
    FAILED_LOGINS: "1000000",
    OAUTH_REGISTRATIONS: "1000000",
  });
  const service = await startService(seed);
  atExit(() => gateway.remove());
  await gateway.start();
  const registered = await fetch(`${gateway.url}/v1/services/fault`, {
    method: "PUT",
    headers: { authorization: `Bearer ${gateway.key}`, "content-type": "application/json" },
    body: JSON.stringify(registration(service.url)),
  });
  if (registered.status !== 201) throw new Error(`the service was not registered: ${await registered.text()}`);
  const args = [
    "--config-file",
    here("schemathesis.toml"),
    "run",
    `${gateway.url}/openapi.json`,
    "--max-examples",
    String(examples),
    "--seed",
    String(seed),
  ];
  // Its own files are not needed afterwards.
  const folder = mkdtempSync(join(tmpdir(), "narthex-schemathesis-"));
  atExit(() => rmSync(folder, { recursive: true, force: true }));
  const child = spawn(program, args, {
    cwd: folder,
    // PYTHONDONTWRITEBYTECODE: the hooks leave nothing behind in the clone.
    env: {
      ...process.env,
      ADMIN_KEY: gateway.key,
      SCHEMATHESIS_HOOKS: here("schemathesis_hooks.py"),
      PYTHONDONTWRITEBYTECODE: "1",
    },
    stdio: "inherit",
  });
  atExit(() => child.kill());
  const code = await new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  await gateway.kill();
  gateway.remove();
  service.stop();
  const good = code === 0 && gateway.lastWords === null;
  if (gateway.lastWords !== null) say(`the gateway ${gateway.lastWords}`);
  say(
    `${good ? "every answer is as openapi.json says" : "VIOLATED, or it did not run to its end"} (${seconds(Date.now() - began)})`,
  );
  return good;
}

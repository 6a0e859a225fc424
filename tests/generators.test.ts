// Clients that generators make from the contract: each is generated as its documentation says, checked or imported whole,
// and runs its program of examples/generated against a gateway.
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { build } from "esbuild";
import { root } from "./support/configuration.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { json, startService, type Service } from "./support/service.ts";

const run = promisify(execFile);
const contract = join(root, "console/openapi.json");
const workspace = join(root, "tests/clients/generators");
/** The programs of the workspace's packages, or of the project's where npm put them there. */
const program = (name: string) => {
  const inside = join(workspace, "node_modules", name);
  return existsSync(inside) ? inside : join(root, "node_modules", name);
};

/** Below a folder whose node_modules has the packages. */
const folder = mkdtempSync(join(tmpdir(), "narthex-generators-"));
let gateway: Gateway;
let service: Service;

before(async () => {
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  gateway = await startGateway();
  service = await startService(json({ result: { words: 3 } }));
});
after(async () => {
  await gateway?.stop();
  await service?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const environment = () => ({ ...process.env, NARTHEX: gateway.url, KEY: gateway.adminKey, SERVICE: service.url, NO_COLOR: "1" });

/** What every program prints of a context's life, with what it adds to an attempt. */
const life = ["created", "validated", "queued", "executing", "attempt", "completed"].map((status) => `context.${status}`);

/** Generates into `name`, checks all of it with the example as strictly as can be, and runs that. */
async function typescript(name: string, generate: (into: string) => Promise<unknown>): Promise<string[]> {
  const into = join(folder, name);
  mkdirSync(into);
  await generate(into);
  cpSync(join(root, "examples/generated", `${name}.ts`), join(into, "program.ts"));
  writeFileSync(join(into, "package.json"), '{"type": "module"}');
  // `Bundler`: generated files name each other without an ending.
  const options = {
    strict: true, noEmit: true, target: "es2024", lib: ["es2024", "dom", "dom.iterable"], module: "esnext",
    moduleResolution: "bundler", allowImportingTsExtensions: true, types: ["node"], exactOptionalPropertyTypes: false,
  };
  writeFileSync(join(into, "tsconfig.json"), JSON.stringify({ compilerOptions: options, files: ["program.ts"] }));
  const tsc = join(program("typescript"), "bin/tsc");
  await run(process.execPath, [tsc, "-p", into]).catch((error) => assert.fail(error.stdout));
  const bundle = join(into, "program.mjs");
  await build({ entryPoints: [join(into, "program.ts")], outfile: bundle, bundle: true, platform: "node", format: "esm", tsconfigRaw: "{}", logLevel: "error" });
  const { stdout } = await run(process.execPath, [bundle], { env: environment(), timeout: 30_000 });
  return stdout.trim().split("\n");
}

test("openapi_typescript_with_its_defaults_and_openapi_fetch", async () => {
  const cli = join(program("openapi-typescript"), "bin/cli.js");
  const printed = await typescript("openapi-fetch", (into) => run(process.execPath, [cli, contract, "-o", join(into, "narthex.d.ts")]));
  assert.deepEqual(printed, [
    'completed {"words":3}', ...life.map((one) => (one === "context.attempt" ? `${one} succeeded` : one)), "validation_failed",
  ]);
});

test("hey_api_with_its_defaults", async () => {
  const cli = join(program("@hey-api/openapi-ts"), "bin/run.js");
  const printed = await typescript("hey-api", (into) => run(process.execPath, [cli, "-i", contract, "-o", join(into, "narthex")], { cwd: into }));
  assert.deepEqual(printed, ['completed {"words":3}', ...life, String(life.length), "validation_failed"]);
});

const version = "0.29.1";

/** openapi-python-client's command, in an environment of its own, kept for the next run; or why there is none. */
function pythonGenerator(): { bin: string } | { missing: string } {
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "narthex", `openapi-python-client-${version}`);
  if (existsSync(join(cache, "bin/openapi-python-client"))) return { bin: join(cache, "bin") };
  // Made aside: half an environment is none. Its programs know where they are, so they are called by their Python.
  try {
    rmSync(cache, { recursive: true, force: true });
    execFileSync("python3", ["-m", "venv", cache], { stdio: "pipe", timeout: 60_000 });
    const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "10"];
    execFileSync(join(cache, "bin/python"), [...pip, `openapi-python-client==${version}`], { stdio: "pipe", timeout: 100_000 });
    return { bin: join(cache, "bin") };
  } catch (error) {
    rmSync(cache, { recursive: true, force: true });
    return { missing: `no Python 3.10 or newer with venv and pip, or PyPI does not answer: ${String((error as Error).message).split("\n").at(-1)}` };
  }
}

test("openapi_python_client_with_its_defaults", async (context) => {
  const found = pythonGenerator();
  if ("missing" in found) return context.skip(found.missing);
  const into = join(folder, "narthex_client");
  const path = `${found.bin}:${process.env.PATH}`;
  const args = ["generate", "--path", contract, "--meta", "none", "--output-path", into];
  const { stdout, stderr } = await run(join(found.bin, "openapi-python-client"), args, { env: { ...process.env, PATH: path } });
  // It tells what it leaves out, and goes on.
  assert.doesNotMatch(stdout + stderr, /WARNING|Cannot parse|omitted|duplicate|skipped|Unable/i);

  const python = join(found.bin, "python");
  const all = `
import importlib, pkgutil, narthex_client
names = [one.name for one in pkgutil.walk_packages(narthex_client.__path__, "narthex_client.")]
for name in names: importlib.import_module(name)
print(len(names))`;
  const imported = await run(python, ["-c", all], { env: { ...process.env, PYTHONPATH: folder } });
  assert.ok(Number(imported.stdout) > 250, `${imported.stdout} modules`);

  const example = join(root, "examples/generated/client.py");
  const came = await run(python, [example], { env: { ...environment(), PYTHONPATH: folder, PYTHONDONTWRITEBYTECODE: "1" }, timeout: 30_000 });
  const printed = came.stdout.trim().split("\n").map((line) => line.trim());
  assert.deepEqual(printed, [
    'completed {"words": 3}', ...life.map((one) => (one === "context.attempt" ? `${one} succeeded` : one)), "validation_failed",
  ]);
});

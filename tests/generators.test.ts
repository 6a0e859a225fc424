// Clients generated from the contract: each is generated as documented by its generator, checked or imported in full,
// and runs its program of examples/generated against a gateway.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { build } from "esbuild";
import { root } from "./support/configuration.ts";
import { type Gateway, startGateway } from "./support/gateway.ts";
import { json, startService, type Service } from "./support/service.ts";

const run = promisify(execFile);
/** Processes that are exiting may still write for a moment. */
const gone = { recursive: true, force: true, maxRetries: 5, retryDelay: 100 };
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
  rmSync(folder, gone);
});

const environment = () => ({
  ...process.env,
  NARTHEX: gateway.url,
  KEY: gateway.adminKey,
  SERVICE: service.url,
  NO_COLOR: "1",
});

/** What every program prints of a context, with its own additions to an attempt. */
const life = ["created", "validated", "queued", "executing", "attempt", "completed"].map(
  (status) => `context.${status}`,
);

/** Generates into `name`, checks everything together with the example in the strictest mode, and runs the example. */
async function typescript(name: string, generate: (into: string) => Promise<unknown>): Promise<string[]> {
  const into = join(folder, name);
  mkdirSync(into);
  await generate(into);
  cpSync(join(root, "examples/generated", `${name}.ts`), join(into, "program.ts"));
  writeFileSync(join(into, "package.json"), '{"type": "module"}');
  // `Bundler`: generated files import each other without an extension.
  const options = {
    strict: true,
    noEmit: true,
    target: "es2024",
    lib: ["es2024", "dom", "dom.iterable"],
    module: "esnext",
    moduleResolution: "bundler",
    allowImportingTsExtensions: true,
    types: ["node"],
    exactOptionalPropertyTypes: false,
  };
  writeFileSync(join(into, "tsconfig.json"), JSON.stringify({ compilerOptions: options, files: ["program.ts"] }));
  const tsc = join(program("typescript"), "bin/tsc");
  await run(process.execPath, [tsc, "-p", into]).catch((error) => assert.fail(error.stdout));
  const bundle = join(into, "program.mjs");
  await build({
    entryPoints: [join(into, "program.ts")],
    outfile: bundle,
    bundle: true,
    platform: "node",
    format: "esm",
    tsconfigRaw: "{}",
    logLevel: "error",
  });
  const { stdout } = await run(process.execPath, [bundle], { env: environment(), timeout: 30_000 });
  return stdout.trim().split("\n");
}

test("openapi_typescript_with_its_defaults_and_openapi_fetch", async () => {
  const cli = join(program("openapi-typescript"), "bin/cli.js");
  const printed = await typescript("openapi-fetch", (into) =>
    run(process.execPath, [cli, contract, "-o", join(into, "narthex.d.ts")]),
  );
  assert.deepEqual(printed, [
    'completed {"words":3}',
    ...life.map((one) => (one === "context.attempt" ? `${one} succeeded` : one)),
    "validation_failed",
  ]);
});

test("hey_api_with_its_defaults", async () => {
  const cli = join(program("@hey-api/openapi-ts"), "bin/run.js");
  const printed = await typescript("hey-api", (into) =>
    run(process.execPath, [cli, "-i", contract, "-o", join(into, "narthex")], { cwd: into }),
  );
  assert.deepEqual(printed, ['completed {"words":3}', ...life, String(life.length), "validation_failed"]);
});

const version = "0.29.1";
/** The time limit for creating the generator's environment; after that it counts as missing. */
const MAKING_MS = 150_000;
/** The same, plus the test itself on a busy machine. */
const PYTHON_MS = 300_000;

/** Runs a command until `end`, then kills it with all its children, which would continue in the folder. */
function within(end: number, command: string, args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"], detached: true });
    let complaint = "";
    child.stderr.setEncoding("utf8").on("data", (text) => (complaint += text));
    const timer = setTimeout(
      () => {
        complaint = `${command} ${args.slice(0, 3).join(" ")} takes too long`;
        try {
          process.kill(-child.pid!, "SIGKILL");
        } catch {
          /* It has ended. */
        }
      },
      Math.max(0, end - Date.now()),
    );
    child.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on("close", (code) => {
      clearTimeout(timer);
      if (code === 0) resolve();
      else reject(new Error(complaint.trim().split("\n").at(-1)));
    });
  });
}

/**
 * The Python with openapi-python-client, in a separate environment that is kept for the next run; or why there is none.
 * Programs of an environment contain the path of its original folder, so they are run by that Python.
 */
async function pythonGenerator(): Promise<{ python: string } | { missing: string }> {
  const caches = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "narthex");
  const cache = join(caches, `openapi-python-client-${version}`);
  const end = Date.now() + MAKING_MS;
  const pythonOf = (environment: string) => join(environment, "bin/python");
  // Checks that it works, not only that it exists: its Python may have been upgraded or removed.
  const works = (environment: string) => within(end, pythonOf(environment), ["-c", "import openapi_python_client.cli"]);
  if (
    await works(cache).then(
      () => true,
      () => false,
    )
  )
    return { python: pythonOf(cache) };
  mkdirSync(caches, { recursive: true });
  // Created elsewhere and moved: a partial environment is useless.
  const aside = mkdtempSync(`${cache}.`);
  try {
    await within(end, "python3", ["-m", "venv", aside]);
    const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "10"];
    const constraints = join(workspace, "constraints.txt");
    await within(end, pythonOf(aside), [...pip, "--constraint", constraints, `openapi-python-client==${version}`]);
    await works(aside);
    rmSync(cache, gone);
    renameSync(aside, cache);
    return { python: pythonOf(cache) };
  } catch (error) {
    rmSync(aside, gone);
    return {
      missing: `no Python 3.10 or newer with venv and pip, or PyPI does not answer: ${(error as Error).message}`,
    };
  }
}

test("openapi_python_client_with_its_defaults", { timeout: PYTHON_MS }, async (context) => {
  const found = await pythonGenerator();
  if ("missing" in found) return context.skip(found.missing);
  const { python } = found;
  const into = join(folder, "narthex_client");
  const path = `${dirname(python)}:${process.env.PATH}`;
  const args = ["generate", "--path", contract, "--meta", "none", "--output-path", into];
  const { stdout, stderr } = await run(python, ["-m", "openapi_python_client", ...args], {
    env: { ...process.env, PATH: path },
  });
  // It reports what it leaves out, and continues.
  assert.doesNotMatch(stdout + stderr, /WARNING|Cannot parse|omitted|duplicate|skipped|Unable/i);

  const all = `
import importlib, pkgutil, narthex_client
names = [one.name for one in pkgutil.walk_packages(narthex_client.__path__, "narthex_client.")]
for name in names: importlib.import_module(name)
print(len(names))`;
  const imported = await run(python, ["-c", all], { env: { ...process.env, PYTHONPATH: folder } });
  assert.ok(Number(imported.stdout) > 250, `${imported.stdout} modules`);

  const example = join(root, "examples/generated/client.py");
  const came = await run(python, [example], {
    env: { ...environment(), PYTHONPATH: folder, PYTHONDONTWRITEBYTECODE: "1" },
    timeout: 30_000,
  });
  const printed = came.stdout
    .trim()
    .split("\n")
    .map((line) => line.trim());
  assert.deepEqual(printed, [
    'completed {"words": 3}',
    ...life.map((one) => (one === "context.attempt" ? `${one} succeeded` : one)),
    "validation_failed",
  ]);
});

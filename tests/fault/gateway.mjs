// @ts-check
// The gateway in its own process group, with its own port and folder, to be killed and restarted: `npm start`, or
// `narthex serve` of the last build with NARTHEX_TARGET=serve.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** The first start may compile the crate; later ones wait at most for a concurrent build. */
const FIRST_START_MS = 600_000;
const START_MS = 180_000;
/** How long to wait until no process of a killed group is left. */
const EMPTY_MS = 2000;

/**
 * @typedef {{ url: string, key: string, starts: number, lastWords: string | null, start(): Promise<number>,
 *   kill(): Promise<void>, remove(): void }} Gateway `lastWords` is its output if it exited without being killed
 */

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  server.close();
  await once(server, "close");
  return port;
}

/**
 * What serves the gateway at a port, from a folder, with a file of variables.
 * @param {number} port @param {string} folder @param {string} secrets @returns {[program: string, args: string[]]}
 */
function commandOf(port, folder, secrets) {
  const state = join(folder, "state");
  if (process.env.NARTHEX_TARGET === "serve") {
    const args = ["serve", "--data", state, "--listen", `127.0.0.1:${port}`, "--config", secrets, "--no-demo"];
    return [join(ROOT, "build/serve/bin/narthex"), args];
  }
  // The secrets file replaces .dev.vars.
  return ["npm", ["start", "--", "--port", String(port), "--persist-to", state, "--env-file", secrets]];
}

/**
 * A gateway that has not been started. `start` returns the milliseconds until it responded; `starts` counts the starts;
 * `kill` settles when the group is gone; `remove` kills without waiting and deletes the folder.
 * @param {Record<string, string>} [variables] of the Worker, beside its secrets
 * @returns {Promise<Gateway>}
 */
export async function prepareGateway(variables = {}) {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const key = randomBytes(32).toString("base64url");
  const folder = mkdtempSync(join(tmpdir(), "narthex-fault-"));
  const temporary = join(folder, "tmp");
  mkdirSync(temporary);
  const secrets = join(folder, "secrets.env");
  const lines = Object.entries({
    ADMIN_KEY: key,
    KEK_1: randomBytes(32).toString("base64"),
    ALLOW_LOOPBACK: "true",
    ...variables,
  });
  writeFileSync(secrets, lines.map(([name, value]) => `${name}=${value}\n`).join(""), { mode: 0o600 });
  // Files that killed processes leave behind are deleted with the folder.
  const env = { ...process.env, TMPDIR: temporary, WRANGLER_REGISTRY_PATH: join(folder, "registry") };
  const [program, args] = commandOf(port, folder, secrets);

  /** The group's id while one runs. @type {number | undefined} */
  let group;
  const killGroup = (which = group) => {
    if (which === undefined) return false;
    try {
      return process.kill(-which, "SIGKILL");
    } catch {
      // The group is empty.
      return false;
    }
  };

  /** @type {Gateway} */
  const gateway = {
    url,
    key,
    starts: 0,
    lastWords: null,
    async start() {
      const started = Date.now();
      const limit = gateway.starts === 0 ? FIRST_START_MS : START_MS;
      const child = spawn(program, args, { cwd: ROOT, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
      group = child.pid;
      let output = "";
      for (const stream of [child.stdout, child.stderr])
        stream.on("data", (chunk) => (output = (output + chunk).slice(-4000)));
      /** @type {Error | undefined} */
      let failure;
      child.on("error", (error) => (failure = error));
      child.on("exit", (code, signal) => {
        failure = new Error(`it exited with ${code ?? signal}`);
        if (group === child.pid) gateway.lastWords = `${failure.message}: ${output}`;
      });
      for (;;) {
        const response = await fetch(`${url}/health`, { signal: AbortSignal.timeout(2000) }).catch(() => undefined);
        await response?.arrayBuffer().catch(() => undefined);
        if (response?.ok) break;
        if (Date.now() - started > limit) failure = new Error(`no answer in ${limit / 1000} s`);
        if (failure) throw new Error(`${program} ${args[0]}: ${failure.message}\n${output}`);
        await pause(50);
      }
      gateway.starts++;
      return Date.now() - started;
    },
    async kill() {
      const killed = group;
      group = undefined;
      // Where zombies are not reaped, a group never becomes empty.
      for (const end = Date.now() + EMPTY_MS; killGroup(killed) && Date.now() < end;) await pause(20);
    },
    remove() {
      killGroup();
      group = undefined;
      rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
    },
  };
  return gateway;
}

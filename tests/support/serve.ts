// `narthex serve`: the program that serves the gateway on workerd alone, as its users run it.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { freePort } from "../../scripts/ports.mjs";
import { type Client, clientOf } from "./client.ts";
import { root } from "./configuration.ts";
import { Contract } from "./contract.ts";
import { PATIENCE_MS } from "./patience.ts";
import { children, isRunning } from "./processes.ts";

/** The program of the last build. */
export const narthex = join(root, "build/serve/bin/narthex");

/** Why the program cannot be tested here; false if it can. */
export const notHere = process.platform === "linux" && process.arch === "x64" ? false : "narthex serve runs on Linux";

/** Lets services be on this machine, and does not limit failed logins. */
const TESTING = { ALLOW_LOOPBACK: "true", FAILED_LOGINS: "1000000" };

export type ProgramOptions = {
  /** All of its environment. Default: nothing. */
  env?: Record<string, string>;
  cwd?: string;
  /** What runs it, as `setpriv`, with options. Default: nothing. */
  by?: string[];
  /** Another way to the program. */
  program?: string;
};

export type ServeOptions = ProgramOptions & {
  /** The data folder. Default: a new one. */
  data?: string;
  /** The port on 127.0.0.1. Default: a free one. */
  port?: number;
  /** Further options of the program. */
  args?: string[];
  /** The certificate to trust, if it serves HTTPS. */
  ca?: string;
  /** The admin key, if it is not in the folder. */
  adminKey?: string;
};

export type Ran = { code: number | null; signal: NodeJS.Signals | null; out: string; err: string };

export type Served = Client & {
  data: string;
  port: number;
  /** The id of the program's process. */
  pid: number;
  /** The id of workerd's process, once it runs. */
  workerd(): Promise<number>;
  /** What it has said on standard error. */
  said(): string;
  /** Waits until it has said something, from this position on. */
  says(pattern: RegExp, since?: number): Promise<RegExpMatchArray>;
  /** Its log so far. */
  log(): any[];
  /** Sends a signal, SIGTERM if there is none; waits for the end. */
  stop(signal?: NodeJS.Signals): Promise<Ran>;
  /** Waits for the end. */
  ended: Promise<Ran>;
};

/** A new folder, which is removed at the end of the test file. */
export function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "narthex-serve-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }));
  return folder;
}

const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** Starts the program, which is killed at the end of the test file at the latest. */
function start(args: string[], { env = {}, cwd, by = [], program = narthex }: ProgramOptions) {
  const [command, ...rest] = [...by, program, ...args] as [string, ...string[]];
  const child = spawn(command, rest, { env, ...(cwd && { cwd }), stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  const text = { out: "", err: "" };
  child.stdout.setEncoding("utf8").on("data", (part) => (text.out += part));
  child.stderr.setEncoding("utf8").on("data", (part) => (text.err += part));
  const closed = once(child, "close");
  const ended = once(child, "exit").then(async ([code, signal]): Promise<Ran> => {
    running.delete(child);
    // What it started may write for a moment.
    await Promise.race([closed, pause(1000)]);
    return { code, signal, ...text };
  });
  return { child, text, ended };
}

/** Runs the program to its end. */
export async function run(args: string[], options: ProgramOptions = {}): Promise<Ran> {
  const { child, ended } = start(args, options);
  const timer = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
  const ran = await ended;
  clearTimeout(timer);
  return ran;
}

/** Starts the gateway, and does not wait until it serves. */
export async function startServing(options: ServeOptions = {}): Promise<Served> {
  const data = options.data ?? join(newFolder(), "data");
  const port = options.port ?? (await freePort());
  const args = ["serve", "--data", data, "--listen", `127.0.0.1:${port}`, ...(options.args ?? [])];
  const { child, text, ended } = start(args, { ...options, env: { ...TESTING, ...options.env } });
  const key = join(options.cwd ?? "", data, "secrets/ADMIN_KEY");
  const file = data.startsWith("/") ? join(data, "secrets/ADMIN_KEY") : key;
  const adminKey = () => options.adminKey ?? (existsSync(file) ? readFileSync(file, "utf8").trim() : "");
  const url = `http${options.ca ? "s" : ""}://127.0.0.1:${port}`;
  const client = clientOf(url, adminKey, Contract.load(), options.ca);
  const pid = child.pid!;
  return {
    ...client,
    get adminKey() {
      return adminKey();
    },
    data,
    port,
    pid,
    async workerd() {
      for (const until = Date.now() + PATIENCE_MS; ; await pause(20)) {
        const [found] = children(pid, "workerd").filter((one) => commandOf(one).includes("--binary"));
        if (found) return found;
        assert.ok(Date.now() < until && child.exitCode === null, `no workerd runs:\n${text.err}`);
      }
    },
    said: () => text.err,
    async says(pattern, since = 0) {
      for (const until = Date.now() + PATIENCE_MS; ; await pause(20)) {
        const found = text.err.slice(since).match(pattern);
        if (found) return found;
        const hasEnded = child.exitCode !== null || child.signalCode !== null;
        assert.ok(Date.now() < until && !hasEnded, `${pattern} was not said, but:\n${text.err}`);
      }
    },
    log: () => text.out.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line)])),
    async stop(signal = "SIGTERM") {
      child.kill(signal);
      return await ended;
    },
    ended,
  };
}

/** Starts the gateway, and waits until it serves. */
export async function serve(options: ServeOptions = {}): Promise<Served> {
  const served = await startServing(options);
  await served.says(/ serves on /);
  return served;
}

/** Waits until a process has ended. */
export async function gone(pid: number): Promise<void> {
  for (const until = Date.now() + PATIENCE_MS; isRunning(pid); await pause(10))
    assert.ok(Date.now() < until, `the process ${pid} still runs`);
}

/** Kills a process, and waits until it has ended. */
export async function killed(pid: number): Promise<void> {
  process.kill(pid, "SIGKILL");
  await gone(pid);
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1");
  } catch {
    return "";
  }
}

// The official Python client, in its own process.
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Credentials, Doings, Kind, Where } from "./kinds.ts";

const version = "2.3.0";
const folder = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "narthex", `mcp-${version}`);
const own = join(folder, "bin/python");
/** The Python with the client, or else the default one. */
export const interpreter = existsSync(own) ? own : (process.env.PYTHON ?? "python3");
const check = `import importlib.metadata as m; assert m.version("mcp").startswith("2.")`;
const hasClient = spawnSync(interpreter, ["-c", check]).status === 0;
const script = fileURLToPath(new URL("client.py", import.meta.url));

type Results = Record<keyof Doings, { done: any } | { failed: string }>;

/** Runs all actions at one endpoint in one process, because starting it takes longest. */
function run(mode: string, where: Where, credentials: Credentials, what: (keyof Doings)[]): Promise<Results> {
  return new Promise((resolve, reject) => {
    const child = spawn(interpreter, [script], { env: { ...process.env, PYTHONWARNINGS: "ignore" } });
    const output = { stdout: "", stderr: "" };
    for (const stream of ["stdout", "stderr"] as const)
      child[stream].setEncoding("utf8").on("data", (text) => (output[stream] += text));
    child.on("error", reject);
    child.on("close", (code) => (code === 0 ? resolve(JSON.parse(output.stdout)) : reject(new Error(output.stderr))));
    child.stdin.end(JSON.stringify({ do: what, mode, ...where, ...credentials }));
  });
}

function kind(mode: "auto" | "legacy", revision: Kind["revision"]): Kind {
  const tasks = mode === "auto";
  const all: (keyof Doings)[] = ["list", "progress", "cancel", "elicit", ...(tasks ? ["task" as const] : [])];
  const runs = new Map<string, Promise<Results>>();
  return {
    name: `mcp for Python, ${mode}`,
    revision,
    skip: !hasClient && `python3 -m venv ${folder} && ${folder}/bin/pip install mcp==${version}`,
    tasks,
    async does(what, where, credentials) {
      const key = JSON.stringify([where, credentials]);
      if (!runs.has(key)) runs.set(key, run(mode, where, credentials, all));
      const result = (await runs.get(key)!)[what];
      if ("failed" in result) throw new Error(result.failed);
      return result.done;
    },
  };
}

/** By default it detects the server's revision; `legacy` is its earlier behavior. */
export const kinds = [kind("auto", "2026-07-28"), kind("legacy", "2025-11-25")];

// The official Python client, in its own process.
import type { Credentials, Doings, Kind, Where } from "./kinds.ts";
import { pythonWith, runPython } from "./python-process.ts";

const version = "2.3.0";
const check = `import importlib.metadata as m; assert m.version("mcp").startswith("2.")`;
const python = pythonWith(`mcp-${version}`, check, [`mcp==${version}`]);
/** The Python with the client, or else the default one. */
export const { interpreter } = python;

type Results = Record<keyof Doings, { done: any } | { failed: string }>;

/** Runs all actions at one endpoint in one process, because starting it takes longest. */
const run = (mode: string, where: Where, credentials: Credentials, what: (keyof Doings)[]) =>
  runPython<Results>(python, "client.py", { do: what, mode, ...where, ...credentials });

function kind(mode: "auto" | "legacy", revision: Kind["revision"]): Kind {
  const tasks = mode === "auto";
  const all: (keyof Doings)[] = ["list", "progress", "cancel", "elicit", ...(tasks ? ["task" as const] : [])];
  const runs = new Map<string, Promise<Results>>();
  return {
    name: `mcp for Python, ${mode}`,
    revision,
    skip: python.skip,
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
